"""Hearing what happens in the whole fleet, and waiting for jobs to end.

Waiting is hearing, not asking: a waiter looks at the store once it listens, so that there is no gap, and then only as a
precaution, every second at first and every five in the end.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeVar

from windlass.client.filters import check_id
from windlass.client.handle import Handle
from windlass.client.stream import AsyncEvents, Events
from windlass.client.waiting import AsyncWaiter, End, Waiter, pauses
from windlass.context import attempting
from windlass.errors import ConnectionLostError, NotSupportedError, StoreError, WorkerStateError
from windlass.offload import run_blocking
from windlass.times import Duration, seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from windlass.events import Event
    from windlass.job import Job

T = TypeVar("T")


class Listening(Handle):
    """``listen`` and ``join``, with their twins."""

    def listen(self, *kinds: type[Event]) -> Events:
        """Hear the events of all processes: ``with app.listen(JobDead) as events: for event in events: …``.

        *kinds* are classes of events, with all that are derived from them; none = all. What happens while nobody
        listens, or while the connection is lost, is not told later: the store keeps what became of each job.
        """
        return Events(self, kinds)

    def alisten(self, *kinds: type[Event]) -> AsyncEvents:
        """Hear them on an event loop: ``async with app.alisten(JobDead) as events: async for event in events: …``."""
        return AsyncEvents(self, kinds)

    def join(self, job_id: int, *, timeout: Duration | None = None) -> Any:
        """Wait for a job's end and return its result, converted to what its task returns if that is known here.

        A job that will be tried again is waited for. Waiting is not asking: it costs the store next to nothing.

        Raises:
            JobFailedError: it is dead.
            JobCancelledError: it was cancelled.
            JobNotFoundError: there is none, or it was deleted.
            TimeoutError: it has not ended within *timeout*.
            WorkerStateError: this is a handler, whose slot the job may need.
        """
        end = End(check_id(job_id), self)
        return self._outcome(self._await(end.look, end.wants, timeout, job_id=job_id))

    async def ajoin(self, job_id: int, *, timeout: Duration | None = None) -> Any:
        """Await :meth:`join`; however many wait, none takes a thread."""
        end = End(check_id(job_id), self)
        return self._outcome(await self._aawait(end.look, end.wants, timeout, job_id=job_id))

    def _outcome(self, end: Job) -> Any:
        task = self.find_task(end.task)
        encoded = end.record.result
        return end.result if task is None or encoded is None else task.codec.result(encoded)

    # ------------------------------------------------------------------ waiting for anything

    def _await(
        self,
        look: Callable[[], T | None],
        wants: Callable[[Event], bool],
        timeout: Duration | None = None,
        *,
        job_id: int | None = None,
    ) -> T:
        """Return what *look* finds; look again when *wants* says so of an event.

        With *job_id* only that job's events are asked about. *look* raises what ends the wait.

        Raises:
            TimeoutError: it has found nothing within *timeout*.
            WorkerStateError: this is a handler.
        """
        waiter, deadline = Waiter(wants), self._deadline(timeout)
        if (found := self._at_once(look)) is not None:
            return found
        try:
            if deadline is None or deadline > time.monotonic():
                self._hear(waiter, job_id)
            for pause in pauses(waiter):
                if (found := _patiently(look)) is not None:
                    return found
                left = pause if deadline is None else min(pause, deadline - time.monotonic())
                if left <= 0:
                    raise _late(timeout)
                waiter.wait(left)
        finally:
            self.ear.remove(waiter, job_id)
        raise AssertionError("pauses never end")

    async def _aawait(
        self,
        look: Callable[[], T | None],
        wants: Callable[[Event], bool],
        timeout: Duration | None = None,
        *,
        job_id: int | None = None,
    ) -> T:
        """Await :meth:`_await`; *look* runs on the pool of the twins."""
        waiter, deadline = AsyncWaiter(wants), self._deadline(timeout)
        if (found := await run_blocking(self.executor, lambda: self._at_once(look))) is not None:
            return found
        try:
            if deadline is None or deadline > time.monotonic():
                await run_blocking(self.executor, lambda: self._hear(waiter, job_id))
            for pause in pauses(waiter):
                if (found := await run_blocking(self.executor, lambda: _patiently(look))) is not None:
                    return found
                left = pause if deadline is None else min(pause, deadline - time.monotonic())
                if left <= 0:
                    raise _late(timeout)
                await waiter.wait(left)
        finally:
            self.ear.remove(waiter, job_id)
        raise AssertionError("pauses never end")

    def _deadline(self, timeout: Duration | None) -> float | None:
        if attempting(self):
            raise WorkerStateError(
                "a handler cannot wait for a job: the job may need the slot that it holds; enqueue what comes next instead"
            )
        return None if timeout is None else time.monotonic() + seconds(timeout, name="timeout")

    def _at_once(self, look: Callable[[], T | None]) -> T | None:
        """Look before listening, which may be spared then.

        A store that stands in for the real one in tests runs what is due first; what has not ended then never will.
        """
        rush: Callable[[], object] | None = getattr(self.driver, "rush", None)
        if rush is None:
            return None if self.ear.open else look()
        rush()
        found = look()
        if found is None and not self.driver.workers():
            raise TimeoutError("it never ends: no worker runs here, and nothing more is due; advance the clock first")
        return found

    def _hear(self, waiter: Waiter | AsyncWaiter, job_id: int | None) -> None:
        """Listen; where that cannot be, the waiter looks for itself."""
        try:
            self.ear.add(waiter, job_id)
        except (StoreError, NotSupportedError):
            waiter.deaf = True


def _late(timeout: Duration | None) -> TimeoutError:
    return TimeoutError(f"not ended within {seconds(timeout or 0, name='timeout'):g} s")


def _patiently(look: Callable[[], T | None]) -> T | None:
    """Look; a store that is away for a while has nothing to show."""
    try:
        return look()
    except ConnectionLostError as error:
        if not error.passing:
            raise
        return None
