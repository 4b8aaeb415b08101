"""Processes that come to a schedule at once: who waits for whom, for how long, and who is told."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import msgspec
import psycopg
import pytest

from tests.waiting import until
from windlass.drivers.base import Turn
from windlass.drivers.postgres import PostgresDriver, schedules
from windlass.drivers.ticking import NewTick, ScheduleMove, ScheduleRecord
from windlass.errors import ConnectionLostError
from windlass.job import NewJob

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.slow

RECORD = ScheduleRecord(name="one", definition=b"{}", revision=1, watermark=1.0, created_at=1.0)
TICK = NewTick(tick=2.0, outcome="fired", queue="default", job=NewJob(task="t", queue="default", payload=b"{}"))
WAITING = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = %s"


@pytest.fixture
def open_driver(postgres_url: str) -> Iterator[Callable[[], PostgresDriver]]:
    """Open another driver on one database, as another process has it."""
    made: list[PostgresDriver] = []

    def build() -> PostgresDriver:
        made.append(PostgresDriver(postgres_url))
        made[-1].open()
        return made[-1]

    yield build
    for driver in made:
        driver.close()


@pytest.fixture
def driver(open_driver: Callable[[], PostgresDriver]) -> PostgresDriver:
    return open_driver()


def declare(driver: PostgresDriver, **options: Any) -> None:
    driver.change_schedule("one", lambda *_: ScheduleMove(record=msgspec.structs.replace(RECORD, **options)))


def until_somebody_waits(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        here = connection.execute("SELECT oid FROM pg_database WHERE datname = current_database()").fetchone()
        until(lambda: connection.execute(WAITING, here).fetchone() != (0,))


def test_of_two_who_make_a_schedule_at_once_the_second_finds_it(
    open_driver: Callable[[], PostgresDriver], postgres_url: str
) -> None:
    first, second = open_driver(), open_driver()
    found: list[ScheduleRecord | None] = []
    with ThreadPoolExecutor() as threads:

        def decide(*_: Any) -> ScheduleMove:
            threads.submit(second.change_schedule, "one", lambda record, *_: found.append(record))
            until_somebody_waits(postgres_url)
            return ScheduleMove(record=RECORD)

        first.change_schedule("one", decide)
    assert found == first.schedules() == [RECORD]


def test_a_decision_about_one_schedule_holds_up_no_other_and_no_turn(driver: PostgresDriver) -> None:
    declare(driver)

    def decide(*_: Any) -> ScheduleMove:
        driver.change_schedule("two", lambda *_: ScheduleMove(record=msgspec.structs.replace(RECORD, name="two")))
        turned = driver.exchange(Turn(worker="w", limit=1, start=1, tasks=("t",)))
        assert [record.name for record in driver.schedules()] == ["one", "two"]
        return ScheduleMove(record=msgspec.structs.replace(RECORD, fired=turned.stamp))

    with ThreadPoolExecutor(1) as threads:
        changed = threads.submit(driver.change_schedule, "one", decide).result(30)
    assert changed.record is not None
    assert changed.record.fired == 2


def test_whoever_stops_in_the_middle_of_a_decision_has_decided_nothing(
    open_driver: Callable[[], PostgresDriver], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server gives the schedule to the next; to go on where it stopped is of no use."""
    stopped, other = open_driver(), open_driver()
    declare(other)
    stands, goes_on = threading.Event(), threading.Event()

    def decide(record: ScheduleRecord | None, *_: Any) -> ScheduleMove:
        assert record == RECORD
        stands.set()
        assert goes_on.wait(30)
        return ScheduleMove(record=msgspec.structs.replace(RECORD, watermark=2.0), ticks=(TICK,))

    def fire(record: ScheduleRecord | None, *_: Any) -> ScheduleMove:
        assert record == RECORD
        return ScheduleMove(record=msgspec.structs.replace(RECORD, watermark=3.0), ticks=(TICK,))

    with ThreadPoolExecutor() as threads:
        monkeypatch.setattr(schedules, "HELD", 1000)
        lost = threads.submit(stopped.change_schedule, "one", decide)
        assert stands.wait(30)
        monkeypatch.undo()
        made = other.change_schedule("one", fire)
        goes_on.set()
        with pytest.raises(ConnectionLostError):
            lost.result(30)
    assert stopped.schedules() == [made.record]
    assert len(stopped.ticks("one", 10)) == 1
    assert stopped.tallies()[0].totals["enqueued"] == 1


def test_a_change_rings_though_somebody_else_is_about_to(driver: PostgresDriver, postgres_url: str) -> None:
    """Those who enqueue leave the ringing to each other: but that wakes nobody for a change that is committed later."""
    with psycopg.connect(postgres_url) as enqueuing, psycopg.connect(postgres_url, autocommit=True) as listening:
        listening.execute('LISTEN "public.windlass"')
        enqueuing.execute(driver.sql.ring)
        declare(driver)
        assert next(listening.notifies(timeout=20, stop_after=1), None) is not None
        enqueuing.rollback()


def test_to_fire_keeps_nobody_else_from_ringing(driver: PostgresDriver, postgres_url: str) -> None:
    """Its transaction goes on after its jobs are stored, and might come to nothing."""
    declare(driver)
    with psycopg.connect(postgres_url, autocommit=True) as other:

        def free(connection: Any, jobs: Any) -> Any:
            records = driver._insert_later(connection, jobs)
            gate = "SELECT pg_try_advisory_lock(hashtextextended('public.windlass', 0))"
            assert other.execute(gate).fetchone() == (True,)
            return records

        with driver.clients.lend() as connection:
            move = ScheduleMove(record=RECORD, ticks=(TICK,))
            changed = schedules.change(connection, driver.sql, "one", lambda *_: move, free)
    assert len(changed.jobs) == 1
