"""What the API returns and takes, as types."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from windlass.job import Status

if TYPE_CHECKING:
    from windlass.dashboard.redaction import Redactor
    from windlass.job import Failure, Job

Aware = Annotated[datetime, msgspec.Meta(tz=True)]
Size = Annotated[int, msgspec.Meta(ge=1, le=1000)]
Number = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]


class ErrorView(msgspec.Struct, frozen=True, kw_only=True):
    """An error of a job."""

    type: str
    message: str
    kind: str
    traceback: str
    fingerprint: str
    data: Any = None

    @classmethod
    def of(cls, error: Failure | None, task: str, hide: Redactor) -> ErrorView | None:
        """Show one without its secrets."""
        if error is None:
            return None
        return cls(
            type=error.type, message=error.message, kind=error.kind.value, traceback=error.traceback,
            fingerprint=error.fingerprint, data=hide(task, error.data),
        )  # fmt: skip


class JobView(msgspec.Struct, frozen=True, kw_only=True):
    """A job, without its secrets."""

    id: int
    task: str
    queue: str
    status: Status
    priority: int
    payload: Any
    attempt: int
    failures: int
    crashes: int
    max_attempts: int
    timeout: float | None
    run_at: datetime
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    error: ErrorView | None
    result: Any
    progress: Any
    tags: list[str]
    origin: str | None
    meta: Any
    batch_id: int | None
    tick: datetime | None
    idempotency_key: str | None
    worker: str | None
    created: bool = True
    """False: a job with its unique key was there already."""

    @classmethod
    def of(cls, job: Job, hide: Redactor) -> JobView:
        """Show one."""
        progress = None if job.progress is None else msgspec.to_builtins(job.progress)
        return cls(
            id=job.id, task=job.task, queue=job.queue, status=job.status, priority=job.priority,
            payload=hide(job.task, job.payload), attempt=job.attempt, failures=job.failures, crashes=job.crashes,
            max_attempts=job.max_attempts, timeout=job.timeout, run_at=job.run_at, created_at=job.created_at,
            started_at=job.started_at, finished_at=job.finished_at, error=ErrorView.of(job.error, job.task, hide),
            result=hide(job.task, job.result), progress=progress, tags=list(job.tags), origin=job.origin,
            meta=hide(job.task, job.meta), batch_id=job.batch_id, tick=job.tick, idempotency_key=job.idempotency_key,
            worker=job.worker, created=job.created,
        )  # fmt: skip


class JobsView(msgspec.Struct, frozen=True):
    """A page of jobs, newest first."""

    jobs: list[JobView]
    next: int | None
    """Pass it as ``after`` for the next page; ``null`` at the end."""


class CountView(msgspec.Struct, frozen=True):
    """How many jobs match."""

    count: int
    exact: bool


class ReasonView(msgspec.Struct, frozen=True):
    """One reason why a job is where it is."""

    code: str
    text: str


class AttemptView(msgspec.Struct, frozen=True, kw_only=True):
    """A try that has ended."""

    number: int
    worker: str | None
    started_at: datetime | None
    finished_at: datetime | None
    outcome: str
    error: ErrorView | None


class LineView(msgspec.Struct, frozen=True):
    """A line of a job's own log."""

    number: int
    at: datetime
    text: str


class DoneView(msgspec.Struct, frozen=True):
    """What a bulk action did."""

    done: list[int]
    refused: dict[str, str]
    """Why not, by the job's id."""
    more: bool
    """There are more that match: do it again."""


class FailureView(msgspec.Struct, frozen=True, kw_only=True):
    """Failures of one cause."""

    fingerprint: str
    type: str
    message: str
    dead: int
    retrying: int
    newest: JobView


class BatchView(msgspec.Struct, frozen=True, kw_only=True):
    """A batch and how far it is."""

    id: int
    name: str
    origin: str | None
    parent_id: int | None
    open: bool
    created_at: datetime
    finished_at: datetime | None
    total: int
    left: int
    completed: int
    dead: int
    cancelled: int


class ScheduleView(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule."""

    name: str
    words: str
    task: str
    queues: list[str]
    payload: Any
    timezone: str
    paused: bool
    fired: int
    next_at: datetime | None
    last_jobs: dict[str, int]


class Told(msgspec.Struct, frozen=True):
    """It was done."""

    ok: bool = True


class Which(msgspec.Struct, frozen=True, kw_only=True):
    """Filters; every given one must match."""

    status: list[str] = []
    queue: str | None = None
    task: str | None = None
    tag: str | None = None
    origin: str | None = None
    batch: Number | None = None
    worker: str | None = None
    error: str | None = None
    """A type, or a fingerprint."""
    created_after: Aware | None = None
    created_before: Aware | None = None
    started_before: Aware | None = None

    def filters(self) -> dict[str, Any]:
        """Return what was given, as the client takes it."""
        names = (field.name for field in msgspec.structs.fields(Which))
        return {name: value for name in names if (value := getattr(self, name)) not in (None, [])}


class JobsQuery(Which, frozen=True, kw_only=True):
    """Filters, and which page."""

    limit: Size = 50
    after: Number | None = None


class Pages(msgspec.Struct, frozen=True, kw_only=True):
    """Which page."""

    limit: Size = 50
    after: Number | None = None


class Levels(msgspec.Struct, frozen=True, kw_only=True):
    """Samples of each minute, or of each hour."""

    level: str = "minute"
    limit: Size = 60


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """How far to look back."""

    queue: str | None = None
    window: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 60.0


class EnqueueBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new job."""

    task: str
    payload: Any = {}
    queue: str | None = None
    priority: Annotated[int, msgspec.Meta(ge=-32768, le=32767)] | None = None
    delay: Annotated[float, msgspec.Meta(ge=0, le=1e9)] | None = None
    max_attempts: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None = None
    timeout: Annotated[float, msgspec.Meta(ge=0, le=1e9)] | None = None
    tags: list[str] | None = None
    origin: str | None = None
    meta: dict[str, Any] | None = None
    idempotency_key: str | None = None
    unique: bool | None = None


class RetryBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to retry."""

    mode: str = "reset"
    delay: Annotated[float, msgspec.Meta(ge=0, le=1e9)] = 0.0
    force: bool = False


class BulkBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which jobs: by ids, or all that match."""

    ids: Annotated[list[Number], msgspec.Meta(max_length=10_000)] | None = None
    filter: Which | None = None


class LimitBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A limit (``per`` is missing) or a rate, of a queue, a task or a key."""

    most: Annotated[float, msgspec.Meta(ge=0, le=1e9)]
    per: Annotated[float, msgspec.Meta(gt=0, le=1e9)] | None = None
    queue: str | None = None
    task: str | None = None
    key: str | None = None


class KeyBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The key of a limit, as it is listed."""

    key: str
