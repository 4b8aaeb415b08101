"""``windlass bench``: how fast this machine is, on a store that is thrown away."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from windlass.app import Windlass
from windlass.cli import output
from windlass.cli.command import command
from windlass.cli.options import Json
from windlass.errors import ConfigurationError

PATIENCE = 300.0


def add(cli: typer.Typer) -> None:
    """Add the command."""
    command(cli, "bench", panel="Look after")(bench)


def bench(
    *,
    number: Annotated[int, typer.Option("--jobs", "-n", metavar="N", help="How many jobs to drain.")] = 5000,
    store: Annotated[Literal["sqlite", "memory"], typer.Option("--store", help="Which store.")] = "sqlite",
    durability: Annotated[
        Literal["full", "relaxed"], typer.Option("--durability", help="full: survives power loss; relaxed: a crash.")
    ] = "full",
    concurrency: Annotated[int, typer.Option("--concurrency", "-c", metavar="N", help="Jobs at once.")] = 100,
    folder: Annotated[
        Path | None, typer.Option("--folder", help="On the disk to be measured. Default: the temporary folder.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure enqueueing and draining on a throwaway store; your own is not touched."""
    if number < 1:
        raise ConfigurationError("--jobs must be at least 1")
    with tempfile.TemporaryDirectory(prefix="windlass-bench-", dir=folder) as place:
        url = "memory://" if store == "memory" else f"sqlite:///{place}/bench.db"
        with Windlass(url, durability=durability) as app:
            rows = _measure(app, number, concurrency)
    if as_json:
        output.json({"store": store, "durability": durability, "results": rows})
        return
    title = f"{store}, durability {durability}, {concurrency} at once, one process"
    shown = [(r["what"], r["jobs"], f"{r['seconds']:.2f} s", f"{r['per_second']:,.0f}/s") for r in rows]
    output.table(("what", ">jobs", ">time", ">rate"), shown, title=title)


def _measure(app: Windlass, number: int, concurrency: int) -> list[dict[str, Any]]:
    @app.task
    async def nothing(n: int) -> None:
        """Do nothing, to measure all the rest."""

    app.migrate()
    single = max(1, number // 10)
    rows = []
    with output.progress("bench", 2 * number) as advance:

        def one_by_one() -> None:
            for n in range(single):
                nothing.enqueue(n)
                advance(1)

        def many() -> None:
            app.enqueue_many(nothing.job(n) for n in range(number - single))
            advance(number - single)

        rows.append(_timed("enqueue, one at a time", single, one_by_one))
        if number > single:
            rows.append(_timed("enqueue_many", number - single, many))
        rows.append(_timed("drain, async lane", number, lambda: _drain(app, number, concurrency, advance)))
    return rows


def _drain(app: Windlass, number: int, concurrency: int, advance: Callable[[int], None]) -> None:
    deadline = time.monotonic() + PATIENCE
    seen = 0
    with app.worker(concurrency=concurrency):
        while seen < number and time.monotonic() < deadline:
            time.sleep(0.02)
            completed = app.stats().completed
            advance(completed - seen)
            seen = completed


def _timed(what: str, jobs: int, work: Callable[[], None]) -> dict[str, Any]:
    began = time.perf_counter()
    work()
    took = max(time.perf_counter() - began, 1e-9)
    return {"what": what, "jobs": jobs, "seconds": took, "per_second": jobs / took}
