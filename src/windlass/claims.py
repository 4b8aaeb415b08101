"""Claims by hand: take one job, do it yourself, and say how it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from windlass import codec, ending, failures, lifecycle, telling
from windlass.backoff import wait
from windlass.drivers.base import Turn
from windlass.errors import LeaseLostError
from windlass.events import LeaseLost
from windlass.job import Failure, Job
from windlass.lifecycle import Settlement
from windlass.times import Duration, seconds

if TYPE_CHECKING:
    from windlass.client.handle import Handle
    from windlass.job import Record


class Claim:
    """The right to one job until its deadline; past it the job goes to somebody else and this counts as a crash.

    As a context manager it is acknowledged at the end of the block, or fails with the block's exception.
    """

    def __init__(self, app: Handle, record: Record, holder: str) -> None:
        self._app = app
        self._record = record
        self._holder = holder
        self._open = True

    def __repr__(self) -> str:
        """Show the job and lease."""
        return f"<Claim of job {self._record.id}, lease {self._record.lease}>"

    @property
    def job(self) -> Job:
        """The job as it was claimed."""
        return self._app.wrap(self._record)

    @property
    def lease(self) -> int:
        """The number of this claim."""
        return self._record.lease

    def ack(self, result: Any = None) -> None:
        """Complete the job.

        Raises:
            LeaseLostError: the deadline has passed and the job has moved on.
            PayloadError: the result cannot be stored.
        """
        stored = None
        if result is not None:
            limit = self._app.settings.payload_limit
            stored = codec.encode(result, task=self._record.task, what="result", limit=limit)
        self._settle(ending.completion(self._record, stored, self._app.driver.now()))

    def nack(self, *, delay: Duration | None = None, error: BaseException | str | None = None) -> None:
        """Fail the attempt; tried again after *delay*, else by the task's back-off, while tries are left.

        Raises:
            LeaseLostError: the deadline has passed and the job has moved on.
        """
        exception = error if isinstance(error, BaseException) else RuntimeError(error or "not acknowledged")
        failure = failures.describe(exception)
        if not isinstance(error, BaseException):
            failure = Failure(type="windlass.Nack", message=str(exception))
        now = self._app.driver.now()
        if delay is None:
            policy = self._app.backoff_of(self._record.task)
            pause = wait(policy, self._app.wrap(lifecycle.failing(self._record)), exception, now=now)
        else:
            pause = seconds(delay, name="delay")
        most = ending.tries(self._record, self._app.max_attempts_of(self._record), again_at=now + pause)
        encoded = failures.encode(failure)
        failed = lifecycle.fail(self._record, encoded, max_attempts=most, delay=pause, now=now)
        self._settle(Settlement(self._record, failed, now), exception)

    def release(self) -> None:
        """Give the job back; counts nothing.

        Raises:
            LeaseLostError: the deadline has passed and the job has moved on.
        """
        self._settle(Settlement(self._record, lifecycle.release(self._record), self._app.driver.now()))

    def extend(self, lease: Duration) -> None:
        """Move the deadline to *lease* from now.

        Raises:
            LeaseLostError: the old one has passed and the job has moved on.
        """
        if not self._app.driver.extend(self._record, seconds(lease, name="lease")):
            raise LeaseLostError(self._record.id, self._record.lease)

    def _settle(self, settlement: Settlement, exception: BaseException | None = None) -> None:
        self._open = False
        if self._app.driver.exchange(Turn(worker=self._holder, settlements=[settlement])).refused:
            self._app.hub.emit(LeaseLost(job=self.job))
            raise LeaseLostError(self._record.id, self._record.lease)
        if telling.wanted(self._app.hub):
            telling.tell(self._app, settlement, exception)

    def __enter__(self) -> Self:
        """Return the claim."""
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Settle what the block has not."""
        if not self._open:
            return
        if error is None:
            self.ack()
        elif isinstance(error, Exception):
            self.nack(error=error)
        else:
            self.release()
