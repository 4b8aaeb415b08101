"""The worker's part in batches: have what is due of ripe ones written.

The pump passes on which are ripe, as the store says with each turn, and this thread is woken at once. Every few seconds
it asks the store itself: a process may have died between a batch's last member and its callbacks.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from windlass.worker.service import Service

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from windlass.drivers.base import Driver

LOOK = 5.0
"""Seconds between looks for batches that nobody has passed on."""
AT_ONCE = 100
"""Batches that one look brings."""


class Batches:
    """Looks after batches."""

    def __init__(
        self, driver: Driver, *, settle: Callable[[Collection[int]], object], resting: Callable[[], bool]
    ) -> None:
        self._driver = driver
        self._settle = settle
        self._resting = resting
        self._lock = threading.Lock()
        self._ripe: dict[int, None] = {}
        self._looked = time.monotonic()
        self._service = Service("batches", self._tick, interval=LOOK)

    def start(self) -> None:
        """Start looking."""
        self._service.start()

    def stop(self) -> None:
        """Stop looking."""
        self._service.stop()

    def ripen(self, ids: Sequence[int]) -> None:
        """Take over batches that are ripe. The store names them with every turn until they are decided about."""
        with self._lock:
            news = any(batch_id not in self._ripe for batch_id in ids)
            self._ripe.update(dict.fromkeys(ids))
        if news:
            self._service.wake()

    def _tick(self) -> None:
        with self._lock:
            ripe = list(self._ripe)
        if not ripe and not self._resting() and time.monotonic() - self._looked >= LOOK * 0.9:
            ripe = self._driver.ripe(AT_ONCE)
            self._looked = time.monotonic()
        if not ripe:
            return
        try:
            self._settle(ripe)
        finally:  # what went wrong is ripe still, and will be named again
            with self._lock:
                for batch_id in ripe:
                    self._ripe.pop(batch_id, None)
