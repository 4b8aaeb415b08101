"""One attempt: what is called, and what its end means.

The lanes differ in *where* the handler runs; what it is given and what becomes of its return or exception is the same
and is decided here, by the rules of :mod:`windlass.lifecycle`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from enum import Enum
from typing import TYPE_CHECKING, Any

from windlass import codec, ending, failures, lifecycle
from windlass.backoff import wait
from windlass.context import Context
from windlass.errors import LeaseLostError, PayloadError
from windlass.job import Kind
from windlass.lifecycle import Settlement
from windlass.outcomes import Cancel, Discard, Interrupted, Retry, Snooze

if TYPE_CHECKING:
    from windlass.app import Windlass
    from windlass.job import Record
    from windlass.lifecycle import Transition
    from windlass.notes import Scribe
    from windlass.task import AnyTask
    from windlass.worker.chunks import ChunkExecution

log = logging.getLogger(__name__)


NO_ROOM = 1.0
"""Seconds before a job is tried again for which this process had no thread, memory or child process."""


class Cause(Enum):
    """Why a handler was told to stop."""

    CANCEL = "the job was cancelled"
    TIMEOUT = "its time is up"
    STOP = "the worker is stopping"
    LOST = "the lease was lost"
    NEIGHBOUR = "another job of its chunk is out of time"


class ChildCrashedError(Exception):
    """The child process died while it ran the job."""


class Execution:
    """One attempt in hand."""

    __slots__ = ("_driver", "_ending", "app", "cause", "chunk", "context", "deadline", "due", "error", "finished", "handle", "limit", "record", "settlement", "started", "task")  # fmt: skip

    def __init__(
        self, app: Windlass, task: AnyTask, record: Record, stopping: threading.Event, scribe: Scribe | None = None
    ) -> None:
        self.app = app
        self.task = task
        self.record = record
        self.context = Context(record, app, stopping=stopping)
        self.context.scribe = scribe
        self.cause: Cause | None = None
        self.error: BaseException | None = None
        self.settlement: Settlement | None = None
        """How it ended; ``None`` while it runs, and when ``ctx.transaction()`` has written the end already."""
        self.finished = False
        self.chunk: ChunkExecution | None = None
        """The call that it shares with other jobs."""
        self._ending = threading.Lock()
        self._driver = app.driver
        self.handle: Any = None
        """The lane's own: an asyncio task, a thread, a child."""
        self.limit = app.timeout_of(record)
        self.due: float | None = None
        """The job's own deadline, where that comes before the time limit."""
        if record.terms is not None:
            self._heed_deadline()
        self.started = time.monotonic()
        self.deadline = None if self.limit is None else self.started + self.limit

    def _heed_deadline(self) -> None:
        due = ending.due_by(self.record)
        left = None if due is None else max(0.001, due - self._driver.now())
        if left is not None and (self.limit is None or left < self.limit):
            self.limit, self.due = left, due

    def arguments(self) -> dict[str, Any]:
        """Decode the payload and add the Context."""
        named = self.task.codec.decode(self.record.payload)
        if self.task.codec.context_place is not None:
            named[self.task.codec.context_name] = self.context
        return named

    def call(self) -> Any:
        """Run the handler in this thread."""
        self.context.enter()
        named = self.arguments()
        if not self.app.attempt_hooks:
            return self.task.function(**named)
        with contextlib.ExitStack() as stack:
            for hook in self.app.attempt_hooks:
                stack.enter_context(hook(self.context))
            return self.task.function(**named)

    async def acall(self) -> Any:
        """Run the handler on this event loop."""
        self.context.enter()
        named = self.arguments()
        if not self.app.attempt_hooks:
            return await self.task.function(**named)
        with contextlib.ExitStack() as stack:
            for hook in self.app.attempt_hooks:
                stack.enter_context(hook(self.context))
            return await self.task.function(**named)

    def told(self, cause: Cause) -> Execution | None:
        """Note why it is to stop; return the call that is to be stopped, if one is."""
        self.cause = cause
        return self if self.chunk is None else self.chunk.heed(cause)

    # ------------------------------------------------------------------ the end

    def returned(self, result: Any) -> None:
        """The handler returned."""
        self._end(result, None)

    def raised(self, error: BaseException) -> None:
        """The handler raised."""
        self._end(None, error)

    def abandon(self) -> bool:
        """Give the job back although its handler still runs; False when it has ended meanwhile."""
        with self._ending:
            if self.finished:
                return False
            if not self.context.ended:
                self.give_back()
            self.finished = True
            return True

    def give_back(self, delay: float = 0.0) -> None:
        """End the attempt as if it had not been."""
        now = self._driver.now()
        self.settlement = Settlement(self.record, lifecycle.release(self.record, delay=delay, now=now), now)
        self.finished = True

    def _end(self, result: Any, error: BaseException | None) -> None:
        with self._ending:
            if not self.finished:  # else given back at shutdown; whatever it says now comes too late
                self._conclude(result, error)

    def _conclude(self, result: Any, error: BaseException | None) -> None:
        self.error = error
        if self.deadline is not None and self.cause is None and time.monotonic() >= self.deadline:
            self.cause = Cause.TIMEOUT
        if self.context.ended:
            if error is not None:
                log.warning("job %d raised after its ctx.transaction() had completed it: %r", self.record.id, error)
        else:
            now = self._driver.now()
            try:
                self.settlement = self._settlement(result, error, now)
            except Exception as broken:
                log.exception("cannot decide how job %d ended", self.record.id)
                failed = self._failed(broken, failures.describe(broken), None, now)
                self.settlement = Settlement(self.record, failed, now)
        self.finished = True

    def _settlement(self, result: Any, error: BaseException | None, now: float) -> Settlement:
        if error is None and self.cause is not Cause.TIMEOUT:
            try:
                return self._succeeded(result, now)
            except PayloadError as unfit:
                failed = self._failed(unfit, failures.describe(unfit, Kind.PAYLOAD), None, now)
                return Settlement(self.record, failed, now)
        return Settlement(self.record, self._decide(error, now), now)

    def _decide(self, error: BaseException | None, now: float) -> Transition:
        record = self.record
        if self.cause is Cause.TIMEOUT or error is None:
            return self._timed_out(error, now)
        match error:
            case LeaseLostError():
                return lifecycle.release(record)
            case Snooze(delay=delay):
                return lifecycle.snooze(record, delay, now=now)
            case Cancel():
                return lifecycle.cancelled(record, failures.encode(failures.describe(error, Kind.ERROR)))
            case Discard():
                return lifecycle.discard(record, failures.encode(failures.describe(error, Kind.DISCARD)))
        if self.cause is Cause.CANCEL:
            return lifecycle.cancelled(record)
        if self.cause in (Cause.STOP, Cause.LOST, Cause.NEIGHBOUR):
            return lifecycle.release(record)
        if isinstance(error, Interrupted) and self.cause is None:  # by somebody else: TERM sent to a whole group
            return lifecycle.release(record)
        if isinstance(error, ChildCrashedError):
            crash = failures.encode(failures.describe(error, Kind.CRASH))
            most = ending.crashes(record, self.app.settings.max_crashes)
            return lifecycle.lose(record, crash, max_crashes=most)
        kind = Kind.PAYLOAD if isinstance(error, PayloadError) and error.task == self.task.name else Kind.ERROR
        after = error.after if isinstance(error, Retry) else None
        return self._failed(error, failures.describe(error, kind), after, now)

    def _succeeded(self, result: Any, now: float) -> Settlement:
        encoded = None
        if result is not None:
            limit = self.app.settings.payload_limit
            encoded = codec.encode(result, task=self.task.name, what="result", limit=limit)
        return ending.completion(self.record, encoded, now)

    def _timed_out(self, error: BaseException | None, now: float) -> Transition:
        if self.due is not None:
            overdue = ending.overdue(self.due, error)
            return lifecycle.discard(self.record, failures.encode(failures.describe(overdue, Kind.TIMEOUT)))
        message = f"timed out after {self.limit:g} s"
        # How the handler took the interruption is kept, unless it is just the interruption itself.
        if error is not None and not isinstance(error, Interrupted | asyncio.CancelledError | ChildCrashedError):
            message += f": {type(error).__name__}: {error}"
        timeout = TimeoutError(message)
        timeout.__cause__ = error
        return self._failed(timeout, failures.describe(timeout, Kind.TIMEOUT), None, now)

    def _failed(self, error: BaseException, failure: Any, delay: float | None, now: float) -> Transition:
        task, record = self.task, self.record
        encoded = failures.encode(failure)
        if failure.kind is Kind.ERROR and not isinstance(error, Retry):
            if isinstance(error, task.discard_on):
                discarded = failures.describe(error, Kind.DISCARD)
                return lifecycle.discard(record, failures.encode(discarded))
            if task.retry_on and not isinstance(error, task.retry_on):
                return lifecycle.discard(record, encoded)
        most = self.app.max_attempts_of(record)
        if delay is None and record.failures + 1 < most:
            job = self.app.wrap(lifecycle.failing(record))
            delay = wait(self.app.backoff_of(record.task), job, error, now=now)
        if record.terms is not None:
            most = ending.tries(record, most, again_at=now + (delay or 0.0))
        return lifecycle.fail(record, encoded, max_attempts=most, delay=delay or 0.0, now=now)
