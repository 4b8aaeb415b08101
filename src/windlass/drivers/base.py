"""What Windlass asks of a store: the ``Driver`` Protocol and the values that cross it.

A driver keeps records and moves them between places, atomically. It decides nothing: every ``Transition`` comes from
:mod:`windlass.lifecycle`. Its promises, which the shipped conformance suite checks:

* **One place.** At any instant a job is in exactly one status, and every method is atomic: all of it, or nothing.
* **Order.** Within the streams asked for, higher priority first, then in the order in which jobs became available,
  then by id.
* **Fencing.** Every claim gets a lease number that only grows and is never used again, not even after a restart.
  A settlement whose lease is not live is refused and reported, never applied.
* **Its own clock.** All instants are read from the store's clock (``now()``), which a test can shift.
* **Flat cost.** Claim, insert and counting do not depend on how many jobs are finished, waiting, or of other tasks.

Errors of the store's own library never leave a driver: they become ``StoreError`` and its kin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import msgspec

from windlass.job import Gate, NewJob, Record, Status
from windlass.lifecycle import Settlement, Transition

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Generator
    from contextlib import AbstractContextManager

    from windlass.drivers.ticking import DecideSchedule, ScheduleChanged, ScheduleRecord, TickRecord


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a store can do beyond the common ground."""

    durable: bool
    """Jobs survive the process."""
    shared: bool
    """Other processes see the same jobs."""
    transactions: bool
    """``ctx.transaction()`` and ``connection=`` work."""
    atomic_bulk: bool
    """``enqueue_many`` is all or nothing."""
    one_machine: bool
    """All users of the store are on one machine, so that a vanished process can be seen at once."""


class Take(msgspec.Struct, frozen=True):
    """One part of a worker's demand: so many jobs of these queues, at most."""

    queues: tuple[str, ...] | None
    """``None`` = from all."""
    limit: int


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker's pump brings to the store in one exchange."""

    worker: str
    settlements: Sequence[Settlement] = ()
    """Leases that have ended."""
    starting: Sequence[Record] = ()
    """Prefetched claims whose handlers are about to start."""
    limit: int = 0
    """How many new claims are wanted."""
    start: int = 0
    """How many of those, the best first, will start at once; the others are prefetched."""
    cautious: int = 1 << 30
    """A claim with so many crashes comes unstarted, whatever ``start`` says: it will have to run alone."""
    queues: tuple[str, ...] | None = None
    """Take from these queues only; ``None`` = from all."""
    takes: tuple[Take, ...] = ()
    """Instead of ``queues``: take in this order, ``limit`` in all."""
    tasks: tuple[str, ...] = ()
    """The names this worker can run; nothing else is claimed."""
    deadline: float | None = None
    """Seconds after which a claim made by hand expires; ``None`` = it lives as long as its worker's heartbeat."""

    def parts(self) -> tuple[Take, ...]:
        """Return the demand in the order in which it is met."""
        return self.takes or (Take(self.queues, self.limit),)


class Signal(msgspec.Struct, frozen=True):
    """A message to the worker that holds (or held) a lease."""

    job_id: int
    lease: int
    cancel: bool
    """True: the job should stop. False: the lease was taken away."""


class Turned(msgspec.Struct, frozen=True, kw_only=True):
    """What the store answers."""

    now: float
    """The store's clock."""
    claims: list[Record]
    """New claims, best first; the started ones carry ``started_at`` and have ``attempt`` raised."""
    refused: list[tuple[int, int]]
    """``(job id, lease)`` of settlements and starts whose lease was not live."""
    signals: list[Signal]
    due: float | None
    """When the next scheduled or retrying job becomes due, or the next rate has a token for somebody who waits."""
    known: bool = True
    """False: this worker was declared lost; it claimed nothing and must come back under a new id."""
    ripe: Sequence[int] = ()
    """Batches about which something is to be decided: all members have ended, or one has died."""
    heard: bool = False
    """Somebody listens to what is published."""
    stamp: int = 0
    """Another number than before: schedules were declared, paused, resumed or removed, so look at them anew."""


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """A worker process as the store knows it."""

    id: str
    host: str
    pid: int
    place: str = ""
    """Names the machine (and process namespace) in which ``pid`` means something."""
    pid_start: float = 0.0
    """Tells this process from a later one with the same pid."""
    started_at: float = 0.0
    beat_at: float = 0.0
    lost_after: float = 20.0
    status: str = "running"
    """running, stopping, stopped or lost."""
    queues: tuple[str, ...] | None = None
    tasks: tuple[str, ...] = ()
    """The names it can run, aliases included."""
    concurrency: int = 0
    running: int = 0
    processed: int = 0
    refused: int = 0
    """Writes of this worker that were refused because the lease had moved on."""
    quiet: bool = False
    """It was told to claim nothing more."""
    bell: str = ""
    """Where to ring it, in the driver's own spelling."""
    note: str = ""
    """What it wants to tell operators: stuck jobs, for instance."""


class Passage(msgspec.Struct, frozen=True, kw_only=True):
    """A gate as the store knows it."""

    gate: Gate
    pinned: bool
    """Set by hand: what the jobs bring themselves does not change it."""
    used: int
    """How many run; of a rate always 0."""
    blocked: int
    """How many jobs wait before it, out of the claims' way."""
    free_at: float | None
    """When a rate has its next token; in the past = it has one now. ``None`` for a limit."""


class Note(msgspec.Struct, frozen=True):
    """What a running handler has told about itself since the last time."""

    job_id: int
    lease: int
    progress: bytes | None
    """The newest; ``None`` = nothing new."""
    lines: tuple[tuple[float, str], ...] = ()
    """Lines for the job's own log, each with its instant."""


class NewBatch(msgspec.Struct, frozen=True, kw_only=True):
    """A batch that has no id yet."""

    name: str
    origin: str | None = None
    meta: bytes | None = None
    parent: int | None = None
    """The batch that waits for this one too."""
    callbacks: bytes | None = None
    """JSON that only :mod:`windlass.batch` reads."""


class BatchRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A batch as the drivers know it. Members that have ended stay counted, also when they are purged or deleted."""

    id: int
    name: str
    origin: str | None
    meta: bytes | None
    parent: int | None
    callbacks: bytes | None
    created_at: float
    open: bool = True
    """Members may be added from outside."""
    total: int = 0
    """Members, nested batches not among them."""
    completed: int = 0
    dead: int = 0
    cancelled: int = 0
    children: int = 0
    """Nested batches that have not finished."""
    fired: tuple[str, ...] = ()
    """The callbacks that are enqueued."""
    finished_at: float | None = None

    @property
    def left(self) -> int:
        """Members that have not ended."""
        return self.total - self.completed - self.dead - self.cancelled


def first_batch(new: NewBatch, batch_id: int, now: float) -> BatchRecord:
    """Return the record of a batch that is stored *now*: open and empty."""
    return BatchRecord(
        id=batch_id,
        name=new.name,
        origin=new.origin,
        meta=new.meta,
        parent=new.parent,
        callbacks=new.callbacks,
        created_at=now,
    )


class BatchMove(msgspec.Struct, frozen=True, kw_only=True):
    """What a batch becomes; drivers write it in one step."""

    open: bool
    fired: tuple[str, ...] = ()
    finished_at: float | None = None
    jobs: tuple[NewJob, ...] = ()
    """Callbacks to enqueue."""
    release_parent: bool = False
    """The parent has one nested batch less to wait for."""
    delete: bool = False
    """The batch goes; its members stay, without it."""


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which jobs; every given field must match."""

    statuses: tuple[Status, ...] = ()
    queue: str | None = None
    task: str | None = None
    tag: str | None = None
    origin: str | None = None
    batch: int | None = None
    worker: str | None = None
    error: str | None = None
    """The last error's type."""
    fingerprint: str | None = None
    """The last error's fingerprint."""
    created_after: float | None = None
    created_before: float | None = None
    started_before: float | None = None


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """The maintained counters of one queue and task."""

    queue: str
    task: str
    counts: Mapping[Status, int]
    totals: Mapping[str, int]


class PastAttempt(msgspec.Struct, frozen=True):
    """One row of history."""

    number: int
    worker: str | None
    started_at: float | None
    finished_at: float | None
    outcome: str
    error: bytes | None


class Changed(msgspec.Struct, frozen=True):
    """What ``Driver.change`` did to one job."""

    job_id: int
    before: Record | None
    """``None``: there is no such job."""
    transition: Transition | None
    """``None``: nothing was done."""
    error: Exception | None = None
    """Why it was refused."""


class Entry(msgspec.Struct, frozen=True):
    """One entry of a journal."""

    number: int
    at: float
    body: bytes


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """What has the same fingerprint among the errors with which jobs are dead or wait to be tried again."""

    fingerprint: str
    dead: int
    """Jobs that ended with it, counted up to ``FAULTS`` + 1."""
    retrying: int
    """Among the ``FAULTS`` newest jobs that wait to be tried again."""
    newest: int
    """The newest of these jobs."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One line of ``windlass doctor``."""

    name: str
    value: str
    level: str = "ok"
    """ok, note, warning or error."""
    advice: str = ""


LINES = 1000
"""Lines of its own log that are kept of a job."""
FAULTS = 500
"""How far jobs with one fingerprint are counted, and how many retrying ones are looked at."""
SELF = 0
"""A ``Signal`` about this job is an order to the worker itself; its ``lease`` is the order's number."""

Statement: TypeAlias = "tuple[str, Sequence[Any]]"
"""One SQL statement and its parameters."""

Execute: TypeAlias = "Callable[[str, Sequence[Any]], list[Any]]"
"""Runs a statement with its parameters on a connection of the caller's and returns its rows, as tuples."""

AsyncExecute: TypeAlias = "Callable[[str, Sequence[Any]], Awaitable[list[Any]]]"

Decide: TypeAlias = "Callable[[Record, float], Transition]"
"""A pure rule: the record and the store's time in, what it becomes out; raises ``JobError`` to refuse.
It may be called more than once for one job."""


DecideBatch: TypeAlias = "Callable[[BatchRecord, float], BatchMove | None]"
"""A pure rule for a batch; ``None`` = nothing is to be done. It may be called more than once."""


class Subscription(Protocol):
    """One listener to what all processes publish."""

    def get(self, timeout: float) -> list[bytes]:
        """Return what was published since the last time; waits for it at most *timeout* seconds."""

    def close(self) -> None:
        """Stop listening."""


class Bell(Protocol):
    """Wakes a waiting pump: rung by this process and, where the store allows, by others."""

    address: str
    """What other processes need to ring it; stored with the worker."""

    @property
    def patience(self) -> float | None:
        """How many seconds a waiter may rely on being rung; ``None`` = it had better look every ``poll`` seconds."""

    def wait(self, timeout: float) -> bool:
        """Sleep until rung or *timeout* seconds have passed; tell whether it was rung."""

    def ring(self) -> None:
        """Wake the waiter; safe from any thread, never blocks."""

    def close(self) -> None:
        """Give the address up."""


class Transaction(Protocol):
    """A transaction of the store that ends with the job's completion."""

    connection: Any

    def execute(self, statement: str, parameters: Any = ()) -> Any:
        """Run a statement of the handler's own."""

    def insert(self, jobs: Sequence[NewJob]) -> list[Record]:
        """Enqueue in this transaction."""

    def note(self, notes: Sequence[Note]) -> object:
        """Keep progress and log lines in this transaction: later, the lease has ended."""

    def settle(self, settlement: Settlement) -> None:
        """Write the end of the lease in this transaction; raises ``LeaseLostError`` when it is not live."""


class Driver(Protocol):
    """One store. Methods block; they are safe to call from any thread."""

    name: str
    capabilities: Capabilities

    # ------------------------------------------------------------------ life

    def open(self) -> None:
        """Connect, and create or migrate (or only check) the schema."""

    def close(self) -> None:
        """Let go of every connection; idempotent."""

    def now(self) -> float:
        """Return the store's time, epoch seconds."""

    def shift(self, seconds: float) -> None:
        """Move the store's clock forward, for every user of the store. For tests only."""

    def bell(self) -> Bell:
        """Return a new bell that rings when work may have appeared for anybody."""

    # ------------------------------------------------------------------ the hot path

    def insert(self, jobs: Sequence[NewJob]) -> list[Record]:
        """Store new jobs and return them in order; where ``atomic_bulk``, all or none.

        A job whose key is held is not stored; instead of it, its place has the job that holds the key, with ``found``.

        Raises:
            UniqueConflictError: the key is held, and the hold is strict; nothing was stored.
            BatchStateError: its batch has finished, or is not there; nothing was stored.
        """

    def insertion(self, jobs: Sequence[NewJob]) -> Generator[Statement, list[Any], list[Record]]:
        """Yield the statements of an insert, to be run on a connection that belongs to the caller.

        Each ``yield`` receives the statement's rows. Raises ``NotSupportedError`` where ``transactions`` is false.
        """

    def adopt(self, connection: Any) -> Any:
        """Check that a caller's connection is of this store and return what runs statements on it.

        Raises:
            TypeError: it is of the wrong kind.
            ConfigurationError: it is of another database.
        """

    def adopt_async(self, connection: Any) -> AsyncExecute:
        """Check an async connection of the caller's and return what runs statements on it.

        Raises:
            TypeError: it is of a kind that is not known.
        """

    def adopt_adapted(self, execute: Execute) -> Execute:
        """Check through *execute* that SQLAlchemy's connection is of this store, and return what runs statements on it.

        Raises:
            ConfigurationError: it is of another database.
        """

    def enlist(self, connection: Any) -> AbstractContextManager[Execute]:
        """Run an insert's statements on an adopted connection: atomically, and committed when the caller commits.

        A connection that commits every statement by itself gets a transaction of ours.
        """

    def exchange(self, turn: Turn) -> Turned:
        """Settle what has ended, mark what starts, promote what is due and claim new jobs: one transaction.

        In that order, so that a slot freed by a settlement and a job freed by it are seen by the claim.
        """

    def extend(self, record: Record, seconds: float) -> bool:
        """Move the deadline of a claim made by hand to *seconds* from now. False: its lease is not live."""

    # ------------------------------------------------------------------ gates

    def set_gate(self, gate: Gate, *, pinned: bool) -> None:
        """Make or change a gate, effective at the next claim.

        One that is not pinned does not change a pinned one. ``limit:queue:…``, ``limit:task:…``, ``rate:queue:…`` and
        ``rate:task:…`` are passed by every job of that queue or task; others only by jobs that bring them.
        """

    def drop_gate(self, key: str) -> bool:
        """Forget what was set: a gate that jobs bring is as they bring it again. False: there is none."""

    def passages(self, keys: Collection[str] | None = None) -> list[Passage]:
        """Return the gates that are known, by key: all at most 1000, or those of *keys*."""

    def holders(self, key: str, limit: int) -> list[int]:
        """Return jobs that run behind a limit, by id."""

    def blocked_by(self, job_id: int) -> str | None:
        """Return the key of the gate that a pending job waits before, out of the claims' way."""

    def holder(self, key: str) -> Record | None:
        """Return the job that has a unique key now."""

    # ------------------------------------------------------------------ batches

    def open_batch(self, batch: NewBatch) -> BatchRecord:
        """Store a new batch; its parent, which must not have finished, waits for it too.

        Raises:
            BatchStateError: the parent has finished, or is not there.
        """

    def change_batch(self, batch_id: int, decide: DecideBatch) -> BatchRecord | None:
        """Ask *decide* about a batch and write its answer with the jobs it brings, in one step.

        Returns the batch as it is after that; ``None``: there is none.
        """

    def batches(
        self, ids: Collection[int] | None = None, *, limit: int = 50, before: int | None = None
    ) -> list[BatchRecord]:
        """Return these batches, or the newest first, with id below *before*."""

    def ripe(self, limit: int) -> list[int]:
        """Return batches about which something is to be decided, and nobody has yet."""

    # ------------------------------------------------------------------ schedules

    def change_schedule(self, name: str, decide: DecideSchedule) -> ScheduleChanged:
        """Ask *decide* about a schedule, or a name that none has, and write its answer in one step.

        In that step are the record, the jobs (a job whose key is held is not stored, and its tick's outcome is ``held``),
        the rows of history of which the newest ``TICKS`` are kept, and ``record.rows`` and ``record.jobs``;
        :func:`windlass.drivers.ticking.written` says what they are. No other change of this schedule comes between the
        record that *decide* reads and what is written. When ``stirs`` says so, ``Turned.stamp`` changes and workers are
        rung.
        """

    def schedules(self, names: Collection[str] | None = None) -> list[ScheduleRecord]:
        """Return these schedules, or all, by name."""

    def ticks(self, name: str, limit: int, before: int | None = None) -> list[TickRecord]:
        """Return rows of a schedule's history, the newest first, with number below *before*."""

    # ------------------------------------------------------------------ what handlers tell

    def note(self, notes: Sequence[Note]) -> list[tuple[int, int]]:
        """Keep progress and log lines; return the ``(job id, lease)`` whose lease is not live: nothing is kept of them."""

    def lines(self, job_id: int, after: int = 0) -> list[tuple[int, float, str]]:
        """Return ``(number, instant, text)`` of a job's log after line number *after*; the last ``LINES`` are kept."""

    def publish(self, messages: Sequence[bytes]) -> None:
        """Hand messages to all who listen now, in this and other processes; nobody later gets them."""

    def subscribe(self) -> Subscription:
        """Listen to what is published; ``Turned.heard`` says it within a second, and for as long as it is not closed."""

    # ------------------------------------------------------------------ workers

    def beat(self, worker: Worker) -> bool:
        """Write the heartbeat, registering the worker the first time. False: it was declared lost."""

    def retire(self, worker_id: str) -> None:
        """Mark a worker as stopped; its remaining leases are orphans at once."""

    def workers(self) -> list[Worker]:
        """Return the workers that live, and those lost or stopped within the last hour."""

    def bury(self, gone: Sequence[str] = (), *, overdue: bool = True) -> list[str]:
        """Declare workers lost and return their ids; from here on their beats and claims are refused.

        Those named in *gone*, and with *overdue* all whose last beat is older than their ``lost_after``.
        """

    def orphans(self, limit: int) -> list[Record]:
        """Return running jobs whose worker is lost, stopped or unknown, or whose own deadline has passed."""

    def order(self, worker_id: str, order: int) -> bool:
        """Send a living worker a ``Signal`` with job ``SELF`` and this number. False: there is no such worker."""

    # ------------------------------------------------------------------ what is observed

    def write(self, journal: str, body: bytes, *, keep: int, number: int | None = None) -> int | None:
        """Add an entry to a journal, with the next number or a given one, and drop all but the newest *keep*.

        Returns its number. ``None``: the given number is not above the last one; nothing was written, so that of those
        who write for the same moment one does.
        """

    def entries(self, journal: str, limit: int, before: int | None = None) -> list[Entry]:
        """Return entries of a journal, the newest first, with number below *before*."""

    def measure(self, additions: Mapping[str, int]) -> None:
        """Add to sums that never fall, each by its name."""

    def measures(self) -> dict[str, int]:
        """Return the sums."""

    def faults(self, limit: int) -> list[Fault]:
        """Return the groups of failures, that with the newest job first; the cost depends on their number, not on the jobs'."""

    # ------------------------------------------------------------------ managing

    def change(self, ids: Collection[int], decide: Decide) -> list[Changed]:
        """Read each job, ask *decide* and write its answer, atomically for each job; rings where work appears."""

    def pause(self, kind: str, name: str, paused: bool) -> None:  # noqa: FBT001
        """Pause or resume a ``"queue"`` or ``"task"`` for everybody, durably."""

    def pauses(self) -> set[tuple[str, str]]:
        """Return what is paused, as ``(kind, name)``."""

    def purge(self, older_than: Mapping[Status, float], limit: int, *, queue: str | None = None) -> int:
        """Delete at most *limit* finished jobs with ``finished_at <= now - older_than[status]``; return how many."""

    def tidy(self) -> None:
        """Housekeeping that only this store knows: trim counters, give back pages. Short, called when idle."""

    # ------------------------------------------------------------------ reading

    def get(self, job_id: int) -> Record | None:
        """Return a job."""

    def by_key(self, key: str) -> Record | None:
        """Return the job with this idempotency key."""

    def find(self, which: Filter, *, limit: int, offset: int = 0, before: int | None = None) -> list[Record]:
        """Return matching jobs, newest (highest id) first, with id below *before*.

        Raises:
            QueryTimeoutError: it takes longer than :mod:`windlass.drivers.patience` allows; so does ``count``.
        """

    def count(self, which: Filter, *, most: int) -> int:
        """Count matching jobs: exact up to *most*, ``most + 1`` beyond. Status, queue and task alone are exact."""

    def history(self, job_id: int) -> list[PastAttempt]:
        """Return the job's ended attempts, oldest first."""

    def tallies(self) -> list[Tally]:
        """Return the maintained counters; the cost does not depend on the number of jobs."""

    def oldest(self, queue: str) -> float | None:
        """Return since when the longest-waiting pending job of a queue has been available."""

    def rates(self, since: float, queue: str | None = None) -> list[tuple[int, int, int]]:
        """Return ``(second, processed, failed)`` for the seconds from *since* on in which something ended."""

    # ------------------------------------------------------------------ exactly once

    def transaction(self, connection: Any = None) -> AbstractContextManager[Transaction]:
        """Open a transaction on the store's own database, or go on with the caller's.

        It commits at the end of the block, or rolls back.
        """

    # ------------------------------------------------------------------ looking after it

    def migrate(self) -> list[str]:
        """Bring the schema up to date; return what was done."""

    def script(self) -> str:
        """Return the statements that ``migrate`` would run, for people who run them by hand; empty: there are none.

        Opens nothing for longer than a look and writes nothing; where the store cannot be reached, it is every step.
        """

    def diagnose(self) -> list[Finding]:
        """Say what is well and what is not."""
