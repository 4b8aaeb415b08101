"""Measure Windlass, its peers and the limits of this machine side by side: `python -m benchmarks --help`."""

import argparse
import importlib
import json
import platform
import sqlite3
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import numbers
from benchmarks.contender import Contender
from benchmarks.runner import Runner, Verdict, verdicts

CONTENDERS = {"raw": "benchmarks.raw", "huey": "benchmarks.huey_", "windlass": "benchmarks.windlass_"}
FOLDER = Path(__file__).parent.parent / "build" / "bench"


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").partition(":")[0])
    parser.add_argument(
        "--only", default=",".join(CONTENDERS), help="contenders or contender.work, with commas between"
    )
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds; the median counts (default: 3)")
    parser.add_argument("--json", action="store_true", help="print figures for programs")
    parser.add_argument("--awake", action="store_true", help="drain also with a core kept awake; the better counts")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where to put the databases (default: build/bench)")
    return parser.parse_args()


def chosen(only: str) -> list[Contender]:
    """Load the contenders that `--only` names, each with the works it names."""
    names = [name.strip() for name in only.split(",")]
    unknown = {name.partition(".")[0] for name in names} - set(CONTENDERS)
    if unknown:
        sys.exit(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(CONTENDERS)}")
    modules = [path for name, path in CONTENDERS.items() if any(n.partition(".")[0] == name for n in names)]
    loaded = [importlib.import_module(path).CONTENDER for path in modules]
    return [restricted(contender, names) for contender in loaded]


def restricted(contender: Contender, names: Sequence[str]) -> Contender:
    """Return the contender with those of its works that were named; all, if it was named as a whole."""
    if contender.name in names:
        return contender
    works = {work: function for work, function in contender.works.items() if f"{contender.name}.{work}" in names}
    return Contender(name=contender.name, works=works, drains=contender.drains)


def figures_table(figures: Mapping[str, Sequence[float]]) -> Table:
    """Lay out the median of each figure with its range."""
    table = Table("figure", title=f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, medians")
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
        table.add_row(goal.work, goal.against or numbers.unit(goal.work), *bounds, verdict.reached)
    return table


def shown(value: float | None) -> str:
    """Write a figure with as many digits as it deserves."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def main() -> None:
    """Run what was asked for and print it."""
    options = arguments()
    errors = Console(stderr=True, highlight=False)
    with errors.status("starting") as status:
        say = status.update if errors.is_terminal else errors.print
        runner = Runner(
            contenders=chosen(options.only),
            rounds=options.rounds,
            awake=options.awake,
            folder=options.folder.absolute(),
            progress=say,
        )
        judged = verdicts(runner.run())
    if options.json:
        goals = [{**asdict(v.goal), "measured": v.measured, "reached": v.reached} for v in judged]
        print(json.dumps({"figures": runner.figures, "goals": goals}, indent=2))
        return
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    console.print(figures_table(runner.figures), goals_table(judged), sep="\n")


if __name__ == "__main__":
    main()
