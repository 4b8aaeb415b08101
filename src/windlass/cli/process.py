"""One worker process, as ``windlass worker`` and its supervisor start it.

typer and what it brings weigh a third of a worker. So the command line only makes a ``Plan``, and the worker runs in a
process that has never loaded them: the supervisor's children from the start, a single worker by ``exec``, which keeps
its process id.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from windlass.cli import locate, logs
from windlass.cli.failure import Code, code_of, say
from windlass.cli.status_line import StatusLine
from windlass.errors import ConfigurationError, WindlassError
from windlass.queues import Order, Queues, Reserved
from windlass.worker.leash import RECYCLED, Leash, attach, own_files, project_files

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from windlass.app import Windlass

VARIABLE = "WINDLASS_WORKER_PLAN"
"""Carries the plan to the process that follows it."""
Level = Literal["debug", "info", "warning", "error"]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line said about one worker process."""

    app: str | None = None
    queues: tuple[str, ...] = ()
    weights: dict[str, int] = {}
    reserved: dict[str, int] = {}
    order: Order | None = None
    concurrency: int | None = None
    max_jobs: int | None = None
    max_memory: int | None = None
    health: str | None = None
    level: Level = "info"
    json_logs: bool = False

    def chosen(self) -> Queues | None:
        """Return the queues as ``app.worker`` takes them."""
        if not self.weights and not self.reserved:
            return self.queues or None
        return {
            name: Reserved(self.reserved[name]) if name in self.reserved else self.weights.get(name)
            for name in self.queues
        }


def hand_over(plan: Plan) -> None:
    """Leave the plan where the next process finds it."""
    os.environ[VARIABLE] = msgspec.json.encode(plan).decode()


def main() -> int:
    """Work by the plan that was handed over; return the exit code."""
    plan = msgspec.json.decode(os.environ.pop(VARIABLE), type=Plan)  # not for what handlers start
    leash = attach()
    try:
        return _work(plan, leash)
    except WindlassError as error:
        if leash is not None:
            blamed = error.files if isinstance(error, locate.AppImportError) else ()
            leash.tell_files(project_files() | set(own_files(blamed)))
        say(error)
        return code_of(error)
    except KeyboardInterrupt:
        return 130


def _work(plan: Plan, leash: Leash | None) -> int:
    app = locate.find(plan.app, None, tasks_needed=True)
    if leash is not None:
        leash.tell_files(project_files())
    logs.setup(plan.level, worker=leash.name if leash is not None else "", as_json=plan.json_logs)
    if not app.tasks:
        raise ConfigurationError(f"{plan.app or 'the app'} has no tasks; import the modules that register them")
    with app:
        if not app.capabilities.shared:
            logging.getLogger("windlass").warning("this store is private to one process: nobody else can enqueue here")
        return _run(app, plan, leash)


def _run(app: Windlass, plan: Plan, leash: Leash | None) -> int:
    worker = app.worker(
        concurrency=plan.concurrency,
        queues=plan.chosen(),
        order=plan.order,
        max_jobs=plan.max_jobs,
        max_memory=plan.max_memory,
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
        snapshot = worker.snapshot()
        return snapshot.healthy, msgspec.to_builtins(snapshot)

    with probe(plan.health, look):
        reason = worker.run(on_tick=tick)
    if line is not None:
        line.end()
    code = Code.OK if reason == "stopped" else RECYCLED if reason in ("max_jobs", "max_memory") else Code.FAILED
    last = worker.snapshot()
    if last.running or last.stuck:
        # A thread that does not stop would hold the process; its jobs were given back.
        logging.shutdown()
        sys.stdout.flush()
        os._exit(code)
    return code


def probe(address: str | None, look: Callable[[], tuple[bool, Any]]) -> AbstractContextManager[object]:
    """Serve health checks, if they are wanted."""
    if address is None:
        return nullcontext()
    from windlass.worker.health import Health

    return Health(address, look)
