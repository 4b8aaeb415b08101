"""What is stored: the job, its attempts and their errors.

A ``Record`` is a job as a driver knows it: plain numbers, text and encoded JSON, cheap to make by the thousand. A
``Job`` is what users hold: a read-only view of a record with instants as ``datetime`` and JSON decoded, made only when
somebody looks. ``NewJob`` is one that has no id yet.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

import msgspec

from windlass.carrying import correlation_of
from windlass.times import Duration, moment

_decode = msgspec.json.decode


class Status(StrEnum):
    """Where a job is in its life."""

    SCHEDULED = "scheduled"
    """Its time has not come."""
    PENDING = "pending"
    """Waits for a worker."""
    RUNNING = "running"
    """Leased to a worker."""
    RETRYING = "retrying"
    """Failed, and waits for its next try."""
    COMPLETED = "completed"
    """Its handler returned."""
    DEAD = "dead"
    """Failed for good; can be retried by hand."""
    CANCELLED = "cancelled"
    """Ended by request."""


FINISHED = frozenset({Status.COMPLETED, Status.DEAD, Status.CANCELLED})
WAITING = frozenset({Status.SCHEDULED, Status.PENDING, Status.RETRYING})


class Outcome(StrEnum):
    """How one attempt ended."""

    COMPLETED = "completed"
    """The handler returned."""
    FAILED = "failed"
    """It raised, ran out of time, or its payload did not fit."""
    SNOOZED = "snoozed"
    """It asked to be run later."""
    RELEASED = "released"
    """The worker gave the job back before it was done."""
    LOST = "lost"
    """Its worker vanished."""
    CANCELLED = "cancelled"
    """It was cancelled."""


class Kind(StrEnum):
    """Why an attempt failed."""

    ERROR = "error"
    """The handler raised."""
    TIMEOUT = "timeout"
    """Its deadline passed."""
    PAYLOAD = "payload"
    """The payload did not fit the task, or the result could not be stored."""
    CRASH = "crash"
    """The worker, or the child process that ran it, was lost."""
    DISCARD = "discard"
    """The handler said ``Discard``, or raised what ``discard_on`` names."""


class Failure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One error as it is stored; ``str()`` reads well."""

    type: str
    """The exception's qualified name, for instance ``ValueError`` or ``shop.OutOfStock``."""
    message: str
    traceback: str = ""
    kind: Kind = Kind.ERROR
    data: Any = None
    """JSON taken from the exception's ``data`` attribute."""
    fingerprint: str = ""
    """Sixteen hexadecimal digits that failures of one cause share; see :mod:`windlass.fingerprint`. The last field, always."""

    def __str__(self) -> str:
        """Return ``Type: message``."""
        return f"{self.type}: {self.message}" if self.message else self.type


class Hold(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A key that at most one job may have at a time."""

    key: str
    mask: int
    """The statuses in which a job has it: bits of ``BIT``."""
    window: float = 0.0
    """Seconds from its creation for which a job has it, whatever its status."""
    strict: bool = False
    """An insert whose key is held raises ``UniqueConflictError``; else it returns the job that holds it."""


class Gate(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a claim has to pass: so many at once, or so many in a time."""

    key: str
    """``limit:…`` or ``rate:…``; of ``limit:task:NAME``, ``limit:queue:NAME`` and the rates alike, all jobs."""
    most: float
    """How many may run at once, or may start in ``per`` seconds."""
    per: float = 0.0
    """Seconds; 0 = it limits how many run at once."""
    burst: float = 0.0
    """A rate's largest number of starts at one instant."""
    weight: float = 1.0
    """How many tokens of a rate one start takes."""


class Flow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a store itself must know to hold a job back: its keys and gates."""

    holds: tuple[Hold, ...] = ()
    gates: tuple[Gate, ...] = ()


BIT = {status: 1 << place for place, status in enumerate(Status)}
ALWAYS = (1 << len(Status)) - 1
"""The mask of an idempotency key: held for as long as the job's row exists."""
NAMED = "key:"
"""What the hold of an idempotency key begins with."""


class NewJob(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A job that is not stored yet. It holds no containers that could form a cycle, so the collector may skip it.

    ``delay`` counts in seconds from the store's clock, ``run_at`` is an instant (epoch seconds); at most one is given.
    """

    task: str
    queue: str
    payload: bytes
    priority: int = 0
    max_attempts: int | None = None
    timeout: float | None = None
    delay: float = 0.0
    run_at: float | None = None
    tags: tuple[str, ...] = ()
    origin: str | None = None
    meta: bytes | None = None
    batch_id: int | None = None
    tick: float | None = None
    idempotency_key: str | None = None
    holds: tuple[Hold, ...] = ()
    """Beside that of the idempotency key."""
    gates: tuple[Gate, ...] = ()
    terms: bytes | None = None
    """JSON that only workers read (:class:`windlass.terms.Terms`)."""

    def flow(self) -> Flow | None:
        """Return its keys and gates; ``None``: nothing holds it back."""
        if self.idempotency_key is not None:
            return Flow((*self.holds, Hold(NAMED + self.idempotency_key, ALWAYS)), self.gates)
        return Flow(self.holds, self.gates) if self.holds or self.gates else None


class Record(msgspec.Struct, frozen=True, gc=False):
    """A job as the drivers know it. Instants are epoch seconds of the store's clock; JSON stays encoded."""

    id: int
    task: str
    queue: str
    status: Status
    priority: int
    payload: bytes
    attempt: int
    failures: int
    crashes: int
    max_attempts: int | None
    timeout: float | None
    run_at: float
    created_at: float
    started_at: float | None = None
    finished_at: float | None = None
    error: bytes | None = None
    result: bytes | None = None
    tags: str | None = None
    """A JSON list, or ``None`` for no tags."""
    origin: str | None = None
    meta: bytes | None = None
    batch_id: int | None = None
    tick: float | None = None
    idempotency_key: str | None = None
    worker: str | None = None
    lease: int = 0
    """The number of the live lease; 0 unless running."""
    cancel: bool = False
    """A running job that was asked to stop."""
    flow: bytes | None = None
    """Its keys and gates: a :class:`Flow` as JSON."""
    terms: bytes | None = None
    progress: bytes | None = None
    """What its handler reported last; only ``get`` and ``find`` tell it."""
    found: bool = False
    """An insert returned it because it holds the new job's key; never stored."""


def first_record(job: NewJob, job_id: int, now: float) -> Record:
    """Return the record of a job that is stored *now*: pending, or scheduled if it is for later."""
    flow = job.flow() if job.holds or job.gates or job.idempotency_key is not None else None
    run_at = job.run_at if job.run_at is not None else now + job.delay
    if run_at > now:
        status = Status.SCHEDULED
    else:
        status, run_at = Status.PENDING, now
    return Record(
        job_id, job.task, job.queue, status, job.priority, job.payload, 0, 0, 0, job.max_attempts, job.timeout, run_at, now,
        None, None, None, None, msgspec.json.encode(job.tags).decode() if job.tags else None, job.origin, job.meta,
        job.batch_id, job.tick, job.idempotency_key, None, 0, False,
        None if flow is None else msgspec.json.encode(flow), job.terms,
    )  # fmt: skip


class Progress(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far a handler says it is."""

    done: float
    total: float | None = None
    note: str = ""

    @property
    def share(self) -> float | None:
        """From 0 to 1; ``None`` when the total is unknown."""
        return None if not self.total else min(1.0, max(0.0, self.done / self.total))

    def __str__(self) -> str:
        """Return ``3/10 note``."""
        whole = "" if self.total is None else f"/{self.total:g}"
        return f"{self.done:g}{whole} {self.note}".rstrip()


class Line(msgspec.Struct, frozen=True):
    """A line of a job's own log."""

    number: int
    """From 1; the next one is higher."""
    at: datetime
    """When it was told."""
    text: str

    def __str__(self) -> str:
        """Return the text."""
        return self.text


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One try at a job, as history keeps it."""

    number: int
    worker: str | None
    started_at: datetime | None
    finished_at: datetime | None
    outcome: Outcome
    error: Failure | None = None

    @property
    def duration(self) -> float | None:
        """Seconds from start to end; ``None`` when either is unknown."""
        if self.started_at is None or self.finished_at is None:
            return None
        return (self.finished_at - self.started_at).total_seconds()


class Holder(Protocol):
    """What a job asks of the application it came from."""

    default_max_attempts: int

    def get(self, job_id: int) -> Job:
        """Return a job."""

    def history(self, job_id: int) -> list[Attempt]:
        """Return its attempts."""

    def lines(self, job_id: int, *, after: int = 0) -> list[Line]:
        """Return its log."""

    def join(self, job_id: int, *, timeout: Any = None) -> Any:
        """Wait for its end."""

    async def ajoin(self, job_id: int, *, timeout: Any = None) -> Any:
        """Await its end."""


class Job:
    """One stored call of a task: a read-only view.

    Two jobs are equal when they show the same stored state. Nothing is fetched behind your back: ``refresh()`` returns
    a newer view, ``history()`` asks the store.
    """

    __slots__ = ("_holder", "_record", "created")

    _record: Record
    _holder: Holder | None
    created: bool
    """False when a unique enqueue returned a job that was there already."""

    def __init__(self, record: Record, holder: Holder | None = None, *, created: bool = True) -> None:
        # Past our own __setattr__; three times as fast as object.__setattr__, and jobs are made by the thousand.
        _set_record(self, record)
        _set_holder(self, holder)
        _set_created(self, created)

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse: a job is a snapshot."""
        raise AttributeError(f"a Job is read-only; cannot set {name!r}")

    def __delattr__(self, name: str) -> None:
        """Refuse: a job is a snapshot."""
        raise AttributeError(f"a Job is read-only; cannot delete {name!r}")

    def __eq__(self, other: object) -> bool:
        """Compare the stored state."""
        return self._record == other._record if isinstance(other, Job) else NotImplemented

    def __hash__(self) -> int:
        """Hash by id."""
        return hash(self._record.id)

    def __repr__(self) -> str:
        """Show what matters most."""
        record = self._record
        return f"<Job {record.id} {record.task} {record.status} queue={record.queue!r} attempt={record.attempt}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the state without the application."""
        return (Job, (self._record,))

    @property
    def id(self) -> int:
        """The number the store gave it: unique, growing, never reused."""
        return self._record.id

    @property
    def task(self) -> str:
        """The task's name."""
        return self._record.task

    @property
    def queue(self) -> str:
        """The queue's name."""
        return self._record.queue

    @property
    def status(self) -> Status:
        """Where it is in its life."""
        return self._record.status

    @property
    def priority(self) -> int:
        """−32768…32767; higher runs first."""
        return self._record.priority

    @property
    def payload(self) -> Any:
        """The decoded JSON: an object of named parameters, or any value for a raw task."""
        return _decode(self._record.payload)

    @property
    def attempt(self) -> int:
        """The number of tries that reached a handler, this one included; never falls."""
        return self._record.attempt

    @property
    def failures(self) -> int:
        """The failed attempts since the job was enqueued or reset."""
        return self._record.failures

    @property
    def crashes(self) -> int:
        """The attempts lost with their worker since the job was enqueued or reset."""
        return self._record.crashes

    @property
    def max_attempts(self) -> int:
        """Total tries before it is dead."""
        if self._record.max_attempts is not None:
            return self._record.max_attempts
        return self._holder.default_max_attempts if self._holder is not None else 3

    @property
    def timeout(self) -> float | None:
        """Seconds one attempt may take: ``None`` = unset (the task's or application's), ``0`` = explicitly none."""
        return self._record.timeout

    @property
    def run_at(self) -> datetime:
        """When it became, or becomes, available."""
        return moment(self._record.run_at)  # type: ignore[return-value]

    @property
    def created_at(self) -> datetime:
        """When it was enqueued."""
        return moment(self._record.created_at)  # type: ignore[return-value]

    @property
    def started_at(self) -> datetime | None:
        """When the last attempt started."""
        return moment(self._record.started_at)

    @property
    def finished_at(self) -> datetime | None:
        """When it was completed, dead or cancelled."""
        return moment(self._record.finished_at)

    @property
    def error(self) -> Failure | None:
        """The last error."""
        return None if self._record.error is None else _decode(self._record.error, type=Failure)

    @property
    def result(self) -> Any:
        """What the handler returned, as JSON; ``None`` when nothing was kept."""
        return None if self._record.result is None else _decode(self._record.result)

    @property
    def progress(self) -> Progress | None:
        """What its handler reported last, as it was when this view was read."""
        return None if self._record.progress is None else _decode(self._record.progress, type=Progress)

    @property
    def tags(self) -> tuple[str, ...]:
        """The labels it was given."""
        return () if self._record.tags is None else tuple(_decode(self._record.tags))

    @property
    def origin(self) -> str | None:
        """Who or what enqueued it, in the caller's words."""
        return self._record.origin

    @property
    def meta(self) -> dict[str, Any]:
        """JSON carried beside the payload."""
        return {} if self._record.meta is None else _decode(self._record.meta)

    @property
    def correlation_id(self) -> str:
        """Shared by all jobs that come from one: given at enqueue, else the id of the job that began it."""
        return correlation_of(self._record)

    @property
    def batch_id(self) -> int | None:
        """The batch it belongs to."""
        return self._record.batch_id

    @property
    def tick(self) -> datetime | None:
        """The schedule's instant that it was enqueued for."""
        return moment(self._record.tick)

    @property
    def idempotency_key(self) -> str | None:
        """The caller's own key."""
        return self._record.idempotency_key

    @property
    def worker(self) -> str | None:
        """The worker that runs it or ran it last."""
        return self._record.worker

    @property
    def lease(self) -> int:
        """The live lease's number, good as a fencing token for outside systems; 0 unless running."""
        return self._record.lease

    @property
    def record(self) -> Record:
        """The stored job, as drivers see it."""
        return self._record

    @property
    def finished(self) -> bool:
        """Whether it is completed, dead or cancelled."""
        return self._record.status in FINISHED

    def history(self) -> list[Attempt]:
        """Return its attempts, oldest first."""
        return self._app.history(self.id)

    def lines(self, after: int = 0) -> list[Line]:
        """Return the lines of its own log after line number *after*, oldest first; the last 1,000 are kept."""
        return self._app.lines(self.id, after=after)

    def refresh(self) -> Job:
        """Return the job as it is now.

        Raises:
            JobNotFoundError: it was deleted.
        """
        return self._app.get(self.id)

    def join(self, timeout: Duration | None = None) -> Any:
        """Wait for the job's end and return its result, converted to what its task returns if that is known here.

        A job that will be tried again is waited for.

        Raises:
            JobFailedError: it is dead.
            JobCancelledError: it was cancelled.
            JobNotFoundError: it was deleted.
            TimeoutError: it has not ended within *timeout*.
            WorkerStateError: this is a handler, whose slot the job may need.
        """
        return self._app.join(self.id, timeout=timeout)

    async def ajoin(self, timeout: Duration | None = None) -> Any:
        """Await :meth:`join`."""
        return await self._app.ajoin(self.id, timeout=timeout)

    @property
    def _app(self) -> Holder:
        if self._holder is None:
            raise RuntimeError("this Job is detached from its application (it was unpickled); use app.get(job.id)")
        return self._holder


_set_record = Job.__dict__["_record"].__set__
_set_holder = Job.__dict__["_holder"].__set__
_set_created = Job.__dict__["created"].__set__
