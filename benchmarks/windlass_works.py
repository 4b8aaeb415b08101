"""What is measured of Windlass on whichever store: each work opens the store, and an application with a worker's tasks."""

import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import probe, process
from benchmarks.contender import Place
from benchmarks.raw import rate
from benchmarks.windlass_worker import application
from windlass import Windlass

ASYNC, THREADS = "200", "64"
"""Jobs at once: what each lane does best with."""
LOOK = 0.02
"""Seconds between two looks at what is done."""
PAYLOAD = (12345, "someone@example.com", "welcome")


def worker(url: str, concurrency: str = ASYNC, *queues: str) -> tuple[str, ...]:
    """Return the arguments of Python for a worker process, for all queues if none is named."""
    return ("-m", "benchmarks.windlass_worker", url, concurrency, *queues)


def enqueue_one(place: Place, folder: Path, count: int = 3_000) -> float:
    """Enqueue one job at a time."""
    with place.open(folder) as url, application(url) as app:

        def one_by_one(count: int = count) -> None:
            for _ in range(count):
                app.tasks["send_email"].enqueue(user_id=12345, email="someone@example.com", template="welcome")

        one_by_one(20)
        return rate(count, one_by_one)


def enqueue_32_threads(place: Place, folder: Path, each: int = 300, threads: int = 32) -> float:
    """Enqueue one job at a time in each of many threads."""
    with place.open(folder) as url, application(url) as app:

        def one_by_one(count: int) -> None:
            for _ in range(count):
                app.tasks["send_email"].enqueue(user_id=12345, email="someone@example.com", template="welcome")

        def together(count: int = each) -> None:
            running = [threading.Thread(target=one_by_one, args=(count,)) for _ in range(threads)]
            for thread in running:
                thread.start()
            for thread in running:
                thread.join()

        together(5)
        return rate(each * threads, together)


def enqueue_many(place: Place, folder: Path, count: int = 50_000) -> float:
    """Enqueue many jobs with one call."""
    with place.open(folder) as url, application(url) as app:
        fill(app, "send_email", 20)
        return rate(count, lambda: fill(app, "send_email", count))


def fill(app: Windlass, task: str, count: int, queue: str = "default") -> None:
    """Enqueue `count` jobs of a task."""
    chosen = app.tasks[task].using(queue=queue)
    app.enqueue_many([chosen.job(*PAYLOAD) for _ in range(count)])


def drain(place: Place, folder: Path, count: int = 20_000, *, lane: str = "async", processes: int = 1) -> float:
    """Run no-op jobs in worker processes: from the first start of a handler until the store says that all are done."""
    with place.open(folder) as url, application(url) as app:
        fill(app, "note_run" if lane == "async" else "note_run_in_thread", count)
        place.settle(url)
        return emptied(app, folder, count, worker(url, ASYNC if lane == "async" else THREADS), processes=processes)


def emptied(app: Windlass, folder: Path, count: int, arguments: Sequence[str], *, processes: int = 1) -> float:
    """Start workers for `count` jobs, and return the rate when all are done."""
    before = app.count(status="completed")
    probe.clear(folder)
    with process.workers(folder, arguments, count=processes):
        process.until(lambda: app.count(status="completed") == before + count, pause=LOOK)
        done = time.monotonic()
    runs = probe.read(folder, "runs")
    if len(runs) != count:
        raise RuntimeError(f"{len(runs)} jobs of {count} ran")
    return count / (max(done - LOOK / 2, runs[-1]) - runs[0])


def drain_threads(place: Place, folder: Path) -> float:
    """Run the same jobs in the thread lane."""
    return drain(place, folder, lane="thread")


def drain_2_processes(place: Place, folder: Path) -> float:
    """Run more of the same jobs with two worker processes."""
    return drain(place, folder, count=40_000, processes=2)


def latency(place: Place, folder: Path, samples: int = 200, apart: float = 0.05) -> Mapping[str, float]:
    """Enqueue single jobs for an idle worker in another process, and measure until the handler starts."""
    with place.open(folder) as url, application(url) as app:
        with process.workers(folder, worker(url, "10")):
            process.until(lambda: bool(app.workers()))
            for _ in range(samples):
                app.tasks["note_delay"].enqueue(time.monotonic())
                time.sleep(apart)
            process.until(lambda: app.count(status="completed") == samples)
        return probe.quantiles(probe.read(folder, "delays"))


def idle(place: Place, folder: Path) -> Mapping[str, float]:
    """Measure an idle worker, and the import of the package."""
    with place.open(folder) as url, process.workers(folder, worker(url, "10")) as (process_,):
        return {**process.idle(process_), "import": process.import_time("windlass")}


COMMON = (
    enqueue_one,
    enqueue_32_threads,
    enqueue_many,
    drain,
    drain_threads,
    drain_2_processes,
    latency,
    idle,
)
"""What is measured on every store."""
