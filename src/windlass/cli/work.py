"""``windlass worker``: one worker, or a supervisor over several."""

import os
import sys
from typing import Annotated

import msgspec
import typer

from windlass.cli import locate, logs, values
from windlass.cli.command import command
from windlass.cli.options import AppName
from windlass.cli.process import Level, Plan, hand_over, probe
from windlass.cli.status_line import StatusLine
from windlass.errors import ConfigurationError
from windlass.queues import Order


def add(cli: typer.Typer) -> None:
    """Add the command."""
    command(cli, "worker", panel="Work", opened=False)(worker)


def worker(
    *,
    app: AppName = None,
    queue: Annotated[
        list[str] | None,
        typer.Option(
            "--queue",
            "-q",
            metavar="NAME[,WEIGHT]",
            help="Take from this queue only; a weight as in mail,3. Repeatable.",
        ),
    ] = None,
    reserve: Annotated[
        list[str] | None,
        typer.Option(
            "--reserve", metavar="NAME=SLOTS", help="Keep slots for this queue alone, as in mail=2. Repeatable."
        ),
    ] = None,
    order: Annotated[
        Order | None,
        typer.Option("--order", help="How the queues share the slots; default weighted with weights, else merged."),
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option("--concurrency", "-c", min=1, help="Jobs at once per process.")
    ] = None,
    processes: Annotated[int, typer.Option("--processes", min=1, help="How many processes, under a supervisor.")] = 1,
    watch: Annotated[bool, typer.Option("--watch", help="Restart when the code changes. For development.")] = False,
    max_jobs: Annotated[
        int | None, typer.Option("--max-jobs", min=1, help="Replace a process after so many jobs.")
    ] = None,
    max_memory: Annotated[
        int | None, typer.Option("--max-memory", min=1, metavar="MIB", help="Replace a process that holds more.")
    ] = None,
    health: Annotated[
        str | None, typer.Option("--health", metavar="HOST:PORT", help="Answer health checks at /healthz.")
    ] = None,
    log_level: Annotated[Level, typer.Option("--log-level", help="What is logged about jobs.")] = "info",
    json_logs: Annotated[bool, typer.Option("--json-logs", help="Log JSON objects instead of text.")] = False,
) -> None:
    """Run jobs until told to stop.

    SIGTERM or Ctrl-C stops gracefully, a second one at once. Several processes, --watch, --max-jobs and --max-memory run
    under a supervisor, which starts again what dies; SIGHUP makes it restart them one after the other.

    Example: windlass worker shop:app --queue mail,3 --queue default,1 --concurrency 8 --processes 2
    """
    name = locate.named(app)
    if name is None:
        raise ConfigurationError(f"no app; {locate.NAME}, or set WINDLASS_APP, or `app` in [tool.windlass]")
    weights = dict(map(values.weighted, queue or ()))
    kept = dict(map(values.reserved, reserve or ()))
    if kept and not weights:
        raise ConfigurationError("--reserve needs the queues that the other slots are for; name them with --queue")
    plan = Plan(
        app=name, queues=tuple(dict.fromkeys((*weights, *kept))), reserved=kept, order=order,
        weights={queue: weight for queue, weight in weights.items() if weight is not None}, concurrency=concurrency, max_jobs=max_jobs, max_memory=max_memory,
        health=health, level=log_level, json_logs=json_logs,
    )  # fmt: skip
    if processes > 1 or watch or max_jobs or max_memory:
        raise typer.Exit(_supervise(plan, processes=processes, watch=watch))
    hand_over(plan)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - see windlass.cli.process


def _supervise(plan: Plan, *, processes: int, watch: bool) -> int:
    from windlass.worker.supervisor import Supervisor

    logs.setup(plan.level, worker="supervisor", as_json=plan.json_logs)
    hand_over(msgspec.structs.replace(plan, health=None))
    line = StatusLine()
    supervisor = Supervisor(
        # The words are for those who read `ps`; the process goes by the plan.
        [sys.executable, "-m", "windlass", "worker", plan.app or ""],
        processes=processes,
        watch=watch,
        on_tick=lambda members: line.draw([member.snapshot for member in members]),
    )
    with probe(plan.health, supervisor.health):
        code = supervisor.run()
    line.end()
    return code
