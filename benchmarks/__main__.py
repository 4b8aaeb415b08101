"""Measure Windlass, its peers and the limits of this machine side by side: `python -m benchmarks --help`."""

import argparse
import importlib
import json
import platform
import signal
import sqlite3
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

from benchmarks import numbers
from benchmarks.contender import Contender
from benchmarks.runner import Runner, Verdict, verdicts

CONTENDERS = {
    "raw": "benchmarks.raw:CONTENDER",
    "huey": "benchmarks.huey_:CONTENDER",
    "windlass": "benchmarks.windlass_:CONTENDER",
    "raw_postgres": "benchmarks.raw_postgres:CONTENDER",
    **{name: f"benchmarks.peers.contenders:{name.upper()}" for name in numbers.POSTGRES_PEERS},
    "windlass_postgres": "benchmarks.windlass_postgres:CONTENDER",
    "raw_redis": "benchmarks.raw_redis:CONTENDER",
    **{name: f"benchmarks.peers.contenders:{name.upper()}" for name in numbers.REDIS_PEERS},
    "windlass_redis": "benchmarks.windlass_redis:CONTENDER",
}
FOLDER = Path(__file__).parent.parent / "build" / "bench"


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").partition(":")[0])
    parser.add_argument(
        "--only", default=",".join(CONTENDERS), help="contenders or contender.work, with commas between"
    )
    parser.add_argument("--store", default="all", choices=["sqlite", "postgres", "redis", "all"], help="default: all")
    parser.add_argument(
        "--appendonly", default="no", choices=["no", "everysec"], help="how Redis keeps what is written (default: no)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds; the median counts (default: 3)")
    parser.add_argument("--json", action="store_true", help="print figures for programs")
    parser.add_argument("--awake", action="store_true", help="drain also with a core kept awake; the better counts")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where to put the databases (default: build/bench)")
    return parser.parse_args()


def chosen(only: str, store: str) -> list[Contender]:
    """Load the contenders on this store that `--only` names, each with the works it names."""
    names = [name.strip() for name in only.split(",")]
    unknown = {name.partition(".")[0] for name in names} - set(CONTENDERS)
    if unknown:
        sys.exit(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(CONTENDERS)}")
    loaded = [load(path) for name, path in CONTENDERS.items() if any(n.partition(".")[0] == name for n in names)]
    return [restricted(contender, names) for contender in loaded if store in (contender.store, "all")]


def load(path: str) -> Contender:
    """Import a contender, written `module:name`."""
    module, _, name = path.partition(":")
    contender: Contender = getattr(importlib.import_module(module), name)
    return contender


def restricted(contender: Contender, names: Sequence[str]) -> Contender:
    """Return the contender with those of its works that were named; all, if it was named as a whole."""
    if contender.name in names:
        return contender
    works = {work: function for work, function in contender.works.items() if f"{contender.name}.{work}" in names}
    if unknown := [name for name in names if name.startswith(f"{contender.name}.") and name.split(".")[1] not in works]:
        sys.exit(f"unknown: {', '.join(unknown)}; {contender.name} has {', '.join(contender.works)}")
    return replace(contender, works=works)


def present(contenders: Sequence[Contender], say: Callable[[str], None]) -> list[Contender]:
    """Leave out what cannot be measured here, and say why."""
    reasons = {contender.name: contender.missing() for contender in contenders}
    for name, reason in reasons.items():
        if reason:
            say(f"{name} is left out: {reason}")
    return [contender for contender in contenders if not reasons[contender.name]]


def figures_table(figures: Mapping[str, Sequence[float]], versions: str) -> Table:
    """Lay out the median of each figure with its range."""
    table = Table("figure", title=f"{versions}, medians")
    for column in ("median", "lowest", "highest"):
        table.add_column(column, justify="right")
    table.add_column("unit")
    for name, values in sorted(figures.items()):
        cells = [shown(value) for value in (statistics.median(values), min(values), max(values))]
        table.add_row(name, *cells, numbers.unit(name))
    return table


def goals_table(judged: Sequence[Verdict]) -> Table:
    """Lay out what was to be reached."""
    table = Table("work", "against", title="Numbers to reach: so many times the figure named, or at most")
    for column in ("measured", "must", "aim"):
        table.add_column(column, justify="right")
    table.add_column("reached")
    for verdict in judged:
        goal = verdict.goal
        bounds = [shown(value) for value in (verdict.measured, goal.must, goal.aim)]
        table.add_row(goal.work, against(verdict), *bounds, verdict.reached)
    return table


def against(verdict: Verdict) -> str:
    """Say what a work was compared with: the best of several, its own unit, or what it would have been."""
    goal = verdict.goal
    if not goal.against:
        return numbers.unit(goal.work)
    best = verdict.against or goal.against[0]
    return best if len(goal.against) == 1 else f"{best.partition('.')[0] if verdict.against else 'the best'}, of peers"


def shown(value: float | None) -> str:
    """Write a figure with as many digits as it deserves."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def main() -> None:
    """Run what was asked for and print it."""
    options = arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # servers and workers end with this process
    errors = Console(stderr=True, highlight=False)
    with errors.status("starting") as status:
        say = status.update if errors.is_terminal else errors.print
        contenders, versions = chosen(options.only, options.store), [f"Python {platform.python_version()}"]
        folder = options.folder.absolute()
        stores = sorted({contender.store for contender in contenders}, reverse=True)
        with ExitStack() as stack:
            if "sqlite" in stores:
                versions.append(f"SQLite {sqlite3.sqlite_version}")
            if "postgres" in stores:
                versions.append(serve_postgres(stack, folder))
            if "redis" in stores:
                versions.append(serve_redis(stack, folder, options.appendonly))
            runner = Runner(
                contenders=present(contenders, errors.print),
                rounds=options.rounds,
                awake=options.awake,
                folder=folder,
                progress=say,
            )
            try:
                runner.run()
            except KeyboardInterrupt:
                runner.failures.append("stopped: the figures are of what was measured until then")
        judged = verdicts(runner.medians(), stores)
    if options.json:
        goals = [{**asdict(v.goal), "measured": v.measured, "reached": v.reached} for v in judged]
        print(json.dumps({"versions": versions, "figures": runner.figures, "goals": goals}, indent=2))
    else:
        console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
        console.print(figures_table(runner.figures, ", ".join(versions)), goals_table(judged), sep="\n")
    for failure in runner.failures:
        errors.print(failure, style="red")
    sys.exit(bool(runner.failures))


def serve_postgres(stack: ExitStack, folder: Path) -> str:
    """Have a server to measure on until the stack ends, and return its name and version."""
    from benchmarks import postgres

    stack.enter_context(postgres.server(folder / "postgres"))
    return f"PostgreSQL {postgres.version()}"


def serve_redis(stack: ExitStack, folder: Path, appendonly: Literal["no", "everysec"]) -> str:
    """Have a server to measure on until the stack ends, and return its name, version and durability."""
    from benchmarks import redis_server

    stack.enter_context(redis_server.server(folder / "redis", appendonly))
    return redis_server.version()


if __name__ == "__main__":
    main()
