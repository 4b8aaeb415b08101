"""Everything that can be counted, for Prometheus: read from the store, so that any one process tells of the whole fleet.

Counters are those of the store and never fall, not even when jobs are deleted or processes restart. Scrape one process, not
all of them: each would tell the same.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from windlass.errors import ConfigurationError
from windlass.job import Status
from windlass.measures import BOUNDS

try:
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
    from prometheus_client.registry import Collector as Base
except ImportError as missing:
    raise ConfigurationError(
        f"metrics need what cannot be imported ({missing}): pip install 'windlass[prometheus]'"
    ) from missing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from windlass.client import Client
    from windlass.drivers.base import Tally
    from windlass.measures import Histogram, Measure

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Collector(Base):
    """Registers with a Prometheus registry of your own: ``REGISTRY.register(Collector(app))``."""

    def __init__(self, app: Client) -> None:
        self._app = app

    def describe(self) -> list[Metric]:
        """Return nothing: registering must not need the store."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Read the store and yield the families."""
        driver = self._app.driver
        tallies = driver.tallies()
        yield from _jobs(tallies)
        yield from _queues(self._app)
        yield from _workers(self._app)
        yield from _durations(self._app.measures())


def text(app: Client) -> bytes:
    """Return the metrics of a store in Prometheus's own format."""
    registry = CollectorRegistry()
    registry.register(Collector(app))
    return generate_latest(registry)


def _jobs(tallies: Sequence[Tally]) -> Iterator[Metric]:
    labels = ["queue", "task"]
    jobs = GaugeMetricFamily("windlass_jobs", "Jobs by status.", labels=[*labels, "status"])
    names = list(tallies[0].totals) if tallies else []
    totals = {name: CounterMetricFamily(f"windlass_{name}", _TOLD.get(name, name), labels=labels) for name in names}
    for tally in tallies:
        for status in Status:
            jobs.add_metric([tally.queue, tally.task, status.value], tally.counts[status])
        for name, family in totals.items():
            family.add_metric([tally.queue, tally.task], tally.totals[name])
    yield jobs
    yield from totals.values()


_TOLD = {
    "enqueued": "Jobs enqueued.",
    "processed": "Jobs completed.",
    "failed": "Attempts that failed.",
    "retried": "Attempts granted again.",
    "dead": "Jobs that ended dead.",
    "cancelled": "Jobs that ended cancelled.",
    "snoozed": "Attempts that ended with a snooze.",
    "released": "Attempts that were given back.",
    "lost": "Attempts that were lost with their worker.",
}


def _queues(app: Client) -> Iterator[Metric]:
    oldest = GaugeMetricFamily(
        "windlass_oldest_pending_seconds", "How long the oldest pending job waits.", labels=["queue"]
    )
    paused = GaugeMetricFamily("windlass_queue_paused", "1 while a queue is paused.", labels=["queue"])
    for queue in app.queues():
        oldest.add_metric([queue.name], queue.oldest or 0.0)
        paused.add_metric([queue.name], float(queue.paused))
    yield oldest
    yield paused


def _workers(app: Client) -> Iterator[Metric]:
    alive = [worker for worker in app.workers() if worker.status in ("running", "stopping")]
    yield GaugeMetricFamily("windlass_workers", "Workers that live.", value=len(alive))
    yield GaugeMetricFamily(
        "windlass_slots", "Jobs that they can run at once.", value=sum(w.concurrency for w in alive)
    )
    yield GaugeMetricFamily("windlass_slots_busy", "Jobs that they run.", value=sum(w.running for w in alive))


def _durations(measures: Sequence[Measure]) -> Iterator[Metric]:
    for name, told in (("wait", "From available to started."), ("run", "From started to ended.")):
        family = HistogramMetricFamily(f"windlass_{name}_seconds", told, labels=["queue", "task"])
        for measure in measures:
            histogram: Histogram = getattr(measure, name)
            family.add_metric([measure.queue, measure.task], _buckets(histogram), histogram.total)
        yield family


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    bounds = [*(f"{bound:g}" for bound in BOUNDS), "+Inf"]
    return list(zip(bounds, map(float, itertools.accumulate(histogram.buckets)), strict=True))
