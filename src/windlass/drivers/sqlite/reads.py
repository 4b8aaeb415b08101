"""Finding and counting jobs without scanning a big table.

Ids come first, from the one place that holds a status: ``done_list`` orders finished jobs by (status, queue, task, id),
and the maintained counters tell which queues and tasks there are, so any of those filters is a handful of index ranges.
Scheduled, retrying and running jobs and those put aside are found by id, other pending ones by stream. The other filters
are tried job by job, newest first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from windlass.drivers.sqlite.observed import FAULTY
from windlass.fingerprint import LENGTH, TAIL
from windlass.job import FINISHED, Record, Status

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from windlass.drivers.base import Filter, Tally
    from windlass.drivers.sqlite.sql import Sql

SORTABLE = 20_000
"""A stream of at most so many pending jobs is read by its own index and sorted; a longer one is met soon enough by id."""

_PLACE = {Status.PENDING: "blocked", Status.RUNNING: "running", Status.SCHEDULED: "timer", Status.RETRYING: "timer"}


class Reader:
    """Reads on one connection."""

    def __init__(self, connection: sqlite3.Connection, sql: Sql, tallies: list[Tally]) -> None:
        self._connection = connection
        self._sql = sql
        self._tallies = tallies

    def find(self, which: Filter, *, limit: int, offset: int, before: int | None) -> list[Record]:
        """Return matching records, newest first."""
        want = limit + offset
        found: list[int] = []
        for statement, values in self._sources(which, before=before):
            rows = self._connection.execute(f"{statement} ORDER BY id DESC LIMIT ?", (*values, want))
            found.extend(row[0] for row in rows)
        found.sort(reverse=True)
        ids = msgspec.json.encode(found[offset:want]).decode()
        return [self._sql.record(row) for row in self._connection.execute(self._sql.records, (ids,))]

    def count(self, which: Filter, *, most: int) -> int:
        """Count matching jobs, up to *most* + 1 where the counters cannot tell."""
        if not self._residual(which)[0]:
            statuses = which.statuses or tuple(Status)
            return sum(t.counts[s] for t in self._streams(which) for s in statuses)
        total = 0
        for statement, values in self._sources(which, before=None):
            rest = most + 1 - total
            if rest <= 0:
                break
            counted = f"SELECT count(*) FROM ({statement} LIMIT ?)"
            total += self._connection.execute(counted, (*values, rest)).fetchone()[0]
        return total

    def _streams(self, which: Filter) -> list[Tally]:
        return [
            t
            for t in self._tallies
            if (which.queue is None or t.queue == which.queue) and (which.task is None or t.task == which.task)
        ]

    def _sources(self, which: Filter, *, before: int | None) -> Iterator[tuple[str, list[Any]]]:
        """Yield statements that select ids; together they hold every match once."""
        clauses, values = self._residual(which)
        if before is not None:
            clauses = ["id < ?", *clauses]
            values = [before, *values]
        prefix = self._sql.prefix
        if not (which.statuses or which.queue or which.task):
            yield _select(f"{prefix}_job", clauses), values
            return
        for status in which.statuses or tuple(Status):
            streams = [t for t in self._streams(which) if t.counts[status]]
            if not streams:
                continue
            if status is Status.DEAD and which.fingerprint is not None:
                yield self._faulty(which, clauses, values)
                continue
            if status in FINISHED:
                for tally in streams:
                    exact = ["status = ?", "queue = ?", "task = ?", *clauses]
                    source = f"{prefix}_done INDEXED BY {prefix}_done_list"
                    yield _select(source, exact), [status.value, tally.queue, tally.task, *values]
                continue
            if status is Status.PENDING:
                yield from self._pending(streams, clauses, values)
            where, extra = self._waiting(which, status)
            yield _select(f"{prefix}_{_PLACE[status]} NOT INDEXED", [*where, *clauses]), [*extra, *values]

    def _faulty(self, which: Filter, clauses: list[str], values: list[Any]) -> tuple[str, list[Any]]:
        """Return the statement that finds dead jobs by the index of their fingerprints."""
        exact = ["status = 'dead'", FAULTY, f"substr(error, {-TAIL}, {LENGTH}) = ?"]
        given: list[Any] = [which.fingerprint]
        for column, value in (("queue", which.queue), ("task", which.task)):
            if value is not None:
                exact, given = [*exact, f"{column} = ?"], [*given, value]
        return _select(f"{self._sql.prefix}_done INDEXED BY {self._sql.prefix}_done_fault", [*exact, *clauses]), [
            *given,
            *values,
        ]

    def _pending(self, streams: list[Tally], clauses: list[str], values: list[Any]) -> Iterator[tuple[str, list[Any]]]:
        """Yield a statement for each stream: a short one is read and sorted, a long one is soon met going by id."""
        prefix = self._sql.prefix
        for tally in streams:
            which = ["queue = ?", "task = ?", *clauses]
            if tally.counts[Status.PENDING] <= SORTABLE or not self._is_long(tally):
                yield _select(f"{prefix}_ready", which), [tally.queue, tally.task, *values]
                continue
            there = (
                f"EXISTS (SELECT 1 FROM {prefix}_ready r WHERE r.queue = {prefix}_job.queue"
                f" AND r.task = {prefix}_job.task AND r.rank = -{prefix}_job.priority AND r.seq = {prefix}_job.seq)"
            )
            yield _select(f"{prefix}_job", [*which, there]), [tally.queue, tally.task, *values]

    def _is_long(self, tally: Tally) -> bool:
        """Whether so many of a stream's pending jobs are not put aside."""
        statement = f"SELECT 1 FROM {self._sql.prefix}_ready WHERE queue = ? AND task = ? LIMIT 1 OFFSET ?"
        return self._connection.execute(statement, (tally.queue, tally.task, SORTABLE)).fetchone() is not None

    def _waiting(self, which: Filter, status: Status) -> tuple[list[str], list[Any]]:
        """Return the clauses and values that pick a table's rows by status, queue and task."""
        where: list[str] = []
        extra: list[Any] = []
        if which.queue is not None:
            where, extra = [*where, "queue = ?"], [*extra, which.queue]
        if which.task is not None:
            where, extra = [*where, "task = ?"], [*extra, which.task]
        if status in (Status.SCHEDULED, Status.RETRYING):
            where = [*where, f"retrying = {int(status is Status.RETRYING)}"]
        return where, extra

    def _residual(self, which: Filter) -> tuple[list[str], list[Any]]:
        """Return the clauses that no counter answers; ``id`` is the candidate's."""
        p = self._sql.prefix
        clauses: list[str] = []
        values: list[Any] = []
        if which.tag is not None:
            clauses.append(f"id IN (SELECT job_id FROM {p}_tag WHERE tag = ?)")
            values.append(which.tag)
        if which.origin is not None:
            clauses.append(f"id IN (SELECT j.id FROM {p}_job j WHERE j.origin = ?)")
            values.append(which.origin)
        for column, sign, value in (
            ("created_at", ">=", which.created_after),
            ("created_at", "<", which.created_before),
            ("batch_id", "=", which.batch),
        ):
            if value is not None:
                clauses.append(f"(SELECT j.{column} FROM {p}_job j WHERE j.id = {{id}}) {sign} ?")
                values.append(value)
        for column, sign, limit in (("worker", "=", which.worker), ("started_at", "<", which.started_before)):
            if limit is not None:
                clauses.append(
                    f"coalesce((SELECT d.{column} FROM {p}_done d WHERE d.id = {{id}}),"
                    f" (SELECT u.{column} FROM {p}_running u WHERE u.id = {{id}}),"
                    f" (SELECT a.{column} FROM {p}_attempt a WHERE a.job_id = {{id}}"
                    f" ORDER BY a.number DESC LIMIT 1)) {sign} ?"
                )
                values.append(limit)
        last = (
            f"coalesce((SELECT d.error FROM {p}_done d WHERE d.id = {{id}}),"
            f" (SELECT a.error FROM {p}_attempt a WHERE a.job_id = {{id}} AND a.error IS NOT NULL"
            f" ORDER BY a.number DESC LIMIT 1))"
        )
        if which.error is not None:
            clauses.append(f"json_extract({last}, '$.type') = ?")
            values.append(which.error)
        if which.fingerprint is not None:
            clauses.append(f"substr({last}, {-TAIL}, {LENGTH}) = ?")
            values.append(which.fingerprint)
        return clauses, values


def _select(source: str, clauses: list[str]) -> str:
    table = source.split(maxsplit=1)[0]
    where = " AND ".join(clauses).replace("{id}", f"{table}.id")
    return f"SELECT id FROM {source}" + (f" WHERE {where}" if where else "")
