"""``windlass enqueue``."""

from difflib import get_close_matches
from typing import Annotated, Any

import typer

from windlass.app import Windlass
from windlass.cli import output, values
from windlass.cli.command import command
from windlass.cli.options import Json, length
from windlass.errors import UnknownTaskError
from windlass.report import job_as_json


def add(cli: typer.Typer) -> None:
    """Add the command."""
    command(cli, "enqueue", panel="Work")(enqueue)


def enqueue(
    app: Windlass,
    *,
    task: Annotated[str, typer.Argument(metavar="TASK", help="The task's name.", show_default=False)],
    payload: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="JSON|KEY=VALUE",
            help="One JSON object of named parameters, `-` to read it from standard input, or key=value words, "
            "whose values are JSON where they can be, else text.",
            show_default=False,
        ),
    ] = None,
    delay: length("--delay", help_text="Not before this has passed.") = None,  # type: ignore[valid-type]
    at: Annotated[
        Any, typer.Option("--at", metavar="INSTANT", parser=values.instant, help="Not before this ISO 8601 instant.")
    ] = None,
    queue: Annotated[str | None, typer.Option("--queue", "-q", help="Into this queue.")] = None,
    priority: Annotated[int | None, typer.Option("--priority", "-p", help="Higher runs first; default 0.")] = None,
    max_attempts: Annotated[int | None, typer.Option("--max-attempts", help="Total tries.")] = None,
    timeout: length("--timeout", help_text="What one attempt may take.") = None,  # type: ignore[valid-type]
    expires: length("--expires", help_text="Cancelled if it has not started by then.") = None,  # type: ignore[valid-type]
    deadline: length("--deadline", help_text="Dead if it has not ended by then.") = None,  # type: ignore[valid-type]
    tag: Annotated[list[str] | None, typer.Option("--tag", help="A label. Repeatable.")] = None,
    origin: Annotated[str | None, typer.Option("--origin", help="Who or what enqueues it.")] = None,
    meta: Annotated[
        str | None, typer.Option("--meta", metavar="JSON", help="A JSON object kept beside the payload.")
    ] = None,
    unique: Annotated[
        bool | None, typer.Option("--unique/--not-unique", help="Not beside a live job with the same payload.")
    ] = None,
    key: Annotated[
        str | None, typer.Option("--key", metavar="TEXT", help="Idempotency key: no second job while its job is kept.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Store a job.

    With an app the task must be one of its own and the payload is checked. With --url any name is taken: a worker that
    knows it will run it.

    Example: windlass enqueue shop:app send_email to=ada@example.org subject=hi --delay 5m
    """
    if app.tasks and app.find_task(task) is None:
        raise _unknown(app, task)
    job = app.enqueue(
        task,
        values.payload(payload or []),
        delay=delay,
        run_at=at,
        queue=queue,
        priority=priority,
        max_attempts=max_attempts,
        timeout=timeout,
        expires=expires,
        deadline=deadline,
        tags=tag or None,
        origin=origin,
        meta=None if meta is None else values.json_value(meta, what="--meta"),
        unique=unique,
        idempotency_key=key,
    )
    if as_json:
        output.json({**job_as_json(job), "created": job.created})
    elif not job.created:
        output.line(f"job {job.id} {job.task} was there already; it is {job.status} in queue {job.queue}")
    else:
        output.line(f"job {job.id} {job.task} is {job.status} in queue {job.queue}")


def _unknown(app: Windlass, name: str) -> UnknownTaskError:
    close = get_close_matches(name, app.task_names(), n=1)
    error = UnknownTaskError(name)
    hint = f"did you mean {close[0]!r}?" if close else "for a task of another app give --url instead of the app"
    error.args = (f"{error}; {hint}",)
    return error
