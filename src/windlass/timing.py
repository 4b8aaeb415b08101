"""When a schedule ticks: by cron expression or in even steps, and which ticks a span of time holds."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

import msgspec

from windlass.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

_MICRO = 1_000_000
SHORTEST = 0.001
"""Seconds between two ticks at least."""
COUNTED = 10_000
"""Ticks of a cron expression that are counted one by one at most; only an outage of weeks holds more."""


class Timing(Protocol):
    """What says when the next tick is."""

    def next(self, after: float) -> float | None:
        """Return the first tick after an instant."""


class Due(msgspec.Struct, frozen=True):
    """The ticks of a span."""

    ticks: tuple[float, ...]
    """The newest, oldest first."""
    older: int | None = 0
    """How many more there were before them; ``None``: more than anybody has counted."""
    first: float | None = None
    """The first of the older ones."""
    last: float | None = None
    """The last of the older ones."""


class Interval:
    """Ticks at ``anchor + n * every``, so that every process computes the same; exact to the microsecond.

    Raises:
        ConfigurationError: *every* is too short.
    """

    __slots__ = ("_anchor", "_every")

    def __init__(self, every: float, anchor: float = 0.0) -> None:
        if every < SHORTEST:
            raise ConfigurationError(f"every must be at least {SHORTEST:g} s, not {every!r}")
        self._every = round(every * _MICRO)
        self._anchor = round(anchor * _MICRO)

    def next(self, after: float) -> float:
        """Return the first tick after an instant."""
        return self._at(self._number(after) + 1)

    def due(self, after: float, until: float, most: int) -> Due:
        """Return the ticks of ``(after, until]`` without walking over them."""
        first, last = self._number(after) + 1, self._number(until)
        start = max(first, last - most + 1)
        ticks = tuple(self._at(n) for n in range(start, last + 1))
        if start == first:
            return Due(ticks)
        return Due(ticks, start - first, self._at(first), self._at(start - 1))

    def _number(self, at: float) -> int:
        return (round(at * _MICRO) - self._anchor) // self._every

    def _at(self, number: int) -> float:
        return (self._anchor + number * self._every) / _MICRO


def due(timing: Timing, after: float, until: float, most: int) -> Due:
    """Return the newest *most* ticks of ``(after, until]``; after a long outage without walking over all of them."""
    if isinstance(timing, Interval):
        return timing.due(after, until, most)
    newest: deque[float] = deque(maxlen=most + 1)
    first = timing.next(after)
    count = 0
    for count, tick in enumerate(_walk(timing, after, until), start=1):
        newest.append(tick)
        if count == COUNTED:
            break
    else:
        return _split(newest, most, count - most, first)
    span = 60.0
    while span == 60.0 or len(newest) <= most:
        newest = deque(_walk(timing, max(after, until - span), until), maxlen=most + 1)
        span *= 2
    return _split(newest, most, None, first)


def _split(newest: deque[float], most: int, older: int | None, first: float | None) -> Due:
    if len(newest) <= most:
        return Due(tuple(newest))
    last, *ticks = newest
    return Due(tuple(ticks), older, first, last)


def _walk(timing: Timing, after: float, until: float) -> Iterator[float]:
    tick = timing.next(after)
    while tick is not None and tick <= until:
        yield tick
        tick = timing.next(tick)
