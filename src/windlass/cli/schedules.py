"""``schedules``: look at schedules and their history; pause, resume, trigger or remove one."""

from typing import Annotated, Any

import typer

from windlass.app import Windlass
from windlass.cli import output
from windlass.cli.command import command
from windlass.cli.options import Json
from windlass.client.schedule import Schedule, Tick
from windlass.errors import ConfigurationError

SHOWN = 10
"""Rows of history that are shown with a schedule."""


def add(cli: typer.Typer) -> None:
    """Add the command."""
    command(cli, "schedules", panel="Look")(schedules)


def schedules(
    app: Windlass,
    *,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="This one only.", show_default=False)] = None,
    pause: Annotated[bool, typer.Option("--pause", help="Skip its ticks from now on.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Fire again, from the next tick on.")] = False,
    trigger: Annotated[bool, typer.Option("--trigger", help="Enqueue its jobs now.")] = False,
    force: Annotated[bool, typer.Option("--force", help="With --trigger: also while its last job runs.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Forget it, with its history; its jobs stay.")] = False,
    upcoming: Annotated[int, typer.Option("--next", help="How many ticks to come to show.", min=1, max=1000)] = 5,
    history: Annotated[int, typer.Option("--history", help="How many past ones.", min=1, max=1000)] = SHOWN,
    as_json: Json = False,
) -> None:
    """List schedules, or show one with its ticks; pause, resume, trigger or remove it."""
    wanted = [
        word
        for word, given in (("pause", pause), ("resume", resume), ("trigger", trigger), ("remove", remove))
        if given
    ]
    app.schedules.declares = False
    if len(wanted) > 1:
        raise ConfigurationError(f"--{wanted[0]} and --{wanted[1]} cannot be done at once")
    if name is None:
        if wanted:
            raise ConfigurationError(f"say which schedule to {wanted[0]}")
        _list(list(app.schedules), as_json=as_json)
    elif wanted:
        _do(app, name, wanted[0], force=force, as_json=as_json)
    else:
        _show(app.schedules.get(name), upcoming=upcoming, history=history, as_json=as_json)


def _do(app: Windlass, name: str, what: str, *, force: bool, as_json: bool) -> None:
    jobs: list[int] = []
    match what:
        case "pause":
            app.schedules.pause(name)
        case "resume":
            app.schedules.resume(name)
        case "remove":
            app.schedules.remove(name)
        case _:
            jobs = [job.id for job in app.schedules.trigger(name, force=force)]
    done = {"pause": "paused", "resume": "resumed", "remove": "removed", "trigger": "triggered"}[what]
    if as_json:
        output.json({"name": name, done: True} | ({"jobs": jobs} if what == "trigger" else {}))
    else:
        output.line(f"schedule {name} is {done}" + (f": job {', '.join(map(str, jobs))}" if jobs else ""))


def _list(found: list[Schedule], *, as_json: bool) -> None:
    if as_json:
        output.json([schedule_as_json(one) for one in found])
        return
    output.table(
        ("name", "when", "task", "queues", "next", ">fired", "state"),
        [
            (one.name, one.words, one.task, ", ".join(one.queues), output.time(one.next_at), one.fired, _state(one))
            for one in found
        ],
    )


def _show(one: Schedule, *, upcoming: int, history: int, as_json: bool) -> None:
    ticks, past = one.next(upcoming), one.history(history)
    if as_json:
        output.json(schedule_as_json(one) | {"next": ticks, "history": [tick_as_json(tick) for tick in past]})
        return
    shown = schedule_as_json(one) | {"state": _state(one), "paused": None, "next_at": None}
    output.fields([(name, _text(value)) for name, value in shown.items()])
    output.fields([("next", "\n".join(output.time(at) for at in ticks)), ("history", "\n".join(map(str, past)))])


def schedule_as_json(one: Schedule) -> dict[str, Any]:
    """Return what there is to say about a schedule, as JSON types."""
    names = (
        "name", "words", "cron", "every", "timezone", "task", "queues", "payload", "missed", "overlap", "declared",
        "version", "revision", "paused", "paused_at", "created_at", "watermark", "next_at", "fired", "last_jobs",
    )  # fmt: skip
    return {name: getattr(one, name) for name in names}


def tick_as_json(tick: Tick) -> dict[str, Any]:
    """Return a row of history as JSON types."""
    names = (
        "number", "at", "considered_at", "late", "outcome", "queue", "job_id", "other_job_id", "count", "first", "reason",
    )  # fmt: skip
    return {name: getattr(tick, name) for name in names}


def _state(one: Schedule) -> str:
    if one.paused:
        return "paused"
    return "over" if one.next_at is None else "ok"


def _text(value: Any) -> Any:
    if hasattr(value, "astimezone"):
        return output.time(value)
    if isinstance(value, dict):
        return ", ".join(f"{name}: {one}" for name, one in value.items())
    return ", ".join(map(str, value)) if isinstance(value, tuple) else value
