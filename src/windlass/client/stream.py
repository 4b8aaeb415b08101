"""A stream of events: what ``with app.listen(...)`` yields, and its twin for event loops."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Self

from windlass.errors import ConfigurationError
from windlass.events import Event
from windlass.offload import run_blocking
from windlass.times import Duration, seconds

if TYPE_CHECKING:
    from windlass.client.handle import Handle

KEPT = 10_000
"""Events kept for one who does not fetch them; beyond it the oldest are lost."""


class Inbox:
    """The events that have come, oldest first; bounded."""

    def __init__(self, kinds: tuple[Any, ...]) -> None:
        if not all(isinstance(kind, type) and issubclass(kind, Event) for kind in kinds):
            raise ConfigurationError(f"one listens to kinds of events, such as JobDead, not {kinds!r}")
        self._kinds = kinds
        self._events: deque[Event] = deque()
        self._lock = threading.Lock()
        self.missed = 0

    def offer(self, event: Event) -> None:
        """Keep it, if it is of a kind asked for."""
        if self._kinds and not isinstance(event, self._kinds):
            return
        with self._lock:
            if len(self._events) >= KEPT:
                self._events.popleft()
                self.missed += 1
            self._events.append(event)
        self.ring()

    def again(self) -> None:
        """What was missed is lost; but whoever waits must see that the application was closed."""
        self.ring()

    def ring(self) -> None:
        """Wake whoever waits."""

    def take(self) -> Event | None:
        """Return the oldest; ``None``: there is none."""
        with self._lock:
            return self._events.popleft() if self._events else None


class Events(Inbox):
    """Events of all processes: a context manager and an endless iterator, for one thread."""

    def __init__(self, app: Handle, kinds: tuple[type[Event], ...]) -> None:
        super().__init__(kinds)
        self._app = app
        self._woken = threading.Event()

    def ring(self) -> None:
        """Wake whoever waits."""
        self._woken.set()

    def __enter__(self) -> Self:
        """Listen from here on."""
        self._app.ear.add(self)
        return self

    def __exit__(self, *error: object) -> None:
        """Listen no more."""
        self._app.ear.remove(self)

    def get(self, timeout: Duration | None = None) -> Event | None:
        """Return the next event, waiting at most *timeout* for it; ``None`` when none came, or the app was closed."""
        deadline = None if timeout is None else time.monotonic() + seconds(timeout, name="timeout")
        while True:
            self._woken.clear()
            if (event := self.take()) is not None:
                return event
            left = None if deadline is None else deadline - time.monotonic()
            if self._app.closed or (left is not None and left <= 0):
                return None
            self._woken.wait(left)

    def __iter__(self) -> Self:
        """Iterate over the events as they come."""
        return self

    def __next__(self) -> Event:
        """Return the next event; the iteration ends when the application is closed."""
        event = self.get()
        if event is None:
            raise StopIteration
        return event


class AsyncEvents(Inbox):
    """The same on an event loop."""

    def __init__(self, app: Handle, kinds: tuple[type[Event], ...]) -> None:
        super().__init__(kinds)
        self._app = app

    def ring(self) -> None:
        """Wake whoever waits."""
        with contextlib.suppress(RuntimeError):  # its loop has ended
            self._loop.call_soon_threadsafe(self._woken.set)

    async def __aenter__(self) -> Self:
        """Listen from here on."""
        self._loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()
        await run_blocking(self._app.executor, lambda: self._app.ear.add(self))
        return self

    async def __aexit__(self, *error: object) -> None:
        """Listen no more."""
        self._app.ear.remove(self)

    async def get(self, timeout: Duration | None = None) -> Event | None:
        """Return the next event, waiting at most *timeout* for it; ``None`` when none came, or the app was closed."""
        deadline = None if timeout is None else time.monotonic() + seconds(timeout, name="timeout")
        while True:
            self._woken.clear()
            if (event := self.take()) is not None:
                return event
            left = None if deadline is None else deadline - time.monotonic()
            if self._app.closed or (left is not None and left <= 0):
                return None
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), left)

    def __aiter__(self) -> Self:
        """Iterate over the events as they come."""
        return self

    async def __anext__(self) -> Event:
        """Return the next event; the iteration ends when the application is closed."""
        event = await self.get()
        if event is None:
            raise StopAsyncIteration
        return event
