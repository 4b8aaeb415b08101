"""Schedules on Redis: decided about here, written where nothing has moved; where it differs from what every store promises."""

from __future__ import annotations

from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from tests.drivers.test_redis_flat import commands
from windlass.drivers.base import Filter, Worker
from windlass.drivers.redis import RedisDriver
from windlass.drivers.ticking import NewTick, ScheduleMove
from windlass.errors import ConnectionLostError, StoreFullError
from windlass.job import ALWAYS, Hold
from windlass.testing.conformance.bench import cancel, put, retry, take, turn
from windlass.testing.conformance.ticking import NAME, declare, fire, live, read, tick

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from windlass.drivers.ticking import ScheduleRecord

_replace = msgspec.structs.replace


@pytest.fixture
def driver(redis_url: str) -> Iterator[RedisDriver]:
    with closing(RedisDriver(redis_url)) as driver:
        driver.open()
        yield driver


class Decision:
    """Fires once more, and does something while it decides; keeps what it was told."""

    def __init__(self, *meanwhile: Callable[[], object], made: NewTick) -> None:
        self._meanwhile = list(meanwhile)
        self._made = made
        self.told: list[tuple[float, dict[str, int]]] = []

    def __call__(self, record: ScheduleRecord | None, going: Mapping[str, int], _: float) -> ScheduleMove:
        assert record is not None
        self.told.append((record.watermark, dict(going)))
        if self._meanwhile:
            self._meanwhile.pop(0)()
        return ScheduleMove(record=_replace(record, fired=record.fired + 1), ticks=(self._made,))


def test_what_another_has_written_meanwhile_is_decided_about_anew(driver: RedisDriver) -> None:
    """And nothing of the first decision is left: no job, no row."""
    declare(driver, watermark=1.0)
    decision = Decision(lambda: fire(driver, tick(2.0), watermark=2.0), made=tick(3.0))
    driver.change_schedule(NAME, decision)
    assert [watermark for watermark, _ in decision.told] == [1.0, 2.0]
    assert [row.tick for row in driver.ticks(NAME, 10)] == [3.0, 2.0]
    assert driver.count(Filter(), most=10) == read(driver).rows == 2


def test_one_that_is_removed_or_made_meanwhile_is_decided_about_anew(driver: RedisDriver) -> None:
    told: list[bool] = []

    def decide(record: ScheduleRecord | None, *_: Any) -> ScheduleMove | None:
        told.append(record is not None)
        if len(told) == 1:
            declare(driver)
            return ScheduleMove(record=None)
        if len(told) == 2:
            driver.change_schedule(NAME, lambda *_: ScheduleMove(record=None))
            return ScheduleMove(record=record)
        return None

    driver.change_schedule(NAME, decide)
    assert told == [False, True, False]
    assert driver.schedules() == []


def test_a_job_that_comes_back_or_ends_meanwhile_is_decided_about_anew(driver: RedisDriver) -> None:
    """Else a job that somebody retries by hand would overlap with one of a tick that had seen it ended."""
    declare(driver)
    [made] = fire(driver, tick(1.0)).jobs
    cancel(driver, made)
    decision = Decision(
        lambda: retry(driver, made), lambda: cancel(driver, made), made=NewTick(tick=2.0, outcome="missed")
    )
    driver.change_schedule(NAME, decision)
    assert [going for _, going in decision.told] == [{}, {"default": made.id}, {}]
    assert read(driver).rows == 2


def test_a_schedule_that_never_stands_still_is_given_up(driver: RedisDriver) -> None:
    declare(driver)

    def decide(record: ScheduleRecord | None, *_: Any) -> ScheduleMove:
        assert record is not None
        fire(driver, fired=record.fired + 1)
        return ScheduleMove(record=record)

    with pytest.raises(ConnectionLostError, match=f"schedule {NAME} changes faster"):
        driver.change_schedule(NAME, decide)


def test_a_store_that_has_forgotten_all_tells_another_number(driver: RedisDriver) -> None:
    """One that counted from 1 again would tell a worker that nothing has changed."""
    declare(driver)
    before = turn(driver).stamp
    driver.clients.ask("DEL", "{windlass}:meta", "{windlass}:schedule")
    assert turn(driver).stamp != before
    declare(driver)
    assert turn(driver).stamp > before


def test_jobs_and_history_of_one_that_was_lost_are_not_those_of_the_next(driver: RedisDriver) -> None:
    declare(driver)
    fire(driver, tick(1.0))
    driver.clients.ask("DEL", "{windlass}:schedule")
    record = declare(driver)
    assert (record.jobs, record.rows) == ({}, 0)
    assert read(driver) == record
    assert driver.ticks(NAME, 10) == []


def test_nothing_is_left_of_a_schedule_that_is_removed(driver: RedisDriver) -> None:
    before = set(driver.clients.ask("KEYS", "*"))
    declare(driver)
    fire(driver, NewTick(tick=1.0, outcome="missed"))
    driver.change_schedule(NAME, lambda *_: ScheduleMove(record=None))
    assert set(driver.clients.ask("KEYS", "*")) == before


def test_schedules_cost_a_turn_no_command(driver: RedisDriver) -> None:
    """Their number rides with what every turn reads."""
    driver.beat(Worker(id="worker-1", host="h", pid=1))
    turn(driver)
    without = commands(driver, lambda: turn(driver))
    for number in range(100):
        declare(driver, f"s{number}")
    turn(driver)
    assert commands(driver, lambda: turn(driver)) == without


def test_a_key_is_told_apart_from_a_job_in_a_row_of_many(driver: RedisDriver) -> None:
    """Rows without a job, with one, and with one that was not stored, in any order."""
    declare(driver)
    holder = put(driver, holds=(Hold("k", ALWAYS),))
    changed = fire(
        driver,
        NewTick(tick=1.0, outcome="missed", count=4, first=0.25),
        tick(2.0, holds=(Hold("k", ALWAYS),)),
        NewTick(tick=2.0, outcome="overlap", queue="eu", other=7),
        tick(3.0, queue="us"),
        tick(4.0, queue="us", holds=(Hold("k", ALWAYS),)),
    )
    assert driver.ticks(NAME, 10) == list(reversed(changed.ticks))
    [made] = changed.jobs
    assert [(r.outcome, r.job_id, r.other) for r in changed.ticks] == [
        ("missed", None, None),
        ("held", None, holder.id),
        ("overlap", None, 7),
        ("fired", made.id, None),
        ("held", None, holder.id),
    ]
    assert live(driver) == {"us": made.id}
    assert {record.id for record in take(driver, 5)} == {holder.id, made.id}


def fill(driver: RedisDriver) -> None:
    """Store jobs until there is no room."""
    with suppress(StoreFullError):
        while True:
            put(driver, payload=b"x" * 10_000)


def test_a_full_memory_fires_nothing_and_lets_schedules_be_paused_and_removed(
    new_redis: Callable[..., Any],
) -> None:
    """No half of a tick: its watermark stays, so that it fires when there is room."""
    server = new_redis(maxmemory="6mb", maxmemory_policy="noeviction")
    with closing(RedisDriver(server.url())) as driver:
        driver.open()
        record = declare(driver)
        fill(driver)
        stored = driver.count(Filter(), most=10_000)
        with pytest.raises(StoreFullError):
            fire(driver, tick(record.watermark + 60), watermark=record.watermark + 60)
        assert read(driver) == record
        assert driver.ticks(NAME, 10) == []
        assert driver.count(Filter(), most=10_000) == stored
        assert fire(driver, paused_at=1.0, revision=2).record == read(driver)
        driver.change_schedule(NAME, lambda *_: ScheduleMove(record=None))
        assert driver.schedules() == []
