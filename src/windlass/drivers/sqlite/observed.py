"""The statements of what is observed, by name. ``{p}`` is the prefix of the tables."""

from __future__ import annotations

FAULTY = """substr(error, -33, 15) = '"fingerprint":"'"""
"""The error ends with a fingerprint."""
# The condition of the index done_fault, word for word: only then does the planner use it.
_DEAD = f"status = 'dead' AND {FAULTY}"
_PRINT = "substr(error, -18, 16)"

OBSERVED = {
    "last_entry": "SELECT max(number) FROM {p}_journal WHERE journal = ?",
    "put_entry": "INSERT INTO {p}_journal VALUES (?, ?, ?, ?)",
    "trim_journal": """DELETE FROM {p}_journal WHERE journal = ? AND number <=
                       (SELECT number FROM {p}_journal WHERE journal = ? ORDER BY number DESC LIMIT 1 OFFSET ?)""",
    "entries": """SELECT number, at, CAST(body AS BLOB) FROM {p}_journal
                  WHERE journal = ? AND number < ? ORDER BY number DESC LIMIT ?""",
    "add_to_sum": """INSERT INTO {p}_sum VALUES (?, ?)
                     ON CONFLICT (name) DO UPDATE SET value = value + excluded.value""",
    "sums": "SELECT name, value FROM {p}_sum",
    # From each fingerprint to the next by the index done_fault; of each a bounded number of entries is counted.
    "dead_faults": f"""
WITH RECURSIVE prints (f, n) AS (
    SELECT (SELECT {_PRINT} FROM {{p}}_done INDEXED BY {{p}}_done_fault WHERE {_DEAD} ORDER BY {_PRINT} LIMIT 1), 1
    UNION ALL
    SELECT (SELECT {_PRINT} FROM {{p}}_done INDEXED BY {{p}}_done_fault WHERE {_DEAD} AND {_PRINT} > prints.f ORDER BY {_PRINT} LIMIT 1), n + 1
    FROM prints WHERE f IS NOT NULL AND n < 1000
)
SELECT f,
       (SELECT count(*) FROM (SELECT 1 FROM {{p}}_done INDEXED BY {{p}}_done_fault WHERE {_DEAD} AND {_PRINT} = f LIMIT ?)),
       (SELECT id FROM {{p}}_done INDEXED BY {{p}}_done_fault WHERE {_DEAD} AND {_PRINT} = f ORDER BY id DESC LIMIT 1)
FROM prints WHERE f IS NOT NULL""",
    # Uses timer_retrying, and the end of each job's attempts.
    "retrying_faults": f"""
SELECT {_PRINT} AS f, count(*), max(id) FROM (
    SELECT t.id, (SELECT a.error FROM {{p}}_attempt a WHERE a.job_id = t.id AND a.error IS NOT NULL
                  ORDER BY a.number DESC LIMIT 1) AS error
    FROM {{p}}_timer t INDEXED BY {{p}}_timer_retrying WHERE t.retrying = 1 ORDER BY t.id DESC LIMIT ?)
WHERE {FAULTY} GROUP BY f""",
}
