"""The statements of keys, gates, batches and what handlers tell, by name. ``{p}`` is the prefix of the tables."""

from __future__ import annotations

_GATE = "key, most, per, burst, weight, pinned, used, blocked, arrival, starved, look_at"
_BATCH = """id, name, origin, CAST(meta AS BLOB), parent, CAST(callbacks AS BLOB), created_at, open, total, completed, dead,
            cancelled, children, fired, finished_at"""
_SCHEDULE = """name, CAST(definition AS BLOB), revision, watermark, created_at, paused_at, fired, last_row, jobs"""

# All that a turn must know before it does anything: a row or the end of an index each. Takes the clock without the
# shift, and the worker twice.
GLANCE = """
SELECT c.shift,
       (SELECT min(run_at) FROM {p}_timer),
       (SELECT min(look_at) FROM {p}_gate WHERE look_at IS NOT NULL),
       EXISTS (SELECT 1 FROM {p}_gate WHERE wide = 1),
       EXISTS (SELECT 1 FROM {p}_batch WHERE ripe = 1),
       EXISTS (SELECT 1 FROM {p}_ear WHERE until > ? + c.shift),
       coalesce((SELECT status FROM {p}_worker WHERE id = ?), '') != 'lost',
       EXISTS (SELECT 1 FROM {p}_signal WHERE worker = ?),
       c.stamp,
       EXISTS (SELECT 1 FROM {p}_turn)
FROM {p}_counter c WHERE c.queue = '' AND c.task = ''
"""

FLOW = {
    # ------------------------------------------------------------------ keys
    "holds": """SELECT h.key, h.job_id, h.until FROM json_each(?) AS k CROSS JOIN {p}_hold h ON h.key = k.value""",
    "hold": "SELECT key, job_id, until FROM {p}_hold WHERE key = ?",
    "put_hold": "INSERT OR REPLACE INTO {p}_hold VALUES (?, ?, ?)",
    "drop_hold": "DELETE FROM {p}_hold WHERE key = ?",
    # ------------------------------------------------------------------ gates
    "gate": f"SELECT {_GATE} FROM {{p}}_gate WHERE key = ?",
    "gates": f"SELECT {_GATE} FROM {{p}}_gate ORDER BY key LIMIT 1000",
    "gates_of": f"""SELECT {_GATE} FROM {{p}}_gate WHERE key IN (SELECT value FROM json_each(?))
                    ORDER BY key LIMIT 1000""",
    "wide_gates": f"SELECT {_GATE} FROM {{p}}_gate WHERE wide = 1",
    "put_gate": "INSERT OR REPLACE INTO {p}_gate VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "drop_gate": "DELETE FROM {p}_gate WHERE key = ?",
    "looks": """SELECT key FROM {p}_gate WHERE look_at IS NOT NULL AND look_at <= ? ORDER BY look_at LIMIT ?""",
    "next_look": "SELECT min(look_at) FROM {p}_gate WHERE look_at IS NOT NULL",
    "put_slot": "INSERT OR IGNORE INTO {p}_slot VALUES (?, ?)",
    "drop_slot": "DELETE FROM {p}_slot WHERE gate = ? AND job_id = ?",
    "drop_slots": "DELETE FROM {p}_slot WHERE gate = ?",
    "holders": "SELECT job_id FROM {p}_slot WHERE gate = ? ORDER BY job_id LIMIT ?",
    # Reads the running table, which holds what the fleet has in hand and no more.
    "running_in": "SELECT id, slots FROM {p}_running WHERE queue = coalesce(?, queue) AND task = coalesce(?, task)",
    "set_slots": "UPDATE {p}_running SET slots = ? WHERE id = ?",
    "block": "INSERT INTO {p}_blocked VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "let_back": """INSERT INTO {p}_ready
                   SELECT queue, task, rank, seq, id, run_at, attempt, failures, crashes FROM {p}_blocked
                   WHERE gate = ? ORDER BY rank, seq LIMIT ? RETURNING id""",
    "delete_blocked": "DELETE FROM {p}_blocked WHERE id IN (SELECT value FROM json_each(?))",
    "take_blocked": "DELETE FROM {p}_blocked WHERE id = ? RETURNING gate",
    "blocked_by": "SELECT gate FROM {p}_blocked WHERE id = ? AND gate NOT GLOB ?",
    # What such a gate knows is what a new one would.
    "forget_gates": """DELETE FROM {p}_gate WHERE wide = 0 AND pinned = 0 AND used = 0 AND blocked = 0 AND arrival <= ?""",
    # ------------------------------------------------------------------ turns
    "turns": "SELECT rank, key FROM {p}_turn WHERE queue = ? AND task = ? ORDER BY rank, place LIMIT ?",
    "turn_streams": "SELECT DISTINCT queue, task FROM {p}_turn",
    "put_turn": """INSERT OR IGNORE INTO {p}_turn (queue, task, rank, key, place)
                   SELECT ?, ?, ?, ?, 1 + coalesce(max(place), 0) FROM {p}_turn WHERE queue = ? AND task = ? AND rank = ?""",
    "end_turn": """UPDATE {p}_turn
                   SET place = (SELECT 1 + max(place) FROM {p}_turn WHERE queue = ? AND task = ? AND rank = ?)
                   WHERE queue = ? AND task = ? AND rank = ? AND key = ?""",
    "drop_turn": "DELETE FROM {p}_turn WHERE queue = ? AND task = ? AND rank = ? AND key = ?",
    "unsorted": """SELECT r.rank, r.seq, r.id, r.run_at, r.attempt, r.failures, r.crashes, CAST(j.flow AS BLOB)
                   FROM (SELECT * FROM {p}_ready WHERE queue = ? AND task = ? ORDER BY rank, seq LIMIT ?) r
                   JOIN {p}_job j ON j.id = r.id
                   WHERE j.flow IS NOT NULL ORDER BY r.rank, r.seq""",
    "first_in_line": "SELECT id FROM {p}_blocked WHERE gate = ? AND rank = ? ORDER BY seq LIMIT ?",
    "call_back": """INSERT INTO {p}_ready
                    SELECT queue, task, rank, seq, id, run_at, attempt, failures, crashes FROM {p}_blocked
                    WHERE id IN (SELECT value FROM json_each(?))""",
    # ------------------------------------------------------------------ batches
    "draw_batch": "UPDATE {p}_counter SET batch = batch + 1 WHERE queue = '' AND task = '' RETURNING batch",
    "open_batch": """INSERT INTO {p}_batch (id, name, origin, meta, parent, callbacks, created_at)
                     VALUES (?, ?, ?, ?, ?, ?, ?)""",
    "unfinished": """SELECT id FROM {p}_batch WHERE id IN (SELECT value FROM json_each(?)) AND finished_at IS NULL""",
    "batch_there": "SELECT 1 FROM {p}_batch WHERE id = ?",
    "adopt_child": "UPDATE {p}_batch SET children = children + 1 WHERE id = ?",
    "release_child": """UPDATE {p}_batch SET children = children - 1, ripe = CASE WHEN children = 1 THEN 1 ELSE ripe END
                        WHERE id = ?""",
    # Ripe: a member has died, or some have moved and none is left.
    "count_members": """UPDATE {p}_batch
                        SET total = total + ?, completed = completed + ?, dead = dead + ?, cancelled = cancelled + ?,
                            ripe = CASE WHEN ? OR ? AND total + ? <= completed + dead + cancelled + ?
                                        THEN 1 ELSE ripe END
                        WHERE id = ?""",
    "batch": f"SELECT {_BATCH} FROM {{p}}_batch WHERE id = ?",
    "batches": f"SELECT {_BATCH} FROM {{p}}_batch WHERE id < ? ORDER BY id DESC LIMIT ?",
    "batches_of": f"SELECT {_BATCH} FROM {{p}}_batch WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id",
    "decided": "UPDATE {p}_batch SET ripe = 0 WHERE id = ?",
    "write_batch": "UPDATE {p}_batch SET open = ?, fired = ?, finished_at = ? WHERE id = ?",
    "delete_batch": "DELETE FROM {p}_batch WHERE id = ?",
    "ripe": "SELECT id FROM {p}_batch WHERE ripe = 1 ORDER BY id LIMIT ?",
    # ------------------------------------------------------------------ schedules
    "schedule": f"SELECT {_SCHEDULE} FROM {{p}}_schedule WHERE name = ?",
    "schedules": f"SELECT {_SCHEDULE} FROM {{p}}_schedule ORDER BY name",
    "schedules_of": f"""SELECT {_SCHEDULE} FROM {{p}}_schedule WHERE name IN (SELECT value FROM json_each(?))
                        ORDER BY name""",
    "put_schedule": """INSERT OR REPLACE INTO {p}_schedule
                        (name, definition, revision, watermark, created_at, paused_at, fired, last_row, jobs)
                        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)""",
    "delete_schedule": "DELETE FROM {p}_schedule WHERE name = ?",
    "raise_stamp": "UPDATE {p}_counter SET stamp = stamp + 1 WHERE queue = '' AND task = ''",
    "live_jobs": """SELECT j.id FROM json_each(?) AS k CROSS JOIN {p}_job j ON j.id = k.value
                    WHERE NOT EXISTS (SELECT 1 FROM {p}_done d WHERE d.id = j.id)""",
    "put_tick": "INSERT INTO {p}_tick VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "delete_ticks": "DELETE FROM {p}_tick WHERE schedule = ? AND number <= ?",
    "ticks": """SELECT number, tick, at, outcome, queue, job_id, other, count, first FROM {p}_tick
                WHERE schedule = ? AND number < ? ORDER BY number DESC LIMIT ?""",
    # ------------------------------------------------------------------ what handlers tell
    "put_progress": "INSERT OR REPLACE INTO {p}_note VALUES (?, 0, NULL, ?)",
    "last_line": "SELECT max(number) FROM {p}_note WHERE job_id = ?",
    "put_line": "INSERT INTO {p}_note VALUES (?, ?, ?, ?)",
    "trim_lines": "DELETE FROM {p}_note WHERE job_id = ? AND number BETWEEN 1 AND ?",
    "lines": "SELECT number, at, text FROM {p}_note WHERE job_id = ? AND number > ? ORDER BY number",
    "put_ear": "INSERT OR REPLACE INTO {p}_ear VALUES (?, ?)",
    "drop_ear": "DELETE FROM {p}_ear WHERE address = ?",
    "ears": "SELECT address FROM {p}_ear WHERE until > ?",
    "forget_ears": "DELETE FROM {p}_ear WHERE until <= ?",
}
