"""``pause`` and ``resume``."""

from typing import Annotated

import typer

from windlass.app import Windlass
from windlass.cli import output
from windlass.cli.command import command
from windlass.cli.options import Json
from windlass.errors import ConfigurationError

Queue = Annotated[str | None, typer.Option("--queue", "-q", metavar="NAME", help="This queue.")]
Task = Annotated[str | None, typer.Option("--task", metavar="NAME", help="This task.")]


def add(cli: typer.Typer) -> None:
    """Add the commands."""
    command(cli, "pause", panel="Change")(pause)
    command(cli, "resume", panel="Change")(resume)


def pause(app: Windlass, *, queue: Queue = None, task: Task = None, as_json: Json = False) -> None:
    """Pause a queue or a task, for all workers, until it is resumed. Running jobs go on."""
    _check(queue, task)
    app.pause(queue=queue, task=task)
    _tell(queue, task, paused=True, as_json=as_json)


def resume(app: Windlass, *, queue: Queue = None, task: Task = None, as_json: Json = False) -> None:
    """Resume a paused queue or task."""
    _check(queue, task)
    app.resume(queue=queue, task=task)
    _tell(queue, task, paused=False, as_json=as_json)


def _check(queue: str | None, task: str | None) -> None:
    if (queue is None) == (task is None):
        raise ConfigurationError("give --queue or --task, one of them")


def _tell(queue: str | None, task: str | None, *, paused: bool, as_json: bool) -> None:
    kind, name = ("queue", queue) if queue is not None else ("task", task)
    if as_json:
        output.json({"kind": kind, "name": name, "paused": paused})
    else:
        output.line(f"{kind} {name} is {'paused' if paused else 'resumed'}")
