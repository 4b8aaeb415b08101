"""The application whose workers are killed; each handler notes its start, each refused write is noted too."""

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

from windlass import Context, LeaseLost, Windlass

FOLDER = Path(os.environ.get("CHAOS_FOLDER", "."))
LOST_AFTER = 3.0
app = Windlass(f"sqlite:///{FOLDER / 'chaos.db'}", beat=1, lost_after=LOST_AFTER, grace=1)


def note(**line: Any) -> None:
    """Append one line; a short write to a file opened for appending is atomic."""
    data = json.dumps({**line, "pid": os.getpid(), "at": time.time()}) + "\n"
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
