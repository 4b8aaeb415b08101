"""The numbers that change while somebody looks: read once for all who do."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from windlass.drivers.patience import WATCHED, at_most
from windlass.errors import WindlassError
from windlass.job import Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from windlass.app import Windlass

EVERY = 2.0
"""Seconds between looks at the store, however many watch."""


class Live:
    """Keeps the last look, and looks again when it is old and somebody asks."""

    def __init__(self, app: Windlass, clock: Callable[[], float] = time.monotonic) -> None:
        self._app = app
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: dict[str, Any] = {}
        self._failed: WindlassError | None = None
        self._seen_at = -EVERY

    def numbers(self) -> dict[str, Any]:
        """Return texts by the name of the place where pages show them; while somebody looks, those of the look before.

        Raises:
            WindlassError: the last look failed; nobody looks again before it is time, as after one that did not.
        """
        # Not waited for: viewers of a store that hangs would take every thread there is, and nobody could log in.
        if self._lock.acquire(blocking=False):
            try:
                if self._clock() - self._seen_at >= EVERY:
                    self._look()
            finally:
                self._lock.release()
        if self._failed is not None:
            raise self._failed
        return self._seen

    def _look(self) -> None:
        try:
            with at_most(WATCHED):
                self._seen = self._read()
            self._failed = None
        except WindlassError as error:
            self._failed = error
        finally:
            self._seen_at = self._clock()

    def _read(self) -> dict[str, Any]:
        stats = self._app.stats()
        found = {f"total.{status.value}": str(getattr(stats, status.value)) for status in Status}
        for name, queue in stats.queues.items():
            found.update({f"queue.{name}.{status.value}": str(getattr(queue, status.value)) for status in Status})
        return found
