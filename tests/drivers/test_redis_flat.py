"""What a call costs on Redis, in commands: the same however many jobs there are."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from windlass import lifecycle
from windlass.drivers.base import BatchMove, Filter, NewBatch, Note, Turn, Worker
from windlass.drivers.redis import RedisDriver
from windlass.job import Gate, Hold, NewJob, Status
from windlass.lifecycle import Settlement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.servers.redis import Redis

AT_ONCE = 100


@pytest.fixture
def driver(redis_url: str) -> Iterator[RedisDriver]:
    driver = RedisDriver(redis_url)
    driver.open()
    yield driver
    driver.close()


def job(task: str = "t", *, delay: float = 0.0) -> NewJob:
    return NewJob(task=task, queue="default", payload=b"1" * 100, delay=delay)


def commands(driver: RedisDriver, act: Callable[[], object]) -> dict[str, int]:
    """Return how often each command was called meanwhile."""
    driver.clients.ask("CONFIG", "RESETSTAT")
    act()
    told = driver.clients.ask("INFO", "commandstats").decode().splitlines()
    calls = {
        line.partition(":")[0].removeprefix("cmdstat_"): int(line.partition("calls=")[2].partition(",")[0])
        for line in told
        if line.startswith("cmdstat_")
    }
    return {name: n for name, n in calls.items() if not name.startswith(("config", "info"))}


def claim(driver: RedisDriver, limit: int = AT_ONCE, **options: object) -> list[Settlement]:
    turn = Turn(worker="w", limit=limit, start=limit, tasks=("t",), **options)  # type: ignore[arg-type]
    return [Settlement(r, lifecycle.succeed(r), driver.now()) for r in driver.exchange(turn).claims]


def work(driver: RedisDriver) -> None:
    """Claim and settle; twice, so that the settlement rides in a turn that claims."""
    ended = claim(driver)
    assert len(ended) == AT_ONCE
    ended = claim(driver, settlements=ended)
    assert driver.exchange(Turn(worker="w", settlements=ended)).refused == []


def test_a_turn_of_a_hundred_jobs_is_a_few_dozen_commands(driver: RedisDriver) -> None:
    driver.insert([job() for _ in range(500)])
    work(driver)
    calls = commands(driver, lambda: work(driver))
    assert sum(calls.values()) <= 100, calls
    assert calls["evalsha"] == 3


def test_an_idle_turn_writes_nothing(driver: RedisDriver) -> None:
    claim(driver)
    calls = commands(driver, lambda: claim(driver))
    writes = {"hset", "zadd", "zrem", "sadd", "srem", "rpush", "hincrby", "incr", "incrby", "expire"}
    assert not writes & set(calls), calls


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", [100_000, pytest.param(1_000_000, marks=pytest.mark.soak)])
def test_the_commands_of_a_turn_do_not_depend_on_how_many_jobs_there_are(driver: RedisDriver, number: int) -> None:
    driver.beat(Worker(id="w", host="h", pid=1))
    driver.insert([job() for _ in range(500)])
    work(driver)
    few = commands(driver, lambda: work(driver))
    driver.insert([job("unknown") for _ in range(number)])
    driver.insert([job(delay=1000.0) for _ in range(number)])
    driver.insert([job() for _ in range(number)])
    for _ in range(min(number, 100_000) // 1000):
        driver.exchange(Turn(worker="x", limit=1000, start=1000, tasks=("unknown",)))
    work(driver)  # the streams that are new are learnt once
    many = commands(driver, lambda: work(driver))
    # Two hundred ids that follow each other lie in one bucket of finished jobs, or in two.
    assert abs(many.pop("sadd") - few.pop("sadd")) <= 1
    # The first job of a minute gives the pulse of this minute its end.
    assert abs(many.pop("expire", 0) - few.pop("expire", 0)) <= 1
    assert many == few
    one = commands(driver, lambda: driver.insert([job()]))
    assert sum(one.values()) <= 20, one
    for which in (
        Filter(),
        Filter(statuses=(Status.SCHEDULED,)),
        Filter(statuses=(Status.PENDING,), task="t"),
        Filter(created_before=driver.now() + 60),
    ):
        page = commands(driver, lambda which=which: driver.find(which, limit=50))  # type: ignore[misc]
        # Jobs that run are read as they are, by slices; nothing else grows.
        assert sum(page.values()) - page.get("sscan", 0) <= 40, page
    assert sum(commands(driver, driver.tallies).values()) <= 20
    assert sum(commands(driver, lambda: driver.oldest("default")).values()) <= 20


@pytest.mark.parametrize("flavour", ["redis", "redis7"])
@pytest.mark.slow
def test_a_job_takes_little_memory(flavour: str, new_redis: Callable[..., Redis]) -> None:
    """With a payload of a hundred bytes: at most 330 while it waits, and 560 when it is finished."""
    server = new_redis(flavour)
    driver = RedisDriver(server.url())
    driver.open()
    number = 100_000
    empty = used(driver)
    driver.insert([job() for _ in range(number)])
    waiting = (used(driver) - empty) / number
    settlements: list[Settlement] = []
    while settlements := claim(driver, 500, settlements=settlements):
        pass
    finished = (used(driver) - empty) / number
    while driver.purge({Status.COMPLETED: 0.0}, 5000):
        pass
    left = used(driver) - empty
    driver.close()
    if os.environ.get("WINDLASS_SHOW_STEPS"):
        print(f"{flavour}: {waiting:.0f} bytes waiting, {finished:.0f} finished, {left} left of all")  # noqa: T201
    assert waiting <= 330
    assert finished <= 560
    assert left < 2_000_000


def used(driver: RedisDriver) -> int:
    told = driver.clients.ask("INFO", "memory").decode()
    return int(told.partition("used_memory:")[2].split()[0])


def test_nothing_is_left_of_jobs_that_are_gone(driver: RedisDriver) -> None:
    """Every key that came with jobs goes with them."""
    batch = driver.open_batch(NewBatch(name="b")).id
    held_back: dict[str, Any] = {
        "holds": (Hold("unique", 15),),
        "gates": (Gate("limit:x", 1), Gate("rate:x", 1e6, 1.0, 9.0)),
    }
    driver.insert(
        [
            NewJob(
                task="t",
                queue="q",
                payload=b"1",
                tags=("a", "b"),
                origin="o",
                batch_id=batch,
                idempotency_key="k",
                meta=b"{}",
                terms=b"{}",
                **held_back,
            ),
            NewJob(task="t", queue="q", payload=b"1", max_attempts=5, timeout=3.0, tick=1.0, tags=("a",)),
            NewJob(task="t", queue="q", payload=b"1", gates=held_back["gates"]),
            job(delay=100),
        ]
    )
    [one, two] = claim(driver)
    driver.note([Note(one.record.id, one.record.lease, b"{}", ((1.0, "line"),))])
    failed = lifecycle.fail(two.record, b'{"type":"X","message":""}', max_attempts=5, delay=0.0, now=driver.now())
    driver.exchange(Turn(worker="w", settlements=[one, Settlement(two.record, failed, driver.now())]))
    driver.exchange(Turn(worker="w", settlements=claim(driver)))
    waiting = driver.find(Filter(statuses=(Status.SCHEDULED,)), limit=5)
    driver.change([r.id for r in waiting], lambda record, _: lifecycle.delete(record))
    driver.change_batch(batch, lambda _, __: BatchMove(open=False, delete=True))
    assert driver.purge({Status.COMPLETED: 0.0}, 10) == 3
    driver.shift(10)
    driver.tidy()
    assert claim(driver) == []
    left = {key.decode().partition(":")[2].partition(":")[0] for key in driver.clients.ask("KEYS", "*")}
    assert left == {"meta", "seq", "stream", "streams", "count", "pulse", "when", "class", "classes"}


def test_jobs_put_aside_cost_a_turn_nothing(driver: RedisDriver) -> None:
    """Once they stand before their gate, whatever their number; a rate that is exhausted is looked at when it has a token."""
    driver.beat(Worker(id="w", host="h", pid=1))
    driver.insert([NewJob(task="t", queue="default", payload=b"1", gates=(Gate("limit:x", 1),)) for _ in range(300)])
    [holder] = claim(driver)
    driver.insert([job() for _ in range(500)])
    work(driver)
    few = commands(driver, lambda: work(driver))
    driver.insert([NewJob(task="t", queue="default", payload=b"1", gates=(Gate("limit:x", 1),)) for _ in range(3000)])
    driver.insert([job() for _ in range(500)])
    assert driver.passages(["limit:x"])[0].blocked == 3299
    many = commands(driver, lambda: work(driver))
    # Finished jobs lie in buckets of ids that follow each other.
    assert abs(many.pop("sadd") - few.pop("sadd")) <= 1
    for counts in (few, many):
        counts.pop("expire", None)  # what was done in a second is given its life once in that second
    assert many == few
    assert driver.exchange(Turn(worker="w", settlements=[holder])).refused == []


def test_members_of_one_batch_are_counted_together(driver: RedisDriver) -> None:
    """A few commands more for a turn, whatever their number."""
    driver.beat(Worker(id="w", host="h", pid=1))
    batch = driver.open_batch(NewBatch(name="b")).id
    driver.insert([job() for _ in range(500)])
    work(driver)
    plain = commands(driver, lambda: work(driver))
    driver.purge({Status.COMPLETED: 0.0}, 1000)
    driver.exchange(Turn(worker="w", settlements=claim(driver, 500)))
    driver.insert([NewJob(task="t", queue="default", payload=b"1", batch_id=batch) for _ in range(200)])
    members = commands(driver, lambda: work(driver))
    assert sum(members.values()) <= sum(plain.values()) + 10, (members, plain)
    assert driver.batches([batch])[0].left == 0
