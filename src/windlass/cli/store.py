"""``migrate`` and ``doctor``: looking after the store."""

import sys
from typing import Annotated

import msgspec
import typer

from windlass.app import Windlass
from windlass.cli import output
from windlass.cli.command import command
from windlass.cli.failure import Code, say
from windlass.cli.options import Json
from windlass.drivers import connect
from windlass.errors import ConfigurationError, SchemaError

PANEL = "Look after"


def add(cli: typer.Typer) -> None:
    """Add the commands."""
    command(cli, "migrate", panel=PANEL)(migrate)
    command(cli, "doctor", panel=PANEL)(doctor)


def migrate(
    app: Windlass,
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit with 1 if there is something to do.")
    ] = False,
    sql: Annotated[
        bool, typer.Option("--sql", help="Change nothing; print the statements that are missing, for somebody to run.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Create the store's schema, or bring it up to date."""
    if check and sql:
        raise ConfigurationError("give --check or --sql, not both")
    if sql:
        _print_script(app, as_json=as_json)
        return
    problem = _problem(app)
    if problem is not None and not check:
        # Whatever the app says: being asked to migrate is the permission that migrate="check" waits for.
        driver = connect(msgspec.structs.replace(app.settings, migrate="auto"))
        try:
            driver.open()
        finally:
            driver.close()
    current = problem is None or not check
    if as_json:
        output.json({"current": current, "migrated": problem is not None and not check, "problem": problem})
    elif current:
        output.line("the schema is up to date" if problem is None else "migrated: the schema is up to date now")
    if not current:
        if not as_json:
            say(problem)
        raise typer.Exit(Code.FAILED)


def _print_script(app: Windlass, *, as_json: bool) -> None:
    script = connect(app.settings).script()
    if as_json:
        output.json({"current": not script, "sql": script})
    else:
        # Straight to the stream: it is meant for a file or another program, to the byte.
        sys.stdout.write(script or "-- the schema is up to date\n")


def _problem(app: Windlass) -> str | None:
    """Say what is wrong with the schema."""
    driver = connect(msgspec.structs.replace(app.settings, migrate="check"))
    try:
        driver.open()
    except SchemaError as error:
        return str(error)
    finally:
        driver.close()
    return None


def doctor(app: Windlass, *, as_json: Json = False) -> None:
    """Look for what is wrong with the store, its queues and workers; exits with 1 on an error."""
    found = app.diagnose()
    if as_json:
        output.json(found)
    else:
        output.table(("level", "what", "value", "advice"), [(f.level, f.name, f.value, f.advice) for f in found])
    if any(f.level == "error" for f in found):
        raise typer.Exit(Code.FAILED)
