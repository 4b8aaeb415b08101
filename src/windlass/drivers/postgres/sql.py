"""Every statement of the PostgreSQL driver, by name. ``{p}`` is the prefix of the tables, with its schema.

What writes jobs is in the functions of ``migrations/``; here is what reads, and the small change.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from windlass.drivers.postgres.observed import OBSERVED
from windlass.job import Record, Status
from windlass.lifecycle import TOTALS

CHANNEL = 63
"""The longest name that NOTIFY takes."""

COUNTERS = (
    *(s.value for s in Status),
    *(f"total_{name}" if name in ("dead", "cancelled") else name for name in TOTALS),
)
"""The columns of the counters: jobs by status, then totals."""

# Uses the primary key of every table; one job costs eight look-ups. A pending job's place is its id, or found by
# ready_again or blocked_job.
_RECORD = """
SELECT j.id, s.task, s.queue,
       CASE WHEN d.id IS NOT NULL THEN d.status
            WHEN r.id IS NOT NULL OR a.id IS NOT NULL OR b.id IS NOT NULL THEN 'pending'
            WHEN u.id IS NOT NULL THEN 'running'
            WHEN t.retrying THEN 'retrying'
            ELSE 'scheduled' END,
       s.priority, convert_to(j.payload::text, 'UTF8'),
       coalesce(d.attempt, r.attempt, a.attempt, b.attempt, u.attempt, t.attempt, 0),
       coalesce(d.failures, r.failures, a.failures, b.failures, u.failures, t.failures, 0),
       coalesce(d.crashes, r.crashes, a.crashes, b.crashes, u.crashes, t.crashes, 0),
       j.max_attempts, j.timeout,
       coalesce(d.run_at, r.run_at, a.run_at, b.run_at, u.run_at, t.run_at, j.created_at),
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
       coalesce(u.lease, 0), coalesce(u.cancel, false), convert_to(j.flow, 'UTF8'), convert_to(j.terms, 'UTF8'),
       (SELECT convert_to(n.text, 'UTF8') FROM {p}_note n WHERE n.job_id = j.id AND n.number = 0)
FROM {p}_job j
JOIN {p}_stream s ON s.id = j.stream
LEFT JOIN {p}_ready r ON r.stream = j.stream AND r.seq = j.id
LEFT JOIN {p}_ready a ON a.stream = j.stream AND a.id = j.id AND a.seq <> a.id
LEFT JOIN {p}_blocked b ON b.stream = j.stream AND b.id = j.id
LEFT JOIN {p}_running u ON u.id = j.id
LEFT JOIN {p}_timer t ON t.stream = j.stream AND t.retrying IN (false, true) AND t.id = j.id
LEFT JOIN {p}_done d ON d.stream = j.stream AND d.status IN ('completed', 'dead', 'cancelled') AND d.id = j.id
"""

# In the order of BatchRecord's fields.
_BATCH = """b.id, b.name, b.origin, convert_to(b.meta::text, 'UTF8'), b.parent, convert_to(b.callbacks::text, 'UTF8'),
            b.created_at, b.open,
            (b.total + coalesce((SELECT sum(a.total) FROM {p}_batch_add a WHERE a.batch_id = b.id), 0))::bigint, b.completed,
            b.dead, b.cancelled, b.children, b.fired, b.finished_at"""

# In the order of ScheduleRecord's fields.
_SCHEDULE = """s.name, convert_to(s.definition::text, 'UTF8'), s.revision, s.watermark, s.created_at, s.paused_at, s.fired,
               s.rows, s.jobs"""

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
    # The same for a job with one key, and no job if it is held: then the id is 0.
    "enqueue_held": """WITH known AS MATERIALIZED (
                           SELECT pg_current_xact_id(), (
                               SELECT s.id FROM {p}_stream s
                               WHERE s.id = $1::integer AND s.queue = $2 AND s.task = $3 AND s.priority = $4::smallint
                           ) AS stream
                       ), drawn AS MATERIALIZED (
                           SELECT nextval('{p}_seq') AS id, stream,
                                  extract(epoch FROM clock_timestamp())::double precision + (SELECT shift FROM {p}_meta) AS now
                           FROM known WHERE stream IS NOT NULL
                       ), held AS (
                           INSERT INTO {p}_hold (key, job_id) SELECT $8, id FROM drawn ON CONFLICT DO NOTHING RETURNING job_id
                       ), new AS MATERIALIZED (
                           SELECT d.id, d.stream, d.now FROM drawn d JOIN held h ON h.job_id = d.id
                       ), job AS (
                           INSERT INTO {p}_job (id, created_at, timeout, stream, max_attempts, payload, flags, idempotency_key,
                                                flow)
                           SELECT id, now, $7::double precision, stream, $6::integer, $5::json, $9::smallint, $10, $11 FROM new
                       ), pending AS (
                           INSERT INTO {p}_ready (seq, id, stream, flags) SELECT id, id, stream, $9::smallint FROM new
                       ), counted AS (
                           INSERT INTO {p}_delta (stream, second, pending, enqueued)
                           SELECT stream, floor(now), 1, 1 FROM new
                       )
                       SELECT d.now, coalesce(n.id, 0) AS id FROM drawn d LEFT JOIN new n ON n.id = d.id""",
    # Uses stream_name.
    "stream": "SELECT id FROM {p}_stream WHERE queue = %s AND task = %s AND priority = %s ORDER BY id LIMIT 1",
    "enqueue": "SELECT now, ids FROM {p}_enqueue_v1(%s::text::json, %s, NULL)",
    "enqueue_tied": "SELECT now, ids, others, refused, broken, missing FROM {p}_enqueue_tied_v1(%s::text::json, %s, true)",
    "enqueue_then": "SELECT now FROM {p}_enqueue_tied_v1(%s::text::json, %s, false)",
    "tie": """SELECT stored, ids, others, refused, broken, missing
              FROM {p}_tie_v1(%s::text::json, %s::text::bigint[], true, %s)""",
    "draw": "SELECT now, first, ids, streams FROM {p}_draw_v1(%s, %s::text::json)",
    "count_new": """INSERT INTO {p}_delta (stream, second, scheduled, pending, enqueued)
                    SELECT d.stream, %s, d.scheduled, d.pending, d.enqueued
                    FROM json_to_recordset(%s::text::json)
                         AS d (stream integer, scheduled integer, pending integer, enqueued integer)""",
    "exchange": """SELECT * FROM {p}_exchange_v1(
                       %s, %s::text::bigint[], %s::text::bigint[], %s::text::double precision[], %s::text::json,
                       %s::text::bigint[], %s::text::json, %s::text::json, %s::text::bigint[], %s::text::bigint[], %s, %s,
                       %s, %s::double precision, %s::text[], %s::text::json, %s::text[], %s::text::integer[],
                       %s::text::bigint[], %s::text::bigint[], %s, %s::double precision)""",
    # Rows: 0 = the move at this position was not made, 1 = it was another, as the third has the job's key.
    "move": "SELECT what, n, id FROM {p}_change_v1(%s::text::json, {p}_now_v1(), %s)",
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
    "there": "SELECT id FROM {p}_job WHERE id = ANY (%s::text::bigint[])",
    "record_by_id": _RECORD + "WHERE j.id = %s",
    # In the order of the ids, newest first.
    "records": _RECORD + "WHERE j.id = ANY (%s::text::bigint[]) ORDER BY j.id DESC",
    "record_by_hold": _RECORD
    + "WHERE j.id = (SELECT h.job_id FROM {p}_hold h WHERE h.key = %s AND (h.until IS NULL OR h.until > {p}_now_v1()))",
    "set_gate": "SELECT {p}_set_gate_v1(%s, %s, %s, %s, %s, %s, %s)",
    "drop_gate": "SELECT {p}_drop_gate_v1(%s)",
    "passages": """SELECT g.key, g.most, g.per, g.burst, g.weight, g.pinned, g.used,
                          (SELECT count(*) FROM {p}_blocked b WHERE b.key = g.key), {p}_free_at_v1(g, g.weight)
                   FROM {p}_gate g WHERE %s::text[] IS NULL OR g.key = ANY (%s::text[]) ORDER BY g.key LIMIT 1000""",
    # Reads the running table, as orphans does.
    "holders": "SELECT u.id FROM {p}_running u WHERE u.slots ? %s ORDER BY u.id LIMIT %s",
    "blocked_by": """SELECT b.key FROM {p}_job j JOIN {p}_blocked b ON b.stream = j.stream AND b.id = j.id
                     WHERE j.id = %s AND b.key NOT LIKE 'fair:%%'""",
    # Those that nobody uses, waits for or has set; what is locked is in use.
    "forget_gates": """DELETE FROM {p}_gate WHERE key IN (
                           SELECT g.key FROM {p}_gate g
                           WHERE NOT g.wide AND NOT g.pinned AND g.used = 0 AND g.arrival < {p}_now_v1()
                             AND NOT EXISTS (SELECT FROM {p}_blocked b WHERE b.key = g.key)
                           LIMIT 1000 FOR UPDATE SKIP LOCKED)""",
    # Windows that have ended.
    "forget_holds": """DELETE FROM {p}_hold WHERE key IN (
                           SELECT h.key FROM {p}_hold h WHERE h.until <= {p}_now_v1() LIMIT 1000 FOR UPDATE SKIP LOCKED)""",
    "forget_ears": "DELETE FROM {p}_ear WHERE until < {p}_now_v1() - 3600",
    "open_batch": """INSERT INTO {p}_batch (created_at, name, origin, meta, parent, callbacks, total, completed, dead, cancelled,
                                            children, open, fired)
                     VALUES ({p}_now_v1(), %s, %s, %s::text::json, %s, %s::text::json, 0, 0, 0, 0, 0, true, '{}')
                     RETURNING id""",
    "adopt_batch": "UPDATE {p}_batch SET children = children + 1 WHERE id = %s AND finished_at IS NULL",
    "lock_parent": """SELECT FROM {p}_batch WHERE id = (SELECT b.parent FROM {p}_batch b WHERE b.id = %s)
                      FOR NO KEY UPDATE""",
    "lock_batch": "SELECT FROM {p}_batch WHERE id = %s FOR UPDATE",
    # Whoever decides has seen all that made it ripe.
    "fold_batch": """WITH added AS (DELETE FROM {p}_batch_add WHERE batch_id = %s RETURNING total)
                     UPDATE {p}_batch SET total = total + coalesce((SELECT sum(total) FROM added), 0), ripe = NULL
                     WHERE id = %s""",
    "write_batch": f"UPDATE {{p}}_batch b SET open = %s, fired = %s, finished_at = %s WHERE id = %s RETURNING {_BATCH}",
    "delete_batch": "DELETE FROM {p}_batch WHERE id = %s",
    "release_batch": """UPDATE {p}_batch SET children = children - 1, ripe = CASE WHEN children <= 1 THEN true ELSE ripe END
                        WHERE id = %s""",
    "batches_by_id": f"SELECT {_BATCH} FROM {{p}}_batch b WHERE b.id = ANY (%s::bigint[]) ORDER BY b.id",
    "batches": f"""SELECT {_BATCH} FROM {{p}}_batch b WHERE %s::bigint IS NULL OR b.id < %s::bigint
                   ORDER BY b.id DESC LIMIT %s""",
    "ripe": "SELECT id FROM {p}_batch WHERE ripe ORDER BY id LIMIT %s",
    "lock_schedule": """SELECT set_config('idle_in_transaction_session_timeout', %s, true),
                               pg_advisory_xact_lock(hashtextextended(%s, 0))""",
    "schedules": f"SELECT {_SCHEDULE} FROM {{p}}_schedule s WHERE %s::text[] IS NULL OR s.name = ANY (%s::text[]) ORDER BY s.name",
    # Uses the primary keys of both.
    "live_jobs": """SELECT {p}_now_v1(), ARRAY(
                        SELECT j.id FROM {p}_job j
                        WHERE j.id = ANY (%s::bigint[])
                          AND NOT EXISTS (SELECT FROM {p}_done d WHERE d.stream = j.stream
                                          AND d.status IN ('completed', 'dead', 'cancelled') AND d.id = j.id))""",
    "put_schedule": """INSERT INTO {p}_schedule AS s
                           (name, watermark, created_at, paused_at, revision, fired, rows, definition, jobs)
                       SELECT g.name, watermark, created_at, paused_at, revision, fired, rows, definition::json, jobs
                       FROM json_to_record(%s::text::json) AS g (
                           name text, watermark double precision, created_at double precision,
                           paused_at double precision, revision bigint, fired bigint, rows bigint, definition text, jobs json)
                       ON CONFLICT (name) DO UPDATE SET
                           watermark = excluded.watermark, created_at = excluded.created_at, paused_at = excluded.paused_at,
                           revision = excluded.revision, fired = excluded.fired, rows = excluded.rows,
                           definition = excluded.definition, jobs = excluded.jobs""",
    "put_ticks": """WITH old AS (DELETE FROM {p}_tick WHERE schedule = %s AND number <= %s)
                    INSERT INTO {p}_tick (number, tick, at, job_id, other, count, first, schedule, outcome, queue)
                    SELECT number, tick, at, job_id, other, count, first, %s, outcome, queue
                    FROM json_to_recordset(%s::text::json) AS g (
                        number bigint, tick double precision, at double precision, job_id bigint, other bigint,
                        count bigint, first double precision, outcome text, queue text)""",
    "delete_schedule": """WITH old AS (DELETE FROM {p}_tick WHERE schedule = %s)
                          DELETE FROM {p}_schedule WHERE name = %s""",
    "raise_stamp": "WITH raised AS (UPDATE {p}_meta SET stamp = stamp + 1) SELECT {p}_ring_v1(false)",
    "ticks": """SELECT number, tick, at, outcome, queue, job_id, other, count, first FROM {p}_tick
                WHERE schedule = %s AND number < %s ORDER BY number DESC LIMIT %s""",
    "note": "SELECT {p}_note_v1(%s::text::json, %s)",
    "lines": "SELECT number, at, text FROM {p}_note WHERE job_id = %s AND number > %s AND number > 0 ORDER BY number",
    "publish": "SELECT pg_notify(%s, piece) FROM unnest(%s::text[]) AS piece",
    "listen_until": """INSERT INTO {p}_ear (id, until) VALUES (%s, {p}_now_v1() + %s)
                       ON CONFLICT (id) DO UPDATE SET until = excluded.until""",
    "listen_no_more": "DELETE FROM {p}_ear WHERE id = %s",
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
    "oldest": """SELECT min(since) FROM (
                 SELECT min(head.since) AS since
                 FROM {p}_stream s CROSS JOIN LATERAL (
                     SELECT coalesce(r.run_at, (SELECT j.created_at FROM {p}_job j WHERE j.id = r.id)) AS since
                     FROM {p}_ready r WHERE r.stream = s.id ORDER BY r.seq LIMIT 1) AS head
                 WHERE s.queue = %s
                 UNION ALL
                 SELECT min((SELECT coalesce(b.run_at, (SELECT j.created_at FROM {p}_job j WHERE j.id = b.id))
                             FROM {p}_blocked b WHERE b.key = t.key AND b.stream = t.stream ORDER BY b.seq LIMIT 1))
                 FROM {p}_turn t JOIN {p}_stream s ON s.id = t.stream WHERE s.queue = %s) AS both_""",
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
        self.news = f"{schema}.{prefix} news"
        if len(self.news) > CHANNEL:
            self.news = f"{self.channel[: CHANNEL - 5]} news"
        for name, statement in (_STATEMENTS | OBSERVED).items():
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
