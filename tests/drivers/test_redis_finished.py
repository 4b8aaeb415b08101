"""Finished jobs are kept in buckets of ids on Redis; nobody sees where one ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from windlass import lifecycle
from windlass.drivers.base import Filter, Turn
from windlass.drivers.redis import RedisDriver
from windlass.job import NewJob, Record, Status
from windlass.lifecycle import Settlement

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

JOBS = 1_200
COMPLETED = Filter(statuses=(Status.COMPLETED,))
HOUR = 3600.0


@pytest.fixture
def driver(redis_url: str) -> Iterator[RedisDriver]:
    driver = RedisDriver(redis_url)
    driver.open()
    yield driver
    driver.close()


def complete(driver: RedisDriver, claims: Sequence[Record]) -> None:
    now = driver.now()
    turn = Turn(worker="w", settlements=[Settlement(r, lifecycle.succeed(r), now) for r in claims])
    assert driver.exchange(turn).refused == []


@pytest.fixture
def mixed(driver: RedisDriver) -> tuple[list[int], list[int]]:
    """Complete every third of many jobs, and the others two hours later; return the ids of both."""
    driver.insert([NewJob(task="t", queue="default", payload=b"1") for _ in range(JOBS)])
    claims = driver.exchange(Turn(worker="w", limit=JOBS, start=JOBS, tasks=("t",))).claims
    assert len(claims) == JOBS
    first, later = claims[::3], [r for n, r in enumerate(claims) if n % 3]
    complete(driver, first)
    driver.shift(2 * HOUR)
    complete(driver, later)
    return [r.id for r in first], [r.id for r in later]


def listed(driver: RedisDriver) -> list[int]:
    return [r.id for r in driver.find(COMPLETED, limit=2 * JOBS)]


def test_they_are_listed_newest_first_across_buckets(driver: RedisDriver, mixed: tuple[list[int], list[int]]) -> None:
    ids = sorted((*mixed[0], *mixed[1]), reverse=True)
    assert listed(driver) == ids
    for start in (0, 1, 500, 511, 512, 1100):
        assert [r.id for r in driver.find(COMPLETED, limit=30, offset=start)] == ids[start : start + 30]
        assert [r.id for r in driver.find(COMPLETED, limit=30, before=ids[start])] == ids[start + 1 : start + 31]


def test_a_purge_takes_the_old_ones_out_of_the_midst_of_the_others(
    driver: RedisDriver, mixed: tuple[list[int], list[int]]
) -> None:
    recent = mixed[1]
    assert [driver.purge({Status.COMPLETED: HOUR}, 150) for _ in range(4)] == [150, 150, 100, 0]
    assert sorted(listed(driver)) == recent
    driver.shift(2 * HOUR)
    assert driver.purge({Status.COMPLETED: HOUR}, JOBS) == len(recent)
    assert listed(driver) == []


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    "harm",
    [
        ("DEL", "age:1:c"),
        ("DEL", "done:1:c"),
        ("DEL", "done:1:c:1"),
        pytest.param(("ZADD", "age:1:c", 1e11, 1), id="a bucket that seems young"),
    ],
)
def test_an_index_that_was_harmed_is_the_same_after_tidying(
    driver: RedisDriver, mixed: tuple[list[int], list[int]], harm: tuple[str, str, *tuple[float, ...]]
) -> None:
    command, key, *words = harm
    driver.clients.ask(command, driver.key(key), *words)
    driver.tidy()
    assert sorted(listed(driver)) == sorted((*mixed[0], *mixed[1]))
    assert driver.purge({Status.COMPLETED: HOUR}, JOBS) == len(mixed[0])
    assert sorted(listed(driver)) == mixed[1]
