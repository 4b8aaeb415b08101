"""``windlass watch``: the store, or one job, live."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Annotated, Any

import typer

from windlass.app import Windlass
from windlass.cli import output
from windlass.cli.command import command
from windlass.cli.options import Json
from windlass.cli.status import NUMBERS, summary
from windlass.cli.values import duration
from windlass.cli.watch_job import watch_job
from windlass.job import Status


def add(cli: typer.Typer) -> None:
    """Add the command."""
    command(cli, "watch", panel="Look")(watch)


def watch(
    app: Windlass,
    *,
    job_id: Annotated[int | None, typer.Argument(metavar="ID", help="Only this job, until it is finished.")] = None,
    interval: Annotated[
        float, typer.Option("--interval", metavar="DURATION", parser=duration, help="How often to look.")
    ] = 1.0,
    as_json: Json = False,
) -> None:
    """Watch the store until interrupted, or one job with its progress and log until it is finished.

    Where nobody watches, and with --json, each change is a line of its own. With an id the exit code is 0 when the job
    was completed, and 1 when it is dead or cancelled.
    """
    interval = max(0.05, interval)
    if job_id is None:
        with suppress(KeyboardInterrupt):
            _watch_store(app, interval, as_json=as_json)
    else:
        watch_job(app, job_id, interval, as_json=as_json)


def _watch_store(app: Windlass, interval: float, *, as_json: bool) -> None:
    last = None
    with _screen(plain=as_json) as show:
        while True:
            now = summary(app, 60.0)
            if show is not None:
                show(_picture(now))
            elif as_json:
                output.json_line(now)
            elif (text := _line(now)) != last:
                last = text
                output.line(text, at_once=True)
            time.sleep(interval)


def _line(now: dict[str, Any]) -> str:
    counts = " ".join(f"{status}={now[status.value]}" for status in Status)
    return f"{counts} rate={now['throughput']['per_second']:.1f}/s workers={len(_alive(now))}"


def _alive(now: dict[str, Any]) -> list[dict[str, Any]]:
    return [worker for worker in now["workers"] if worker["status"] in ("running", "stopping")]


def _picture(now: dict[str, Any]) -> Any:
    from rich.console import Group
    from rich.text import Text

    def cells(numbers: dict[str, Any]) -> list[str]:
        return [str(numbers[status.value]) for status in Status]

    rows = [[name, *cells(numbers)] for name, numbers in now["queues"].items()]
    queues = output.rich_table(("queue", *NUMBERS), [*rows, ["all", *cells(now)]])
    workers = output.rich_table(
        ("worker", "status", ">running", ">slots", ">processed"),
        [[w["id"], w["status"], *(str(w[k]) for k in ("running", "concurrency", "processed"))] for w in _alive(now)],
    )
    rate = now["throughput"]
    text = f"{rate['per_second']:.1f} processed/s, {rate['failed']} attempts failed in the last minute"
    return Group(queues, workers, Text(text))


@contextmanager
def _screen(*, plain: bool) -> Iterator[Callable[[Any], None] | None]:
    """Yield what redraws a terminal, or ``None`` where there is none."""
    if plain or not output.terminal():
        yield None
        return
    from rich.live import Live
    from rich.text import Text

    with Live(auto_refresh=False) as live:
        yield lambda picture: live.update(Text(picture) if isinstance(picture, str) else picture, refresh=True)
