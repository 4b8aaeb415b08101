"""The peer on SQLite: huey with `SqliteHuey` at `fsync=True`, and its own consumer with one worker thread.

huey takes a job off the store before it runs it, so a crash loses it: at most once. Its consumer polls.
"""

import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks import probe, process
from benchmarks.contender import Contender
from benchmarks.huey_app import FILE, note_delay, note_run, queue, send_email
from benchmarks.raw import rate

CONSUMER = ("-m", "huey.bin.huey_consumer", "benchmarks.huey_app.queue", "-w", "1", "-k", "thread", "--no-periodic")


def database(folder: Path) -> None:
    """Point the queue of this process at a new database."""
    queue.storage.filename = str(folder / FILE)
    queue.storage.initialize_schema()


def enqueue_one(folder: Path, count: int = 3_000) -> float:
    """Enqueue one job at a time through its API."""
    database(folder)

    def one_by_one() -> None:
        for _ in range(count):
            send_email(user_id=12345, email="someone@example.com", template="welcome")

    return rate(count, one_by_one)


def fill(folder: Path, count: int) -> sqlite3.Connection:
    """Put no-op jobs in as rows identical to those its API writes, and return a connection to look on."""
    database(folder)
    rows = [(queue.name, queue.serialize_task(note_run.s())) for _ in range(count)]
    connection = sqlite3.connect(folder / FILE, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany("INSERT INTO task (queue, data, priority) VALUES (?, ?, 0)", rows)
    connection.execute("COMMIT")
    return connection


def drain(folder: Path, count: int = 20_000, processes: int = 1) -> float:
    """Run no-op jobs with its consumer: from the first start of a handler to the last."""
    connection = fill(folder, count)
    with process.workers(folder, CONSUMER, count=processes):
        process.until(lambda: not connection.execute("SELECT EXISTS (SELECT 1 FROM task)").fetchone()[0], pause=0.1)
    runs = probe.read(folder, "runs")
    if len(runs) != count:
        raise RuntimeError(f"{len(runs)} jobs of {count} ran")
    return count / (runs[-1] - runs[0])


def drain_2_processes(folder: Path) -> float:
    """Run the same jobs with two consumers."""
    return drain(folder, processes=2)


def latency(folder: Path, samples: int = 200, apart: float = 0.05) -> Mapping[str, float]:
    """Enqueue single jobs for an idle consumer in another process, and measure until the handler starts."""
    database(folder)
    with process.workers(folder, CONSUMER):
        time.sleep(2)
        for _ in range(samples):
            note_delay(time.monotonic())
            time.sleep(apart)
        time.sleep(1)
    return probe.quantiles(probe.read(folder, "delays"))


def idle(folder: Path) -> Mapping[str, float]:
    """Measure an idle consumer, and the import of the package."""
    with process.workers(folder, CONSUMER) as (consumer,):
        return {**process.idle(consumer), "import": process.import_time("huey")}


CONTENDER = Contender(
    name="huey",
    store="sqlite",
    works={
        "enqueue_one": enqueue_one,
        "drain": drain,
        "drain_2_processes": drain_2_processes,
        "latency": latency,
        "idle": idle,
    },
    drains=frozenset({"drain", "drain_2_processes"}),
)
