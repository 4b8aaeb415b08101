"""The doorbell inside one process: a flag that stays up until the waiter has seen it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class MemoryBell:
    """A bell that any thread of this process can ring."""

    address = ""
    patience = None

    def __init__(self, forget: Callable[[MemoryBell], object]) -> None:
        self._rung = threading.Event()
        self._forget = forget

    def wait(self, timeout: float) -> bool:
        """Sleep until rung, at most *timeout* seconds."""
        rung = self._rung.wait(max(0.0, timeout))
        # After a timeout the flag stays as it is: a ring that comes just now must be heard by the next wait.
        if rung:
            self._rung.clear()
        return rung

    def ring(self) -> None:
        """Wake the waiter."""
        # Cheap when nobody has listened since the last ring, as in a burst of inserts.
        if not self._rung.is_set():
            self._rung.set()

    def close(self) -> None:
        """Be rung no more."""
        self._forget(self)
