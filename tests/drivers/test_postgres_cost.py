"""What a job costs over its whole life: round trips, commits and bytes of WAL, none of which depend on the machine."""

from __future__ import annotations

import itertools
import os
from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.waiting import until
from windlass import Windlass, lifecycle
from windlass.drivers.base import Turn
from windlass.drivers.postgres import PostgresDriver
from windlass.drivers.postgres.connect import Connection
from windlass.job import NewJob, Status
from windlass.lifecycle import Settlement

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.servers.postgres import Postgres

pytestmark = pytest.mark.slow

JOBS = 5_000
AT_ONCE = 200


@pytest.fixture(params=["pg18", "pg15"])
def server(request: pytest.FixtureRequest, new_postgres: Callable[..., Postgres]) -> Postgres:
    """One that writes nothing to its log but what it is told to."""
    return new_postgres(request.param, autovacuum="off", full_page_writes="off", fsync="off", checkpoint_timeout="1h")


def show(*words: object) -> None:
    if os.environ.get("WINDLASS_SHOW_STEPS"):
        print(*words)  # noqa: T201


def written(connection: psycopg.Connection[Any]) -> int:
    """Return how many bytes of log there are."""
    row = connection.execute("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint").fetchone()
    assert row is not None
    return int(row[0])


def test_a_worker_needs_few_round_trips_and_commits(server: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full drain: at most one round trip and one commit for twenty jobs."""
    trips = 0
    wait = Connection.wait

    def counting(self: Connection, *args: Any, **options: Any) -> Any:
        nonlocal trips
        trips += 1
        return wait(self, *args, **options)

    app = Windlass(server.url())
    done = 0

    @app.task
    async def nothing(number: int) -> None:
        nonlocal done
        done += 1

    app.enqueue_many([nothing.job(n) for n in range(JOBS)])
    with psycopg.connect(server.url(), autocommit=True) as connection:
        commits = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
        (before,) = connection.execute(commits).fetchone() or (0,)
        monkeypatch.setattr(Connection, "wait", counting)
        with app.worker(concurrency=AT_ONCE):
            until(lambda: done == JOBS, timeout=60)
        monkeypatch.undo()
        app.close()  # sessions report when they end
        sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'windlass'"
        until(lambda: connection.execute(sessions).fetchone() == (0,))
        (after,) = connection.execute(commits).fetchone() or (0,)
    show("round trips per job", trips / JOBS, "commits per job", (after - before) / JOBS)
    assert trips / JOBS <= 0.05
    assert (after - before) / JOBS <= 0.05


def test_a_job_writes_little_log(server: Postgres) -> None:
    """Enqueued in bulk, claimed and completed by the hundred: at most 1,100 bytes."""
    with (
        closing(PostgresDriver(server.url(), quiet=True)) as driver,
        psycopg.connect(server.url(), autocommit=True) as connection,
    ):
        driver.open()
        driver.insert([NewJob(task="warm", queue="default", payload=b"{}")])
        points = [written(connection)]
        driver.insert([NewJob(task="t", queue="default", payload=b'{"user_id":12345}') for _ in range(JOBS)])
        points.append(written(connection))
        claims = [
            record
            for _ in range(JOBS // AT_ONCE)
            for record in driver.exchange(Turn(worker=WORKER, limit=AT_ONCE, start=AT_ONCE, tasks=("t",))).claims
        ]
        assert len(claims) == JOBS
        points.append(written(connection))
        for start in range(0, JOBS, AT_ONCE):
            ends = [Settlement(r, lifecycle.succeed(r), driver.now()) for r in claims[start : start + AT_ONCE]]
            assert driver.exchange(Turn(worker=WORKER, settlements=ends)).refused == []
        points.append(written(connection))
        completed = [tally.counts[Status.COMPLETED] for tally in driver.tallies() if tally.task == "t"]
        assert completed == [JOBS]
    insert, claim, complete = ((after - before) / JOBS for before, after in itertools.pairwise(points))
    show(f"bytes per job: insert {insert:.0f}, claim {claim:.0f}, complete {complete:.0f}")
    assert insert + claim + complete <= 1100


WORKER = "host-name.example:12345:0f3a9c"
