"""Metrics in a Prometheus registry of your own.

For instance::

    from prometheus_client import REGISTRY
    from windlass.contrib.prometheus import Collector

    REGISTRY.register(Collector(app))

The dashboard serves the same under ``/metrics``.
"""

from windlass.metrics import Collector, text

__all__ = ["Collector", "text"]
