"""Schema versions: creating, migrating and refusing."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Any

from psycopg import errors

from windlass.errors import SchemaError

if TYPE_CHECKING:
    from windlass.drivers.postgres.connect import Connection
    from windlass.drivers.postgres.sql import Sql

LATEST = 1

WAIT = 10
"""Seconds that a migration waits for a lock: it must not queue everybody behind itself for longer."""


def version(connection: Connection, sql: Sql) -> int:
    """Return the schema's version; 0 when there is none."""
    # Not to_regclass(): a session that has looked before remembers that there was no table, and goes on doing so while it
    # waits for somebody who makes it. To read a table, also this one, takes a lock, and that brings the news.
    table = connection.execute(
        "SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s",
        (sql.schema, f"{sql.bare}_meta"),
    ).fetchone()
    if table is None:
        return 0
    row = connection.execute(sql.meta).fetchone()
    return int(row[0]) if row else 0


def check(found: int) -> None:
    """Refuse a schema that this release cannot work with.

    Raises:
        SchemaError: it is missing, older, or newer.
    """
    refuse_newer(found)
    if found < LATEST:
        what = "has no Windlass tables" if found == 0 else f"has schema version {found}, this release needs {LATEST}"
        raise SchemaError(f"the database {what}; run `windlass migrate` or use migrate='auto'")


def refuse_newer(found: int) -> None:
    """Refuse a schema made by a newer release."""
    if found > LATEST:
        raise SchemaError(
            f"the database has schema version {found}, made by a newer Windlass; this release knows {LATEST}: upgrade"
        )


def script(sql: Sql, *, above: int = 0) -> list[tuple[int, str]]:
    """Return the scripts of the versions above *above*, in order."""
    return [(step, _script(sql, step)) for step in range(above + 1, LATEST + 1)]


def whole(sql: Sql, connection: Connection | None = None) -> str:
    """Return the missing steps as one script, for people to run; without a connection every step."""
    found = 0 if connection is None else version(connection, sql)
    refuse_newer(found)
    steps = script(sql, above=found)
    if not steps:
        return ""
    if connection is not None and found == 0 and _exists(connection, sql.schema):
        steps[0] = (1, _into_existing(steps[0][1]))
    return "".join(["BEGIN;\n\n", *(f"-- schema version {step}\n{text}\n" for step, text in steps), "COMMIT;\n"])


def _script(sql: Sql, step: int) -> str:
    folder = resources.files("windlass.drivers.postgres").joinpath("migrations")
    parts = [folder.joinpath(f"{step:04}{kind}.sql").read_text("utf-8") for kind in ("", ".functions", ".flow")]
    parts.append(f"UPDATE {{p}}_meta SET version = {step};\n")
    if step == 1:
        parts.insert(0, f'CREATE SCHEMA IF NOT EXISTS "{sql.schema}";\n')
    text = "\n".join(parts)
    return text.replace("{p}", sql.prefix).replace("{n}", sql.bare).replace("{c}", sql.channel)


def migrate(connection: Connection, sql: Sql) -> list[str]:
    """Run the missing steps in one transaction, one process at a time; return what was done."""
    done = []
    try:
        with connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")  # to see what was made while we waited
            connection.execute(f"SET LOCAL lock_timeout = '{WAIT}s'")
            connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"{sql.channel} migrate",))
            found = version(connection, sql)
            refuse_newer(found)
            for step, text in script(sql, above=found):
                there = step == 1 and _exists(connection, sql.schema)
                connection.execute(_into_existing(text) if there else text, prepare=False)
                done.append(f"schema version {step}")
    except errors.LockNotAvailable as error:
        raise SchemaError(f"somebody else holds a lock for more than {WAIT} s; try again in a quiet moment") from error
    except errors.InsufficientPrivilege as error:
        raise SchemaError(
            f"this role may not create Windlass's tables ({_first(error)}); let its owner run `windlass migrate`, "
            "or the statements that `windlass migrate --sql` prints"
        ) from error
    return done


def _into_existing(text: str) -> str:
    """Leave out that the schema is made: a role that may create tables there need not be allowed to create schemas."""
    return text.partition(";\n")[2]


def _exists(connection: Connection, schema: str) -> bool:
    row = connection.execute("SELECT to_regnamespace(%s) IS NOT NULL", (f'"{schema}"',)).fetchone()
    return bool(row and row[0])


def _first(error: Any) -> str:
    return str(error).partition("\n")[0]
