"""How long jobs have waited and run, over the whole fleet: histograms that only grow.

Theory: workers add up what they see and write it now and then, with no transaction per job. The store knows nothing of
histograms: it keeps sums by name, one for each task, queue and bucket. Buckets are the same for everybody and always, so
that sums of different workers and releases can be added.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
"""Upper bounds of the buckets in seconds; one more holds what is longer."""
_SUM = len(BOUNDS) + 1
"""Where the microseconds are added up, behind the buckets."""
_MICRO = 1_000_000


class Histogram(msgspec.Struct, frozen=True, kw_only=True):
    """Durations in buckets."""

    buckets: tuple[int, ...] = (0,) * (len(BOUNDS) + 1)
    """How many were at most as long as each of ``BOUNDS`` and longer than the one before, and how many were longer."""
    total: float = 0.0
    """Seconds together."""

    @property
    def count(self) -> int:
        """How many there were."""
        return sum(self.buckets)

    @property
    def mean(self) -> float | None:
        """Seconds on average; ``None``: there were none."""
        return self.total / self.count if self.count else None

    def quantile(self, part: float) -> float | None:
        """Return the bound of the bucket that holds this part of all; ``None``: there were none, or it was longer than any."""
        wanted, seen = part * self.count, 0
        for bound, number in zip(BOUNDS, self.buckets, strict=False):
            seen += number
            if seen and seen >= wanted:
                return bound
        return None


class Measure(msgspec.Struct, frozen=True, kw_only=True):
    """What a task's attempts in a queue took, since the store was made."""

    queue: str
    task: str
    wait: Histogram
    """From when a job was available to when its handler started."""
    run: Histogram
    """From the start of a handler to its end, whatever that was."""


class Tape:
    """Adds up what one worker sees. Not safe by itself: whoever keeps it has the lock."""

    def __init__(self) -> None:
        self._sums: defaultdict[tuple[str, str], list[int]] = defaultdict(lambda: [0] * (2 * (_SUM + 1)))

    def __bool__(self) -> bool:
        """Whether it has seen anything."""
        return bool(self._sums)

    def add(self, queue: str, task: str, waited: float, ran: float) -> None:
        """Add an attempt; seconds."""
        sums = self._sums[queue, task]
        sums[bisect_left(BOUNDS, waited)] += 1
        sums[_SUM] += int(waited * _MICRO)
        sums[_SUM + 1 + bisect_left(BOUNDS, ran)] += 1
        sums[2 * _SUM + 1] += int(ran * _MICRO)

    def additions(self) -> dict[str, int]:
        """Return what is to be added to the store's sums."""
        return {
            msgspec.json.encode((queue, task, place)).decode(): value
            for (queue, task), sums in self._sums.items()
            for place, value in enumerate(sums)
            if value
        }


_name = msgspec.json.Decoder(tuple[str, str, int]).decode


def read(sums: Mapping[str, int]) -> list[Measure]:
    """Make measures of the store's sums, by queue and task."""
    found: defaultdict[tuple[str, str], Counter[int]] = defaultdict(Counter)
    for queue, task, place, value in _places(sums):
        found[queue, task][place] += value
    return [
        Measure(queue=queue, task=task, wait=_histogram(sums, 0), run=_histogram(sums, _SUM + 1))
        for (queue, task), sums in sorted(found.items())
    ]


def _places(sums: Mapping[str, int]) -> Iterator[tuple[str, str, int, int]]:
    for name, value in sums.items():
        try:
            queue, task, place = _name(name)
        except msgspec.MsgspecError:  # a newer release's own
            continue
        yield queue, task, place, value


def _histogram(sums: Mapping[int, int], start: int) -> Histogram:
    buckets = tuple(sums.get(start + place, 0) for place in range(_SUM))
    return Histogram(buckets=buckets, total=sums.get(start + _SUM, 0) / _MICRO)
