"""The numbers that change while somebody looks: read once for all who do."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

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
        self._seen_at = -EVERY

    def numbers(self) -> dict[str, Any]:
        """Return texts by the name of the place where pages show them."""
        with self._lock:
            if self._clock() - self._seen_at >= EVERY:
                self._seen = self._look()
                self._seen_at = self._clock()
            return self._seen

    def _look(self) -> dict[str, Any]:
        stats = self._app.stats()
        found = {f"total.{status.value}": str(getattr(stats, status.value)) for status in Status}
        for name, queue in stats.queues.items():
            found.update({f"queue.{name}.{status.value}": str(getattr(queue, status.value)) for status in Status})
        return found
