"""Charts as SVG: shapes and no script; what they show is also told in words."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from windlass.observed import Sample

WIDTH, HEIGHT = 600, 120
MINUTES = 60
"""What the width stands for; the last minute is on the right."""


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
    """Draw what was processed and failed between each sample of a minute and the next, in the hour up to the last."""
    oldest = samples[-1].at - timedelta(minutes=MINUTES, seconds=30) if samples else None
    totals = [(sample.at, sample.total(queue)) for sample in samples if oldest is None or sample.at > oldest]
    steps = [
        (after[0], max(0, after[1].processed - before[1].processed), max(0, after[1].failed - before[1].failed))
        for before, after in itertools.pairwise(totals)
    ]
    most = max((done + failed for _, done, failed in steps), default=0)
    width = WIDTH / MINUTES
    bars = []
    for at, done, failed in steps:
        place = MINUTES - 1 - _minutes(at, steps[-1][0])
        high, low = (HEIGHT * value / most if most else 0.0 for value in (done, failed))
        bars.append(
            Bar(
                round(place * width, 2), round(max(1.0, width - 1), 2), round(HEIGHT - high, 2), round(high, 2),
                round(HEIGHT - high - low, 2), round(low, 2), f"{at:%H:%M}: {done} processed, {failed} failed",
            )
        )  # fmt: skip
    done, failed = sum(step[1] for step in steps), sum(step[2] for step in steps)
    minutes = _minutes(totals[0][0], totals[-1][0]) if totals else 0
    return Chart(tuple(bars), most, f"{done} processed and {failed} failed attempts in the last {minutes} minutes")


def _minutes(before: datetime, after: datetime) -> int:
    return round((after - before).total_seconds() / 60)
