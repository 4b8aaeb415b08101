"""Finding and counting jobs without scanning a big table.

Ids come first, from the one place that holds a status: ``done`` is ordered by (stream, status, id), and the counters tell
which streams there are, so any of those filters is a handful of index ranges. Scheduled, retrying and running jobs are
found by id, pending ones by stream. The other filters are tried job by job, newest first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from windlass.job import FINISHED, Record, Status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from windlass.drivers.base import Filter
    from windlass.drivers.postgres.connect import Connection
    from windlass.drivers.postgres.sql import Sql

# What a scan would read at most is bounded by LIMIT; without this the planner may prefer one when statistics are old.
_PLAN = "SET LOCAL enable_seqscan = off; SET LOCAL jit = off"


class Reader:
    """Reads on one connection, inside one transaction."""

    def __init__(self, connection: Connection, sql: Sql) -> None:
        self._connection = connection
        self._sql = sql
        connection.execute(_PLAN, prepare=False)
        self._streams: list[tuple[int, str, str]] = connection.execute(sql.streams).fetchall()

    def find(self, which: Filter, *, limit: int, offset: int, before: int | None) -> list[Record]:
        """Return matching records, newest first."""
        want = limit + offset
        found: list[int] = []
        for statement, values in self._sources(which, before=before):
            rows = self._connection.execute(f"{statement} ORDER BY id DESC LIMIT %s", (*values, want))
            found.extend(row[0] for row in rows)
        found.sort(reverse=True)
        ids = "{" + ",".join(map(str, found[offset:want])) + "}"
        return [self._sql.record(row) for row in self._connection.execute(self._sql.records, (ids,), binary=True)]

    def count(self, which: Filter, *, most: int) -> int:
        """Count matching jobs, up to *most* + 1 where the counters cannot tell."""
        if not self._residual(which, "x")[0]:
            return self._counted(which)
        total = 0
        for statement, values in self._sources(which, before=None):
            rest = most + 1 - total
            if rest <= 0:
                break
            row = self._connection.execute(
                f"SELECT count(*) FROM ({statement} LIMIT %s) AS c", (*values, rest)
            ).fetchone()
            total += row[0] if row else 0
        return total

    def _counted(self, which: Filter) -> int:
        statuses = which.statuses or tuple(Status)
        total = 0
        for queue, task, *counts in self._connection.execute(self._sql.tallies):
            if which.queue in (None, queue) and which.task in (None, task):
                by_status = dict(zip(Status, counts, strict=False))
                total += sum(by_status[s] for s in statuses)
        return total

    def _matching(self, which: Filter) -> list[int]:
        return [
            stream
            for stream, queue, task in self._streams
            if which.queue in (None, queue) and which.task in (None, task)
        ]

    def _sources(self, which: Filter, *, before: int | None) -> Iterator[tuple[str, list[Any]]]:
        """Yield statements that select ids; together they hold every match once."""
        p = self._sql.prefix
        if not (which.statuses or which.queue or which.task):
            yield self._select(f"{p}_job", which, [], [], before)
            return
        for status in which.statuses or tuple(Status):
            if status is Status.RUNNING:
                yield self._select(f"{p}_running", which, *self._of_streams(which), before)
            elif status in (Status.SCHEDULED, Status.RETRYING):
                clauses, values = self._of_streams(which)
                retrying = "retrying" if status is Status.RETRYING else "NOT retrying"
                yield self._select(f"{p}_timer", which, [retrying, *clauses], values, before)
            else:
                for stream in self._matching(which):
                    if status in FINISHED:
                        yield self._select(
                            f"{p}_done", which, ["stream = %s", "status = %s"], [stream, status.value], before
                        )
                    else:
                        yield from self._pending(which, stream, before)

    def _pending(self, which: Filter, stream: int, before: int | None) -> Iterator[tuple[str, list[Any]]]:
        """Yield the new jobs of a stream, whose place is their id, and those that became available again."""
        p = self._sql.prefix
        clauses, values = self._residual(which, "r.id")
        below = " AND r.seq < %s" if before is not None else ""
        more = "".join(f" AND {clause}" for clause in clauses)
        limits = [] if before is None else [before]
        fresh = (
            f"SELECT id FROM (SELECT r.id, r.seq FROM {p}_ready r WHERE r.stream = %s AND r.seq = r.id{below}{more}"
            " ORDER BY r.stream DESC, r.seq DESC) AS fresh"
        )
        yield fresh, [stream, *limits, *values]
        below = " AND r.id < %s" if before is not None else ""
        yield (
            f"SELECT id FROM (SELECT r.id FROM {p}_ready r WHERE r.stream = %s AND r.seq <> r.id{below}{more}) AS again",
            [stream, *limits, *values],
        )

    def _of_streams(self, which: Filter) -> tuple[list[str], list[Any]]:
        if which.queue is None and which.task is None:
            return [], []
        return ["stream = ANY (%s::integer[])"], [self._matching(which)]

    def _select(
        self, table: str, which: Filter, clauses: list[str], values: list[Any], before: int | None
    ) -> tuple[str, list[Any]]:
        if before is not None:
            clauses, values = [*clauses, "t.id < %s"], [*values, before]
        residual, more = self._residual(which, "t.id")
        where = " AND ".join([*clauses, *residual])
        return f"SELECT t.id FROM {table} t" + (f" WHERE {where}" if where else ""), [*values, *more]

    def _residual(self, which: Filter, job: str) -> tuple[list[str], list[Any]]:
        """Return the clauses that no counter answers; *job* is the candidate's id."""
        p = self._sql.prefix
        clauses: list[str] = []
        values: list[Any] = []
        if which.tag is not None:
            clauses.append(f"EXISTS (SELECT FROM {p}_tag x WHERE x.tag = %s AND x.job_id = {job})")
            values.append(which.tag)
        for column, sign, value in (
            ("origin", "=", which.origin),
            ("batch_id", "=", which.batch),
            ("created_at", ">=", which.created_after),
            ("created_at", "<", which.created_before),
        ):
            if value is not None:
                clauses.append(f"EXISTS (SELECT FROM {p}_job x WHERE x.id = {job} AND x.{column} {sign} %s)")
                values.append(value)
        for column, sign, limit in (("worker", "=", which.worker), ("started_at", "<", which.started_before)):
            if limit is not None:
                clauses.append(f"({self._last(column, job)}) {sign} %s")
                values.append(limit)
        if which.error is not None:
            # A message may hold the escape of U+0000, which is JSON but no text of PostgreSQL's: it refuses all of the value for it.
            last = f"replace(({self._last('error', job, 'x.error IS NOT NULL')})::text, '\\u0000', '\\ufffd')::json"
            clauses.append(f"{last} ->> 'type' = %s")
            values.append(which.error)
        return clauses, values

    def _last(self, column: str, job: str, where: str = "true") -> str:
        """Return an expression for *column* of a job's last attempt that fits *where*."""
        p = self._sql.prefix
        running = "NULL" if column == "error" else f"(SELECT x.{column} FROM {p}_running x WHERE x.id = {job})"
        return (
            f"coalesce((SELECT x.{column} FROM {p}_done x JOIN {p}_job y ON y.id = {job} AND x.stream = y.stream"
            f" AND x.status IN ('completed', 'dead', 'cancelled') AND x.id = y.id), {running},"
            f" (SELECT x.{column} FROM {p}_attempt x WHERE x.job_id = {job} AND {where} ORDER BY x.number DESC LIMIT 1))"
        )
