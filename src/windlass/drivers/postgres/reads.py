"""Finding and counting jobs without scanning a big table.

Ids come first, newest first, from whatever knows them in that order:

* the index of the tag, origin or batch asked for, if any;
* else, or if the counters say that fewer jobs have the status asked for, the tables that hold a status, which are ordered
  by stream and id;
* else the jobs themselves.

What those do not answer is tried job by job. An instant of creation becomes a bound for the ids.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from windlass.drivers import patience
from windlass.drivers.postgres.observed import FAULTY, PRINT
from windlass.drivers.postgres.turn import array
from windlass.fingerprint import LENGTH, TAIL
from windlass.job import FINISHED, Record, Status

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from windlass.drivers.base import Filter
    from windlass.drivers.postgres.connect import Connection
    from windlass.drivers.postgres.sql import Sql

# What is read is bounded by LIMIT, in the order of an index; without this the planner may prefer to read and sort everything
# when its statistics are old.
_PLAN = "; ".join(
    f"SET LOCAL {name} = off"
    for name in ("enable_seqscan", "enable_bitmapscan", "enable_sort", "enable_hashjoin", "enable_mergejoin", "jit")
)
FEW = 1000
"""So many jobs of a status may be looked at one by one."""
SLACK = 60.0
"""Seconds by which the order of creation may differ from that of the ids."""
_END = (1 << 63) - 1
_ANY, _NEWEST = "LIMIT %s /* any */", "ORDER BY found.id DESC LIMIT %s"


def plan(connection: Connection) -> None:
    """Make the transaction's statements go by indexes, and end when whoever asks would wait no longer."""
    left = patience.left()
    hurry = "" if left is None else f"; SET LOCAL statement_timeout = {max(1, int(left * 1000))}"
    connection.execute(_PLAN + hurry, prepare=False)


class Reader:
    """Reads on one connection, inside one transaction."""

    def __init__(self, connection: Connection, sql: Sql) -> None:
        self._connection = connection
        self._sql = sql
        plan(connection)
        self._streams: list[tuple[int, str, str]] = connection.execute(sql.streams).fetchall()

    def find(self, which: Filter, *, limit: int, offset: int, before: int | None) -> list[Record]:
        """Return matching records, newest first."""
        want = limit + offset
        found: list[int] = []
        for statement, values in self._sources(which, want, before=before):
            ordered = statement.replace(_ANY, _NEWEST)
            found.extend(row[0] for row in self._connection.execute(ordered, values))
        found.sort(reverse=True)
        ids = array(found[offset:want])
        return [self._sql.record(row) for row in self._connection.execute(self._sql.records, (ids,), binary=True)]

    def count(self, which: Filter, *, most: int) -> int:
        """Count matching jobs, up to *most* + 1 where the counters cannot tell."""
        if not (self._lead(which) or self._residual(which, "x")[0]):
            return self._counted(which)
        total = 0
        for statement, values in self._sources(which, most + 1, before=None):
            row = self._connection.execute(f"SELECT count(*) FROM ({statement}) AS c", values).fetchone()
            total += row[0] if row else 0
            if total > most:
                break
        return min(total, most + 1)

    def _counted(self, which: Filter) -> int:
        statuses = which.statuses or tuple(Status)
        total = 0
        for queue, task, *counts in self._connection.execute(self._sql.tallies):
            if which.queue in (None, queue) and which.task in (None, task):
                by_status = dict(zip(Status, counts, strict=False))
                total += sum(by_status[s] for s in statuses)
        return total

    def _matching(self, which: Filter) -> str:
        return array(
            stream
            for stream, queue, task in self._streams
            if which.queue in (None, queue) and which.task in (None, task)
        )

    # ------------------------------------------------------------------ where ids come from

    def _sources(self, which: Filter, most: int, *, before: int | None) -> Iterator[tuple[str, Sequence[Any]]]:
        """Yield statements that select *most* ids each, the highest; together they hold every match once."""
        p = self._sql.prefix
        low, high = self._bounds(which, before)
        lead = self._lead(which)
        if lead is not None and self._leads(lead, which):
            table, job, column, value = lead
            clauses, values = self._residual(which, job, but=column)
            for status_clauses, status_values in (self._in_streams(which, job), self._in_status(which, job)):
                clauses, values = [*clauses, *status_clauses], [*values, *status_values]
            # An equality would leave the order to the primary key, down which the planner likes to walk until it meets one.
            clauses = [f"t.{column} >= %s AND t.{column} <= %s", *clauses]
            statement = self._ordered(f"{p}_{table} t", clauses, job, first=f"t.{column} DESC, ")
            yield statement, (value, value, *values, low, high, most)
        elif not (which.statuses or which.queue or which.task):
            clauses, values = self._residual(which, "t.id", "job")
            yield self._ordered(f"{p}_job t", clauses, "t.id"), (*values, low, high, most)
        else:
            for status in which.statuses or tuple(Status):
                if status is Status.DEAD and which.fingerprint is not None:
                    yield self._of_fault(which, bounds=(low, high, most))
                    continue
                for place in self._places(status):
                    yield self._of_place(which, place, bounds=(low, high, most))

    def _of_place(
        self, which: Filter, place: tuple[str, str, list[Any], str], *, bounds: tuple[int, int, int]
    ) -> tuple[str, Sequence[Any]]:
        table, clause, given, order = place
        source = f"{self._sql.prefix}_{table} t"
        clauses, values = self._residual(which, "t.id", table)
        streams = self._matching(which)
        if table == "running":  # small, and without an index by stream
            everywhere = ["t.stream = ANY (%s::text::integer[])", *clauses]
            return self._ordered(source, everywhere, order), (streams, *values, *bounds)
        inner = self._ordered(source, ["t.stream = w.stream", clause, *clauses], order)
        each = "unnest(%s::text::integer[]) AS w (stream)"
        statement = f"SELECT found.id FROM {each} CROSS JOIN LATERAL ({inner}) AS found {_ANY}"
        return statement, (streams, *given, *values, *bounds, bounds[2])

    def _of_fault(self, which: Filter, *, bounds: tuple[int, int, int]) -> tuple[str, Sequence[Any]]:
        """Return the statement that finds dead jobs by the index of their fingerprints."""
        clauses, values = self._residual(msgspec.structs.replace(which, fingerprint=None), "t.id", "done")
        exact = ["t.status = 'dead'", FAULTY, f"{PRINT} = %s", "t.stream = ANY (%s::text::integer[])", *clauses]
        statement = self._ordered(f"{self._sql.prefix}_done t", exact, "t.id", first=f"{PRINT} DESC, ")
        return statement, (which.fingerprint, self._matching(which), *values, *bounds)

    @staticmethod
    def _ordered(table: str, clauses: Sequence[str], order: str, *, first: str = "") -> str:
        where = " AND ".join([*clauses, f"{order} >= %s AND {order} < %s"])
        return f"SELECT {order} AS id FROM {table} WHERE {where} ORDER BY {first}{order} DESC LIMIT %s"

    @staticmethod
    def _places(status: Status) -> Iterator[tuple[str, str, list[Any], str]]:
        """Yield the table, the clause and the order by which a status is found in a stream."""
        if status is Status.RUNNING:
            yield "running", "true", [], "t.id"
        elif status is Status.PENDING:
            # New jobs, whose place is their id, those that became available again, and those put aside.
            yield "ready", "t.seq = t.id", [], "t.seq"
            yield "ready", "t.seq <> t.id", [], "t.id"
            yield "blocked", "true", [], "t.id"
        elif status in FINISHED:
            yield "done", "t.status = %s", [status.value], "t.id"
        else:
            yield "timer", "t.retrying" if status is Status.RETRYING else "NOT t.retrying", [], "t.id"

    def _bounds(self, which: Filter, before: int | None) -> tuple[int, int]:
        """Return the lowest id that may match, and the first above the highest."""
        low, high = 0, _END if before is None else before
        if which.created_after is not None:
            low = self._since(which.created_after - SLACK)
        if which.created_before is not None:
            high = min(high, self._since(which.created_before + SLACK))
        return low, high

    def _since(self, at: float) -> int:
        row = self._connection.execute(self._sql.since, (at,)).fetchone()
        return row[0] if row else 0

    @staticmethod
    def _lead(which: Filter) -> tuple[str, str, str, Any] | None:
        """Return the table, the name of the id, the column and the value of an index that has what is asked for."""
        if which.batch is not None:
            return "job", "t.id", "batch_id", which.batch
        if which.origin is not None:
            return "job", "t.id", "origin", which.origin
        if which.tag is not None:
            return "tag", "t.job_id", "tag", which.tag
        return None

    def _leads(self, lead: tuple[str, str, str, Any], which: Filter) -> bool:
        """Whether fewer jobs are to be expected on the way through the lead than through the statuses."""
        if not which.statuses:
            return True
        counted = self._counted(which)
        if counted <= FEW:
            return False
        table, _, column, value = lead
        few = (
            f"SELECT count(*) FROM (SELECT FROM {self._sql.prefix}_{table} WHERE {column} = %s LIMIT {FEW + 1}) AS few"
        )
        row = self._connection.execute(few, (value,)).fetchone()
        if row is not None and row[0] <= FEW:
            return True
        return 2 * counted >= self._counted(msgspec.structs.replace(which, statuses=()))

    # ------------------------------------------------------------------ what is tried job by job

    def _in_streams(self, which: Filter, job: str) -> tuple[list[str], list[Any]]:
        if which.queue is None and which.task is None:
            return [], []
        clause = f"(SELECT x.stream FROM {self._sql.prefix}_job x WHERE x.id = {job}) = ANY (%s::text::integer[])"
        return [clause], [self._matching(which)]

    def _in_status(self, which: Filter, job: str) -> tuple[list[str], list[Any]]:
        if not which.statuses:
            return [], []
        p = self._sql.prefix
        clauses: list[str] = []
        values: list[Any] = []
        for status in which.statuses:
            for table, clause, given, _ in self._places(status):
                place = clause.replace("t.", "x.")
                mine = "x.seq = y.id" if place == "x.seq = x.id" else "x.id = y.id"
                clauses.append(
                    f"EXISTS (SELECT FROM {p}_job y JOIN {p}_{table} x ON x.stream = y.stream AND {mine}"
                    f" WHERE y.id = {job} AND {place})"
                )
                values.extend(given)
        return [f"({' OR '.join(clauses)})"], values

    def _residual(self, which: Filter, job: str, table: str = "", *, but: str = "") -> tuple[list[str], list[Any]]:
        """Return the clauses that no counter answers, without that on the column *but*.

        *job* is the candidate's id; *table* is where it is, if that is known.
        """
        p = self._sql.prefix
        clauses: list[str] = []
        values: list[Any] = []
        if which.tag is not None and but != "tag":
            clauses.append(f"EXISTS (SELECT FROM {p}_tag x WHERE x.tag = %s AND x.job_id = {job})")
            values.append(which.tag)
        for column, sign, value in (
            ("origin", "=", which.origin),
            ("batch_id", "=", which.batch),
            ("created_at", ">=", which.created_after),
            ("created_at", "<", which.created_before),
        ):
            if value is not None and column != but:
                mine = table == "job"
                clauses.append(
                    f"t.{column} {sign} %s"
                    if mine
                    else f"EXISTS (SELECT FROM {p}_job x WHERE x.id = {job} AND x.{column} {sign} %s)"
                )
                values.append(value)
        for column, sign, limit in (("worker", "=", which.worker), ("started_at", "<", which.started_before)):
            if limit is not None:
                clauses.append(f"({self._last(column, job, table)}) {sign} %s")
                values.append(limit)
        if which.error is not None:
            # A message may hold the escape of U+0000, which is JSON but no text of PostgreSQL's: it refuses all of the value for it.
            last = f"replace(({self._last('error', job, table)})::text, '\\u0000', '\\ufffd')::json"
            clauses.append(f"{last} ->> 'type' = %s")
            values.append(which.error)
        if which.fingerprint is not None:
            clauses.append(f"left(right(({self._last('error', job, table)})::text, {TAIL}), {LENGTH}) = %s")
            values.append(which.fingerprint)
        return clauses, values

    def _last(self, column: str, job: str, table: str) -> str:
        """Return an expression for *column* of a job's last attempt that has one."""
        p = self._sql.prefix
        places = {
            "done": f"SELECT x.{column} FROM {p}_job y JOIN {p}_done x ON x.stream = y.stream AND x.id = y.id"
            f" AND x.status IN ('completed', 'dead', 'cancelled') WHERE y.id = {job}",
            "running": f"SELECT x.{column} FROM {p}_running x WHERE x.id = {job}",
        }
        if column == "error":
            del places["running"]
        if table in ("done", "running", "ready", "blocked", "timer"):
            places = {name: f"SELECT t.{column}" for name in places if name == table}
        where = " AND x.error IS NOT NULL" if column == "error" else ""
        attempts = f"SELECT x.{column} FROM {p}_attempt x WHERE x.job_id = {job}{where} ORDER BY x.number DESC LIMIT 1"
        return f"coalesce({', '.join(f'({place})' for place in [*places.values(), attempts])})"
