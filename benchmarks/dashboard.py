"""How long the server takes for each page of the dashboard over a store with a million jobs.

    python -m benchmarks.dashboard                      SQLite, in build/bench
    python -m benchmarks.dashboard postgresql://…       a database of your own; its tables are filled

It needs what `make test` needs (`.venv/bin/python -m benchmarks.dashboard`). Of each page the median and the slowest of ten
requests after the first is printed, over HTTP on this machine; the must is 100 ms.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from tools.screenshots import served
from windlass import Failure, Windlass, failures, lifecycle
from windlass.dashboard import Dashboard
from windlass.drivers.base import Turn, Worker
from windlass.job import NewJob
from windlass.lifecycle import Settlement

if TYPE_CHECKING:
    from collections.abc import Callable

    from windlass.drivers.base import Driver
    from windlass.job import Record
    from windlass.lifecycle import Transition

JOBS = 1_000_000
QUEUES, TASKS, CAUSES = 10, 50, 40
MUST = 100.0
WORKER = "bench"
PAGES = (
    "/", "/queues", "/jobs", "/jobs?status=completed", "/jobs?status=dead", "/jobs?status=pending&queue=q3",
    "/jobs?task=t7&status=completed", "/jobs?tag=rare", "/jobs?after=500000", "/jobs/500000", "/failures", "/batches",
    "/schedules", "/workers", "/audit", "/api/stats", "/api/jobs?limit=100", "/api/failures", "/metrics", "/live.json",
)  # fmt: skip


def fill(driver: Driver, number: int) -> None:
    """Store jobs of many tasks: of ten six are completed, one is dead, one is tried again, one waits for its time, one waits."""
    tasks = tuple(f"t{n}" for n in range(TASKS))
    driver.beat(Worker(id=WORKER, host="h", pid=1, tasks=tasks, concurrency=10, lost_after=86400.0))
    for start in range(0, number, 5000):
        driver.insert([_job(n) for n in range(start, min(number, start + 5000))])
    errors = [
        failures.encode(
            Failure(type="ValueError", message=f"cause {chr(65 + n % 26)}{chr(97 + n // 26)}", traceback="x" * 1500)
        )
        for n in range(CAUSES)
    ]
    settled: list[Settlement] = []
    left = number * 8 // 10
    while left or settled:
        turn = Turn(worker=WORKER, settlements=settled, limit=min(500, left), start=500, tasks=tasks)
        turned = driver.exchange(turn)
        left = max(0, left - len(turned.claims)) if turned.claims else 0
        settled = [Settlement(r, _end(r, errors, turned.now), turned.now) for r in turned.claims]


def _job(n: int) -> NewJob:
    delay = 86400.0 if n % 10 == 9 else 0.0
    tags = ("rare",) if n % 10_000 == 0 else ()
    return NewJob(task=f"t{n % TASKS}", queue=f"q{n % QUEUES}", payload=b'{"user":%d}' % n, delay=delay, tags=tags)


def _end(record: Record, errors: list[bytes], now: float) -> Transition:
    match record.id % 8:
        case 0:
            return lifecycle.fail(record, errors[record.id // 8 % CAUSES], max_attempts=1, delay=0, now=now)
        case 1:
            return lifecycle.fail(record, errors[record.id // 8 % CAUSES], max_attempts=9, delay=86400.0, now=now)
    return lifecycle.succeed(record, None)


def measure(address: str, path: str) -> tuple[float, float]:
    """Return the median and the longest of ten requests, in milliseconds."""
    with httpx.Client(base_url=address, headers={"authorization": "Bearer t"}, timeout=60) as client:
        client.get(path).raise_for_status()
        return _times(lambda: client.get(path).raise_for_status())


def _times(ask: Callable[[], object]) -> tuple[float, float]:
    found = []
    for _ in range(10):
        before = time.perf_counter()
        ask()
        found.append((time.perf_counter() - before) * 1000)
    return statistics.median(found), max(found)


def main() -> None:
    """Fill, ask, print."""
    folder = Path("build/bench")
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "dashboard.db"
    url = sys.argv[1] if len(sys.argv) > 1 else f"sqlite:///{file}"
    with Windlass(url, durability="relaxed") as app:
        if app.stats().totals.enqueued < JOBS:
            fill(app.driver, JOBS)
        app.driver.tidy()  # as every worker does each minute
        stats = app.stats()
        print(
            ", ".join(
                f"{getattr(stats, name):,} {name}" for name in ("completed", "dead", "retrying", "scheduled", "pending")
            )
        )
        with served(Dashboard(app, tokens={"t": "admin"})) as address:
            for path in PAGES:
                median, longest = measure(address, path)
                print(f"{path:36} {median:8.1f} ms {longest:8.1f} ms{'' if median <= MUST else '   over'}")


if __name__ == "__main__":
    main()
