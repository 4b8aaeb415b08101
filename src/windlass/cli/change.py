"""``retry``, ``cancel``, ``delete`` and ``purge``: one job, several, or all that match."""

import sys
from collections.abc import Callable, Collection, Iterator
from typing import Annotated, Any, Literal

import typer

from windlass.app import Windlass
from windlass.cli import output
from windlass.cli.command import command
from windlass.cli.failure import Code
from windlass.cli.options import Ids, Json, Yes
from windlass.cli.values import duration
from windlass.errors import ConfigurationError, JobNotFoundError
from windlass.report import Done

PANEL = "Change"
CHUNK = 500
SHOWN = 20
"""Refusals that are told one by one."""


def add(cli: typer.Typer) -> None:
    """Add the commands."""
    for function in (retry, cancel, delete, purge):
        command(cli, function.__name__, panel=PANEL)(function)


def retry(
    app: Windlass,
    filters: Any,
    *,
    ids: Ids = None,
    mode: Annotated[
        Literal["reset", "extend"],
        typer.Option("--mode", help="reset: count its failures and crashes from 0; extend: allow one more try."),
    ] = "reset",
    delay: Annotated[
        float, typer.Option("--delay", metavar="DURATION", parser=duration, help="Not before this has passed.")
    ] = 0.0,
    force: Annotated[
        bool, typer.Option("--force", help="Also completed jobs, and running ones, whose attempt is shut out.")
    ] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Run dead, cancelled or retrying jobs again; their history stays.

    Give ids, or filters. Without --status the filters look at failed jobs, which is retrying and dead.

    Example: windlass retry --status dead --task send_email --yes
    """
    if filters:
        filters.setdefault("status", ["failed"])

    def act(chunk: Collection[int]) -> Done:
        return app.retry_many(ids=chunk, mode=mode, delay=delay, force=force)

    _change(app, "retry", "retried", act, ids=ids, filters=filters, yes=yes, as_json=as_json)


def cancel(app: Windlass, filters: Any, *, ids: Ids = None, yes: Yes = False, as_json: Json = False) -> None:
    """Cancel jobs: waiting ones at once; running ones are asked to stop.

    Give ids, or filters. Without --status the filters look at waiting and running jobs.
    """
    _unambiguous(filters)
    if filters:
        filters.setdefault("status", ["scheduled", "pending", "retrying", "running"])
    _change(
        app, "cancel", "cancelled", lambda c: app.cancel_many(ids=c), ids=ids, filters=filters, yes=yes, as_json=as_json
    )


def delete(app: Windlass, filters: Any, *, ids: Ids = None, yes: Yes = False, as_json: Json = False) -> None:
    """Remove jobs and their history. Running ones are refused.

    Give ids, or filters.
    """
    _unambiguous(filters)
    _change(
        app, "delete", "deleted", lambda c: app.delete_many(ids=c), ids=ids, filters=filters, yes=yes, as_json=as_json
    )


def purge(
    app: Windlass,
    *,
    older_than: Annotated[
        float, typer.Option("--older-than", metavar="DURATION", parser=duration, help="Finished so long ago: 24h, 7d.")
    ],
    status: Annotated[
        list[str] | None,
        typer.Option("--status", help="completed, cancelled or dead. Repeatable. Default: completed and cancelled."),
    ] = None,
    queue: Annotated[str | None, typer.Option("--queue", "-q", metavar="NAME", help="Only of this queue.")] = None,
    as_json: Json = False,
) -> None:
    """Delete finished jobs that are old enough."""
    with output.progress("purging"):
        number = app.purge(older_than, status or ("completed", "cancelled"), queue=queue)
    if as_json:
        output.json({"deleted": number})
    else:
        output.line(f"deleted {number} jobs")


def _unambiguous(filters: dict[str, Any]) -> None:
    if "failed" in filters.get("status", ()):
        raise ConfigurationError("'failed' is ambiguous here: say --status retrying or --status dead")


def _change(
    app: Windlass,
    verb: str,
    done_word: str,
    act: Callable[[Collection[int]], Done],
    *,
    ids: list[int] | None,
    filters: dict[str, Any],
    yes: bool,
    as_json: bool,
) -> None:
    if bool(ids) == bool(filters):
        raise ConfigurationError(f"say which jobs to {verb}: ids, or filters such as --status and --queue, one of them")
    total = len(ids) if ids else app.count(**filters)
    if not ids and not yes:
        _ask(verb, total)
    done = Done([], {})
    with output.progress(verb, int(total)) as advance:
        for chunk in [ids] if ids else _matching(app, filters):
            part = act(chunk)
            done.ids.extend(part.ids)
            done.refused.update(part.refused)
            advance(len(chunk))
    if as_json:
        output.json(done)
    else:
        _tell(done, done_word, verb)
    if done.refused:
        missing = all(isinstance(error, JobNotFoundError) for error in done.refused.values())
        raise typer.Exit(Code.MISSING if missing else Code.FAILED)


def _matching(app: Windlass, filters: dict[str, Any]) -> Iterator[list[int]]:
    """Go through the matching jobs from the newest down, so that what is done to them does not move the rest."""
    after: int | None = None
    while True:
        page = app.jobs(**filters, limit=CHUNK, after=after)
        if page:
            yield [job.id for job in page]
        after = page.next
        if after is None:
            return


def _ask(verb: str, total: int) -> None:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise ConfigurationError(f"this would {verb} {total} jobs; add --yes if that is meant")
    if not typer.confirm(f"{verb} {total} jobs?", err=True):
        raise typer.Abort


def _tell(done: Done, word: str, verb: str) -> None:
    if len(done.ids) == 1:
        output.line(f"{word} job {done.ids[0]}")
    elif done.ids or not done.refused:
        output.line(f"{word} {len(done.ids)} jobs")
    for error in list(done.refused.values())[:SHOWN]:
        typer.echo(f"error: {output.one_line(str(error).replace('force=True', '--force'), 300)}", err=True)
    if len(done.refused) > SHOWN:
        typer.echo(f"error: cannot {verb} {len(done.refused) - SHOWN} more", err=True)
