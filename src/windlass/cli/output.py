"""Printing: tables for people, aligned text for pipes, JSON for programs.

rich is loaded only where somebody watches; a pipe gets plain text.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from windlass import times
from windlass.report import as_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime

span = times.span
STYLES = {
    "pending": "cyan", "running": "blue", "completed": "green", "retrying": "yellow", "dead": "red", "lost": "red",
    "ok": "green", "note": "cyan", "warning": "yellow", "error": "red", "paused": "yellow", "stopping": "yellow",
}  # fmt: skip
"""Colours of words that stand alone in a cell."""


def terminal() -> bool:
    """Whether a person reads the output."""
    return sys.stdout.isatty()


def line(text: str = "", *, at_once: bool = False) -> None:
    """Print one line; *at_once*: it is one of a stream, which a pipe is not to hold back."""
    sys.stdout.write(clean(text) + "\n")
    if at_once:
        sys.stdout.flush()


def json(value: Any) -> None:
    """Print JSON with stable keys."""
    encoded = msgspec.json.encode(as_json(value))
    sys.stdout.write(msgspec.json.format(encoded, indent=2).decode() + "\n")


def json_line(value: Any) -> None:
    """Print JSON on one line, at once: one of a stream."""
    sys.stdout.write(msgspec.json.encode(as_json(value)).decode() + "\n")
    sys.stdout.flush()


def clean(text: object) -> str:
    """Make text safe for a terminal: an error message may hold anything."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in str(text))


def one_line(text: object, most: int = 100) -> str:
    """Make text fit a cell."""
    flat = " ".join(clean(text).split())
    return flat if len(flat) <= most else flat[: most - 1] + "…"


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None) -> None:
    """Print a table. Columns that begin with ``>`` are right-aligned."""
    cells = [["" if cell is None else one_line(cell) for cell in row] for row in rows]
    if terminal():
        _console().print(rich_table(columns, cells, title=title))
        return
    heads = [column.lstrip(">").upper() for column in columns]
    widths = [max(len(row[i]) for row in [heads, *cells]) for i in range(len(columns))]
    if title:
        line(title)
    for row in [heads, *cells]:
        padded = [c.rjust(w) if h[0] == ">" else c.ljust(w) for c, w, h in zip(row, widths, columns, strict=True)]
        line("  ".join(padded).rstrip())


def rich_table(columns: Sequence[str], cells: Sequence[Sequence[str]], *, title: str | None = None) -> Any:
    """Return a table that rich draws."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    made = Table(box=SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False)
    for column in columns:
        made.add_column(column.lstrip(">"), justify="right" if column[0] == ">" else "left")
    for row in cells:
        made.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in row))
    return made


def fields(pairs: Iterable[tuple[str, object]]) -> None:
    """Print names and values, leaving out what is not there."""
    shown = [(name, str(value)) for name, value in pairs if value not in (None, "", (), {})]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        first, *rest = value.splitlines() or [""]
        line(f"{name:<{width}}  {first}")
        for more in rest:
            line(f"{'':<{width}}  {more}")


@contextmanager
def progress(label: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Show a bar on a terminal; yields a function that takes how much more is done."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda more: bar.advance(task, more)


def time(value: datetime | None) -> str:
    """Show an instant in the reader's own zone."""
    return "" if value is None else value.astimezone().strftime("%Y-%m-%d %H:%M:%S %z")


def _console() -> Any:
    from rich.console import Console

    return Console(highlight=False)
