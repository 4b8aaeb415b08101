"""What waits for events, on a thread or on an event loop, and how a job's end is known."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Protocol

from windlass.errors import JobCancelledError, JobFailedError, JobNotFoundError
from windlass.events import JobCancelled, JobCompleted, JobDead, JobDeleted, JobEvent
from windlass.job import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from windlass.client.handle import Handle
    from windlass.events import Event
    from windlass.job import Job, Record

PAUSE, LONGEST = 1.0, 5.0
"""Seconds between looks of one who also listens: at first, and at most."""
DEAF, DEAFEST = 0.02, 1.0
"""The same for one who cannot listen."""
GROWTH = 1.5


class Waits(Protocol):
    """A waiter of either colour."""

    deaf: bool


def pauses(waiter: Waits) -> Iterator[float]:
    """Yield for ever the seconds until the next look."""
    pause, longest = (DEAF, DEAFEST) if waiter.deaf else (PAUSE, LONGEST)
    while True:
        yield pause
        pause = min(longest, pause * GROWTH)


class Waiter:
    """A thread that waits until an event of interest has come."""

    def __init__(self, wants: Callable[[Event], bool]) -> None:
        self._wants = wants
        self._woken = threading.Event()
        self.deaf = False
        """It cannot listen, and has to look more often."""

    def offer(self, event: Event) -> None:
        """Wake up if it is of interest."""
        if self._wants(event):
            self._woken.set()

    def again(self) -> None:
        """Wake up: something may have been missed."""
        self._woken.set()

    def wait(self, seconds: float) -> None:
        """Sleep until woken, at most so long."""
        self._woken.wait(seconds)
        self._woken.clear()


class AsyncWaiter:
    """A coroutine that waits until an event of interest has come."""

    def __init__(self, wants: Callable[[Event], bool]) -> None:
        self._wants = wants
        self._loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()
        self.deaf = False

    def offer(self, event: Event) -> None:
        """Wake up if it is of interest."""
        if self._wants(event):
            self.again()

    def again(self) -> None:
        """Wake up: something may have been missed."""
        with contextlib.suppress(RuntimeError):  # its loop has ended
            self._loop.call_soon_threadsafe(self._woken.set)

    async def wait(self, seconds: float) -> None:
        """Sleep until woken, at most so long."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._woken.wait(), seconds)
        self._woken.clear()


class End:
    """The end of one job, as an event tells it or the store does."""

    def __init__(self, job_id: int, app: Handle) -> None:
        self._id = job_id
        self._app = app
        self._event: JobEvent | None = None
        self._there = False
        """Whether it was there at the last look."""

    def wants(self, event: Event) -> bool:
        """Keep the event if it tells that the job has ended."""
        if isinstance(event, JobCompleted | JobDead | JobCancelled | JobDeleted) and event.job.id == self._id:
            self._event = event
            return True
        return False

    def look(self) -> Job | None:
        """Return the job if it is completed; ``None``: it has not ended.

        Raises:
            JobFailedError: it is dead.
            JobCancelledError: it was cancelled.
            JobNotFoundError: there is none.
        """
        event, self._event = self._event, None
        if event is not None and not event.cut and not isinstance(event, JobDeleted):
            return self._ended(event.job)
        record: Record | None = self._app.driver.get(self._id)
        if record is None:
            if isinstance(event, JobCompleted):  # of which nothing was to be kept
                return event.job
            if self._there and event is None:  # it has gone just now: what tells how is on its way
                self._there = False
                return None
            raise JobNotFoundError(self._id)
        self._there = True
        job = self._app.wrap(record)
        return self._ended(job) if job.finished else None

    def _ended(self, job: Job) -> Job:
        if job.status is Status.DEAD:
            raise JobFailedError(job)
        if job.status is Status.CANCELLED:
            raise JobCancelledError(job)
        return job
