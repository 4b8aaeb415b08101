"""``windlass worker``: one worker in this process, or a supervisor over several."""

import logging
import os
import sys
from contextlib import nullcontext
from typing import Annotated, Any, Literal

import msgspec
import typer

from windlass.app import Windlass
from windlass.cli import locate, logs
from windlass.cli.command import command
from windlass.cli.failure import Code, code_of, say
from windlass.cli.options import AppName
from windlass.cli.status_line import StatusLine
from windlass.errors import ConfigurationError, WindlassError
from windlass.worker.leash import RECYCLED, Leash, attach, own_files, project_files

Level = Literal["debug", "info", "warning", "error"]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What the options say about one worker process."""

    app: str | None
    queues: tuple[str, ...]
    concurrency: int | None
    max_jobs: int | None
    max_memory: int | None
    level: Level
    json_logs: bool

    def arguments(self) -> list[str]:
        """Spell them out again, for a process of the supervisor's."""
        words = [word for queue in self.queues for word in ("--queue", queue)]
        numbers = {"--concurrency": self.concurrency, "--max-jobs": self.max_jobs, "--max-memory": self.max_memory}
        words += [word for flag, number in numbers.items() if number is not None for word in (flag, str(number))]
        words += ["--log-level", self.level]
        words += ["--json-logs"] if self.json_logs else []
        return words + (["--app", self.app] if self.app is not None else [])


def add(cli: typer.Typer) -> None:
    """Add the command."""
    command(cli, "worker", panel="Work", opened=False)(worker)


def worker(
    *,
    app: AppName = None,
    queue: Annotated[
        list[str] | None, typer.Option("--queue", "-q", metavar="NAME", help="Take from this queue only. Repeatable.")
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

    Example: windlass worker shop:app --queue mail --queue default --concurrency 8 --processes 2
    """
    leash = attach()
    plan = Plan(
        app=app, queues=tuple(queue or ()), concurrency=concurrency, max_jobs=max_jobs, max_memory=max_memory,
        level=log_level, json_logs=json_logs,
    )  # fmt: skip
    if leash is None and (processes > 1 or watch or max_jobs or max_memory):
        raise typer.Exit(_supervise(plan, processes=processes, watch=watch, health=health))
    code = _work(plan, leash, health)
    raise typer.Exit(code)


def _supervise(plan: Plan, *, processes: int, watch: bool, health: str | None) -> int:
    from windlass.worker.supervisor import Supervisor

    logs.setup(plan.level, worker="supervisor", as_json=plan.json_logs)
    if plan.app is None:
        plan = msgspec.structs.replace(plan, app=locate.named(None))
    line = StatusLine()
    supervisor = Supervisor(
        [sys.executable, "-m", "windlass", "worker", *plan.arguments()],
        processes=processes,
        watch=watch,
        on_tick=lambda members: line.draw([member.snapshot for member in members]),
    )
    with _probe(health, supervisor.health):
        code = supervisor.run()
    line.end()
    return code


def _work(plan: Plan, leash: Leash | None, health: str | None) -> int:
    try:
        app = locate.find(plan.app, None, tasks_needed=True)
    except WindlassError as error:
        if leash is not None:
            blamed = error.files if isinstance(error, locate.AppImportError) else ()
            leash.tell_files(project_files() | set(own_files(blamed)))
        say(error)
        return code_of(error)
    if leash is not None:
        leash.tell_files(project_files())
    logs.setup(plan.level, worker=leash.name if leash is not None else "", as_json=plan.json_logs)
    with app:
        if not app.capabilities.shared:
            logging.getLogger("windlass").warning("this store is private to one process: nobody else can enqueue here")
        return _run(app, plan, leash, health)


def _run(app: Windlass, plan: Plan, leash: Leash | None, health: str | None) -> int:
    if not app.tasks:
        raise ConfigurationError(f"{plan.app or 'the app'} has no tasks; import the modules that register them")
    made = app.worker(
        concurrency=plan.concurrency, queues=plan.queues or None, max_jobs=plan.max_jobs, max_memory=plan.max_memory
    )
    line = StatusLine() if leash is None else None

    def tick(snapshot: Any) -> None:
        shown = msgspec.to_builtins(snapshot)
        if leash is not None:
            leash.tell(snapshot=shown)
            leash.tell_files(project_files())
        elif line is not None:
            line.draw([shown])

    def look() -> tuple[bool, Any]:
        snapshot = made.snapshot()
        return snapshot.healthy, msgspec.to_builtins(snapshot)

    with _probe(health, look):
        reason = made.run(on_tick=tick)
    if line is not None:
        line.end()
    code = Code.OK if reason == "stopped" else RECYCLED if reason in ("max_jobs", "max_memory") else Code.FAILED
    if made.snapshot().running or made.snapshot().stuck:
        # A thread that does not stop would hold the process; its jobs were given back.
        logging.shutdown()
        os._exit(code)
    return code


def _probe(address: str | None, look: Any) -> Any:
    """Serve health checks, if they are wanted."""
    if address is None:
        return nullcontext()
    from windlass.worker.health import Health

    return Health(address, look)
