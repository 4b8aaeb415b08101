"""The statements of what is observed, by name. ``{p}`` is the prefix of the tables, with its schema."""

from __future__ import annotations

FAULTY = """left(right(error::text, 33), 15) = '"fingerprint":"'"""
"""The error ends with a fingerprint."""
PRINT = 'left(right(error::text, 18), 16) COLLATE "C"'
# The condition of the index done_fault, word for word: only then does the planner use it.
_DEAD = f"status = 'dead' AND {FAULTY}"

# Taken from what was there before, so that it and the new entry are as many as are kept.
_TRIM = """trimmed AS (
    DELETE FROM {p}_journal WHERE journal = %s AND EXISTS (SELECT FROM made) AND number <= (
        SELECT number FROM {p}_journal WHERE journal = %s ORDER BY number DESC LIMIT 1 OFFSET %s))"""

OBSERVED = {
    "put_entry": f"""WITH made AS (
                         INSERT INTO {{p}}_journal (journal, number, at, body)
                         SELECT %s, %s, {{p}}_now_v1(), %s
                         WHERE %s > coalesce((SELECT max(number) FROM {{p}}_journal WHERE journal = %s), -1)
                         ON CONFLICT DO NOTHING RETURNING number), {_TRIM}
                     SELECT number FROM made""",
    "append_entry": f"""WITH made AS (
                            INSERT INTO {{p}}_journal (journal, number, at, body)
                            SELECT %s, coalesce((SELECT max(number) FROM {{p}}_journal WHERE journal = %s), 0) + 1,
                                   {{p}}_now_v1(), %s
                            ON CONFLICT DO NOTHING RETURNING number), {_TRIM}
                        SELECT number FROM made""",
    "entries": """SELECT number, at, convert_to(body, 'UTF8') FROM {p}_journal
                  WHERE journal = %s AND number < %s ORDER BY number DESC LIMIT %s""",
    "add_to_sums": """INSERT INTO {p}_sum (name, value) SELECT * FROM unnest(%s::text[], %s::bigint[])
                      ON CONFLICT (name) DO UPDATE SET value = {p}_sum.value + excluded.value""",
    "sums": "SELECT name, value FROM {p}_sum",
    # From each fingerprint to the next by the index done_fault; of each a bounded number of entries is counted.
    "dead_faults": f"""
WITH RECURSIVE prints (f, n) AS (
    SELECT (SELECT {PRINT} FROM {{p}}_done WHERE {_DEAD} ORDER BY {PRINT} LIMIT 1), 1
    UNION ALL
    SELECT (SELECT {PRINT} FROM {{p}}_done WHERE {_DEAD} AND {PRINT} > prints.f ORDER BY {PRINT} LIMIT 1), n + 1
    FROM prints WHERE f IS NOT NULL AND n < 1000
)
SELECT f,
       (SELECT count(*) FROM (SELECT FROM {{p}}_done WHERE {_DEAD} AND {PRINT} = f LIMIT %s) AS few),
       (SELECT id FROM {{p}}_done WHERE {_DEAD} AND {PRINT} = f ORDER BY {PRINT} DESC, id DESC LIMIT 1)
FROM prints WHERE f IS NOT NULL""",
    # Uses the primary keys of timer and attempt.
    "retrying_faults": f"""
SELECT {PRINT} AS f, count(*), max(id) FROM (
    SELECT found.id, (SELECT a.error FROM {{p}}_attempt a WHERE a.job_id = found.id AND a.error IS NOT NULL
                      ORDER BY a.number DESC LIMIT 1) AS error
    FROM {{p}}_stream s CROSS JOIN LATERAL (
        SELECT t.id FROM {{p}}_timer t WHERE t.stream = s.id AND t.retrying ORDER BY t.id DESC LIMIT %s) AS found
    ORDER BY found.id DESC LIMIT %s) AS newest
WHERE {FAULTY} GROUP BY f""",
    "order": """WITH alive AS (SELECT id FROM {p}_worker WHERE id = %s AND status IN ('running', 'stopping')),
                     sent AS (INSERT INTO {p}_signal SELECT id, %s, %s, true FROM alive ON CONFLICT DO NOTHING)
                SELECT count(*) FROM alive""",
}
