"""One plain job, stored alone: one round trip, and never in a stream that only looks like its own."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from windlass.drivers.postgres import PostgresDriver
from windlass.drivers.postgres.connect import Connection
from windlass.job import NewJob, Status

if TYPE_CHECKING:
    from collections.abc import Iterator

JOB = NewJob(task="t", queue="q", payload=b"{}")


@pytest.fixture
def driver(postgres_url: str) -> Iterator[PostgresDriver]:
    with closing(PostgresDriver(postgres_url)) as driver:
        driver.open()
        yield driver


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is sent, in both ways of sending."""
    sent: list[str] = []
    wait, quick = Connection.wait, Connection.quick

    def waiting(self: Connection, *args: Any, **options: Any) -> Any:
        sent.append("wait")
        return wait(self, *args, **options)

    def quickly(self: Connection, name: bytes, *args: Any) -> Any:
        sent.append(name.decode())
        return quick(self, name, *args)

    monkeypatch.setattr(Connection, "wait", waiting)
    monkeypatch.setattr(Connection, "quick", quickly)
    return sent


def test_a_job_of_a_known_stream_takes_one_round_trip(driver: PostgresDriver, trips: list[str]) -> None:
    driver.insert([JOB])  # makes the stream
    driver.insert([JOB])  # learns its number
    trips.clear()
    for _ in range(20):
        driver.insert([JOB])
    assert len(trips) == 20
    assert set(trips) <= {"enqueue", "enqueue and ring"}
    assert "enqueue" in trips, "each of them rang"


def test_a_number_that_means_another_stream_now_is_not_used(driver: PostgresDriver) -> None:
    other = NewJob(task="other", queue="q", payload=b"{}")
    for job in (JOB, JOB, other, other):
        driver.insert([job])
    with driver.clients.lend() as connection:
        connection.streams["q", "t", 0], connection.streams["q", "other", 0] = (
            connection.streams["q", "other", 0],
            b"2147483647",
        )
    for job in (JOB, other):
        (record,) = driver.insert([job])
        found = driver.get(record.id)
        assert found is not None
        assert (found.task, found.status) == (job.task, Status.PENDING)
    assert {tally.task: tally.counts[Status.PENDING] for tally in driver.tallies()} == {"t": 3, "other": 3}


def test_a_relaxed_store_does_not_wait_for_the_disk(postgres_url: str) -> None:
    with closing(PostgresDriver(postgres_url, durability="relaxed")) as driver:
        driver.open()
        for _ in range(2):
            driver.insert([JOB])
        with driver.clients.lend() as connection:
            ahead = "SELECT pg_current_wal_insert_lsn() > pg_current_wal_flush_lsn()"
            for _ in range(100):  # the log writer may be quicker at any single one
                driver.insert([JOB])
                if connection.execute(ahead).fetchone() == (True,):
                    return
    pytest.fail("each of 100 jobs was on disk when its enqueue returned")
