"""``PostgresDriver``: the Driver Protocol on a PostgreSQL database."""

from __future__ import annotations

import math
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import msgspec
from psycopg import errors

from windlass.drivers.base import Changed, Filter, Finding, PastAttempt, Tally, Turn, Turned, Worker
from windlass.drivers.group import Group, Ticket
from windlass.drivers.postgres import schema
from windlass.drivers.postgres.database import TRIES, Database
from windlass.drivers.postgres.doctor import diagnose
from windlass.drivers.postgres.insert import JOB_COLUMNS, as_json, is_plain, lines, one_answer, one_parameters, stored
from windlass.drivers.postgres.marks import FULL, Marks
from windlass.drivers.postgres.reads import Reader
from windlass.drivers.postgres.turn import answer, array, moves, parameters
from windlass.errors import ConnectionLostError, JobError, StoreError
from windlass.job import Status
from windlass.lifecycle import TOTALS

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterator, Mapping, Sequence

    from windlass.drivers.base import Decide, Statement
    from windlass.drivers.postgres.bell import ListenBell
    from windlass.drivers.postgres.connect import Connection
    from windlass.job import NewJob, Record
    from windlass.lifecycle import Settlement, Transition

BULK = 400
"""From so many jobs on, COPY is quicker than one statement."""
FOLD = 2000
"""Changes to the counters after which this process folds them, should no worker do it."""
PULSE_KEPT = 3600
WORKERS_KEPT = 3600.0
FRESH = 10.0
"""Seconds for which the store's clock is known well enough."""


class PostgresDriver(Database):
    """Jobs in a PostgreSQL database."""

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self._marks = Marks()
        self._enqueues = Enqueues(self)
        self._ahead = -math.inf
        self._set_at = self._answered_at = self._asked_at = -math.inf
        self._unfolded = 0
        self._doubtful = threading.local()

    # ------------------------------------------------------------------ the clock

    def now(self) -> float:
        """Return the store's time as far as its last answers tell: never ahead of it, and behind by a round trip at most.

        Needs no server once one has answered: what ends during an outage has an end too. This machine's time of day plays
        no part, so that it may be wrong, or be set right.
        """
        if time.monotonic() - max(self._answered_at, self._asked_at) > FRESH:
            self._asked_at = time.monotonic()
            try:
                self._ask_time()
            except StoreError:
                if self._answered_at == -math.inf:
                    raise
        elif self._answered_at == -math.inf:
            self._ask_time()
        return time.monotonic() + self._ahead

    def _ask_time(self) -> None:
        with self._clients.lend() as connection:
            (now,) = connection.execute(self._sql.now).fetchone()  # type: ignore[misc]
        self._heard(now)

    def _heard(self, now: float) -> None:
        """Learn the store's clock from an answer: the quickest of the last answers is the closest."""
        at = time.monotonic()
        ahead = now - at
        if ahead > self._ahead or at - self._set_at > FRESH:
            self._ahead, self._set_at = ahead, at
        self._answered_at = at

    def shift(self, seconds: float) -> None:
        """Move the store's clock for every user of the store."""
        with self._clients.lend() as connection, connection.transaction():
            connection.execute(self._sql.shift, (seconds,))
            connection.execute(self._sql.ring)
        self._ask_time()

    def bell(self) -> ListenBell:
        """Return a new doorbell."""
        return self._listener.bell()

    # ------------------------------------------------------------------ the hot path

    def insert(self, jobs: Sequence[NewJob]) -> list[Record]:
        """Store new jobs, all or none; what other threads insert meanwhile shares the commit."""
        self._check_open()
        if not jobs:
            return []
        if len(jobs) >= BULK:
            return self.insert_now(jobs)
        records: list[Record] = self._enqueues.submit(jobs)
        return records

    def insert_now(self, jobs: Sequence[NewJob]) -> list[Record]:
        """Store new jobs in a transaction of their own."""
        with self._clients.lend() as connection:
            if len(jobs) >= BULK:
                return self._copy(connection, jobs)
            if len(jobs) == 1 and is_plain(jobs[0]) and not self._connector.pooled:
                result = connection.quick(
                    b"enqueue", self._relaxed(self._sql.enqueue_one).encode(), one_parameters(jobs[0])
                )
                now, job_id = one_answer(result)
                ids = [job_id]
            else:
                values = (as_json(jobs), None)
                [(now, ids, *_)] = self._again(connection, self._relaxed(self._sql.enqueue), values)
        self._heard(now)
        self._noted(1)
        return stored(jobs, ids, now)

    def _relaxed(self, statement: str) -> str:
        """Commit without waiting for the disk, if the application said so: a setting of this transaction alone."""
        if self._durability == "full":
            return statement
        return statement.replace(" FROM", ", set_config('synchronous_commit', 'off', true) FROM", 1)

    def _copy(self, connection: Connection, jobs: Sequence[NewJob]) -> list[Record]:
        names = list({(job.queue, job.task, job.priority): None for job in jobs})
        spelt = msgspec.json.encode([{"q": q, "t": t, "p": p} for q, t, p in names]).decode()
        p = self._sql.prefix
        with connection.transaction(), connection.cursor(binary=True) as cursor:
            if self._durability == "relaxed":
                cursor.execute("SET LOCAL synchronous_commit = off")
            now, first, ids, streams = cursor.execute(self._sql.draw, (len(jobs), spelt)).fetchone()  # type: ignore[misc]
            records = stored(jobs, ids or range(first, first + len(jobs)), now)
            made = lines(jobs, records, dict(zip(names, streams, strict=True)))
            for table, columns, rows in (
                ("job", JOB_COLUMNS, made.job),
                ("ready", "seq, id, stream", made.ready),
                ("timer", "id, run_at, stream, retrying", made.timer),
                ("tag", "job_id, tag", made.tag),
            ):
                if rows:
                    with cursor.copy(f"COPY {p}_{table} ({columns}) FROM STDIN") as copy:
                        for start in range(0, len(rows), 1000):
                            copy.write(b"".join(rows[start : start + 1000]))
            counts: dict[int, dict[str, int]] = {}
            for (stream, status), number in made.counts.items():
                count = counts.setdefault(stream, {"stream": stream, "enqueued": 0})
                count[status.value] = number
                count["enqueued"] += number
            new = msgspec.json.encode(list(counts.values())).decode()
            cursor.execute(self._sql.count_new, (int(now), new))
            cursor.execute(self._sql.ring)
        self._heard(now)
        self._noted(len(counts))
        return records

    def insertion(self, jobs: Sequence[NewJob]) -> Generator[Statement, list[Any], list[Record]]:
        """Yield the one statement of an insert for a connection of the caller's; rings when that commits."""
        ((now, ids),) = yield (self._sql.enqueue, (as_json(jobs), self._store))
        return stored(jobs, ids, now)

    def _noted(self, changes: int) -> None:
        """Fold the counters' changes once in a while: an application may enqueue for days before a worker runs."""
        self._unfolded += changes
        if self._unfolded >= FOLD:
            self._unfolded = 0
            # The jobs are stored: whether this goes well, and whether this role may do it, is another matter.
            with suppress(StoreError):
                self._fold()

    def _fold(self) -> None:
        with self._clients.lend() as connection:
            connection.execute(self._sql.fold)

    def exchange(self, turn: Turn) -> Turned:
        """One turn of a worker's pump: one round trip."""
        self._check_open()
        low = self._marks.low((turn.queues, turn.tasks) if turn.limit else None)
        doubtful = self._doubtful.__dict__.pop("settlements", ())
        try:
            with self._pump.lend() as connection:
                rows = self._again(connection, self._sql.exchange, parameters(turn, low))
            turned, places = answer(rows, turn.worker)
            if doubtful and turned.refused:
                refused = self._really_refused(doubtful, turned.refused)
                turned = msgspec.structs.replace(turned, refused=refused)
        except StoreError:
            # Perhaps it was done and only the answer got lost: then the same settlements will be refused next time.
            self._doubtful.settlements = turn.settlements
            self._asked_at = time.monotonic()  # for now there is nobody to ask what time it is
            raise
        head = rows[-1]
        self._heard(turned.now)
        self._marks.turned(low, places, rewind=head[1], now=turned.now, due=turned.due, next_xid=head[3])
        if (note := self._marks.ripe(head[2])) is not None:
            # It only saves work; the turn it follows has been made and must be answered.
            with suppress(StoreError):
                self._survey(note)
        if not low.near and len(turned.claims) < turn.limit:
            # There may be more below the marks: let the pump come back for the full pass.
            turned = msgspec.structs.replace(turned, due=min(turned.due or math.inf, turned.now + FULL))
        return turned

    def _survey(self, note: Any) -> None:
        streams = list(note.marks)
        due_mark, safes = self._marks.safe(streams)
        values = (due_mark, array(streams), array(safes), array(note.marks[s] for s in streams))
        with self._pump.lend() as connection:
            row = connection.execute(self._sql.survey, values, binary=True).fetchone()
        assert row is not None
        oldest, rewind, due, left = row
        self._marks.surveyed(note, dict(zip(streams, left, strict=True)), due=due, rewind=rewind, oldest_xid=oldest)

    def _really_refused(self, doubtful: Sequence[Settlement], refused: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Take out those that were written by an earlier try whose answer got lost."""
        asked: dict[str | None, list[Settlement]] = {}
        wanted = set(refused)
        for s in doubtful:
            if (s.record.id, s.record.lease) in wanted:
                asked.setdefault(s.record.worker, []).append(s)
        written: set[tuple[int, int]] = set()
        with self._pump.lend() as connection:
            for worker, group in asked.items():
                values = (
                    array(s.record.id for s in group),
                    array(s.record.lease for s in group),
                    array(s.finished_at for s in group),
                )
                written.update(connection.execute(self._sql.written, (*values, worker, worker)).fetchall())
        return [pair for pair in refused if pair not in written]

    def _again(self, connection: Connection, statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Run one statement, again if it lost against another transaction: then it has done nothing."""
        for _ in range(TRIES):
            try:
                return connection.execute(statement, values, binary=True).fetchall()
            except (errors.DeadlockDetected, errors.SerializationFailure):
                continue
        return connection.execute(statement, values, binary=True).fetchall()

    def extend(self, record: Record, seconds: float) -> bool:
        """Move the deadline of a claim made by hand."""
        return self._do(self._sql.extend, seconds, record.id, record.lease) == 1

    def _do(self, statement: str, *values: Any) -> int:
        """Run a statement; return how many rows it changed."""
        with self._clients.lend() as connection:
            return connection.execute(statement, values).rowcount

    def _rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._clients.lend() as connection:
            return connection.execute(statement, values, binary=True).fetchall()

    # ------------------------------------------------------------------ workers

    def beat(self, worker: Worker) -> bool:
        """Write the heartbeat."""
        self._check_open()
        card = msgspec.json.encode(worker).decode()
        with self._pump.lend() as connection:
            row = connection.execute(self._sql.beat, (worker.id, worker.lost_after, worker.status, card)).fetchone()
        return row is not None

    def retire(self, worker_id: str) -> None:
        """Mark the worker as stopped."""
        with self._clients.lend() as connection, connection.transaction():
            connection.execute(self._sql.retire, (worker_id,))
            connection.execute(self._sql.ring)

    def workers(self) -> list[Worker]:
        """Return the workers."""
        return [
            msgspec.structs.replace(
                msgspec.json.decode(card, type=Worker), beat_at=beat_at, lost_after=lost_after, status=status
            )
            for beat_at, lost_after, status, card in self._rows(self._sql.workers)
        ]

    def bury(self, gone: Sequence[str] = (), *, overdue: bool = True) -> list[str]:
        """Declare workers lost."""
        return sorted(row[0] for row in self._rows(self._sql.bury, list(gone), overdue))

    def orphans(self, limit: int) -> list[Record]:
        """Return running jobs that nobody runs any more."""
        ids = [row[0] for row in self._rows(self._sql.orphans, limit)]
        if not ids:
            return []
        records = [self._sql.record(row) for row in self._rows(self._sql.records, array(ids))]
        return [r for r in records if r.status is Status.RUNNING]

    # ------------------------------------------------------------------ managing

    def change(self, ids: Collection[int], decide: Decide) -> list[Changed]:
        """Read the jobs, decide, and write the answers if nothing has moved meanwhile; decide again where it has.

        No lock is held while *decide* runs.
        """
        self._check_open()
        wanted = list(dict.fromkeys(ids))
        made: dict[int, Changed] = {}
        for _ in range(TRIES):
            left = [job_id for job_id in wanted if job_id not in made]
            if not left:
                break
            self._try_to_change(left, decide, made)
        else:
            raise ConnectionLostError("these jobs change faster than they can be read; try again")
        return [made[job_id] for job_id in ids]

    def _try_to_change(self, ids: Sequence[int], decide: Decide, made: dict[int, Changed]) -> None:
        with self._clients.lend() as connection:
            (now,) = connection.execute(self._sql.now).fetchone()  # type: ignore[misc]
            rows = connection.execute(self._sql.records, (array(ids),), binary=True).fetchall()
        self._heard(now)
        records = {row[0]: self._sql.record(row) for row in rows}
        decided: list[tuple[Record, Transition]] = []
        for job_id in ids:
            record = records.get(job_id)
            if record is None:
                made[job_id] = Changed(job_id, None, None)
                continue
            try:
                decided.append((record, decide(record, now)))
            except JobError as error:
                made[job_id] = Changed(job_id, record, None, error)
        if not decided:
            return
        decided.sort(key=lambda one: one[0].id)  # everybody locks in this order
        spelt = moves((record, transition, None) for record, transition in decided)
        with self._clients.lend() as connection:
            missed = {row[0] for row in self._again(connection, self._sql.move, (spelt, True))}
        for place, (record, transition) in enumerate(decided, 1):
            if place not in missed:
                made[record.id] = Changed(record.id, record, transition)

    def pause(self, kind: str, name: str, paused: bool) -> None:  # noqa: FBT001 - the Protocol's spelling
        """Pause or resume a queue or task."""
        with self._clients.lend() as connection, connection.transaction():
            connection.execute(self._sql.pause if paused else self._sql.resume, (kind, name))
            connection.execute(self._sql.ring)

    def pauses(self) -> set[tuple[str, str]]:
        """Return what is paused."""
        return {(kind, name) for kind, name in self._rows(self._sql.pauses)}

    def purge(self, older_than: Mapping[Status, float], limit: int, *, queue: str | None = None) -> int:
        """Delete finished jobs, each status in one small transaction."""
        deleted = 0
        for status, age in older_than.items():
            if deleted < limit:
                deleted += self._rows(self._sql.purge, status.value, age, limit - deleted, queue)[0][0]
        return deleted

    def tidy(self) -> None:
        """Fold the counters and trim what only grows."""
        self._fold()
        self._do(self._sql.trim_pulse, PULSE_KEPT)
        self._do(self._sql.forget_workers, WORKERS_KEPT)
        self._do(self._sql.forget_signals)

    # ------------------------------------------------------------------ reading

    @contextmanager
    def _reading(self, *, hot: bool = False) -> Iterator[Reader]:
        self._check_open()
        with (self._pump if hot else self._clients).lend() as connection, connection.transaction():
            yield Reader(connection, self._sql)

    def get(self, job_id: int) -> Record | None:
        """Return a job."""
        self._check_open()
        rows = self._rows(self._sql.record_by_id, job_id) if -(1 << 63) <= job_id < 1 << 63 else []
        return self._sql.record(rows[0]) if rows else None

    def by_key(self, key: str) -> Record | None:
        """Return the job with this idempotency key."""
        rows = self._rows(self._sql.record_by_key, key)
        return self._sql.record(rows[0]) if rows else None

    def find(self, which: Filter, *, limit: int, offset: int = 0, before: int | None = None) -> list[Record]:
        """Return matching jobs, newest first."""
        # What a worker holds is asked by its pump, which cannot wait longer for this than for a turn.
        with self._reading(hot=which.worker is not None and which.statuses == (Status.RUNNING,)) as reader:
            return reader.find(which, limit=limit, offset=offset, before=before)

    def count(self, which: Filter, *, most: int) -> int:
        """Count matching jobs."""
        with self._reading() as reader:
            return reader.count(which, most=most)

    def history(self, job_id: int) -> list[PastAttempt]:
        """Return the attempts of a job."""
        return [PastAttempt(*row) for row in self._rows(self._sql.history, job_id, job_id)]

    def tallies(self) -> list[Tally]:
        """Return the maintained counters."""
        self._check_open()
        statuses = len(Status)
        return [
            Tally(
                queue=row[0],
                task=row[1],
                counts=dict(zip(Status, row[2 : 2 + statuses], strict=True)),
                totals=dict(zip(TOTALS, row[2 + statuses :], strict=True)),
            )
            for row in self._rows(self._sql.tallies)
        ]

    def oldest(self, queue: str) -> float | None:
        """Return since when the longest-waiting pending job has been available."""
        value: float | None = self._rows(self._sql.oldest, queue)[0][0]
        return value

    def rates(self, since: float, queue: str | None = None) -> list[tuple[int, int, int]]:
        """Return what ended in each second."""
        return self._rows(self._sql.rates, int(since), queue, queue)

    # ------------------------------------------------------------------ looking after it

    def migrate(self) -> list[str]:
        """Bring the schema up to date."""
        with self._clients.lend() as connection:
            return schema.migrate(connection, self._sql)

    def diagnose(self) -> list[Finding]:
        """Say what is well and what is not."""
        with self._clients.lend() as connection:
            return diagnose(
                connection,
                self._sql,
                listener=self._listener,
                pooled=self._connector.pooled,
                direct=self._listen_connector is not self._connector,
                durability=self._durability,
            )


class Enqueues(Group["Sequence[NewJob]"]):
    """New jobs that meet in one process are stored together."""

    def __init__(self, driver: PostgresDriver) -> None:
        super().__init__()
        self._driver = driver

    def commit(self, group: list[Ticket[Sequence[NewJob]]]) -> None:
        """Insert the jobs of all tickets."""
        jobs = [job for ticket in group for job in ticket.request or ()]
        records = self._driver.insert_now(jobs)
        place = 0
        for ticket in group:
            number = len(ticket.request or ())
            ticket.result = records[place : place + number]
            ticket.written = True
            place += number

    def common(self, error: Exception) -> Exception | None:
        """Say what hit all of a group: the store itself."""
        return error if isinstance(error, ConnectionLostError) else None
