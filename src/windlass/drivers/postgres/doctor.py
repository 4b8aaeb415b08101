"""What ``windlass doctor`` says about a PostgreSQL database."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

from windlass.drivers.base import Finding
from windlass.drivers.postgres import schema

if TYPE_CHECKING:
    from windlass.drivers.postgres.bell import Listener
    from windlass.drivers.postgres.connect import Connection
    from windlass.drivers.postgres.sql import Sql

OLD = 60.0
"""Seconds after which an open transaction is worth a note."""
STALE = 600.0
"""Seconds after which it is a warning."""
DEAD = 50_000
"""Dead rows of a hot table that make claims slow."""
SKEW = 1.0
"""Seconds between this host's clock and the server's worth a note."""
HOT = ("ready", "running", "timer", "delta")

BEHIND = 10_000
"""Transactions that replication may hold back before it is worth a note."""
FAR_BEHIND = 1_000_000
"""The same for a warning."""

# What keeps vacuum from removing dead rows, in this database: the oldest snapshot in use, a prepared transaction.
_PINS = """
SELECT pid::text, coalesce(extract(epoch FROM clock_timestamp() - xact_start), 0)::double precision,
       coalesce(usename, '?') || ' ' || state || ': ' || left(regexp_replace(query, '\\s+', ' ', 'g'), 80), 'transaction'
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL AND backend_type = 'client backend'
UNION ALL
SELECT gid, extract(epoch FROM clock_timestamp() - prepared)::double precision, 'prepared by ' || owner, 'prepared'
FROM pg_prepared_xacts WHERE database = current_database()
ORDER BY 2 DESC LIMIT 1
"""

# The same from outside, in every database: replication slots, and standbys that report their queries and have no slot. What
# is read here in transactions and not in seconds is all that the server knows.
_REPLICATION = """
SELECT CASE WHEN active THEN 'slot' ELSE 'left' END, slot_name::text, 'rows', age(xmin) AS held
FROM pg_replication_slots WHERE xmin IS NOT NULL
UNION ALL
SELECT 'consumer', slot_name::text, 'rows of the catalogs', age(catalog_xmin)
FROM pg_replication_slots WHERE catalog_xmin IS NOT NULL
UNION ALL
SELECT 'standby', coalesce(nullif(application_name, ''), '?') || ' at ' || coalesce(host(client_addr), 'a socket'), 'rows',
       age(backend_xmin)
FROM pg_stat_replication WHERE backend_xmin IS NOT NULL
ORDER BY held DESC
"""
_CURES = {
    "slot": "a query on its standby is that old: end it there, or set hot_standby_feedback = off there",
    "left": "nobody is connected to it: start its standby, or SELECT pg_drop_replication_slot('{name}')",
    "consumer": "whoever reads it is behind or gone: let it catch up, or SELECT pg_drop_replication_slot('{name}')",
    "standby": "a query there is that old: end it, or set hot_standby_feedback = off there",
}


def diagnose(
    connection: Connection, sql: Sql, *, listener: Listener, pooled: bool, direct: bool, durability: str
) -> list[Finding]:
    """Look at the server and the tables; reads catalogs and statistics only.

    *direct*: there is a way around the pooler for notifications.
    """

    def one(statement: str, *values: Any) -> Any:
        row = connection.execute(statement, values or None, prepare=False).fetchone()
        return row[0] if row is not None else None

    version = connection.info.server_version
    found = [
        Finding(name="PostgreSQL version", value=f"{version // 10000}.{version % 10000}"),
        Finding(
            name="schema version",
            value=f"{schema.version(connection, sql)} (this release: {schema.LATEST}), tables {sql.prefix}_…",
        ),
        _durability(one("SHOW synchronous_commit"), one("SHOW fsync"), durability),
        _isolation(one("SHOW default_transaction_isolation")),
        _clock(connection),
        *_pooler(listener, pooled=pooled, direct=direct),
        _notifications(one("SELECT pg_notification_queue_usage()")),
        _pin(connection),
        *_replication(connection),
        _room(one("SELECT count(*) FROM pg_stat_activity"), int(one("SHOW max_connections"))),
    ]
    found += [_dead(connection, sql, table) for table in HOT]
    found.append(_indexes(connection, sql))
    return found


def _durability(synchronous_commit: str, fsync: str, durability: str) -> Finding:
    unsafe = fsync == "off" or (durability == "full" and synchronous_commit == "off")
    return Finding(
        name="durability",
        value=f"{durability}; synchronous_commit={synchronous_commit}, fsync={fsync}",
        level="warning" if unsafe else "ok",
        advice="a crash of the server may lose what was acknowledged: turn both on" if unsafe else "",
    )


def _isolation(level: str) -> Finding:
    good = level == "read committed"
    return Finding(
        name="default isolation",
        value=level,
        level="ok" if good else "warning",
        advice=""
        if good
        else "ALTER ROLE … SET default_transaction_isolation = 'read committed': claims collide otherwise",
    )


def _clock(connection: Connection) -> Finding:
    before = time.time()
    row = connection.execute("SELECT extract(epoch FROM clock_timestamp())::double precision", prepare=False).fetchone()
    difference = (row[0] if row else before) - (before + time.time()) / 2
    off = abs(difference) > SKEW
    return Finding(
        name="clock",
        value=f"the server is {abs(difference):.3f} s {'ahead' if difference > 0 else 'behind'}",
        level="note" if off else "ok",
        advice="only the server's clock counts for jobs; run NTP here so that logs agree with it" if off else "",
    )


def _pooler(listener: Listener, *, pooled: bool, direct: bool) -> list[Finding]:
    """Say what is in between, and prove that notifications arrive."""
    blind = pooled and not direct
    between = Finding(
        name="pooler",
        value="between us and the server (the backend is not the process that answered)" if pooled else "none",
        level="note" if blind else "ok",
        advice="fine for everything but LISTEN: pass listen_url= with the server's own address, or workers poll"
        if blind
        else "",
    )
    # To listen through a pooler would leave a listening session behind in it.
    trouble = listener.trouble if blind else listener.check()
    if blind and not trouble:
        return [between]
    heard = Finding(
        name="notifications",
        value=f"not heard: {trouble}" if trouble else "heard",
        level="warning" if trouble else "ok",
        advice="workers poll instead; behind a pooler pass listen_url= with the server's own address"
        if trouble
        else "",
    )
    return [between, heard]


def _notifications(usage: float) -> Finding:
    full = usage > 0.25
    return Finding(
        name="notification queue",
        value=f"{usage:.0%} used",
        level="warning" if full else "ok",
        advice="a session that listens sits in an open transaction; find it below and end it" if full else "",
    )


def _pin(connection: Connection) -> Finding:
    row = connection.execute(_PINS, prepare=False).fetchone()
    if row is None or row[1] < OLD:
        return Finding(name="oldest transaction", value="none" if row is None else f"{row[1]:.0f} s")
    who, age, what, kind = row
    advice = f"SELECT pg_terminate_backend({who})" if kind == "transaction" else f"ROLLBACK PREPARED '{who}'"
    return Finding(
        name="oldest transaction",
        value=f"{age:.0f} s, {'pid ' if kind == 'transaction' else ''}{who} ({what})",
        level="warning" if age >= STALE else "note",
        advice=f"dead rows cannot be removed while it lasts; if it is forgotten: {advice}",
    )


def _replication(connection: Connection) -> list[Finding]:
    """Name each slot or standby that holds vacuum back."""
    rows = connection.execute(_REPLICATION, prepare=False).fetchall()
    found = [
        Finding(
            name="replication",
            value=f"{'standby' if kind == 'standby' else 'slot'} {name} holds back the dead {what} of {held} transactions",
            level="warning" if held >= FAR_BEHIND else "note",
            advice=_CURES[kind].format(name=name),
        )
        for kind, name, what, held in rows
        if held >= BEHIND
    ]
    return found or [Finding(name="replication", value="holds nothing back")]


def _room(used: int, most: int) -> Finding:
    tight = used > 0.8 * most
    return Finding(
        name="connections",
        value=f"{used} of {most}",
        level="warning" if tight else "ok",
        advice="put pgbouncer in front, or raise max_connections" if tight else "",
    )


def _dead(connection: Connection, sql: Sql, table: str) -> Finding:
    row = connection.execute(
        "SELECT n_live_tup, n_dead_tup, coalesce(greatest(last_vacuum, last_autovacuum)::timestamp(0)::text, 'never')"
        " FROM pg_stat_all_tables WHERE relid = to_regclass(%s)",
        (f"{sql.prefix}_{table}",),
        prepare=False,
    ).fetchone()
    live, dead, vacuumed = row if row is not None else (0, 0, "never")
    bad = dead > DEAD
    return Finding(
        name=f"table {table}",
        value=f"{live} rows, {dead} dead, vacuumed {vacuumed}",
        level="warning" if bad else "ok",
        advice="autovacuum is off, behind, or held back: see the oldest transaction and replication" if bad else "",
    )


def _indexes(connection: Connection, sql: Sql) -> Finding:
    """Compare the indexes that are there and valid with those that the schema makes."""
    rows = connection.execute(
        "SELECT c.relname, i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
        " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s",
        (sql.schema,),
        prepare=False,
    ).fetchall()
    valid: dict[str, bool] = dict(rows)
    wanted = _wanted(sql)
    wrong = sorted(name for name in wanted if not valid.get(name, False))
    if not wrong:
        return Finding(name="indexes", value="all there")
    cures = [f'REINDEX INDEX "{sql.schema}".{name};' if name in valid else wanted[name] for name in wrong]
    return Finding(
        name="indexes",
        value=f"missing or invalid: {', '.join(wrong)}",
        level="error",
        advice=f"make them again: {' '.join(cures)}",
    )


def _wanted(sql: Sql) -> dict[str, str]:
    """Return the statement that makes each index, from the scripts that made the tables."""
    text = re.sub("--[^\n]*", "", "".join(text for _, text in schema.script(sql)))
    made = {name: f"{' '.join(text.split())};" for text, name in re.findall(r"(CREATE INDEX (\w+) ON [^;]+);", text)}
    for table, body in re.findall(r"CREATE TABLE (\S+) \((.*?)\n\)", text, re.DOTALL):
        keys = re.search(r"PRIMARY KEY \(([^)]+)\)", body) or re.search(r"(\w+) [\w \"]*PRIMARY KEY", body)
        if keys is not None:
            made[f"{table.rpartition('.')[2]}_pkey"] = f"ALTER TABLE {table} ADD PRIMARY KEY ({keys[1]});"
    return made
