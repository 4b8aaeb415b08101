"""Everything Windlass raises.

The tree::

    WindlassError
    ├── ConfigurationError          a setting, URL or option that cannot be right (also ValueError)
    ├── ClosedError                 the application was closed
    ├── NotSupportedError           this store cannot do it; ``app.capabilities`` tells
    │   └── NotYetError             spelt in the interface, not built yet
    ├── TaskError
    │   ├── UnknownTaskError        .name
    │   ├── DuplicateTaskError      .name
    │   ├── SignatureError          the function cannot be a task (also TypeError)
    │   └── PayloadError            .task; cannot be encoded, decoded, or is too large (also ValueError)
    ├── JobError                    .job_id
    │   ├── JobNotFoundError        (also LookupError)
    │   ├── JobStateError           .status .move
    │   ├── JobFailedError          .job
    │   ├── JobCancelledError       .job
    │   ├── LeaseLostError          .lease
    │   └── UniqueConflictError     .existing
    ├── BatchError                  .batch_id
    │   ├── BatchNotFoundError      (also LookupError)
    │   └── BatchStateError         it has finished, so nothing can be added
    ├── ScheduleError               .name
    │   ├── ScheduleNotFoundError   (also LookupError)
    │   └── ScheduleStateError      it is as it is: its last job still runs, or another one has the name
    ├── StoreError
    │   ├── ConnectionLostError     .passing; the store cannot be reached or is locked (also ConnectionError)
    │   ├── StoreFullError          no room left; worth retrying once there is
    │   ├── QueryTimeoutError       a listing took longer than whoever asked would wait
    │   ├── NotReplicatedError      .wanted .confirmed; stored, but on too few servers as yet
    │   ├── CorruptStoreError       the store's own files are damaged
    │   └── SchemaError             not migrated, or made by a newer release
    └── WorkerError
        ├── WorkerNotFoundError     .worker (also LookupError)
        ├── WorkerStateError        started twice
        └── ShutdownTimeoutError    .job_ids that were given back

What a handler raises to choose its outcome (``Retry``, ``Snooze``, ``Discard``, ``Cancel``) is not an error and
lives in :mod:`windlass.outcomes`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


class WindlassError(Exception):
    """Something went wrong in Windlass."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").partition("\n")[0])


class ConfigurationError(WindlassError, ValueError):
    """A setting, URL or option cannot be right."""


class ClosedError(WindlassError):
    """The application was closed; make a new Windlass."""


class NotSupportedError(WindlassError):
    """This store cannot do that."""


class NotYetError(NotSupportedError):
    """This is part of the interface but not built yet."""


class TaskError(WindlassError):
    """A task is missing, doubled or unfit."""


class UnknownTaskError(TaskError):
    """No task of that name is registered."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"no task named {name!r} is registered here")


class DuplicateTaskError(TaskError):
    """A task of that name is registered already."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"a task named {name!r} is registered already; pass replace=True to put this one in its place")


class SignatureError(TaskError, TypeError):
    """The function cannot be a task."""


class PayloadError(TaskError, ValueError):
    """The arguments do not fit the task, or cannot be stored as JSON."""

    def __init__(self, message: str, *, task: str | None = None) -> None:
        self.task = task
        super().__init__(message)


class JobError(WindlassError):
    """A job is not what the call needs."""

    def __init__(self, message: str | None = None, *, job_id: int) -> None:
        self.job_id = job_id
        super().__init__(message)


class JobNotFoundError(JobError, LookupError):
    """There is no such job."""

    def __init__(self, job_id: int | str) -> None:
        self.key = job_id
        super().__init__(f"there is no job {job_id!r}", job_id=job_id if isinstance(job_id, int) else 0)


class JobStateError(JobError):
    """The job's status does not allow that."""

    def __init__(self, job_id: int, *, status: str, move: str, hint: str = "") -> None:
        self.status, self.move = status, move
        super().__init__(f"cannot {move} job {job_id}: it is {status}{'; ' + hint if hint else ''}", job_id=job_id)


class JobFailedError(JobError):
    """The job that was waited for is dead."""

    def __init__(self, job: Any) -> None:
        self.job = job
        super().__init__(f"job {job.id} is dead: {job.error}", job_id=job.id)


class JobCancelledError(JobError):
    """The job that was waited for was cancelled."""

    def __init__(self, job: Any) -> None:
        self.job = job
        super().__init__(f"job {job.id} was cancelled", job_id=job.id)


class LeaseLostError(JobError):
    """The right to this job has passed to somebody else."""

    def __init__(self, job_id: int, lease: int) -> None:
        self.lease = lease
        super().__init__(f"lease {lease} of job {job_id} is no longer valid; nothing was written", job_id=job_id)


class UniqueConflictError(JobError):
    """Another job holds the unique key."""

    def __init__(self, existing: Any) -> None:
        self.existing = existing
        super().__init__(f"job {existing.id} holds the same unique key", job_id=existing.id)


class BatchError(WindlassError):
    """Something about a batch."""

    def __init__(self, message: str, *, batch_id: int) -> None:
        self.batch_id = batch_id
        super().__init__(message)


class BatchNotFoundError(BatchError, LookupError):
    """There is no such batch."""

    def __init__(self, batch_id: int) -> None:
        super().__init__(f"there is no batch {batch_id}", batch_id=batch_id)


class BatchStateError(BatchError):
    """Nothing can be added to a batch that has finished."""

    def __init__(self, batch_id: int, *, missing: bool = False) -> None:
        why = "there is none" if missing else "it has finished"
        super().__init__(f"nothing can be added to batch {batch_id}: {why}", batch_id=batch_id)


class ScheduleError(WindlassError):
    """Something about a schedule."""

    def __init__(self, message: str, *, name: str) -> None:
        self.name = name
        super().__init__(message)


class ScheduleNotFoundError(ScheduleError, LookupError):
    """There is no such schedule."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no schedule {name!r}", name=name)


class ScheduleStateError(ScheduleError):
    """The schedule does not allow that now."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"schedule {name!r}: {why}", name=name)


class StoreError(WindlassError):
    """The store refused or failed."""


class ConnectionLostError(StoreError, ConnectionError):
    """The store cannot be reached."""

    def __init__(self, message: str | None = None, *, passing: bool = True) -> None:
        self.passing = passing
        """Whether it is worth waiting: a server comes back, a wrong password stays wrong."""
        super().__init__(message)


class StoreFullError(StoreError):
    """The store has no room left."""


class QueryTimeoutError(StoreError):
    """The store needs too long to answer; narrow what is asked for."""


class NotReplicatedError(StoreError):
    """The jobs are stored, but too few replicas have confirmed them in time."""

    def __init__(self, *, wanted: int, confirmed: int) -> None:
        self.wanted, self.confirmed = wanted, confirmed
        super().__init__(
            f"stored, but {confirmed} of {wanted} replicas have confirmed it in time: enqueueing again may store it twice"
        )


class CorruptStoreError(StoreError):
    """The store's files are damaged."""


class SchemaError(StoreError):
    """The store's schema does not fit this release."""


class WorkerError(WindlassError):
    """A worker was misused or could not do as told."""


class WorkerNotFoundError(WorkerError, LookupError):
    """There is no such worker, or it does not live."""

    def __init__(self, worker: str) -> None:
        super().__init__(f"there is no worker {worker!r} that lives")
        self.worker = worker


class WorkerStateError(WorkerError):
    """The worker is running already."""


class ShutdownTimeoutError(WorkerError):
    """Handlers were still running when the time to stop was up; their jobs were given back."""

    def __init__(self, job_ids: Sequence[int]) -> None:
        self.job_ids = tuple(job_ids)
        listed = ", ".join(map(str, self.job_ids[:10])) + (", …" if len(self.job_ids) > 10 else "")
        super().__init__(f"{len(self.job_ids)} job(s) did not stop in time and were given back: {listed}")
