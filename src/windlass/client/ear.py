"""The ear: an application's one subscription to what the fleet tells, and the thread behind it.

It is opened for the first hearer, and closed when there has been none for a while. When the connection is lost it is
opened again; whoever waits for something is told to look, because what happened meanwhile is not told twice.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Protocol

from windlass import bulletin
from windlass.errors import ClosedError
from windlass.events import JobEvent

if TYPE_CHECKING:
    from windlass.client.handle import Handle
    from windlass.drivers.base import Subscription
    from windlass.events import Event

log = logging.getLogger(__name__)

SLICE = 0.2
"""Seconds of listening after which the thread sees whether it is still wanted."""
LINGER = 10.0
"""Seconds for which it listens on though nobody wants it, so that one wait after another needs one subscription."""
SLOWEST = 5.0
"""Seconds between tries to listen again at most."""
LEAVE = 1.0


class Hearer(Protocol):
    """Whoever wants events. Called by the ear's thread, so quick and harmless."""

    def offer(self, event: Event) -> None:
        """Take an event."""

    def again(self) -> None:
        """Events may have been missed."""


class Ear:
    """Listens for everybody in this process."""

    def __init__(self, app: Handle) -> None:
        self._app = app
        self._lock = threading.Lock()
        self._everything: tuple[Hearer, ...] = ()
        self._by_job: dict[int, tuple[Hearer, ...]] = {}
        self._left_at = 0.0
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()
        self._closing = threading.Event()

    @property
    def open(self) -> bool:
        """Whether it listens already."""
        return self._thread is not None and self._pid == os.getpid()

    def add(self, hearer: Hearer, job_id: int | None = None) -> None:
        """Let *hearer* have all events, or those of one job, from here on.

        Raises:
            StoreError: one cannot listen now.
            NotSupportedError: this store tells nothing.
        """
        with self._lock:
            if self._closing.is_set():
                raise ClosedError
            if self._pid != os.getpid():  # forked: those who listened are in the parent
                self._pid, self._thread, self._everything, self._by_job = os.getpid(), None, (), {}
            if self._thread is None:
                subscription = self._subscribe()
                self._thread = threading.Thread(
                    target=self._run, args=(subscription,), name="windlass-ear", daemon=True
                )
                self._thread.start()
            if job_id is None:
                self._everything = (*self._everything, hearer)
            else:
                self._by_job[job_id] = (*self._by_job.get(job_id, ()), hearer)

    def remove(self, hearer: Hearer, job_id: int | None = None) -> None:
        """Let it have no more."""
        with self._lock:
            if job_id is None:
                self._everything = tuple(one for one in self._everything if one is not hearer)
            elif rest := tuple(one for one in self._by_job.get(job_id, ()) if one is not hearer):
                self._by_job[job_id] = rest
            else:
                self._by_job.pop(job_id, None)
            self._left_at = time.monotonic()

    def close(self) -> None:
        """Stop listening."""
        with self._lock:
            self._closing.set()
            thread = self._thread if self._pid == os.getpid() else None
        self._again()
        if thread is not None and thread is not threading.current_thread():
            thread.join(LEAVE)

    # ------------------------------------------------------------------ the thread

    def _subscribe(self) -> Subscription:
        subscription = self._app.driver.subscribe()
        self._app.publisher.told(True)
        return subscription

    def _run(self, subscription: Subscription | None) -> None:
        failures = 0
        while not self._closing.is_set():
            try:
                if subscription is None:
                    subscription = self._subscribe()
                    self._again()
                messages = subscription.get(SLICE)
            except Exception as error:  # noqa: BLE001 - it tries until it is closed, and those who wait look for themselves
                if self._closing.is_set():
                    break
                if not failures:
                    log.warning("the events of other processes cannot be heard (%s); trying again", error)
                failures += 1
                _hang_up(subscription)
                subscription = None
                self._again()
                self._closing.wait(min(SLOWEST, 0.1 * 2 ** min(failures, 10)))
                continue
            if failures:
                log.warning("the events of other processes are heard again")
                failures = 0
            for message in messages:
                self._hand_out(message)
            if self._unwanted():
                break
        _hang_up(subscription)
        if not self._app.capabilities.shared:
            self._app.publisher.told(False)

    def _unwanted(self) -> bool:
        if self._everything or self._by_job or time.monotonic() - self._left_at < LINGER:
            return False
        with self._lock:
            if self._everything or self._by_job:
                return False
            self._thread = None
            return True

    def _hand_out(self, message: bytes) -> None:
        for event in bulletin.decode(message, self._app.wrap):
            hearers = self._everything
            if isinstance(event, JobEvent) and self._by_job:
                hearers += self._by_job.get(event.job.id, ())
            for hearer in hearers:
                hearer.offer(event)

    def _again(self) -> None:
        with self._lock:
            hearers = [*self._everything, *(one for some in self._by_job.values() for one in some)]
        for hearer in hearers:
            hearer.again()


def _hang_up(subscription: Subscription | None) -> None:
    if subscription is not None:
        with contextlib.suppress(Exception):  # its connection may be gone
            subscription.close()
