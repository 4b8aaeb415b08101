"""Every statement of the PostgreSQL driver, by name. ``{p}`` is the prefix of the tables, with its schema.

What writes jobs is in the functions of ``migrations/``; here is what reads, and the small change.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from windlass.job import Record, Status
from windlass.lifecycle import TOTALS

CHANNEL = 63
"""The longest name that NOTIFY takes."""

COUNTERS = (
    *(s.value for s in Status),
    *(f"total_{name}" if name in ("dead", "cancelled") else name for name in TOTALS),
)
"""The columns of the counters: jobs by status, then totals."""

# Uses the primary key of every table; one job costs six look-ups. A pending job's place is its id, or found by
# ready_again.
_RECORD = """
SELECT j.id, s.task, s.queue,
       CASE WHEN d.id IS NOT NULL THEN d.status
            WHEN r.id IS NOT NULL OR a.id IS NOT NULL THEN 'pending'
            WHEN u.id IS NOT NULL THEN 'running'
            WHEN t.retrying THEN 'retrying'
            ELSE 'scheduled' END,
       s.priority, convert_to(j.payload::text, 'UTF8'),
       coalesce(d.attempt, r.attempt, a.attempt, u.attempt, t.attempt, 0),
       coalesce(d.failures, r.failures, a.failures, u.failures, t.failures, 0),
       coalesce(d.crashes, r.crashes, a.crashes, u.crashes, t.crashes, 0),
       j.max_attempts, j.timeout,
       coalesce(d.run_at, r.run_at, a.run_at, u.run_at, t.run_at, j.created_at),
       j.created_at,
       CASE WHEN d.outcome IS NOT NULL THEN d.started_at
            WHEN u.id IS NOT NULL THEN u.started_at
            ELSE (SELECT p.started_at FROM {p}_attempt p WHERE p.job_id = j.id ORDER BY p.number DESC LIMIT 1) END,
       d.finished_at,
       convert_to(coalesce(d.error, (SELECT p.error FROM {p}_attempt p WHERE p.job_id = j.id AND p.error IS NOT NULL
                                     ORDER BY p.number DESC LIMIT 1))::text, 'UTF8'),
       convert_to(d.result::text, 'UTF8'),
       j.tags, j.origin, convert_to(j.meta::text, 'UTF8'), j.batch_id, j.tick, j.idempotency_key,
       CASE WHEN d.outcome IS NOT NULL THEN d.worker
            WHEN u.id IS NOT NULL THEN u.worker
            ELSE (SELECT p.worker FROM {p}_attempt p WHERE p.job_id = j.id ORDER BY p.number DESC LIMIT 1) END,
       coalesce(u.lease, 0), coalesce(u.cancel, false)
FROM {p}_job j
JOIN {p}_stream s ON s.id = j.stream
LEFT JOIN {p}_ready r ON r.stream = j.stream AND r.seq = j.id
LEFT JOIN {p}_ready a ON a.stream = j.stream AND a.id = j.id AND a.seq <> a.id
LEFT JOIN {p}_running u ON u.id = j.id
LEFT JOIN {p}_timer t ON t.stream = j.stream AND t.retrying IN (false, true) AND t.id = j.id
LEFT JOIN {p}_done d ON d.stream = j.stream AND d.status IN ('completed', 'dead', 'cancelled') AND d.id = j.id
"""

_STATEMENTS = {
    "now": "SELECT {p}_now_v1()",
    "shift": "UPDATE {p}_meta SET shift = shift + %s",
    "meta": "SELECT version, store FROM {p}_meta",
    "ring": "SELECT {p}_ring_v1(true)",
    # One plain job, as one statement of its own: two thirds of what a function costs the server. For libpq itself, so with
    # its own kind of placeholders. The transaction gets its number before it draws a place (see the function for many); the
    # stream is looked up by its primary key, and nothing is stored if it is not the one that is meant.
    "enqueue_one": """WITH known AS MATERIALIZED (
                          SELECT pg_current_xact_id(), (
                              SELECT s.id FROM {p}_stream s
                              WHERE s.id = $1::integer AND s.queue = $2 AND s.task = $3 AND s.priority = $4::smallint
                          ) AS stream
                      ), new AS MATERIALIZED (
                          SELECT nextval('{p}_seq') AS id, stream,
                                 extract(epoch FROM clock_timestamp())::double precision + (SELECT shift FROM {p}_meta) AS now
                          FROM known WHERE stream IS NOT NULL
                      ), job AS (
                          INSERT INTO {p}_job (id, created_at, timeout, stream, max_attempts, payload)
                          SELECT id, now, $7::double precision, stream, $6::integer, $5::json FROM new
                      ), pending AS (
                          INSERT INTO {p}_ready (seq, id, stream) SELECT id, id, stream FROM new
                      ), counted AS (
                          INSERT INTO {p}_delta (stream, second, pending, enqueued) SELECT stream, floor(now), 1, 1 FROM new
                      )
                      SELECT now, id FROM new""",
    # Uses stream_name.
    "stream": "SELECT id FROM {p}_stream WHERE queue = %s AND task = %s AND priority = %s ORDER BY id LIMIT 1",
    "enqueue": "SELECT now, ids FROM {p}_enqueue_v1(%s::text::json, %s)",
    "draw": "SELECT now, first, ids, streams FROM {p}_draw_v1(%s, %s::text::json)",
    "count_new": """INSERT INTO {p}_delta (stream, second, scheduled, pending, enqueued)
                    SELECT d.stream, %s, d.scheduled, d.pending, d.enqueued
                    FROM json_to_recordset(%s::text::json)
                         AS d (stream integer, scheduled integer, pending integer, enqueued integer)""",
    "exchange": """SELECT * FROM {p}_exchange_v1(
                       %s, %s::text::bigint[], %s::text::bigint[], %s::text::double precision[], %s::text::json,
                       %s::text::json, %s::text::bigint[], %s::text::bigint[], %s, %s, %s, %s::double precision,
                       %s::text[], %s::text[], %s::text::integer[], %s::text::bigint[], %s::text::bigint[], %s,
                       %s::double precision)""",
    "move": "SELECT {p}_move_v1(%s::text::json, {p}_now_v1(), %s)",
    # One snapshot for all of it: see marks.py. Each stream's part is an index scan that ends at its first row.
    "survey": """SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint, m.rewind,
                        (SELECT t.run_at FROM {p}_timer t WHERE t.run_at > %s ORDER BY t.run_at LIMIT 1),
                        ARRAY(SELECT (SELECT r.seq FROM {p}_ready r
                                      WHERE r.stream = w.stream AND r.seq > w.safe AND r.seq <= w.mark
                                      ORDER BY r.seq LIMIT 1)
                              FROM unnest(%s::text::integer[], %s::text::bigint[], %s::text::bigint[])
                                   WITH ORDINALITY AS w (stream, safe, mark, n) ORDER BY w.n)
                 FROM {p}_meta m""",
    "extend": "UPDATE {p}_running SET deadline = {p}_now_v1() + %s WHERE id = %s AND lease = %s",
    # What was written although its answer got lost: the instant of the end is as good as a signature.
    "written": """SELECT g.id, g.lease
                  FROM unnest(%s::text::bigint[], %s::text::bigint[], %s::text::double precision[])
                       AS g (id, lease, finished_at)
                  WHERE EXISTS (SELECT FROM {p}_job j
                                JOIN {p}_done d ON d.stream = j.stream AND d.id = j.id
                                     AND d.status IN ('completed', 'dead', 'cancelled')
                                WHERE j.id = g.id AND d.finished_at = g.finished_at AND d.worker = %s)
                     OR EXISTS (SELECT FROM {p}_attempt a
                                WHERE a.job_id = g.id AND a.finished_at = g.finished_at AND a.worker = %s)""",
    "record_by_id": _RECORD + "WHERE j.id = %s",
    # In the order of the ids, newest first.
    "records": _RECORD + "WHERE j.id = ANY (%s::text::bigint[]) ORDER BY j.id DESC",
    # The sum keeps the planner from walking down the primary key until it meets the key.
    "record_by_key": _RECORD + "WHERE j.id = (SELECT max(k.id + 0) FROM {p}_job k WHERE k.idempotency_key = %s)",
    "beat": """INSERT INTO {p}_worker AS w (id, beat_at, lost_after, status, card)
               VALUES (%s, {p}_now_v1(), %s, %s, %s::text::json)
               ON CONFLICT (id) DO UPDATE SET beat_at = excluded.beat_at, lost_after = excluded.lost_after,
                   status = excluded.status, card = excluded.card
               WHERE w.status NOT IN ('lost', 'stopped')
               RETURNING id""",
    "retire": "UPDATE {p}_worker SET status = 'stopped' WHERE id = %s AND status <> 'lost'",
    "workers": "SELECT beat_at, lost_after, status, card::text FROM {p}_worker ORDER BY id",
    # Locked in one order, as others may bury the same.
    "bury": """UPDATE {p}_worker SET status = 'lost'
               WHERE id IN (SELECT w.id FROM {p}_worker w
                            WHERE w.status IN ('running', 'stopping')
                              AND (w.id = ANY (%s::text[]) OR %s AND w.beat_at + w.lost_after < {p}_now_v1())
                            ORDER BY w.id FOR UPDATE)
               RETURNING id""",
    # Reads the running table, which holds what the fleet has in hand and no more.
    "orphans": """SELECT u.id FROM {p}_running u LEFT JOIN {p}_worker w ON w.id = u.worker
                  WHERE CASE WHEN u.deadline IS NOT NULL THEN u.deadline <= {p}_now_v1()
                             ELSE coalesce(w.status, 'lost') IN ('lost', 'stopped') END
                  LIMIT %s""",
    "pause": "INSERT INTO {p}_pause VALUES (%s, %s) ON CONFLICT DO NOTHING",
    "resume": "DELETE FROM {p}_pause WHERE kind = %s AND name = %s",
    "pauses": "SELECT kind, name FROM {p}_pause",
    "purge": "SELECT {p}_purge_v1(%s, {p}_now_v1() - %s, %s, %s)",
    "fold": "SELECT {p}_fold_v1()",
    # What somebody else is at, these pass over: it will be there next time, or be gone.
    "trim_pulse": """DELETE FROM {p}_pulse
                     WHERE (second, queue) IN (SELECT p.second, p.queue FROM {p}_pulse p
                                               WHERE p.second < {p}_now_v1() - %s FOR UPDATE SKIP LOCKED)""",
    "forget_workers": """DELETE FROM {p}_worker
                         WHERE id IN (SELECT w.id FROM {p}_worker w
                                      WHERE w.status IN ('lost', 'stopped') AND w.beat_at < {p}_now_v1() - %s
                                        AND NOT EXISTS (SELECT FROM {p}_running u WHERE u.worker = w.id)
                                      FOR UPDATE SKIP LOCKED)""",
    "forget_signals": """DELETE FROM {p}_signal
                         WHERE (worker, job_id, lease, cancel) IN (
                             SELECT g.worker, g.job_id, g.lease, g.cancel FROM {p}_signal g
                             WHERE NOT EXISTS (SELECT FROM {p}_worker w WHERE w.id = g.worker)
                             FOR UPDATE SKIP LOCKED)""",
    "history": """SELECT number, worker, started_at, finished_at, outcome, convert_to(error::text, 'UTF8')
                  FROM {p}_attempt WHERE job_id = %s
                  UNION ALL
                  SELECT d.attempt, d.worker, d.started_at, d.finished_at, d.outcome, convert_to(d.error::text, 'UTF8')
                  FROM {p}_job j JOIN {p}_done d
                       ON d.stream = j.stream AND d.id = j.id AND d.status IN ('completed', 'dead', 'cancelled')
                  WHERE j.id = %s AND d.outcome IS NOT NULL
                  ORDER BY 1""",
    "streams": "SELECT id, queue, task FROM {p}_stream",
    "since": "SELECT {p}_since_v1(%s)",
    # The first place of each stream that has a job is the oldest of it.
    "oldest": """SELECT min(head.since)
                 FROM {p}_stream s CROSS JOIN LATERAL (
                     SELECT coalesce(r.run_at, (SELECT j.created_at FROM {p}_job j WHERE j.id = r.id)) AS since
                     FROM {p}_ready r WHERE r.stream = s.id ORDER BY r.seq LIMIT 1) AS head
                 WHERE s.queue = %s""",
    # Folded seconds, and those that are not folded yet.
    "rates": """SELECT second, sum(processed)::bigint, sum(failed)::bigint FROM (
                    SELECT second, processed, failed, queue FROM {p}_pulse
                    UNION ALL
                    SELECT d.second, coalesce(d.processed, 0), coalesce(d.failed, 0), s.queue
                    FROM {p}_delta d JOIN {p}_stream s ON s.id = d.stream WHERE d.processed > 0 OR d.failed > 0
                ) AS both_
                WHERE second >= %s AND (%s::text IS NULL OR queue = %s) GROUP BY second ORDER BY second""",
}


class Sql:
    """The statements with their prefix filled in."""

    def __init__(self, schema: str, prefix: str) -> None:
        self.schema, self.bare = schema, prefix
        self.prefix = f'"{schema}".{prefix}'
        self.channel = f"{schema}.{prefix}"
        if len(self.channel) > CHANNEL:
            self.channel = f"{prefix}.{sha256(schema.encode()).hexdigest()[: CHANNEL - 1 - len(prefix)]}"
        for name, statement in _STATEMENTS.items():
            setattr(self, name, " ".join(statement.replace("{p}", self.prefix).split()))
        sums = ", ".join(f"coalesce(sum(c.{name}), 0)::bigint" for name in COUNTERS)
        columns = ", ".join(COUNTERS)
        self.tallies = (
            f"SELECT s.queue, s.task, {sums} FROM (SELECT stream, {columns} FROM {self.prefix}_counter UNION ALL "
            f"SELECT stream, {columns} FROM {self.prefix}_delta) AS c JOIN {self.prefix}_stream s ON s.id = c.stream "
            "GROUP BY s.queue, s.task"
        )

    def __getattr__(self, name: str) -> str:
        """Tell type checkers that statements are text."""
        raise AttributeError(name)

    @staticmethod
    def record(row: tuple[Any, ...]) -> Record:
        """Make a record of a row of the record statements."""
        return Record(*(*row[:3], Status(row[3]), *row[4:]))
