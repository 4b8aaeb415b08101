"""Storing new jobs: alone by the shortest way, a few as one statement, many by ``COPY``; together with other threads'."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from windlass.drivers.group import Group, Ticket, store_together
from windlass.drivers.postgres.alone import Alone, alone
from windlass.drivers.postgres.insert import (
    JOB_COLUMNS,
    Lines,
    as_json,
    lines,
    stored,
)
from windlass.errors import ConnectionLostError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from windlass.drivers.postgres.connect import Connection
    from windlass.drivers.postgres.database import Database
    from windlass.job import NewJob, Record

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
        relaxed = ", set_config('synchronous_commit', 'off', true)" if self._relaxed else ""
        self._statement = sql.enqueue.replace(" FROM", f"{relaxed} FROM", 1)
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
            answer = None
            if len(jobs) == 1 and alone(jobs[0]) and not database.pooled:
                answer = self._alone.insert(connection, jobs[0])
            if answer is not None:
                now, ids = answer[0], [answer[1]]
            else:
                [(now, ids, *_)] = connection.again(self._statement, (as_json(jobs), None))
        self._done(now, 1)
        return stored(jobs, ids, now)

    def _copy(self, connection: Connection, jobs: Sequence[NewJob]) -> list[Record]:
        sql = self._database.sql
        names = list({(job.queue, job.task, job.priority): None for job in jobs})
        spelt = msgspec.json.encode([{"q": q, "t": t, "p": p} for q, t, p in names]).decode()
        with connection.transaction(), connection.cursor(binary=True) as cursor:
            if self._relaxed:
                cursor.execute("SET LOCAL synchronous_commit = off")
            now, first, drawn, streams = cursor.execute(sql.draw, (len(jobs), spelt)).fetchone()  # type: ignore[misc]
            records = stored(jobs, drawn or range(first, first + len(jobs)), now)
            made = lines(jobs, records, dict(zip(names, streams, strict=True)))
            for table, columns, rows in (
                ("job", JOB_COLUMNS, made.job),
                ("ready", "seq, id, stream", made.ready),
                ("timer", "id, run_at, stream, retrying", made.timer),
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
        return records

    def _done(self, now: float, changes: int) -> None:
        """Fold the counters' changes once in a while: an application may enqueue for days before a worker runs."""
        self._heard(now)
        self._unfolded += changes
        if self._unfolded >= FOLD:
            self._unfolded = 0
            # The jobs are stored: whether this goes well, and whether this role may do it, is another matter.
            with suppress(StoreError), self._database.clients.lend() as connection:
                connection.execute(self._database.sql.fold)


def _counts(made: Lines) -> list[dict[str, Any]]:
    """Return what the new jobs add to the counters of each stream."""
    counts: dict[int, dict[str, Any]] = {}
    for (stream, status), number in made.counts.items():
        count = counts.setdefault(stream, {"stream": stream, "enqueued": 0})
        count[status.value] = number
        count["enqueued"] += number
    return list(counts.values())
