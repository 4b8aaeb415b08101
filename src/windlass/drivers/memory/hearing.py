"""Those who listen to what is published, in memory."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING

from windlass.drivers.inbox import fetch

if TYPE_CHECKING:
    from collections.abc import Sequence


class Listeners:
    """Everybody who listens."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ears: tuple[MemorySubscription, ...] = ()

    def __bool__(self) -> bool:
        """Whether anybody listens."""
        return bool(self._ears)

    def publish(self, messages: Sequence[bytes]) -> None:
        """Hand messages to all."""
        for ear in self._ears:
            for message in messages:
                ear.inbox.put(message)

    def add(self) -> MemorySubscription:
        """Return a new listener."""
        ear = MemorySubscription(self)
        with self._lock:
            self._ears = (*self._ears, ear)
        return ear

    def remove(self, gone: MemorySubscription) -> None:
        """Forget one."""
        with self._lock:
            self._ears = tuple(ear for ear in self._ears if ear is not gone)


class MemorySubscription:
    """One of them."""

    def __init__(self, listeners: Listeners) -> None:
        self._listeners = listeners
        self.inbox: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def get(self, timeout: float) -> list[bytes]:
        """Return what has come, waiting for the first."""
        return fetch(self.inbox, timeout)

    def close(self) -> None:
        """Stop listening."""
        self._listeners.remove(self)
