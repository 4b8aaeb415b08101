"""While somebody's open transaction keeps the rows of jobs that are gone, a turn reads no more than before."""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.drivers.test_postgres_flat import Meter, new
from windlass import lifecycle
from windlass.drivers.base import Turn
from windlass.drivers.postgres import PostgresDriver, marks
from windlass.lifecycle import Settlement

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.servers.postgres import Postgres
    from windlass.job import NewJob, Record

EACH = 100
"""Jobs in a turn."""
SOAK = [pytest.mark.soak, pytest.mark.timeout(1800)]
SIZES = [pytest.param(20_000, marks=pytest.mark.slow), pytest.param(100_000, marks=SOAK)]


class Time:
    """A clock of which a turn takes a twentieth of a second."""

    now = 1000.0

    def monotonic(self) -> float:
        self.now += 0.02
        return self.now


class Course:
    """Jobs that pass through a store, a hundred in each turn."""

    def __init__(self, driver: PostgresDriver) -> None:
        self.driver = driver
        self.tasks = ("here",)
        self.ended: list[Settlement] = []
        self.claimed = 0

    def before(self, turns: int) -> None:
        """Put in what is there from the beginning."""
        self.driver.insert(new("here", (turns + 1) * EACH))

    def arrive(self) -> None:
        """Put in what arrives at each turn."""

    def end(self, record: Record) -> Settlement:
        return Settlement(record, lifecycle.succeed(record), self.driver.now())

    def turn(self) -> None:
        turn = Turn(worker="w", settlements=self.ended, limit=EACH, start=EACH, tasks=self.tasks)
        claims = self.driver.exchange(turn).claims
        self.claimed += len(claims)
        self.ended = [self.end(record) for record in claims]


class ManyStreams(Course):
    """Twenty tasks, each with two priorities."""

    def before(self, turns: int) -> None:
        self.tasks = tuple(f"task-{number}" for number in range(20))
        self.driver.insert(
            [job for task in self.tasks for priority in (0, 5) for job in new(task, EACH, priority=priority)]
        )

    def arrive(self) -> None:
        self.driver.insert([new(self.tasks[n % 20], priority=5 * (n % 3 == 0))[0] for n in range(EACH)])


class Timers(Course):
    """Jobs for a moment later."""

    def before(self, turns: int) -> None:
        self.driver.insert(new("here", EACH))

    def arrive(self) -> None:
        jobs: list[NewJob] = new("here", EACH, delay=0.0001)
        self.driver.insert(jobs)


class Retries(Course):
    """Every job fails once and is tried again at once."""

    def end(self, record: Record) -> Settlement:
        now = self.driver.now()
        if record.failures:
            return super().end(record)
        failed = lifecycle.fail(record, b'{"type":"E"}', max_attempts=3, delay=0.0, now=now)
        return Settlement(record, failed, now)


@pytest.mark.parametrize("course", [Course, ManyStreams, Timers, Retries])
@pytest.mark.parametrize("writes", [pytest.param(False, id="reader", marks=SOAK), pytest.param(True, id="writer")])
@pytest.mark.parametrize("size", SIZES)
def test_the_last_turns_read_what_the_first_did(
    course: type[Course],
    size: int,
    *,
    writes: bool,
    new_postgres: Callable[..., Postgres],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The last tenth of the turns reads at most half as much again as the first, full passes beside a writer excepted."""
    monkeypatch.setattr(marks, "time", Time())
    quick = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "max_wal_size": "4GB"}
    server = new_postgres("pg18", autovacuum="off", shared_buffers="256MB", **quick)
    with (
        closing(PostgresDriver(server.url(), quiet=True)) as driver,
        psycopg.connect(server.url()) as pin,
        closing(Meter(driver, server.url())) as meter,
    ):
        driver.open()
        flow = course(driver)
        turns = size // EACH
        flow.before(turns)
        pin.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        pin.execute("SELECT pg_current_xact_id()" if writes else "SELECT 1 FROM windlass_ready LIMIT 1")
        costs: list[tuple[int, int]] = []
        for number in range(turns):
            flow.arrive()
            with meter.of(str(number)):
                flow.turn()
            costs.append(meter.costs[str(number)][:2])
        assert flow.claimed >= 0.9 * size
    for what, counts in zip(("pages", "entries of indexes"), zip(*costs, strict=True), strict=True):
        tenth = turns // 10
        first, last = sorted(counts[5 : tenth + 5]), sorted(counts[-tenth:])
        if writes:  # the middle of them: a few are full passes
            first, last = first[tenth // 2 :][:1], last[tenth // 2 :][:1]
        if os.environ.get("WINDLASS_SHOW_STEPS"):
            print(course.__name__, "writer" if writes else "reader", what, sum(first), "→", sum(last))  # noqa: T201
        assert sum(last) <= 1.5 * sum(first), what
