"""``PostgresDriver``: the Driver Protocol on a PostgreSQL database."""

from __future__ import annotations

import math
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import msgspec

from windlass.drivers.base import Filter, Finding, PastAttempt, Tally, Turn, Turned, Worker
from windlass.drivers.postgres import schema
from windlass.drivers.postgres.doctor import diagnose
from windlass.drivers.postgres.enqueue import Enqueues
from windlass.drivers.postgres.marks import FULL, Marks
from windlass.drivers.postgres.reads import Reader
from windlass.drivers.postgres.tied import insertion
from windlass.drivers.postgres.turn import answer, array, parameters
from windlass.drivers.postgres.watching import Watching
from windlass.errors import StoreError
from windlass.job import Status
from windlass.lifecycle import TOTALS

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from windlass.drivers.base import Statement
    from windlass.drivers.postgres.bell import ListenBell
    from windlass.job import NewJob, Record
    from windlass.lifecycle import Settlement

FRESH = 10.0
"""Seconds for which the store's clock is known well enough."""


class PostgresDriver(Watching):
    """Jobs in a PostgreSQL database."""

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self._marks = Marks()
        self._enqueues: Enqueues
        self._ahead = -math.inf
        self._set_at = self._answered_at = self._asked_at = -math.inf
        self._doubtful = threading.local()

    def open(self) -> None:
        """Connect, and create or check the schema."""
        super().open()
        self._enqueues = Enqueues(self, heard=self._heard)

    # ------------------------------------------------------------------ the clock

    def now(self) -> float:
        """Return the store's time as far as its last answers tell: never ahead of it, and behind by a round trip at most.

        Needs no server once one has answered: what ends during an outage has an end too. This machine's time of day plays
        no part, so that it may be wrong, or be set right.
        """
        known = self._answered_at > -math.inf
        if not known or time.monotonic() - max(self._answered_at, self._asked_at) > FRESH:
            self._asked_at = time.monotonic()
            try:
                self._ask_time()
            except StoreError:
                if not known:
                    raise
        return time.monotonic() + self._ahead

    def _ask_time(self) -> None:
        with self.clients.lend() as connection:
            (now,) = connection.execute(self.sql.now).fetchone()  # type: ignore[misc]
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
        with self.clients.lend() as connection, connection.transaction():
            connection.execute(self.sql.shift, (seconds,))
            connection.execute(self.sql.ring)
        self._ask_time()

    def bell(self) -> ListenBell:
        """Return a new doorbell."""
        return self._listener.bell()

    # ------------------------------------------------------------------ the hot path

    def insert(self, jobs: Sequence[NewJob]) -> list[Record]:
        """Store new jobs, all or none; what other threads insert meanwhile shares the commit."""
        self._check_open()
        return self._enqueues.insert(jobs)

    def insertion(self, jobs: Sequence[NewJob]) -> Generator[Statement, list[Any], list[Record]]:
        """Yield the statement of an insert for a connection of the caller's; rings when that commits.

        A second one reads who holds a key, if somebody does.
        """
        return (yield from insertion(self.sql, jobs, self._store))

    def exchange(self, turn: Turn) -> Turned:
        """One turn of a worker's pump: one round trip."""
        self._check_open()
        low = self._marks.low((turn.queues, turn.takes, turn.tasks) if turn.limit else None)
        doubtful = self._doubtful.__dict__.pop("settlements", ())
        try:
            with self._pump.lend() as connection:
                rows = connection.again(self.sql.exchange, parameters(turn, low))
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
            row = connection.execute(self.sql.survey, values, binary=True).fetchone()
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
                written.update(connection.execute(self.sql.written, (*values, worker, worker)).fetchall())
            # Of some nothing was to be kept: a job that runs cannot go in any other way.
            gone = {s.record.id: s.record.lease for group in asked.values() for s in group if not s.transition.keep}
            if gone:
                there = {row[0] for row in connection.execute(self.sql.there, (array(gone),)).fetchall()}
                written.update((job_id, lease) for job_id, lease in gone.items() if job_id not in there)
        return [pair for pair in refused if pair not in written]

    def extend(self, record: Record, seconds: float) -> bool:
        """Move the deadline of a claim made by hand."""
        return self._do(self.sql.extend, seconds, record.id, record.lease) == 1

    # ------------------------------------------------------------------ workers

    def beat(self, worker: Worker) -> bool:
        """Write the heartbeat."""
        self._check_open()
        card = msgspec.json.encode(worker).decode()
        with self._pump.lend() as connection:
            row = connection.execute(self.sql.beat, (worker.id, worker.lost_after, worker.status, card)).fetchone()
        return row is not None

    def retire(self, worker_id: str) -> None:
        """Mark the worker as stopped."""
        with self.clients.lend() as connection, connection.transaction():
            connection.execute(self.sql.retire, (worker_id,))
            connection.execute(self.sql.ring)

    def workers(self) -> list[Worker]:
        """Return the workers."""
        return [
            msgspec.structs.replace(
                msgspec.json.decode(card, type=Worker), beat_at=beat_at, lost_after=lost_after, status=status
            )
            for beat_at, lost_after, status, card in self._rows(self.sql.workers)
        ]

    def bury(self, gone: Sequence[str] = (), *, overdue: bool = True) -> list[str]:
        """Declare workers lost."""
        return sorted(row[0] for row in self._rows(self.sql.bury, list(gone), overdue))

    def orphans(self, limit: int) -> list[Record]:
        """Return running jobs that nobody runs any more."""
        ids = [row[0] for row in self._rows(self.sql.orphans, limit)]
        if not ids:
            return []
        records = [self.sql.record(row) for row in self._rows(self.sql.records, array(ids))]
        return [r for r in records if r.status is Status.RUNNING]

    # ------------------------------------------------------------------ reading

    @contextmanager
    def _reading(self, *, hot: bool = False) -> Iterator[Reader]:
        self._check_open()
        with (self._pump if hot else self.clients).lend() as connection, connection.transaction():
            yield Reader(connection, self.sql)

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
        return [PastAttempt(*row) for row in self._rows(self.sql.history, job_id, job_id)]

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
            for row in self._rows(self.sql.tallies)
        ]

    def oldest(self, queue: str) -> float | None:
        """Return since when the longest-waiting pending job has been available."""
        value: float | None = self._rows(self.sql.oldest, queue, queue)[0][0]
        return value

    def rates(self, since: float, queue: str | None = None) -> list[tuple[int, int, int]]:
        """Return what ended in each second."""
        return self._rows(self.sql.rates, int(since), queue, queue)

    # ------------------------------------------------------------------ looking after it

    def migrate(self) -> list[str]:
        """Bring the schema up to date."""
        with self.clients.lend() as connection:
            return schema.migrate(connection, self.sql)

    def diagnose(self) -> list[Finding]:
        """Say what is well and what is not."""
        with self.clients.lend() as connection:
            return diagnose(
                connection,
                self.sql,
                listener=self._listener,
                pooled=self.pooled,
                direct=self._listen_connector is not self._connector,
                durability=self.durability,
            )
