"""Windlass itself, on SQLite at `durability="full"` and in memory."""

import threading
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks import probe, process
from benchmarks.contender import Contender
from benchmarks.raw import rate
from benchmarks.windlass_worker import application, in_folder

WORKER = ("-m", "benchmarks.windlass_worker")
ASYNC, THREADS = "200", "64"
"""Jobs at once: what each lane does best with."""


def enqueue_one(folder: Path, count: int = 3_000) -> float:
    """Enqueue one job at a time."""
    app = in_folder(folder)
    send_email = app.tasks["send_email"]

    def one_by_one() -> None:
        for _ in range(count):
            send_email.enqueue(user_id=12345, email="someone@example.com", template="welcome")

    app.stats()
    return rate(count, one_by_one)


def enqueue_32_threads(folder: Path, each: int = 300, threads: int = 32) -> float:
    """Enqueue one job at a time in each of many threads."""
    app = in_folder(folder)
    send_email = app.tasks["send_email"]
    app.stats()

    def one_by_one() -> None:
        for _ in range(each):
            send_email.enqueue(user_id=12345, email="someone@example.com", template="welcome")

    def together() -> None:
        running = [threading.Thread(target=one_by_one) for _ in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()

    return rate(each * threads, together)


def enqueue_many(folder: Path, count: int = 50_000) -> float:
    """Enqueue many jobs with one call."""
    app = in_folder(folder)
    send_email = app.tasks["send_email"]
    app.stats()

    def at_once() -> None:
        jobs = [send_email.job(user_id=12345, email="someone@example.com", template="welcome") for _ in range(count)]
        app.enqueue_many(jobs)

    return rate(count, at_once)


def drain(folder: Path, count: int = 20_000, *, lane: str = "async", processes: int = 1) -> float:
    """Run no-op jobs in worker processes: from the first start of a handler until the store says that all are done."""
    app = in_folder(folder)
    task = app.tasks["note_run" if lane == "async" else "note_run_in_thread"]
    app.enqueue_many([task.job(12345, "someone@example.com", "welcome") for _ in range(count)])
    done = 0.0
    with process.workers(folder, (*WORKER, ASYNC if lane == "async" else THREADS), count=processes):
        process.until(lambda: app.count(status="completed") == count)
        done = time.monotonic()
    runs = probe.read(folder, "runs")
    if len(runs) != count:
        raise RuntimeError(f"{len(runs)} jobs of {count} ran")
    return count / (max(done - 0.01, runs[-1]) - runs[0])  # half of until()'s pause


def drain_threads(folder: Path) -> float:
    """Run the same jobs in the thread lane."""
    return drain(folder, lane="thread")


def drain_2_processes(folder: Path) -> float:
    """Run more of the same jobs with two worker processes."""
    return drain(folder, count=40_000, processes=2)


def drain_memory(_folder: Path, count: int = 30_000) -> float:
    """Run no-op jobs of the memory store in this process."""
    local = application("memory://")
    ran = local.tasks["note_run"]
    local.enqueue_many([ran.job(12345, "someone@example.com", "welcome") for _ in range(count)])
    with local.worker(concurrency=int(ASYNC)):
        process.until(lambda: local.count(status="completed") == count, pause=0.005)
    return count / (probe.runs[-1] - probe.runs[0])


def latency(folder: Path, samples: int = 200, apart: float = 0.05) -> Mapping[str, float]:
    """Enqueue single jobs for an idle worker in another process, and measure until the handler starts."""
    app = in_folder(folder)
    app.stats()
    with process.workers(folder, (*WORKER, "10")):
        process.until(lambda: bool(app.workers()))
        for _ in range(samples):
            app.tasks["note_delay"].enqueue(time.monotonic())
            time.sleep(apart)
        process.until(lambda: app.count(status="completed") == samples)
    return probe.quantiles(probe.read(folder, "delays"))


def idle(folder: Path) -> Mapping[str, float]:
    """Measure an idle worker, and the import of the package."""
    with process.workers(folder, (*WORKER, "10")) as (worker,):
        return {**process.idle(worker), "import": process.import_time("windlass")}


def commits(folder: Path, count: int = 20_000) -> float:
    """Count the transactions per job while one worker drains."""
    local = in_folder(folder)
    ran = local.tasks["note_run"]
    local.enqueue_many([ran.job(12345, "someone@example.com", "welcome") for _ in range(count)])
    driver = local.driver
    before = driver.commits  # type: ignore[attr-defined]
    with local.worker(concurrency=int(ASYNC)):
        process.until(lambda: local.count(status="completed") == count)
    return float(driver.commits - before) / count  # type: ignore[attr-defined]


CONTENDER = Contender(
    name="windlass",
    works={
        "enqueue_one": enqueue_one,
        "enqueue_32_threads": enqueue_32_threads,
        "enqueue_many": enqueue_many,
        "drain": drain,
        "drain_threads": drain_threads,
        "drain_2_processes": drain_2_processes,
        "drain_memory": drain_memory,
        "latency": latency,
        "idle": idle,
        "commits": commits,
    },
    drains=frozenset({"drain", "drain_threads", "drain_2_processes", "drain_memory"}),
)
