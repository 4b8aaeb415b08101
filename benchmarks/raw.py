"""The limits: what the bare `sqlite3` module and a bare thread pool do on this machine.

One connection, WAL, `synchronous=FULL`, prepared statements, no bookkeeping but what a queue cannot do without.
"""

import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.contender import Contender

PAYLOAD = '{"user_id": 12345, "email": "someone@example.com", "template": "welcome"}'
INSERT = "INSERT INTO job (payload) VALUES (?)"
SCHEMA = """
CREATE TABLE job (
    id INTEGER PRIMARY KEY,
    queue TEXT NOT NULL DEFAULT 'default',
    task TEXT NOT NULL DEFAULT 'send_email',
    state INTEGER NOT NULL DEFAULT 0,
    priority INTEGER NOT NULL DEFAULT 0,
    run_at REAL NOT NULL DEFAULT 0,
    attempt INTEGER NOT NULL DEFAULT 0,
    worker TEXT,
    lease_until REAL,
    payload TEXT NOT NULL
);
CREATE INDEX job_ready ON job (queue, priority, run_at, id) WHERE state = 0;
CREATE INDEX job_lease ON job (lease_until) WHERE state = 1;
"""
# Relies on job_ready.
CLAIM = """
UPDATE job
SET state = 1, attempt = attempt + 1, worker = 'w1', lease_until = ?
WHERE id IN (
    SELECT id FROM job
    WHERE queue = 'default' AND state = 0 AND run_at <= ?
    ORDER BY priority, run_at, id
    LIMIT ?
)
RETURNING id, attempt, payload
"""
COMPLETE = "UPDATE job SET state = 2, worker = NULL, lease_until = NULL WHERE id = ? AND state = 1 AND attempt = ?"


def rate(count: int, work: Callable[[], object]) -> float:
    """Return how many per second `work` does when it does `count`."""
    start = time.perf_counter()
    work()
    return count / (time.perf_counter() - start)


def database(folder: Path) -> sqlite3.Connection:
    """Open a new database with the table of a plain queue."""
    connection = sqlite3.connect(folder / "raw.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA wal_autocheckpoint = 4000")
    connection.executescript(SCHEMA)
    return connection


def fill(connection: sqlite3.Connection, count: int) -> None:
    """Insert `count` jobs in one transaction."""
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(INSERT, ((PAYLOAD,) for _ in range(count)))
    connection.execute("COMMIT")


def enqueue_one(folder: Path, count: int = 5_000) -> float:
    """Insert and commit one job at a time."""
    connection = database(folder)

    def one_by_one() -> None:
        for _ in range(count):
            connection.execute(INSERT, (PAYLOAD,))

    return rate(count, one_by_one)


def enqueue_many(folder: Path, count: int = 50_000) -> float:
    """Insert all jobs in one transaction."""
    connection = database(folder)
    return rate(count, lambda: fill(connection, count))


def claim_complete(folder: Path, count: int = 50_000, batch: int = 100) -> float:
    """Claim a hundred jobs, then complete them, until none is left: two commits a batch."""
    connection = database(folder)
    fill(connection, count)

    def drain() -> None:
        for _ in range(0, count, batch):
            now = time.time()
            claimed = connection.execute(CLAIM, (now + 30, now, batch)).fetchall()
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(COMPLETE, ((job, attempt) for job, attempt, _ in claimed))
            connection.execute("COMMIT")

    return rate(count, drain)


def thread_pool(_folder: Path, count: int = 50_000, batch: int = 1_000) -> float:
    """Submit no-ops to a pool of one thread and wait for them, a thousand at a time."""

    def submit_all(pool: ThreadPoolExecutor) -> None:
        for _ in range(0, count, batch):
            for future in [pool.submit(int) for _ in range(batch)]:
                future.result()

    with ThreadPoolExecutor(1) as pool:
        submit_all(pool)
        return rate(count, lambda: submit_all(pool))


CONTENDER = Contender(
    name="raw",
    store="sqlite",
    works={
        "enqueue_one": enqueue_one,
        "enqueue_many": enqueue_many,
        "claim_complete": claim_complete,
        "thread_pool": thread_pool,
    },
)
