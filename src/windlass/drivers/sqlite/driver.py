"""``SqliteDriver``: the Driver Protocol on one SQLite file."""

from __future__ import annotations

import contextlib
import contextvars
import os
import sqlite3
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from windlass.drivers.base import Capabilities, Changed, Filter, Finding, PastAttempt, Tally, Turn, Turned, Worker
from windlass.drivers.sql import unwrap
from windlass.drivers.sqlite import schema
from windlass.drivers.sqlite.bell import DatagramBell, ring_all
from windlass.drivers.sqlite.connect import Plain, check_place, connect, translated
from windlass.drivers.sqlite.doctor import diagnose
from windlass.drivers.sqlite.insert import plan
from windlass.drivers.sqlite.pen import Pen, take_lock
from windlass.drivers.sqlite.reads import Reader
from windlass.drivers.sqlite.sql import Sql
from windlass.drivers.sqlite.tx import TALLY, Tx
from windlass.errors import (
    ClosedError,
    ConfigurationError,
    ConnectionLostError,
    LeaseLostError,
    SchemaError,
    WindlassError,
)
from windlass.job import Status
from windlass.lifecycle import TOTALS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence

    from windlass.drivers.base import Decide, Statement
    from windlass.job import NewJob, Record
    from windlass.lifecycle import Settlement

T = TypeVar("T")

READERS = 4
"""Idle read connections kept open."""
PATIENCE = 30.0
"""Seconds to wait for a lock that another process holds."""
PULSE_KEPT = 3600
WORKERS_KEPT = 3600.0


class SqliteDriver:
    """Jobs in one SQLite file, or private ones in memory (``path=None``)."""

    name = "sqlite"

    def __init__(
        self,
        path: str | Path | None,
        *,
        prefix: str = "windlass",
        durability: str = "full",
        migrate: str = "auto",
        clock: Callable[[], float] = time.time,
        patience: float = PATIENCE,
    ) -> None:
        self.path = None if path is None else Path(path).absolute()
        self.capabilities = Capabilities(
            durable=path is not None, shared=path is not None, transactions=True, atomic_bulk=True, one_machine=True
        )
        self._sql = Sql(prefix)
        self._durability = durability
        self._migrate = migrate
        self._clock = clock
        self._patience = patience
        self._shift = 0.0
        self._opened = False
        self._reset()

    def _reset(self) -> None:
        """Start with no connection: in a new driver, and in a forked child, which must not touch the parent's."""
        self._pid = os.getpid()
        self._pen = Pen(self._begin, patience=self._patience)
        self._readers: list[sqlite3.Connection] = []
        self._spare: sqlite3.Connection | None = None
        self._gate = threading.Lock()
        self._file: tuple[int, int] | None = None

    # ------------------------------------------------------------------ life

    def open(self) -> None:
        """Open the file, and create or check the schema."""
        with translated():
            if self.path is not None:
                check_place(self.path)
                if self._migrate == "check" and not self.path.exists():
                    raise SchemaError(
                        f"{str(self.path)!r} does not exist; run `windlass migrate` or use migrate='auto'"
                    )
            connection = self._connect()
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
        self._pen.connection = connection
        self._file = self._identity()
        self._opened = True

    def _prepare(self, connection: sqlite3.Connection) -> None:
        found = schema.version(connection, self._sql.prefix)
        schema.refuse_newer(found)
        if found == schema.LATEST:
            return
        if self._migrate == "check":
            schema.check(connection, self._sql.prefix)
        take_lock(connection, self._patience)
        try:
            schema.migrate(connection, self._sql.prefix)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Close every connection."""
        self._opened = False
        if self._pid != os.getpid():
            return
        # Whoever writes just now may finish.
        with contextlib.nullcontext() if self._pen.mine else self._pen.exclusive(), self._gate:
            connections = [*self._readers, self._spare, self._pen.connection]
            self._readers, self._spare, self._pen.connection = [], None, None
        for connection in connections:
            if connection is not None:
                connection.close()

    def _connect(self, *, read_only: bool = False) -> sqlite3.Connection:
        path = ":memory:" if self.path is None else str(self.path)
        return connect(path, durability=self._durability, read_only=read_only)

    @property
    def commits(self) -> int:
        """Transactions written by this process."""
        return self._pen.commits

    def _ready(self) -> None:
        if not self._opened:
            raise ClosedError
        if self._pid != os.getpid():
            if self.path is None:
                raise ClosedError("a private in-memory store does not cross a fork; use a file")
            # The inherited connections are abandoned, not closed: closing would touch the parent's locks.
            self._abandoned = (self._pen, self._readers, self._spare)
            self._reset()
            with translated():
                self._pen.connection = self._connect()
            self._file = self._identity()

    def _identity(self) -> tuple[int, int] | None:
        if self.path is None:
            return None
        found = self.path.stat()
        return found.st_dev, found.st_ino

    def _check_still_there(self) -> None:
        """Refuse to go on writing into a file that nobody else can see any more."""
        if self.path is None:
            return
        try:
            found = self._identity()
        except OSError:
            found = None
        if found != self._file:
            raise ConnectionLostError(
                f"the database {str(self.path)!r} was deleted, moved or replaced while it was in use; "
                "put it back, or restart this process to go on with what is there now"
            )

    def _begin(self, connection: sqlite3.Connection | Plain) -> Tx:
        self._check_still_there()
        tx = Tx(connection, self._sql, self._clock, ring_all)
        self._shift = tx.shift
        return tx

    def _write(self, operation: Callable[[Tx], T]) -> T:
        self._ready()
        self._refuse_inside()
        with translated():
            return self._pen.write(operation)

    @property
    def _inside(self) -> bool:
        """Whether the caller is in its own ``ctx.transaction()``, in whichever thread it does its work."""
        block = _block.get()
        return block is not None and block.open and block.driver is self

    def _refuse_inside(self) -> None:
        if self._inside:
            raise WindlassError(
                "this is inside ctx.transaction(), which holds the database's write lock; "
                "use tx.enqueue(...) or ctx.enqueue(...) there"
            )
        if self._pen.mine:  # waiting would be for ever: the block goes on only when this thread is free
            raise WindlassError(
                "another handler on this event loop is inside ctx.transaction(), and a blocking call would wait for it "
                "for ever; await the twin (aenqueue, ...) instead, or use `async with ctx.transaction()`"
            )

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """Lend a read connection; a private store has only the one."""
        self._ready()
        if self.path is None:
            with contextlib.nullcontext() if self._pen.mine or self._inside else self._pen.exclusive():
                assert self._pen.connection is not None
                yield self._pen.connection
            return
        with translated():
            with self._gate:
                connection = self._readers.pop() if self._readers else None
            connection = connection or self._connect(read_only=True)
            try:
                yield connection
            finally:
                with self._gate:
                    keep = self._opened and len(self._readers) < READERS
                    if keep:
                        self._readers.append(connection)
                if not keep:
                    connection.close()

    def now(self) -> float:
        """Return the store's time: this machine's clock and the test offset."""
        return self._clock() + self._shift

    def shift(self, seconds: float) -> None:
        """Move the store's clock for every user of the file."""

        def move(tx: Tx) -> None:
            tx.connection.execute(self._sql.shift, (seconds,))
            tx.shift += seconds

        self._write(move)
        self._shift += seconds
        self._ring_workers()

    def bell(self) -> DatagramBell:
        """Return a new doorbell."""
        return DatagramBell()

    def _ring_workers(self) -> None:
        with self._reading() as connection:
            addresses = [row[0] for row in connection.execute(self._sql.bells)]
        ring_all(addresses)

    # ------------------------------------------------------------------ the hot path

    def insert(self, jobs: Sequence[NewJob]) -> list[Record]:
        """Store new jobs: one transaction."""
        return self._write(lambda tx: tx.insert(jobs))

    def insertion(self, jobs: Sequence[NewJob]) -> Generator[Statement, list[Any], list[Record]]:
        """Yield the statements of an insert for a connection of the caller's."""
        ((last, last_seq, shift),) = yield (self._sql.draw, (len(jobs), len(jobs)))
        first = last - len(jobs) + 1
        planned = plan(jobs, first_id=first, now=self._clock() + shift)
        for statement, rows in (
            (self._sql.insert_plain_job, planned.plain_jobs),
            (self._sql.insert_job, planned.jobs),
            (self._sql.insert_tag, planned.tags),
            (self._sql.insert_timer, planned.timer),
        ):
            for row in rows:
                yield (statement, row)
        if len(planned.timer) < len(jobs):
            yield (self._sql.insert_new_ready, (last_seq - last, first, last))
        deltas: dict[tuple[str, str], dict[str, int]] = {}
        for (queue, task, status), number in planned.counts.items():
            delta = deltas.setdefault((queue, task), dict.fromkeys(TALLY, 0))
            delta[status.value] += number
            delta["total_enqueued"] += number
        for key, delta in deltas.items():
            yield (self._sql.add_tally, (*key, *delta.values()))
        return planned.records

    def adopt(self, connection: Any) -> Any:
        """Check that *connection* is a sqlite3 connection to this file."""
        if not isinstance(connection, sqlite3.Connection):
            raise TypeError(f"connection= must be a sqlite3.Connection here, not {type(connection).__name__}")
        self.adopt_file(Plain(connection).execute("PRAGMA database_list").fetchone()[2])
        return connection

    def adopt_file(self, file: str) -> None:
        """Check that a caller's connection is of this file."""
        if self.path is None or not file or not Path(file).samefile(self.path):
            raise ConfigurationError(
                f"connection= is of {file or 'an in-memory database'!r}, but the jobs are in {str(self.path)!r}; "
                "one transaction cannot span two SQLite files"
            )

    def exchange(self, turn: Turn) -> Turned:
        """One turn of a worker's pump; a turn with nothing to do writes nothing."""
        if not turn.settlements and not turn.starting and (idle := self._idle(turn)) is not None:
            return idle
        return self._write(lambda tx: tx.exchange(turn))

    def extend(self, record: Record, seconds: float) -> bool:
        """Move the deadline of a claim made by hand."""

        def write(tx: Tx) -> bool:
            values = (tx.now + seconds, record.id, record.lease)
            return tx.connection.execute(self._sql.extend, values).rowcount == 1

        return self._write(write)

    def _idle(self, turn: Turn) -> Turned | None:
        """Look, without the write lock, whether there is nothing to do."""
        with self._reading() as connection:
            execute = connection.execute
            connection.execute("BEGIN") if self.path is not None else None
            try:
                (shift,) = execute(f"SELECT shift FROM {self._sql.prefix}_counter").fetchone()
                self._shift = shift
                now = self._clock() + shift
                due = execute(self._sql.next_due).fetchone()[0]
                status = execute(self._sql.worker_status, (turn.worker,)).fetchone()
                known = status is None or status[0] != "lost"
                busy = (
                    (due is not None and due <= now)
                    or execute(self._sql.signals, (turn.worker,)).fetchone() is not None
                    or (known and turn.limit > 0 and bool(self._sql.streams(connection, turn)))
                )
            finally:
                if self.path is not None:
                    execute("COMMIT")
        if busy:
            return None
        return Turned(now=now, claims=[], refused=[], signals=[], due=due, known=known)

    # ------------------------------------------------------------------ workers

    def beat(self, worker: Worker) -> bool:
        """Write the heartbeat."""
        card = msgspec.json.encode(worker).decode()

        def write(tx: Tx) -> bool:
            row = tx.connection.execute(self._sql.worker_status, (worker.id,)).fetchone()
            if row is not None and row[0] in ("lost", "stopped"):
                return False
            values = (worker.id, tx.now, worker.lost_after, worker.status, worker.bell, card)
            tx.connection.execute(self._sql.beat, values)
            return True

        return self._write(write)

    def retire(self, worker_id: str) -> None:
        """Mark the worker as stopped."""
        self._write(lambda tx: tx.run(self._sql.retire, worker_id))
        self._ring_workers()

    def workers(self) -> list[Worker]:
        """Return the workers."""
        with self._reading() as connection:
            rows = connection.execute(self._sql.workers).fetchall()
        return [
            msgspec.structs.replace(
                msgspec.json.decode(card, type=Worker), beat_at=beat_at, lost_after=lost_after, status=status, bell=bell
            )
            for _, beat_at, lost_after, status, bell, card in rows
        ]

    def bury(self, gone: Sequence[str] = (), *, overdue: bool = True) -> list[str]:
        """Declare workers lost."""
        with self._reading() as connection:
            lost = [id_ for id_ in gone if connection.execute(self._sql.alive, (id_,)).fetchone()]
            if overdue:
                lost += [row[0] for row in connection.execute(self._sql.overdue, (self.now(),))]
        if not lost:
            return []

        def write(tx: Tx) -> list[str]:
            late = {row[0] for row in tx.connection.execute(self._sql.overdue, (tx.now,))} if overdue else set()
            named = {id_ for id_ in gone if tx.connection.execute(self._sql.alive, (id_,)).fetchone()}
            tx.connection.executemany(self._sql.bury, [(id_,) for id_ in late | named])
            return sorted(late | named)

        return self._write(write)

    def orphans(self, limit: int) -> list[Record]:
        """Return running jobs that nobody runs any more."""
        with self._reading() as connection:
            ids = [row[0] for row in connection.execute(self._sql.orphans, (self.now(), limit))]
            if not ids:
                return []
            rows = connection.execute(self._sql.records, (msgspec.json.encode(ids).decode(),)).fetchall()
        return [self._sql.record(row) for row in rows if row[3] == "running"]

    # ------------------------------------------------------------------ managing

    def change(self, ids: Collection[int], decide: Decide) -> list[Changed]:
        """Decide about each job and write the answers in one transaction."""
        return self._write(lambda tx: tx.change(ids, decide))

    def pause(self, kind: str, name: str, paused: bool) -> None:  # noqa: FBT001 - the Protocol's spelling
        """Pause or resume a queue or task."""
        statement = self._sql.pause if paused else self._sql.resume
        self._write(lambda tx: tx.run(statement, kind, name))
        self._ring_workers()

    def pauses(self) -> set[tuple[str, str]]:
        """Return what is paused."""
        with self._reading() as connection:
            return set(connection.execute(self._sql.pauses))

    def purge(self, older_than: Mapping[Status, float], limit: int, *, queue: str | None = None) -> int:
        """Delete finished jobs in one small transaction."""
        with self._reading() as connection:
            now = self.now()
            cutoffs = {
                status: now - age
                for status, age in older_than.items()
                if connection.execute(self._sql.expired, (status.value, now - age, 1, queue)).fetchone()
            }
        if not cutoffs:
            return 0
        return self._write(lambda tx: tx.purge(cutoffs, limit, queue))

    def tidy(self) -> None:
        """Trim what only grows, and give free pages back."""

        def write(tx: Tx) -> None:
            tx.connection.execute(self._sql.trim_pulse, (int(tx.now) - PULSE_KEPT,))
            tx.connection.execute(self._sql.forget_workers, (tx.now - WORKERS_KEPT,))
            tx.connection.execute(self._sql.forget_signals)
            tx.connection.execute("PRAGMA incremental_vacuum(200)").fetchall()

        self._write(write)
        if self.path is not None:
            with translated(), self._pen.exclusive():
                assert self._pen.connection is not None
                self._pen.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    # ------------------------------------------------------------------ reading

    def get(self, job_id: int) -> Record | None:
        """Return a job."""
        with self._reading() as connection:
            row = connection.execute(self._sql.record_by_id, (job_id,)).fetchone()
        return None if row is None else self._sql.record(row)

    def by_key(self, key: str) -> Record | None:
        """Return the job with this idempotency key."""
        with self._reading() as connection:
            row = connection.execute(self._sql.record_by_key, (key,)).fetchone()
        return None if row is None else self._sql.record(row)

    def find(self, which: Filter, *, limit: int, offset: int = 0, before: int | None = None) -> list[Record]:
        """Return matching jobs, newest first."""
        with self._reading() as connection:
            reader = Reader(connection, self._sql, self._tallies(connection))
            return reader.find(which, limit=limit, offset=offset, before=before)

    def count(self, which: Filter, *, most: int) -> int:
        """Count matching jobs."""
        with self._reading() as connection:
            return Reader(connection, self._sql, self._tallies(connection)).count(which, most=most)

    def history(self, job_id: int) -> list[PastAttempt]:
        """Return the attempts of a job."""
        with self._reading() as connection:
            rows = connection.execute(self._sql.history, (job_id, job_id)).fetchall()
        return [PastAttempt(*(*row[:5], None if row[5] is None else row[5].encode())) for row in rows]

    def tallies(self) -> list[Tally]:
        """Return the maintained counters."""
        with self._reading() as connection:
            return self._tallies(connection)

    def _tallies(self, connection: sqlite3.Connection) -> list[Tally]:
        statuses = len(Status)
        return [
            Tally(
                queue=row[0],
                task=row[1],
                counts=dict(zip(Status, row[2 : 2 + statuses], strict=True)),
                totals=dict(zip(TOTALS, row[2 + statuses :], strict=True)),
            )
            for row in connection.execute(self._sql.tallies)
        ]

    def oldest(self, queue: str) -> float | None:
        """Return since when the longest-waiting pending job has been available."""
        with self._reading() as connection:
            return self._sql.oldest(connection, queue)

    def rates(self, since: float, queue: str | None = None) -> list[tuple[int, int, int]]:
        """Return what ended in each second."""
        with self._reading() as connection:
            return connection.execute(self._sql.rates, (int(since), queue)).fetchall()

    # ------------------------------------------------------------------ exactly once

    @contextmanager
    def transaction(self, connection: Any = None) -> Iterator[SqliteTransaction]:
        """Open a transaction of its own, holding the pen so that this process waits its turn; or use the caller's."""
        self._ready()
        if connection is not None:
            with self._borrowed(connection) as transaction:
                yield transaction
            return
        self._refuse_inside()
        with self._pen.exclusive():
            with translated():
                own = self._pen.connection if self.path is None else (self._spare or self._connect())
            if own is None:
                raise ClosedError
            self._spare = None
            block = _Block(self)
            _block.set(block)
            try:
                with translated():
                    take_lock(own, self._patience)
                    tx = self._begin(Plain(own))
                yield SqliteTransaction(tx, own)
                _still_open(own)
                with translated():
                    tx.finish()
                    own.execute("COMMIT")
            except BaseException:
                if own.in_transaction:
                    own.execute("ROLLBACK")
                raise
            finally:
                block.open = False
                own.row_factory = None
                if self.path is not None:
                    self._spare = own
            tx.committed()

    @contextmanager
    def _borrowed(self, connection: Any) -> Iterator[SqliteTransaction]:
        """Go on with a transaction of the caller's: theirs to begin, ours to end."""
        raw = self.adopt(unwrap(connection))
        end = connection if hasattr(connection, "commit") else raw
        try:
            with translated():
                if not raw.in_transaction:
                    take_lock(raw, self._patience)
                tx = self._begin(Plain(raw))
            yield SqliteTransaction(tx, connection)
            if hasattr(connection, "flush"):
                connection.flush()
            with translated():
                tx.finish()
                end.commit()
        except BaseException:
            end.rollback()
            raise
        tx.committed()

    # ------------------------------------------------------------------ looking after it

    def migrate(self) -> list[str]:
        """Bring the schema up to date."""
        self._ready()
        return self._write(lambda tx: schema.migrate(tx.connection, self._sql.prefix))

    def diagnose(self) -> list[Finding]:
        """Say what is well and what is not."""
        with self._reading() as connection:
            return diagnose(connection, path=self.path, prefix=self._sql.prefix, durability=self._durability)


def _still_open(connection: sqlite3.Connection) -> None:
    if not connection.in_transaction:
        raise WindlassError("the transaction was ended inside ctx.transaction(); its end is the block's")


class _Block:
    """An open ``ctx.transaction()``."""

    def __init__(self, driver: SqliteDriver) -> None:
        self.driver = driver
        self.open = True


# By context and not by thread: handlers take turns on one event loop, and the twins work on threads of their own.
_block: contextvars.ContextVar[_Block | None] = contextvars.ContextVar("windlass_sqlite_block", default=None)


class SqliteTransaction:
    """What ``ctx.transaction()`` holds."""

    def __init__(self, tx: Tx, connection: Any) -> None:
        self._tx = tx
        self._connection = tx.connection.connection  # type: ignore[union-attr]
        self.connection = connection

    def execute(self, statement: str, parameters: Any = ()) -> sqlite3.Cursor:
        """Run a statement of the handler's own."""
        return self._connection.execute(statement, parameters)

    def insert(self, jobs: Sequence[NewJob]) -> list[Record]:
        """Enqueue in this transaction."""
        with translated():
            records = self._tx.insert(jobs)
            self._tx.flush()
        return records

    def settle(self, settlement: Settlement) -> None:
        """Write the end of the lease in this transaction."""
        with translated():
            if self._tx.settle([settlement]):
                raise LeaseLostError(settlement.record.id, settlement.record.lease)
            self._tx.flush()
