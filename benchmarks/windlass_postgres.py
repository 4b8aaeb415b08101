"""Windlass itself, on PostgreSQL."""

import os
import statistics
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from benchmarks import postgres, process, windlass_works, wire
from benchmarks.contender import Contender, Figure, Place
from benchmarks.windlass_worker import application
from benchmarks.windlass_works import ASYNC, emptied, fill, worker
from windlass import Windlass
from windlass.errors import WindlassError

POSTGRES = Place(store="postgres", open=postgres.database, settle=postgres.settle)
CHUNK = 50_000
FULL_PAGES = "SELECT coalesce(sum(fpi_size), 0)::bigint FROM pg_get_wal_stats(%s, %s)"


def wal(folder: Path, count: int = 20_000) -> Mapping[str, float]:
    """Measure what a job writes to the log in its whole life, enqueued in bulk and drained.

    After a checkpoint the first change to a page writes all of it, so how many images there are depends on when the last
    checkpoint was. Beside what was written, the figure without them is given, which is the same each time.
    """
    with postgres.database() as url, application(url) as app, psycopg.connect(url, autocommit=True) as connection:
        inspectable = extension(connection)
        fill(app, "note_run", 100)
        postgres.settle(url)
        start = position(connection)
        fill(app, "note_run", count)
        with process.workers(folder, worker(url)):
            process.until(lambda: app.count(status="completed") == count + 100, pause=windlass_works.LOOK)
        end = position(connection)
        row = connection.execute("SELECT %s::pg_lsn - %s::pg_lsn", (end, start)).fetchone()
        figures = {"with_images": float(row[0]) / count if row else 0.0}
        if inspectable:
            row = connection.execute(FULL_PAGES, (start, end)).fetchone()
            figures["without_images"] = figures["with_images"] - (float(row[0]) / count if row else 0.0)
        return figures


def extension(connection: psycopg.Connection[tuple[object, ...]]) -> bool:
    """Make the log readable, if the server has what it takes: `pg_walinspect`, since PostgreSQL 15, and the right to it."""
    try:
        connection.execute("CREATE EXTENSION pg_walinspect")
    except psycopg.Error:
        return False
    return True


def position(connection: psycopg.Connection[tuple[object, ...]]) -> str:
    """Return the end of the log, all of which is on disk."""
    row = connection.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone()
    return str(row[0]) if row else ""


def commits(folder: Path, count: int = 20_000) -> float:
    """Count the transactions per job while a worker process drains, from its start to its end: the server's own count."""
    with postgres.database() as url:
        with application(url) as app:
            fill(app, "note_run", count)
        before = transactions(url)
        with application(url) as app:
            watched(app, folder, count, url)
        return (transactions(url) - before) / count


def round_trips(folder: Path, count: int = 20_000) -> float:
    """Count the round trips per job while a worker process drains, from its start to its end."""
    with postgres.database() as url, application(url) as app, wire.relay(url) as (relayed, trips):
        fill(app, "note_run", count)
        watched(app, folder, count, relayed)
        return trips.count / count


def watched(app: Windlass, folder: Path, count: int, url: str) -> None:
    """Drain with one worker process, and look so rarely that looking does not count."""
    with process.workers(folder, worker(url)):
        process.until(lambda: app.count(status="completed") == count, pause=0.5)


def transactions(url: str) -> int:
    """Return how many transactions a database has seen whose sessions are over; this one is of another database."""
    name = urlsplit(url).path.removeprefix("/")
    query = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = %s"
    with psycopg.connect(os.environ[postgres.URL]) as connection:
        row = connection.execute(query, (name,)).fetchone()
        return int(row[0]) if row else 0


def drain_full_store(folder: Path, finished: int = 1_000_000, waiting: int = 500_000, turns: int = 5) -> Figure:
    """Drain an empty store and a full one in turn: full of jobs that have finished and of others in another queue."""
    with (
        postgres.database() as url,
        postgres.database() as other,
        application(url) as empty,
        application(other) as full,
    ):
        for _ in range(0, finished, CHUNK):
            fill(full, "note_run", CHUNK)
        with process.workers(folder, worker(other, ASYNC, "default"), count=2):
            process.until(lambda: full.count(status="pending", queue="default") == 0, pause=0.5, timeout=600)
        for _ in range(0, waiting, CHUNK):
            fill(full, "send_email", CHUNK, queue="another")
        postgres.settle(other)
        rates = [(turn(empty, url, folder), turn(full, other, folder)) for _ in range(turns)]
        return {
            "empty": statistics.median(rate for rate, _ in rates),
            "full": statistics.median(rate for _, rate in rates),
        }


def turn(app: Windlass, url: str, folder: Path, count: int = 20_000) -> float:
    """Fill the default queue and drain it once."""
    fill(app, "note_run", count)
    postgres.settle(url)
    return emptied(app, folder, count, worker(url, ASYNC, "default"))


def missing() -> str | None:
    """Tell why it cannot be measured: the driver is not there."""
    try:
        application(os.environ[postgres.URL]).close()
    except WindlassError as error:
        return str(error)
    return None


CONTENDER = Contender(
    name="windlass_postgres",
    store="postgres",
    works={
        **{work.__name__: partial(work, POSTGRES) for work in windlass_works.COMMON},
        "wal": wal,
        "commits": commits,
        "round_trips": round_trips,
        "drain_full_store": drain_full_store,
    },
    drains=frozenset({"drain", "drain_threads", "drain_2_processes"}),
    missing=missing,
)
