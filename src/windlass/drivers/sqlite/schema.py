"""Schema versions: creating, migrating and refusing."""

from __future__ import annotations

import sqlite3
from importlib import resources
from typing import TYPE_CHECKING

from windlass.errors import SchemaError

if TYPE_CHECKING:
    from windlass.drivers.sqlite.connect import Plain

LATEST = 1


def version(connection: sqlite3.Connection | Plain, prefix: str) -> int:
    """Return the schema's version; 0 when there is none."""
    try:
        row = connection.execute(f"SELECT version FROM {prefix}_counter WHERE queue = '' AND task = ''").fetchone()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return 0
        raise
    return int(row[0]) if row else 0


def check(connection: sqlite3.Connection, prefix: str) -> None:
    """Refuse a schema that this release cannot work with.

    Raises:
        SchemaError: it is missing, older, or newer.
    """
    found = version(connection, prefix)
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


def migrate(connection: sqlite3.Connection | Plain, prefix: str) -> list[str]:
    """Run the missing steps inside the caller's write transaction; return what was done."""
    found = version(connection, prefix)
    refuse_newer(found)
    done = []
    for step, text in script(prefix, above=found):
        for statement in statements(text):
            connection.execute(statement)
        done.append(f"schema version {step}")
    return done


def script(prefix: str, *, above: int) -> list[tuple[int, str]]:
    """Return the scripts of the versions above *above*, in order."""
    folder = resources.files("windlass.drivers.sqlite").joinpath("migrations")
    return [
        (
            step,
            folder.joinpath(f"{step:04}.sql").read_text("utf-8").replace("{p}", prefix)
            + f"\nUPDATE {prefix}_counter SET version = {step} WHERE queue = '' AND task = '';\n",
        )
        for step in range(above + 1, LATEST + 1)
    ]


def whole(prefix: str, connection: sqlite3.Connection | None) -> str:
    """Return the missing steps as one script, for people to run; without a connection every step."""
    found = 0 if connection is None else version(connection, prefix)
    refuse_newer(found)
    steps = script(prefix, above=found)
    if not steps:
        return ""
    parts = [f"-- schema version {step}\n{text}\n" for step, text in steps]
    return "".join(["BEGIN IMMEDIATE;\n\n", *parts, "COMMIT;\n"])


def statements(script: str) -> list[str]:
    """Split a script into statements; ``executescript`` would commit before it starts."""
    found, current = [], ""
    for line in script.splitlines(keepends=True):
        current += line
        if sqlite3.complete_statement(current):
            found.append(current.strip())
            current = ""
    return found
