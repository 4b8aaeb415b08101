"""The promises of the driver Protocol, one test each: every store passes them, or says in ``Capabilities`` why not.

A driver's own test class is ten lines::

    from windlass.testing.conformance import DriverConformance

    class TestMine(DriverConformance):
        @pytest.fixture
        def driver(self):
            driver = MyDriver(...)
            driver.open()
            yield driver
            driver.close()

The store must be empty at the start of each test. Nothing sleeps: time is moved with ``driver.shift()``, and threads
meet at barriers. ``second``, ``reopen`` and ``foreign_connection`` are hooks for what not every store can do.
"""

import pytest

_PARTS = (
    "batching",
    "bench",
    "claiming",
    "fairness",
    "holding",
    "inserting",
    "limiting",
    "managing",
    "observing",
    "racing",
    "reading",
    "settling",
    "sharing",
    "telling",
    "ticking",
    "working",
)
# So that a broken promise shows its values; must come before the import of what is to be rewritten.
pytest.register_assert_rewrite(*(f"{__name__}.{part}" for part in _PARTS))

from windlass.testing.conformance.batching import Batching  # noqa: E402
from windlass.testing.conformance.bench import Bench  # noqa: E402
from windlass.testing.conformance.claiming import Claiming  # noqa: E402
from windlass.testing.conformance.fairness import Fairness  # noqa: E402
from windlass.testing.conformance.holding import Holding  # noqa: E402
from windlass.testing.conformance.inserting import Inserting  # noqa: E402
from windlass.testing.conformance.limiting import Limiting  # noqa: E402
from windlass.testing.conformance.managing import Managing  # noqa: E402
from windlass.testing.conformance.observing import Observing  # noqa: E402
from windlass.testing.conformance.racing import Racing  # noqa: E402
from windlass.testing.conformance.reading import Reading  # noqa: E402
from windlass.testing.conformance.settling import Settling  # noqa: E402
from windlass.testing.conformance.sharing import Sharing  # noqa: E402
from windlass.testing.conformance.telling import Telling  # noqa: E402
from windlass.testing.conformance.ticking import Ticking  # noqa: E402
from windlass.testing.conformance.working import Working  # noqa: E402


class DriverConformance(
    Inserting,
    Claiming,
    Settling,
    Managing,
    Working,
    Reading,
    Holding,
    Limiting,
    Fairness,
    Batching,
    Racing,
    Telling,
    Ticking,
    Observing,
    Sharing,
    Bench,
):
    """All promises; override the ``driver`` fixture, and the hooks where the store allows."""


__all__ = ["DriverConformance"]
