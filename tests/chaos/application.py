"""The application whose workers are maltreated; each handler notes its start, each refused write is noted too.

``CHAOS_URL`` names the store, ``CHAOS_SKEW`` by how many seconds this process's clock is wrong; SIGUSR1 sets it an hour
forward, SIGUSR2 back. ``CHAOS_SHARE`` is how many seconds it may take until another gives its connection back.
"""

import asyncio
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

_right = time.time
_skew = float(os.environ.get("CHAOS_SKEW", "0"))


def _wrong() -> float:
    return _right() + _skew


def _jump(number: int, _frame: object) -> None:
    global _skew  # noqa: PLW0603 - the clock of the whole process
    _skew += 3600 if number == signal.SIGUSR1 else -3600


if "CHAOS_SKEW" in os.environ:
    time.time = _wrong
    signal.signal(signal.SIGUSR1, _jump)
    signal.signal(signal.SIGUSR2, _jump)

from windlass import Context, LeaseLost, Windlass  # noqa: E402 - it must see the wrong clock only

FOLDER = Path(os.environ.get("CHAOS_FOLDER", "."))
LOST_AFTER = float(os.environ.get("CHAOS_LOST_AFTER", "3"))


def make() -> Windlass:
    """Make the application, in the test as in its workers."""
    url = os.environ.get("CHAOS_URL", f"sqlite:///{FOLDER / 'chaos.db'}")
    return Windlass(url, beat=LOST_AFTER / 3, lost_after=LOST_AFTER, grace=1)


app = make()

if "CHAOS_SHARE" in os.environ:
    from windlass.drivers.postgres import pool

    pool.SHARE = float(os.environ["CHAOS_SHARE"])


def note(**line: Any) -> None:
    """Append one line; a short write to a file opened for appending is atomic."""
    data = json.dumps({**line, "pid": os.getpid(), "at": _right()}) + "\n"
    descriptor = os.open(FOLDER / "notes", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, data.encode())
    finally:
        os.close(descriptor)


@app.task
def in_thread(ctx: Context, length: float) -> None:
    note(what="start", job=ctx.job.id, lease=ctx.lease)
    ctx.cancelled.wait(length)


@app.task
async def on_loop(ctx: Context, length: float) -> None:
    note(what="start", job=ctx.job.id, lease=ctx.lease)
    await asyncio.sleep(length)


@app.on(LeaseLost)
def refused(event: LeaseLost) -> None:
    note(what="refused", job=event.job.id, lease=event.job.lease)
