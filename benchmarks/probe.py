"""What a handler notes while a worker is measured, and how the one who measures gets to read it.

A worker process imports this module, its handlers call `ran()` or `started(sent)`, and at its end the process writes
its notes into the folder named by `BENCH_NOTES`. Times are of `CLOCK_MONOTONIC`, which processes share.
"""

import atexit
import json
import os
import statistics
import time
from collections.abc import Mapping
from pathlib import Path

FOLDER = "BENCH_NOTES"
runs: list[float] = []
delays: list[float] = []


def ran() -> None:
    """Note that a handler runs now."""
    runs.append(time.monotonic())


def started(sent: float) -> None:
    """Note how long after `sent`, a monotonic instant, a handler starts."""
    delays.append(time.monotonic() - sent)


def write() -> None:
    """Leave the notes of this process for `read`, if it has made any."""
    folder = os.environ.get(FOLDER)
    if folder and (runs or delays):
        notes = {"runs": runs, "delays": delays}
        Path(folder, f"notes-{os.getpid()}.json").write_text(json.dumps(notes), encoding="utf-8")


def read(folder: Path, kind: str) -> list[float]:
    """Return the notes of one kind that the processes of a measurement have left, in order."""
    notes = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("notes-*.json")]
    return sorted(value for note in notes for value in note[kind])


def clear(folder: Path) -> None:
    """Throw away what an earlier measurement has left."""
    for path in folder.glob("notes-*.json"):
        path.unlink()


def quantiles(delays: list[float]) -> Mapping[str, float]:
    """Return the median and the 99th percentile of delays in seconds, in milliseconds."""
    cuts = statistics.quantiles(delays, n=100, method="inclusive")
    return {"p50": cuts[49] * 1e3, "p99": cuts[98] * 1e3}


atexit.register(write)
