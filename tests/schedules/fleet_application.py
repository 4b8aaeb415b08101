"""Fifty schedules, declared by every process of a fleet; ``FLEET_SKEW`` is by how many seconds this one's clock is wrong."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime

_right = time.time
_skew = float(os.environ.get("FLEET_SKEW", "0"))
if _skew:
    time.time = lambda: _right() + _skew

from windlass import Windlass  # noqa: E402 - it must see the wrong clock only

SCHEDULES = 50
STEP = 60.0

app = Windlass(
    os.environ.get("FLEET_URL", "memory://"), beat=0.5, lost_after=2, poll=0.05, grace=1, durability="relaxed"
)


@app.task
def nothing(number: int) -> None: ...


for n in range(SCHEDULES):
    given = {
        "name": f"s{n}",
        "payload": {"number": n},
        "queue": [f"q{n % 3}", "default"] if n % 7 == 0 else f"q{n % 3}",
        "missed": "all",
        "overlap": "allow",
        "catch_up": 1000,
    }
    if n % 5 == 0:
        app.schedule(f"*/{n % 4 + 1} * * * *", **given)(nothing)  # type: ignore[arg-type]
    else:
        anchor = datetime.fromtimestamp(n, UTC)
        app.schedule(every=STEP * (n % 4 + 1), anchor=anchor, **given)(nothing)  # type: ignore[arg-type]
