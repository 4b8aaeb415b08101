"""Charts as SVG: shapes and no script; what they show is also told in words."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from windlass.observed import Sample

WIDTH, HEIGHT = 600, 120


class Bar(msgspec.Struct, frozen=True):
    """What ended between two samples."""

    x: float
    width: float
    done_y: float
    done_height: float
    failed_y: float
    failed_height: float
    title: str


class Chart(msgspec.Struct, frozen=True):
    """Bars of what was processed, and on them what failed."""

    bars: tuple[Bar, ...]
    most: int
    """What the full height stands for."""
    words: str
    """The same for those who do not see it."""
    width: int = WIDTH
    height: int = HEIGHT


def throughput(samples: Sequence[Sample], queue: str | None = None) -> Chart:
    """Draw what was processed and failed between each sample and the next."""
    totals = [(sample.at, sample.total(queue)) for sample in samples]
    steps = [
        (after[0], max(0, after[1].processed - before[1].processed), max(0, after[1].failed - before[1].failed))
        for before, after in itertools.pairwise(totals)
    ]
    most = max((done + failed for _, done, failed in steps), default=0)
    width = WIDTH / max(1, len(steps))
    bars = []
    for place, (at, done, failed) in enumerate(steps):
        high, low = (HEIGHT * value / most if most else 0.0 for value in (done, failed))
        bars.append(
            Bar(
                round(place * width, 2), round(max(1.0, width - 1), 2), round(HEIGHT - high, 2), round(high, 2),
                round(HEIGHT - high - low, 2), round(low, 2), f"{at:%H:%M}: {done} processed, {failed} failed",
            )
        )  # fmt: skip
    done, failed = sum(step[1] for step in steps), sum(step[2] for step in steps)
    return Chart(tuple(bars), most, f"{done} processed and {failed} failed attempts in the last {len(steps)} minutes")
