"""Handing a process's events to all who listen to the fleet.

Theory: publishing is a listener of the hub that says no while nobody listens, so that no event is even made then. Whoever
works learns with every turn whether somebody listens (``Turned.heard``); a process that only enqueues has to look, in the
background and every two seconds at most. Encoding and sending are done by a thread of its own: a job never waits for
them, and what fails or overflows is lost. History is the truth, events are the news.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Protocol

from windlass import bulletin
from windlass.drivers.base import Turn
from windlass.errors import ClosedError
from windlass.events import Event

if TYPE_CHECKING:
    from windlass.drivers.base import Capabilities, Driver
    from windlass.events import Hub

log = logging.getLogger(__name__)

LOOK = 2.0
"""Seconds for which an answer to "does anybody listen?" is believed."""
MOST = 10_000
"""Events that wait to be published; beyond it the oldest are lost."""
LEAVE = 1.0
"""Seconds that closing waits for what is left."""
IDLE = 5.0
"""Seconds without an event after which the thread ends; the next one starts another."""


class Host(Protocol):
    """What publishing needs of an application."""

    @property
    def driver(self) -> Driver:
        """The store."""

    @property
    def capabilities(self) -> Capabilities:
        """What the store can do."""


class Publisher:
    """Takes events from the hub and publishes them."""

    def __init__(self, host: Host, hub: Hub) -> None:
        self._host = host
        self._heard = False
        self._stale_at = 0.0
        self._shared = host.capabilities.shared
        """Whether others can listen, too; who listens to a store that only this process sees is known here."""
        self._queue: deque[Event] = deque(maxlen=MOST)
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()
        self._closing = False
        self._failing = False
        hub.add(Event, self._take, gate=self._wanted)

    def told(self, heard: bool) -> None:  # noqa: FBT001
        """Learn from a turn, or from a listener of this process, whether anybody listens."""
        self._heard = heard
        self._stale_at = time.monotonic() + LOOK

    def forget(self) -> None:
        """Forget what was known: the store is another one from here on."""
        self._heard = False
        self._stale_at = 0.0
        self._shared = self._host.capabilities.shared

    def close(self) -> None:
        """Send what is left, within a second."""
        self._closing = True
        thread = self._thread
        if thread is not None and self._pid == os.getpid() and thread is not threading.current_thread():
            self._wake.set()
            thread.join(LEAVE)

    def _wanted(self) -> bool:
        return self._heard or (self._shared and time.monotonic() >= self._stale_at)

    def _take(self, event: Event) -> None:
        if self._pid != os.getpid():
            self._forked()
        self._queue.append(event)
        if self._thread is None:
            self._start()
        if not self._wake.is_set():
            self._wake.set()

    def _forked(self) -> None:
        """Begin anew: the thread, and what it was about to send, is the parent's."""
        self._pid, self._thread, self._lock = os.getpid(), None, threading.Lock()
        self._queue.clear()
        self._wake = threading.Event()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None and not self._closing:
                self._thread = threading.Thread(target=self._run, name="windlass-publisher", daemon=True)
                self._thread.start()

    def _retire(self) -> bool:
        """End the thread, unless an event has come just now: it is queued before the thread is looked for."""
        with self._lock:
            self._thread = None
            if self._queue:
                self._thread = threading.current_thread()
            return self._thread is None

    def _run(self) -> None:
        while True:
            if not self._wake.wait(IDLE) and self._retire():
                return
            self._wake.clear()
            events = [self._queue.popleft() for _ in range(len(self._queue))]
            if events:
                try:
                    self._publish(events)
                except ClosedError:
                    return
                except Exception as error:  # noqa: BLE001 - no job may suffer from what is only told
                    if not self._failing:
                        log.warning("events cannot be published (%s); what happens meanwhile is not told", error)
                    self._failing = True
            if self._closing and not self._queue:
                return

    def _publish(self, events: list[Event]) -> None:
        if self._shared and time.monotonic() >= self._stale_at:
            # Until the answer is there events are taken; a look that fails is not repeated at once.
            try:
                self.told(self._host.driver.exchange(Turn(worker="publisher")).heard)
            except BaseException:
                self.told(heard=False)
                raise
        if self._heard:
            self._host.driver.publish(bulletin.encode(events))
        if self._failing:
            self._failing = False
            log.warning("events are published again")
