"""Storing new jobs: alone by the shortest way, a few as one statement, many by ``COPY``; together with other threads'."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from windlass.drivers.group import Group, Ticket, store_together
from windlass.drivers.postgres.alone import Alone, alone
from windlass.drivers.postgres.insert import JOB_COLUMNS, Lines, as_json, is_tied, lines, stored
from windlass.drivers.postgres.tied import Answer, insertion, settled
from windlass.drivers.postgres.turn import array
from windlass.drivers.sql import drive
from windlass.errors import ConnectionLostError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from windlass.drivers.base import Statement
    from windlass.drivers.postgres.connect import Connection
    from windlass.drivers.postgres.database import Database
    from windlass.job import NewJob, Record

T = TypeVar("T")

BULK = 400
"""From so many jobs on, COPY is quicker than one statement."""
FOLD = 10_000
"""Changes to the counters after which this process folds them, should no worker do it."""


class Enqueues(Group[Sequence["NewJob"]]):
    """New jobs that meet in one process are stored together."""

    def __init__(self, database: Database, *, heard: Callable[[float], None]) -> None:
        super().__init__()
        self._database = database
        self._heard = heard
        sql, self._relaxed = database.sql, database.durability == "relaxed"
        self._alone = Alone(sql, durability=database.durability)
        # Commit without waiting for the disk, if the application said so: a setting of this transaction alone.
        self._suffix = ", set_config('synchronous_commit', 'off', true)" if self._relaxed else ""
        self._unfolded = 0

    def insert(self, jobs: Sequence[NewJob]) -> list[Record]:
        """Store new jobs, all or none."""
        if not jobs:
            return []
        if len(jobs) >= BULK:
            return self._write_now(jobs)
        records: list[Record] = self.submit(jobs)
        return records

    def commit(self, group: list[Ticket[Sequence[NewJob]]]) -> None:
        """Store the jobs of all tickets."""
        store_together(group, self._write_now)

    def common(self, error: Exception) -> Exception | None:
        """Say what hit all of a group: the store itself."""
        return error if isinstance(error, ConnectionLostError) else None

    def _write_now(self, jobs: Sequence[NewJob]) -> list[Record]:
        database = self._database
        with database.clients.lend() as connection:
            if len(jobs) >= BULK:
                return self._copy(connection, jobs)
            if len(jobs) == 1 and alone(jobs[0]) and not database.pooled:
                answer = self._alone.insert(connection, jobs[0])
                if answer is not None:
                    self._done(answer[0], 1)
                    return stored(jobs, [answer[1]], answer[0])
            records = self.insert_on(connection, jobs, again=True)
        if new := [record.created_at for record in records if not record.found]:
            self._done(new[0], 1)
        return records

    def insert_on(self, connection: Connection, jobs: Sequence[NewJob], *, again: bool = False) -> list[Record]:
        """Store a few jobs on a connection of ours; *again*: by itself, and again if it lost against another."""
        steps = insertion(self._database.sql, jobs, None, suffix=self._suffix)
        return run(connection, steps, again=again)

    def _copy(self, connection: Connection, jobs: Sequence[NewJob]) -> list[Record]:
        sql = self._database.sql
        names = list({(job.queue, job.task, job.priority): None for job in jobs})
        spelt = msgspec.json.encode([{"q": q, "t": t, "p": p} for q, t, p in names]).decode()
        with connection.transaction(), connection.cursor(binary=True) as cursor:
            if self._relaxed:
                cursor.execute("SET LOCAL synchronous_commit = off")
            now, first, drawn, streams = cursor.execute(sql.draw, (len(jobs), spelt)).fetchone()  # type: ignore[misc]
            ids = drawn or range(first, first + len(jobs))
            answer = self._tie(connection, jobs, ids, now) if any(map(is_tied, jobs)) else None
            records = stored(jobs, ids, now)
            new, fresh = jobs, records
            if answer is not None and answer.found:
                held = set(answer.found)
                new = [job for place, job in enumerate(jobs, 1) if place not in held]
                fresh = [record for place, record in enumerate(records, 1) if place not in held]
            made = lines(new, fresh, dict(zip(names, streams, strict=True)))
            for table, columns, rows in (
                ("job", JOB_COLUMNS, made.job),
                ("ready", "seq, id, stream, flags", made.ready),
                ("timer", "id, run_at, stream, flags, retrying", made.timer),
                ("tag", "job_id, tag", made.tag),
            ):
                if rows:
                    with cursor.copy(f"COPY {sql.prefix}_{table} ({columns}) FROM STDIN") as copy:
                        for start in range(0, len(rows), 1000):
                            copy.write(b"".join(rows[start : start + 1000]))
            counts = _counts(made)
            cursor.execute(sql.count_new, (int(now), msgspec.json.encode(counts).decode()))
            cursor.execute(sql.ring)
        self._done(now, len(counts))
        if answer is None or not answer.found:
            return records
        found = run(connection, settled(sql, jobs, answer))
        return [record or self._write_now([job])[0] for record, job in zip(found, jobs, strict=True)]

    def _tie(self, connection: Connection, jobs: Sequence[NewJob], ids: Sequence[int], now: float) -> Answer:
        """Take the keys and the places in batches; raises what ``settled`` raises."""
        sql = self._database.sql
        row = connection.execute(sql.tie, (as_json(jobs), array(ids), now), binary=True).fetchone()
        assert row is not None
        answer = Answer(now, *row[1:])
        if answer.refused is not None or answer.broken is not None:
            run(connection, settled(sql, jobs, msgspec.structs.replace(answer, ids=list(ids))))
        return answer

    def _done(self, now: float, changes: int) -> None:
        """Fold the counters' changes once in a while: an application may enqueue for days before a worker runs."""
        self._heard(now)
        self._unfolded += changes
        if self._unfolded >= FOLD:
            self._unfolded = 0
            # The jobs are stored: whether this goes well, and whether this role may do it, is another matter.
            with suppress(StoreError), self._database.clients.lend() as connection:
                connection.execute(self._database.sql.fold)


def run(connection: Connection, steps: Generator[Statement, list[Any], T], *, again: bool = False) -> T:
    """Run the statements of an insert."""
    if again:
        return drive(steps, connection.again)
    return drive(steps, lambda statement, values: connection.execute(statement, values, binary=True).fetchall())


def _counts(made: Lines) -> list[dict[str, Any]]:
    """Return what the new jobs add to the counters of each stream."""
    counts: dict[int, dict[str, Any]] = {}
    for (stream, status), number in made.counts.items():
        count = counts.setdefault(stream, {"stream": stream, "enqueued": 0})
        count[status.value] = number
        count["enqueued"] += number
    return list(counts.values())
