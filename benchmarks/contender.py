"""What a contender is: a module with a `CONTENDER`, which maps the names of works to functions.

Works and what their functions return, always in the units of `numbers.py`:

- a rate in jobs/s for everything done in bulk (`enqueue_one`, `drain`, ...);
- a mapping of named figures where one measurement yields several (`latency`, `idle`).

A function gets an empty folder on the disk that is measured, and runs in a fresh process of its own.
Contenders spell the same work alike, so that the table can put them side by side.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

Figure: TypeAlias = float | Mapping[str, float]
Work: TypeAlias = Callable[[Path], Figure]
Store: TypeAlias = Literal["sqlite", "postgres", "redis"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where to measure: `open` yields the URL of a store that is empty, `settle` brings it to rest once it is filled."""

    store: Store
    open: Callable[[Path], AbstractContextManager[str]]
    settle: Callable[[str], None]


def nothing() -> None:
    """Miss nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A named set of works on one store. Those in `drains` are also measured with a core kept awake.

    `missing` is asked before the first round: it returns why the contender cannot be measured here, or None.
    """

    name: str
    store: Store
    works: Mapping[str, Work]
    drains: frozenset[str] = frozenset()
    missing: Callable[[], str | None] = nothing
