"""The statements of the SQLite driver, by name. ``{p}`` is the prefix of the tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from windlass.drivers.sqlite.observed import OBSERVED
from windlass.drivers.sqlite.statements import FLOW, GLANCE
from windlass.job import Record, Status

if TYPE_CHECKING:
    import sqlite3

# Uses the primary key of every table; one job costs six look-ups.
_RECORD = """
SELECT j.id, j.task, j.queue,
       CASE WHEN d.id IS NOT NULL THEN d.status
            WHEN r.id IS NOT NULL OR b.id IS NOT NULL THEN 'pending'
            WHEN u.id IS NOT NULL THEN 'running'
            WHEN t.retrying THEN 'retrying'
            ELSE 'scheduled' END,
       j.priority, CAST(j.payload AS BLOB),
       coalesce(d.attempt, r.attempt, u.attempt, t.attempt, b.attempt),
       coalesce(d.failures, r.failures, u.failures, t.failures, b.failures),
       coalesce(d.crashes, r.crashes, u.crashes, t.crashes, b.crashes),
       j.max_attempts, j.timeout,
       coalesce(d.run_at, r.run_at, u.run_at, t.run_at, b.run_at),
       j.created_at,
       CASE WHEN d.outcome IS NOT NULL THEN d.started_at
            WHEN u.id IS NOT NULL THEN u.started_at
            ELSE (SELECT a.started_at FROM {p}_attempt a WHERE a.job_id = j.id ORDER BY a.number DESC LIMIT 1) END,
       d.finished_at,
       CAST(coalesce(d.error, (SELECT a.error FROM {p}_attempt a
                               WHERE a.job_id = j.id AND a.error IS NOT NULL
                               ORDER BY a.number DESC LIMIT 1)) AS BLOB),
       CAST(d.result AS BLOB),
       j.tags, j.origin, CAST(j.meta AS BLOB), j.batch_id, j.tick, j.idempotency_key,
       CASE WHEN d.outcome IS NOT NULL THEN d.worker
            WHEN u.id IS NOT NULL THEN u.worker
            ELSE (SELECT a.worker FROM {p}_attempt a WHERE a.job_id = j.id ORDER BY a.number DESC LIMIT 1) END,
       coalesce(u.lease, 0), coalesce(u.cancel, 0), CAST(j.flow AS BLOB), CAST(j.terms AS BLOB),
       (SELECT CAST(n.text AS BLOB) FROM {p}_note n WHERE n.job_id = j.id AND n.number = 0)
FROM {p}_job j
LEFT JOIN {p}_ready r ON r.queue = j.queue AND r.task = j.task AND r.rank = -j.priority AND r.seq = j.seq
LEFT JOIN {p}_running u ON u.id = j.id
LEFT JOIN {p}_timer t ON t.id = j.id
LEFT JOIN {p}_done d ON d.id = j.id
LEFT JOIN {p}_blocked b ON b.id = j.id
"""

# From queue to queue and from task to task by the primary key, a look-up each, whatever is in them. Not by
# ``(queue, task) > (…)``: in a correlated subquery SQLite uses only the first column of that, and reads the whole queue.
_STREAMS = """
WITH RECURSIVE
lane (queue) AS (
    SELECT min(queue) FROM {p}_ready
    UNION ALL
    SELECT (SELECT min(r.queue) FROM {p}_ready r WHERE r.queue > lane.queue) FROM lane WHERE lane.queue IS NOT NULL
),
stream (queue, task) AS (
    SELECT queue, (SELECT min(r.task) FROM {p}_ready r WHERE r.queue = lane.queue) FROM lane WHERE queue IS NOT NULL
    UNION ALL
    SELECT queue, (SELECT min(r.task) FROM {p}_ready r WHERE r.queue = stream.queue AND r.task > stream.task)
    FROM stream WHERE task IS NOT NULL
)
SELECT queue, task FROM stream WHERE task IS NOT NULL
"""

# Uses the primary key; reads as many rows as are taken.
_HEAD = """
SELECT r.rank, r.seq, r.id, r.task, r.queue, j.priority, CAST(j.payload AS BLOB),
       r.attempt, r.failures, r.crashes, j.max_attempts, j.timeout, r.run_at, j.created_at,
       CASE WHEN r.attempt THEN (SELECT CAST(a.error AS BLOB) FROM {p}_attempt a
                                 WHERE a.job_id = r.id AND a.error IS NOT NULL
                                 ORDER BY a.number DESC LIMIT 1) END,
       j.tags, j.origin, CAST(j.meta AS BLOB), j.batch_id, j.tick, j.idempotency_key,
       CAST(j.flow AS BLOB), CAST(j.terms AS BLOB)
FROM {p}_ready r JOIN {p}_job j ON j.id = r.id
WHERE r.queue = ? AND r.task = ?
ORDER BY r.rank, r.seq
LIMIT ? OFFSET ?
"""

_STATEMENTS = {
    "counters": "SELECT job, lease, seq, shift FROM {p}_counter WHERE queue = '' AND task = ''",
    "update_counters": "UPDATE {p}_counter SET job = ?, lease = ?, seq = ? WHERE queue = '' AND task = ''",
    "shift": "UPDATE {p}_counter SET shift = shift + ? WHERE queue = '' AND task = ''",
    # In a caller's transaction the counters are drawn and written at once.
    "draw": """UPDATE {p}_counter SET job = job + ?, seq = seq + ? WHERE queue = '' AND task = ''
               RETURNING job, seq, shift""",
    "insert_job": "INSERT INTO {p}_job VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    # Most jobs have none of the rest, and binding nulls is not free.
    "insert_plain_job": """INSERT INTO {p}_job
                               (id, task, queue, priority, payload, max_attempts, timeout, created_at, seq)
                           VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)""",
    "insert_tag": "INSERT INTO {p}_tag VALUES (?, ?)",
    "insert_ready": "INSERT INTO {p}_ready VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    # The jobs just inserted, less those that wait for their time; in the order of their ids.
    "insert_new_ready": """INSERT INTO {p}_ready
                           SELECT queue, task, -priority, seq, id, created_at, 0, 0, 0 FROM {p}_job
                           WHERE id BETWEEN ? AND ?
                           AND id NOT IN (SELECT id FROM {p}_timer WHERE id BETWEEN ? AND ?)""",
    "place": "UPDATE {p}_job SET seq = ? WHERE id = ?",
    "insert_timer": "INSERT INTO {p}_timer VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    "insert_done": "INSERT INTO {p}_done VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "insert_attempt": "INSERT INTO {p}_attempt VALUES (?, ?, ?, ?, ?, ?, ?)",
    "insert_signal": "INSERT OR IGNORE INTO {p}_signal VALUES (?, ?, ?, ?)",
    "live": "SELECT id, lease, seq, slots FROM {p}_running WHERE id IN (SELECT value FROM json_each(?))",
    "start": """UPDATE {p}_running SET started_at = ?, attempt = attempt + 1
                WHERE id IN (SELECT value FROM json_each(?)) AND started_at IS NULL""",
    "lease": "INSERT INTO {p}_running VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?)",
    "delete_ready": "DELETE FROM {p}_ready WHERE queue = ? AND task = ? AND rank = ? AND seq = ?",
    "delete_running": "DELETE FROM {p}_running WHERE id IN (SELECT value FROM json_each(?))",
    "delete_timer": "DELETE FROM {p}_timer WHERE id IN (SELECT value FROM json_each(?))",
    "glance": GLANCE,
    "next_due": "SELECT min(run_at) FROM {p}_timer",
    "due": """SELECT t.id, t.queue, t.task, j.priority, t.run_at, t.retrying, t.attempt, t.failures, t.crashes,
                     CAST(j.flow AS BLOB), j.created_at
              FROM {p}_timer t JOIN {p}_job j ON j.id = t.id
              WHERE t.run_at <= ? ORDER BY t.run_at, t.id LIMIT ?""",
    "worker_status": "SELECT status FROM {p}_worker WHERE id = ?",
    "signals": "SELECT job_id, lease, cancel FROM {p}_signal WHERE worker = ?",
    "delete_signals": "DELETE FROM {p}_signal WHERE worker = ?",
    "bells": "SELECT bell FROM {p}_worker WHERE status IN ('running', 'stopping') AND bell != ''",
    "record_by_id": _RECORD + "WHERE j.id = ?",
    "records": _RECORD + "WHERE j.id IN (SELECT value FROM json_each(?)) ORDER BY j.id DESC",
    "record_by_hold": _RECORD
    + "WHERE j.id = (SELECT job_id FROM {p}_hold WHERE key = ? AND (until IS NULL OR until > ?))",
    "request_cancel": "UPDATE {p}_running SET cancel = 1 WHERE id = ?",
    "extend": "UPDATE {p}_running SET deadline = ? WHERE id = ? AND lease = ?",
    "seq": "SELECT seq FROM {p}_job WHERE id = ?",
    "take_timer": "DELETE FROM {p}_timer WHERE id = ?",
    "take_running": "DELETE FROM {p}_running WHERE id = ? RETURNING seq, slots",
    "take_done": "DELETE FROM {p}_done WHERE id = ?",
    "archive": """INSERT INTO {p}_attempt SELECT id, attempt, worker, started_at, finished_at, outcome, error
                  FROM {p}_done WHERE id = ? AND outcome IS NOT NULL""",
    "raise_attempts": "UPDATE {p}_job SET max_attempts = ? WHERE id = ?",
    "update": "UPDATE {p}_job SET payload = ?, max_attempts = ?, timeout = ?, meta = ?, terms = ? WHERE id = ?",
    "pause": "INSERT OR IGNORE INTO {p}_pause VALUES (?, ?)",
    "resume": "DELETE FROM {p}_pause WHERE kind = ? AND name = ?",
    "pauses": "SELECT kind, name FROM {p}_pause",
    "beat": """INSERT INTO {p}_worker VALUES (?, ?, ?, ?, ?, ?)
               ON CONFLICT (id) DO UPDATE SET beat_at = excluded.beat_at, lost_after = excluded.lost_after,
                   status = excluded.status, bell = excluded.bell, card = excluded.card""",
    "retire": "UPDATE {p}_worker SET status = 'stopped', bell = '' WHERE id = ? AND status != 'lost'",
    "workers": "SELECT id, beat_at, lost_after, status, bell, card FROM {p}_worker ORDER BY id",
    "bury": "UPDATE {p}_worker SET status = 'lost', bell = '' WHERE id = ?",
    "overdue": """SELECT id FROM {p}_worker
                  WHERE status IN ('running', 'stopping') AND beat_at + lost_after < ?""",
    "alive": "SELECT id FROM {p}_worker WHERE id = ? AND status IN ('running', 'stopping')",
    "forget_workers": """DELETE FROM {p}_worker WHERE status IN ('lost', 'stopped') AND beat_at < ?
                         AND id NOT IN (SELECT worker FROM {p}_running)""",
    "forget_signals": "DELETE FROM {p}_signal WHERE worker NOT IN (SELECT id FROM {p}_worker)",
    # Reads the running table, which holds what the fleet has in hand and no more.
    "orphans": """SELECT u.id FROM {p}_running u LEFT JOIN {p}_worker w ON w.id = u.worker
                  WHERE CASE WHEN u.deadline IS NOT NULL THEN u.deadline <= ?
                             ELSE coalesce(w.status, 'lost') IN ('lost', 'stopped') END
                  LIMIT ?""",
    "history": """SELECT number, worker, started_at, finished_at, outcome, error FROM {p}_attempt WHERE job_id = ?
                  UNION ALL
                  SELECT attempt, worker, started_at, finished_at, outcome, error FROM {p}_done
                  WHERE id = ? AND outcome IS NOT NULL
                  ORDER BY number""",
    "add_pulse": """INSERT INTO {p}_pulse VALUES (?, ?, ?, ?)
                    ON CONFLICT (second, queue) DO UPDATE SET processed = processed + excluded.processed,
                        failed = failed + excluded.failed""",
    "rates": """SELECT second, sum(processed), sum(failed) FROM {p}_pulse
                WHERE second >= ? AND (? IS NULL OR queue = ?) GROUP BY second ORDER BY second""",
    "trim_pulse": "DELETE FROM {p}_pulse WHERE second < ?",
    "expired": """SELECT id, queue, task, (SELECT CAST(j.flow AS BLOB) FROM {p}_job j WHERE j.id = d.id)
                  FROM {p}_done d
                  WHERE status = ? AND finished_at <= ? AND (? IS NULL OR queue = ?) LIMIT ?""",
}


class Sql:
    """The statements with their prefix filled in, and the reads that need more than one."""

    def __init__(self, prefix: str) -> None:
        from windlass.drivers.sqlite.tx import TALLY

        self.prefix = prefix
        for name, statement in (_STATEMENTS | FLOW | OBSERVED).items():
            setattr(self, name, " ".join(statement.replace("{p}", prefix).split()))
        self.streams = _STREAMS.replace("{p}", prefix)
        self.head = _HEAD.replace("{p}", prefix)
        columns = ", ".join(TALLY)
        adds = ", ".join(f"{column} = {column} + excluded.{column}" for column in TALLY)
        marks = ", ".join("?" * len(TALLY))
        self.add_tally = (
            f"INSERT INTO {prefix}_counter (queue, task, {columns}) VALUES (?, ?, {marks}) "
            f"ON CONFLICT (queue, task) DO UPDATE SET {adds}"
        )
        self.tallies = f"SELECT queue, task, {columns} FROM {prefix}_counter WHERE queue != ''"
        jobs = "(SELECT value FROM json_each(?))"
        self.forget = [
            f"DELETE FROM {prefix}_attempt WHERE job_id IN {jobs}",
            f"DELETE FROM {prefix}_note WHERE job_id IN {jobs}",
            # By the tags in the job's row: the table is in the order of tags.
            f"""DELETE FROM {prefix}_tag WHERE (tag, job_id) IN
                (SELECT t.value, j.id FROM {prefix}_job j, json_each(j.tags) t WHERE j.id IN {jobs})""",
            f"DELETE FROM {prefix}_job WHERE id IN {jobs}",
        ]

    def __getattr__(self, name: str) -> str:
        """Tell type checkers that statements are text."""
        raise AttributeError(name)

    @staticmethod
    def record(row: tuple[Any, ...]) -> Record:
        """Make a record of a row of the record statements."""
        return Record(*(*row[:3], Status(row[3]), *row[4:25], bool(row[25]), *row[26:]))

    def oldest(self, connection: sqlite3.Connection, queue: str) -> float | None:
        """Return since when the longest-waiting pending job of *queue* has been available."""
        # A look-up per task and per rank of the queue: within those the first place in the order is the oldest.
        ready = f"{self.prefix}_ready"
        statement = f"""
            WITH RECURSIVE
            tasks (task) AS (
                SELECT min(task) FROM {ready} WHERE queue = :queue
                UNION ALL
                SELECT (SELECT min(r.task) FROM {ready} r WHERE r.queue = :queue AND r.task > tasks.task)
                FROM tasks WHERE tasks.task IS NOT NULL
            ),
            ranks (task, rank) AS (
                SELECT task, (SELECT min(r.rank) FROM {ready} r WHERE r.queue = :queue AND r.task = tasks.task)
                FROM tasks WHERE task IS NOT NULL
                UNION ALL
                SELECT task, (SELECT min(r.rank) FROM {ready} r
                              WHERE r.queue = :queue AND r.task = ranks.task AND r.rank > ranks.rank)
                FROM ranks WHERE rank IS NOT NULL
            )
            SELECT min(at) FROM (
                SELECT (SELECT r.run_at FROM {ready} r WHERE r.queue = :queue AND r.task = ranks.task
                        AND r.rank = ranks.rank ORDER BY r.seq LIMIT 1) AS at
                FROM ranks WHERE rank IS NOT NULL
                UNION ALL
                SELECT (SELECT b.run_at FROM {self.prefix}_blocked b
                        WHERE b.gate = t.key || char(31) || t.queue || char(31) || t.task AND b.rank = t.rank
                        ORDER BY b.seq LIMIT 1)
                FROM {self.prefix}_turn t WHERE t.queue = :queue)"""
        return connection.execute(statement, {"queue": queue}).fetchone()[0]  # type: ignore[no-any-return]
