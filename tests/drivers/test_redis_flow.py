"""What holds jobs back on Redis, and who hears what: where it differs from what every store promises."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tests.waiting import until
from windlass import lifecycle
from windlass.drivers.base import NewBatch, Take, Turn, Worker
from windlass.drivers.redis import RedisDriver
from windlass.errors import UniqueConflictError
from windlass.job import ALWAYS, BIT, Gate, Hold, Status
from windlass.testing.conformance.bench import assert_counted, job, put, succeed, take, totals, turn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from windlass.job import Record


@pytest.fixture
def driver(redis_url: str) -> Iterator[RedisDriver]:
    with closing(RedisDriver(redis_url)) as driver:
        driver.open()
        yield driver


@pytest.fixture
def other(redis_url: str) -> Iterator[RedisDriver]:
    with closing(RedisDriver(redis_url)) as other:
        other.open()
        yield other


def limited(key: str = "limit:x", most: int = 1) -> dict[str, Any]:
    return {"gates": (Gate(key, most),)}


def ends(driver: RedisDriver, *records: Record) -> list[lifecycle.Settlement]:
    return [lifecycle.Settlement(r, lifecycle.succeed(r), driver.now()) for r in records]


# ------------------------------------------------------------------ keys


def test_a_key_of_a_job_that_was_lost_keeps_nobody_out(driver: RedisDriver) -> None:
    holds = {"holds": (Hold("k", ALWAYS), Hold("l", ALWAYS, 0.0, strict=True))}
    first = put(driver, **holds)
    driver.clients.ask("HDEL", "{windlass}:job", first.id)
    assert driver.holder("k") is None
    assert not put(driver, **holds).found


def test_a_strict_key_is_refused_by_the_short_way_and_the_long_one(driver: RedisDriver) -> None:
    first = put(driver, holds=(Hold("k", ALWAYS),))
    for options in ({}, {"tags": ("t",)}, {"delay": 5.0}):
        with pytest.raises(UniqueConflictError) as raised:
            put(driver, holds=(Hold("free", ALWAYS), Hold("k", ALWAYS, 0.0, strict=True)), **options)
        assert raised.value.existing == first
    assert driver.holder("free") is None


def test_a_strict_key_taken_within_the_call_names_the_job_that_would_have_it(driver: RedisDriver) -> None:
    with pytest.raises(UniqueConflictError) as raised:
        driver.insert([job(payload=b"1", holds=(Hold("k", 2),)), job(payload=b"2", holds=(Hold("k", 2, 0.0, True),))])
    assert raised.value.existing.payload == b"1"
    assert driver.holder("k") is None


def test_a_key_that_only_finished_jobs_hold_cancels_the_second_end(driver: RedisDriver) -> None:
    """Both run; the first that completes has it."""
    mask = BIT[Status.COMPLETED]
    for _ in range(2):
        put(driver, holds=(Hold("k", mask),))
    first, second = take(driver, 2)
    turned = driver.exchange(Turn(worker="worker-1", settlements=ends(driver, first, second)))
    assert turned.refused == []
    lost = driver.get(second.id)
    assert lost is not None
    assert lost.status is Status.CANCELLED
    assert lost.error is not None
    assert f"superseded by #{first.id}" in str(lost.error)
    assert [past.outcome for past in driver.history(second.id)] == ["completed"]
    assert (totals(driver)["processed"], totals(driver)["cancelled"]) == (2, 1)
    assert_counted(driver)


def test_a_prefetched_job_whose_worker_is_gone_gives_way_too(driver: RedisDriver) -> None:
    """It had given its key up at the claim, and another has it: nobody is there who could be told."""
    waits = BIT[Status.SCHEDULED] | BIT[Status.PENDING]
    first = put(driver, holds=(Hold("k", waits),))
    take(driver, start=0)
    second = put(driver, holds=(Hold("k", waits),))
    error = b'{"type":"WorkerLost","message":""}'
    [changed] = driver.change([first.id], lambda r, _: lifecycle.lose(r, error, max_crashes=3))
    assert changed.error is None
    now = driver.get(first.id)
    assert now is not None
    assert now.status is Status.CANCELLED
    assert driver.holder("k") == driver.get(second.id)


# ------------------------------------------------------------------ gates


@pytest.mark.parametrize("wide", [False, True])
def test_a_slot_that_is_given_back_wakes_who_waits_elsewhere(
    driver: RedisDriver, other: RedisDriver, *, wide: bool
) -> None:
    if wide:
        driver.set_gate(Gate("limit:task:report", 1), pinned=False)
    for _ in range(2):
        put(driver, **({} if wide else limited()))
    [record] = take(driver, 5)
    with closing(other.bell()) as bell:
        other.beat(Worker(id="elsewhere", host="h", pid=1, bell=bell.address))
        assert take(other, 5, worker="elsewhere") == []
        bell.wait(0)  # what was rung before
        succeed(driver, record)
        assert bell.wait(20)
        assert len(take(other, 5, worker="elsewhere")) == 1


def test_a_full_limit_of_a_whole_task_rings_nobody(driver: RedisDriver, other: RedisDriver) -> None:
    """Its jobs are left where they are: whoever came would find the same."""
    driver.set_gate(Gate("limit:task:report", 1), pinned=False)
    driver.insert([job() for _ in range(5)])
    assert len(take(driver, 1)) == 1
    assert driver.clients.ask("KEYS", "*:bell:c-*") == []


def test_more_than_one_turn_puts_aside_come_at_once(driver: RedisDriver) -> None:
    """A turn that has put a thousand aside asks to be followed by another."""
    gated = [job(**limited(most=1)) for _ in range(1500)]
    driver.insert(gated)
    plain = put(driver)
    turns, claimed = 0, []
    while True:
        turned = driver.exchange(Turn(worker="worker-1", limit=500, start=500, tasks=("report",)))
        turns += 1
        claimed += [r.id for r in turned.claims]
        if turned.due is None or turned.due > turned.now:
            break
    assert turns in (2, 3)
    assert claimed[-1] == plain.id
    assert len(claimed) == 2


def test_jobs_that_would_only_be_put_aside_are_so_from_the_start(driver: RedisDriver) -> None:
    driver.insert([job(**limited()) for _ in range(3)])
    take(driver, 5)
    late = put(driver, **limited())
    assert driver.blocked_by(late.id) == "limit:x"
    newer = put(driver, **limited(most=2))
    assert driver.blocked_by(newer.id) is None


def test_both_gates_of_a_queue_and_of_a_task_count(driver: RedisDriver) -> None:
    driver.set_gate(Gate("limit:queue:default", 3), pinned=False)
    driver.set_gate(Gate("limit:task:report", 2), pinned=False)
    driver.insert([job() for _ in range(5)] + [job("other", priority=-1) for _ in range(5)])
    claims = take(driver, 10, tasks=("report", "other"))
    assert [r.task for r in claims] == ["report", "report", "other"]
    driver.exchange(Turn(worker="worker-1", settlements=ends(driver, claims[0])))
    assert [r.task for r in take(driver, 10, tasks=("other",))] == ["other"]
    assert take(driver, 10, tasks=("report", "other")) == []


# ------------------------------------------------------------------ parts of a demand


def test_a_worker_with_parts_is_woken_by_work_for_any_of_them(driver: RedisDriver, other: RedisDriver) -> None:
    parts = (Take(("a",), 1), Take(("b",), 5))
    demand = Turn(worker="elsewhere", takes=parts, limit=5, start=5, tasks=("report",))
    with closing(other.bell()) as bell:
        other.beat(Worker(id="elsewhere", host="h", pid=1, bell=bell.address))
        other.exchange(demand)
        bell.wait(0)
        put(driver, queue="b")
        assert bell.wait(20)
        assert [r.queue for r in other.exchange(demand).claims] == ["b"]


def test_parts_in_another_order_are_of_the_same_class(driver: RedisDriver) -> None:
    parts = (Take(("a",), 1), Take(("b",), 5))
    for order in (parts, parts[::-1]):
        driver.exchange(Turn(worker="w", takes=order, limit=5, start=5, tasks=("report",)))
    assert driver.clients.ask("HLEN", "{windlass}:class") == 1


# ------------------------------------------------------------------ batches


def test_a_batch_that_was_lost_is_ripe_no_more(driver: RedisDriver) -> None:
    batch = driver.open_batch(NewBatch(name="b"))
    put(driver, batch_id=batch.id)
    [record] = take(driver)
    assert list(succeed(driver, record).ripe) == [batch.id]
    driver.clients.ask("DEL", f"{{windlass}}:batch:{batch.id}")
    assert driver.change_batch(batch.id, lambda _, __: None) is None
    assert driver.ripe(5) == []


# ------------------------------------------------------------------ what is published


def test_a_listener_that_has_died_is_forgotten(driver: RedisDriver) -> None:
    driver.run("hear", "e-dead", 0.05)
    until(lambda: not turn(driver).heard)


def test_a_listener_hears_again_after_its_connection_was_cut(
    driver: RedisDriver, other: RedisDriver, caplog: pytest.LogCaptureFixture
) -> None:
    ear = other.subscribe()
    driver.publish([b"before"])
    assert ear.get(20) == [b"before"]
    assert driver.clients.ask("CLIENT", "KILL", "TYPE", "pubsub") >= 1
    until(lambda: heard_again(driver, ear))
    assert "not heard for now" in caplog.text
    ear.close()


def heard_again(driver: RedisDriver, ear: Any) -> bool:
    driver.publish([b"again"])
    return b"again" in ear.get(0.05)


def test_other_databases_hear_nothing(driver: RedisDriver, redis_url: str) -> None:
    """Redis itself does not keep them apart."""
    base, number = redis_url.rsplit("/", 1)
    ear = driver.subscribe()
    with closing(RedisDriver(f"{base}/{(int(number) + 1) % 16}")) as elsewhere:
        assert elsewhere.channel != driver.channel
    driver.publish([b"here"])
    assert ear.get(20) == [b"here"]


def test_a_closed_driver_closes_its_ears(driver: RedisDriver, other: RedisDriver) -> None:
    ear = other.subscribe()
    assert turn(driver).heard
    other.close()
    assert not turn(driver).heard
    assert ear.get(0.0) == []
