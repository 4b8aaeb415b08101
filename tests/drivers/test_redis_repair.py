"""Indexes of Redis that were lost are made again from the jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from windlass import lifecycle
from windlass.drivers.base import Filter, Turn, Worker
from windlass.drivers.redis import RedisDriver
from windlass.job import ALWAYS, Gate, Hold, NewJob, Status
from windlass.testing.conformance.bench import assert_counted, in_every_status
from windlass.testing.conformance.observing import die

if TYPE_CHECKING:
    from collections.abc import Iterator

    from windlass.job import Record

KEPT = ("job", "meta", "seq", "stream", "streams", "count", "past", "worker", "alive", "gate", "pause")


@pytest.fixture
def driver(redis_url: str) -> Iterator[RedisDriver]:
    driver = RedisDriver(redis_url)
    driver.open()
    yield driver
    driver.close()


def lose_indexes(driver: RedisDriver) -> None:
    for key in driver.clients.ask("KEYS", "*"):
        if key.decode().partition(":")[2].partition(":")[0] not in KEPT:
            driver.clients.ask("DEL", key)


def listed(driver: RedisDriver) -> list[Record]:
    return driver.find(Filter(), limit=1000)


@pytest.mark.filterwarnings("default")
def test_a_job_in_no_index_is_put_back_where_its_value_says(
    driver: RedisDriver, caplog: pytest.LogCaptureFixture
) -> None:
    in_every_status(driver)
    driver.insert([NewJob(task="hand", queue="default", payload=b"1")])
    by_hand = Turn(worker="hand:1", limit=1, start=1, tasks=("hand",), deadline=60.0)
    assert len(driver.exchange(by_hand).claims) == 1
    before = listed(driver)
    driver.beat(Worker(id="worker-1", host="h", pid=1))
    lose_indexes(driver)
    assert listed(driver) == []
    driver.tidy()
    assert listed(driver) == before
    assert_counted(driver)
    assert "8 jobs stood in no index" in caplog.text
    assert [f.value for f in driver.diagnose() if f.name == "jobs put back"] == ["8"]
    caplog.clear()
    driver.tidy()
    assert caplog.text == ""
    driver.shift(5000)
    claims = driver.exchange(Turn(worker="w", limit=10, start=10, tasks=("report",))).claims
    assert {r.id for r in claims} == {
        r.id for r in before if r.status in (Status.PENDING, Status.SCHEDULED, Status.RETRYING)
    }
    assert [r.task for r in driver.orphans(10)][:1] == ["hand"]
    assert driver.purge(dict.fromkeys((Status.COMPLETED, Status.DEAD, Status.CANCELLED), 0.0), 10) == 3


@pytest.mark.filterwarnings("default")
def test_a_dead_job_joins_the_group_of_its_failure_again(driver: RedisDriver) -> None:
    dead = die(driver, "no user 1")
    [group] = driver.faults(10)
    for key in (f"fault:{group.fingerprint}", "fault"):
        driver.clients.ask("DEL", driver.key(key))
    assert driver.faults(10) == []
    driver.tidy()
    assert driver.faults(10) == [group]
    assert driver.find(Filter(statuses=(Status.DEAD,), fingerprint=group.fingerprint), limit=5) == [dead]


def test_a_running_job_without_a_holder_is_an_orphan_again(driver: RedisDriver) -> None:
    driver.insert([NewJob(task="t", queue="default", payload=b"1")])
    [record] = driver.exchange(Turn(worker="gone", limit=1, start=1, tasks=("t",))).claims
    lose_indexes(driver)
    assert driver.orphans(10) == []
    driver.tidy()
    assert driver.orphans(10) == [record]


def test_a_line_that_is_not_looked_at_any_more_is_found(driver: RedisDriver) -> None:
    driver.insert([NewJob(task="t", queue="default", payload=b"1")])
    turn = Turn(worker="w", limit=1, start=1, tasks=("t",))
    driver.clients.ask("DEL", "{windlass}:avail")
    assert driver.exchange(turn).claims == []
    driver.tidy()
    assert len(driver.exchange(turn).claims) == 1


def test_many_jobs_are_looked_at_a_slice_at_a_time(driver: RedisDriver) -> None:
    driver.insert([NewJob(task="t", queue="default", payload=b"1") for _ in range(15_000)])
    lose_indexes(driver)
    driver.tidy()
    some = driver.count(Filter(statuses=(Status.PENDING,)), most=0)
    assert 5_000 < some < 15_000
    driver.tidy()
    assert driver.count(Filter(statuses=(Status.PENDING,)), most=0) == 15_000


def limited(**options: object) -> NewJob:
    return NewJob(task="t", queue="default", payload=b"1", gates=(Gate("limit:x", 1),), **options)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("default")
def test_keys_and_slots_that_were_lost_are_taken_again(driver: RedisDriver) -> None:
    """Whoever waits before a gate stands in its line again."""
    driver.beat(Worker(id="w", host="h", pid=1))
    unique = NewJob(task="never", queue="default", payload=b"1", holds=(Hold("k", ALWAYS),))
    [_, running, blocked] = driver.insert([unique, limited(), limited()])
    turn = Turn(worker="w", limit=5, start=5, tasks=("t",))
    claims = driver.exchange(turn).claims
    assert [r.id for r in claims] == [running.id]
    assert driver.blocked_by(blocked.id) == "limit:x"
    lose_indexes(driver)
    assert driver.holder("k") is None
    assert driver.holders("limit:x", 5) == []
    driver.tidy()
    assert driver.insert([unique])[0].found
    assert driver.holders("limit:x", 5) == [running.id]
    assert driver.exchange(turn).claims == []
    assert_counted(driver)
    ends = [lifecycle.Settlement(r, lifecycle.succeed(r), driver.now()) for r in claims]
    driver.exchange(Turn(worker="w", settlements=ends))
    assert [r.id for r in driver.exchange(turn).claims] == [blocked.id]


def test_those_who_wait_before_a_gate_come_back_though_nobody_was_to_look(driver: RedisDriver) -> None:
    first, second = driver.insert([limited(), limited()])
    turn = Turn(worker="w", limit=5, start=5, tasks=("t",))
    assert [r.id for r in driver.exchange(turn).claims] == [first.id]
    driver.clients.ask("HDEL", "{windlass}:job", first.id)
    driver.clients.ask("DEL", "{windlass}:used:limit:x")
    assert driver.exchange(turn).claims == []
    driver.tidy()
    assert [r.id for r in driver.exchange(turn).claims] == [second.id]


def test_those_who_wait_before_a_gate_that_was_lost_come_back_and_make_it_again(driver: RedisDriver) -> None:
    driver.insert([limited(), limited(), limited()])
    turn = Turn(worker="w", limit=5, start=5, tasks=("t",))
    claims = driver.exchange(turn).claims
    driver.clients.ask("DEL", "{windlass}:gate", "{windlass}:look")
    driver.tidy()
    assert driver.exchange(turn).claims == []
    assert driver.passages(["limit:x"])[0].blocked == 2
    ends = [lifecycle.Settlement(r, lifecycle.succeed(r), driver.now()) for r in claims]
    driver.exchange(Turn(worker="w", settlements=ends))
    assert len(driver.exchange(turn).claims) == 1


@pytest.mark.filterwarnings("default")
def test_keys_and_slots_of_jobs_that_are_no_more_are_free(
    driver: RedisDriver, caplog: pytest.LogCaptureFixture
) -> None:
    [record, _] = driver.insert([limited(holds=(Hold("k", ALWAYS),)), limited()])
    turn = Turn(worker="w", limit=5, start=5, tasks=("t",))
    driver.exchange(turn)
    driver.clients.ask("HDEL", "{windlass}:job", record.id)
    assert driver.exchange(turn).claims == []
    driver.tidy()
    assert "2 unique keys and slots" in caplog.text
    assert driver.clients.ask("HLEN", "{windlass}:hold") == 0
    assert len(driver.exchange(turn).claims) == 1


def test_an_entry_that_nothing_stands_behind_goes_when_it_is_met(driver: RedisDriver) -> None:
    made = driver.insert([NewJob(task="t", queue="default", payload=b"1") for _ in range(3)])
    driver.clients.ask("HDEL", "{windlass}:job", made[0].id)
    claims = driver.exchange(Turn(worker="w", limit=5, start=5, tasks=("t",))).claims
    assert [r.id for r in claims] == [r.id for r in made[1:]]
    ends = [lifecycle.Settlement(r, lifecycle.succeed(r), driver.now()) for r in claims]
    assert driver.exchange(Turn(worker="w", settlements=ends)).refused == []
    driver.clients.ask("HDEL", "{windlass}:job", made[1].id)
    driver.purge({Status.COMPLETED: 0.0}, 10)
    assert driver.purge({Status.COMPLETED: 0.0}, 10) == 0
