"""``SqliteDriver``: the Driver Protocol on one SQLite file."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from windlass.drivers.base import Changed, Filter, Finding, PastAttempt, Tally, Turn, Turned, Worker
from windlass.drivers.sqlite import schema
from windlass.drivers.sqlite.batches import added
from windlass.drivers.sqlite.bell import DatagramBell, ring_all
from windlass.drivers.sqlite.change import change, purge
from windlass.drivers.sqlite.claim import open_streams, shut_gate
from windlass.drivers.sqlite.connect import translated
from windlass.drivers.sqlite.doctor import diagnose
from windlass.drivers.sqlite.gates import Gates
from windlass.drivers.sqlite.insert import Sifted, batches_of, flows_of, keys_of, plan, sift
from windlass.drivers.sqlite.reads import Reader
from windlass.drivers.sqlite.turn import RIPE, exchange
from windlass.drivers.sqlite.tx import TALLY, Tx
from windlass.drivers.sqlite.watching import Watching
from windlass.errors import BatchStateError, UniqueConflictError, WindlassError
from windlass.job import NAMED, Status
from windlass.lifecycle import TOTALS

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Mapping, Sequence

    from windlass.drivers.base import Decide, Statement
    from windlass.job import NewJob, Record

T = TypeVar("T")

PULSE_KEPT = 3600
WORKERS_KEPT = 3600.0


def encoded(values: Collection[Any]) -> str:
    """Return values as the JSON list that statements take."""
    return msgspec.json.encode(list(values)).decode()


class SqliteDriver(Watching):
    """Jobs in one SQLite file, or private ones in memory (``path=None``)."""

    name = "sqlite"

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

        def write(tx: Tx) -> list[Record] | WindlassError:
            try:
                return tx.insert(jobs)
            except (UniqueConflictError, BatchStateError) as error:
                return error  # nothing of it was written, so those who share the transaction need not begin again

        stored = self._write(write)
        if isinstance(stored, WindlassError):
            raise stored
        return stored

    def insertion(self, jobs: Sequence[NewJob]) -> Generator[Statement, list[Any], list[Record]]:
        """Yield the statements of an insert for a connection of the caller's."""
        # First of all a write: from here on nobody else can change what is read.
        ((last, last_seq, shift),) = yield (self._sql.draw, (len(jobs), len(jobs)))
        first = last - len(jobs) + 1
        first_seq = last_seq - len(jobs) + 1
        now = self._clock() + shift
        yield from self._check_batches(batches_of(jobs))
        sifted, known = yield from self._sift(jobs, first, now)
        planned = plan(sifted.stored, first_id=first, first_seq=first_seq, now=now)
        for statement, rows in (
            (self._sql.insert_plain_job, planned.plain_jobs),
            (self._sql.insert_job, planned.jobs),
            (self._sql.insert_tag, planned.tags),
            (self._sql.insert_timer, planned.timer),
            (self._sql.put_hold, [(key, job_id, None) for key, job_id in sifted.taken]),
            (self._sql.count_members, [added(batch_id, number) for batch_id, number in planned.batches.items()]),
        ):
            for row in rows:
                yield (statement, row)
        if len(planned.timer) < len(planned.records):
            yield (self._sql.insert_new_ready, (first, last, first, last))
        deltas: dict[tuple[str, str], dict[str, int]] = {}
        for (queue, task, status), number in planned.counts.items():
            delta = deltas.setdefault((queue, task), dict.fromkeys(TALLY, 0))
            delta[status.value] += number
            delta["total_enqueued"] += number
        for key, delta in deltas.items():
            yield (self._sql.add_tally, (*key, *delta.values()))
        return sifted.answer(planned.records, known)

    def _check_batches(self, ids: set[int]) -> Generator[Statement, list[Any], None]:
        if ids:
            rows = yield (self._sql.unfinished, (encoded(ids),))
            missing = min(ids - {row[0] for row in rows}, default=None)
            if missing is not None:
                there = yield (self._sql.batch_there, (missing,))
                raise BatchStateError(missing, missing=not there)

    def _sift(
        self, jobs: Sequence[NewJob], first: int, now: float
    ) -> Generator[Statement, list[Any], tuple[Sifted, dict[int, Record]]]:
        """Tell which jobs are stored, and read those that have the others' keys."""
        flows = flows_of(jobs)
        keys = keys_of(flows)
        if not keys:
            return Sifted(jobs), {}
        rows = yield (self._sql.holds, (encoded(keys),))
        held = {key: job_id for key, job_id, until in rows if until is None or until > now}
        sifted = sift(jobs, flows, held, first_id=first, now=now)
        known: dict[int, Record] = {}
        for rival in sifted.missing(first):
            [row] = yield (self._sql.record_by_id, (rival,))
            known[rival] = self._sql.record(tuple(row))
        sifted.refuse(first, now, known.get)
        return sifted, known

    def exchange(self, turn: Turn) -> Turned:
        """One turn of a worker's pump; a turn with nothing to do writes nothing."""
        if not turn.settlements and not turn.starting and (idle := self._idle(turn)) is not None:
            return idle
        return self._write(lambda tx: exchange(tx, turn))

    def extend(self, record: Record, seconds: float) -> bool:
        """Move the deadline of a claim made by hand."""

        def write(tx: Tx) -> bool:
            values = (tx.now + seconds, record.id, record.lease)
            return tx.connection.execute(self._sql.extend, values).rowcount == 1

        return self._write(write)

    def _idle(self, turn: Turn) -> Turned | None:
        """Look, without the write lock, whether there is nothing to do."""
        clock = self._clock()
        with self._reading() as connection:
            execute = connection.execute
            connection.execute("BEGIN") if self.path is not None else None
            try:
                values = (clock, turn.worker, turn.worker)
                shift, due, look_at, wide, ripe, heard, known, mail, stamp, fair = execute(
                    self._sql.glance, values
                ).fetchone()
                self._shift = shift
                now = clock + shift
                due = min((at for at in (due, look_at) if at is not None), default=None)
                if (
                    mail
                    or (due is not None and due <= now)
                    or (known and turn.limit > 0 and self._has_work(connection, turn, now, wide=wide, fair=fair))
                ):
                    return None
                told = [row[0] for row in execute(self._sql.ripe, (RIPE,))] if ripe else []
            finally:
                if self.path is not None:
                    execute("COMMIT")
        return Turned(
            now=now,
            claims=[],
            refused=[],
            signals=[],
            due=due,
            known=bool(known),
            ripe=told,
            heard=bool(heard),
            stamp=stamp,
        )

    def _has_work(self, connection: sqlite3.Connection, turn: Turn, now: float, *, wide: bool, fair: bool) -> bool:
        """Whether a claim would bring something, or has to note that it does not."""
        streams = open_streams(connection, self._sql, turn, fair=fair)
        if not wide:
            return bool(streams)
        gates = Gates(connection, self._sql, now)
        shut = (shut_gate(gates, stream, now) for stream in streams)
        return any(gate is None or not gate.noted for gate in shut)

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
        return self._write(lambda tx: change(tx, ids, decide))

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
                if connection.execute(self._sql.expired, (status.value, now - age, queue, queue, 1)).fetchone()
            }
        if not cutoffs:
            return 0
        return self._write(lambda tx: purge(tx, cutoffs, limit, queue))

    def tidy(self) -> None:
        """Trim what only grows, and give free pages back."""

        def write(tx: Tx) -> None:
            tx.connection.execute(self._sql.trim_pulse, (int(tx.now) - PULSE_KEPT,))
            tx.connection.execute(self._sql.forget_workers, (tx.now - WORKERS_KEPT,))
            tx.connection.execute(self._sql.forget_signals)
            tx.connection.execute(self._sql.forget_ears, (tx.now,))
            tx.flush()
            tx.connection.execute(self._sql.forget_gates, (tx.now,))
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
            row = connection.execute(self._sql.record_by_hold, (NAMED + key, self.now())).fetchone()
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
            return connection.execute(self._sql.rates, (int(since), queue, queue)).fetchall()

    # ------------------------------------------------------------------ looking after it

    def migrate(self) -> list[str]:
        """Bring the schema up to date."""
        self._ready()
        return self._write(lambda tx: schema.migrate(tx.connection, self._sql.prefix))

    def script(self) -> str:
        """Return the statements of the missing steps."""
        if self.path is None:
            return "" if self._opened else schema.whole(self._sql.prefix, None)
        if not self.path.exists():
            return schema.whole(self._sql.prefix, None)
        with translated(), closing(sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            return schema.whole(self._sql.prefix, connection)

    def diagnose(self) -> list[Finding]:
        """Say what is well and what is not."""
        with self._reading() as connection:
            return diagnose(connection, path=self.path, prefix=self._sql.prefix, durability=self._durability)
