"""``limits``: what limits there are, who runs behind them, and setting one."""

from typing import Annotated

import msgspec
import typer

from windlass.app import Windlass
from windlass.cli import output
from windlass.cli.command import command
from windlass.cli.options import Json, length
from windlass.errors import ConfigurationError
from windlass.limits import Limit, Rate

Most = Annotated[float | None, typer.Option("--most", metavar="N", help="Set: so many at once, or in --per.")]


def add(cli: typer.Typer) -> None:
    """Add the command."""
    command(cli, "limits", panel="Change")(limits)


def limits(
    app: Windlass,
    *,
    queue: Annotated[str | None, typer.Option("--queue", "-q", metavar="NAME", help="Of this queue.")] = None,
    task: Annotated[str | None, typer.Option("--task", metavar="NAME", help="Of this task.")] = None,
    key: Annotated[str | None, typer.Option("--key", metavar="KEY", help="Of this key, as it is listed.")] = None,
    most: Most = None,
    per: length("--per", help_text="With --most: starts in this time, instead of jobs at once.") = None,  # type: ignore[valid-type]
    burst: Annotated[float | None, typer.Option("--burst", help="With --per: starts at one instant, at most.")] = None,
    drop: Annotated[bool, typer.Option("--drop", help="Forget what was set.")] = False,
    as_json: Json = False,
) -> None:
    """List the limits and rates, or set or drop one for all workers.

    Example: windlass limits shop:app --queue mail --most 3
    """
    if most is not None and drop:
        raise ConfigurationError("--most and --drop exclude each other")
    if most is not None:
        _set(app, most, per, burst, queue=queue, task=task, key=key)
    elif drop:
        app.unlimit(queue=queue, task=task, key=key)
    name = key or (f"queue:{queue}" if queue else f"task:{task}" if task else None)
    found = app.limits(None if name is None else [name])
    if as_json:
        output.json(
            [
                {**msgspec.structs.asdict(one), "holders": app.holders(one.key) if one.kind == "limit" else []}
                for one in found
            ]
        )
        return
    output.table(
        ("key", "kind", ">most", ">per", ">burst", ">running", ">waiting", "set", "holders"),
        [
            (
                one.key, one.kind, f"{one.most:g}", output.span(one.per), "" if one.burst is None else f"{one.burst:g}",
                one.used if one.kind == "limit" else "", one.waiting, "by hand" if one.pinned else "",
                " ".join(f"#{job_id}" for job_id in app.holders(one.key)) if one.kind == "limit" else "",
            )
            for one in found
        ],
    )  # fmt: skip


def _set(
    app: Windlass,
    most: float,
    per: float | None,
    burst: float | None,
    *,
    queue: str | None,
    task: str | None,
    key: str | None,
) -> None:
    if per is None:
        if burst is not None:
            raise ConfigurationError("--burst belongs to a rate: give --per too")
        if most != int(most):
            raise ConfigurationError("without --per, --most is a whole number")
        app.limit(Limit(int(most), key=key), queue=queue, task=task)
    else:
        app.limit(Rate(most, per=per, burst=burst, key=key), queue=queue, task=task)
