"""A Cluster may move the keys of an application while it works, and lose the node that has them."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.waiting import until
from windlass import lifecycle
from windlass.drivers.base import Filter, Turn, Worker
from windlass.drivers.redis import RedisDriver
from windlass.errors import ConnectionLostError, StoreError
from windlass.job import NewJob, Status
from windlass.testing.conformance.bench import assert_counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.servers.redis_cluster import RedisCluster
    from windlass.job import Record


@pytest.fixture(params=["redis", "redis7", "redis8", "valkey"])
def cluster(request: pytest.FixtureRequest, new_redis_cluster: Callable[..., RedisCluster]) -> RedisCluster:
    return new_redis_cluster(request.param)


@pytest.fixture
def driver(cluster: RedisCluster) -> Iterator[RedisDriver]:
    with closing(RedisDriver(cluster.url())) as driver:
        driver.open()
        yield driver


def job(**options: object) -> NewJob:
    return NewJob(task="t", queue="default", payload=b"1", **options)  # type: ignore[arg-type]


def turn(driver: RedisDriver, *ended: Record) -> list[Record]:
    settlements = [lifecycle.Settlement(record, lifecycle.succeed(record), driver.now()) for record in ended]
    turned = driver.exchange(Turn(worker="w", settlements=settlements, limit=5, start=5, tasks=("t",)))
    assert turned.refused == []
    return turned.claims


@pytest.mark.slow
def test_while_keys_are_moved_the_store_is_away_and_then_all_is_there(
    cluster: RedisCluster, driver: RedisDriver
) -> None:
    driver.beat(Worker(id="w", host="h", pid=1))
    driver.insert([job(), job(tags=("a",), origin="o"), job(delay=60), *(job() for _ in range(8))])
    held = turn(driver)
    before = driver.find(Filter(), limit=20)
    attempts = (
        lambda: driver.insert([job()]),
        lambda: driver.insert([job(tags=("a",), priority=3), job(delay=5)]),
        lambda: turn(driver, *held),
        lambda: driver.change([1], lambda record, _: lifecycle.cancel(record)),
        lambda: driver.get(1),
        lambda: driver.find(Filter(tag="a"), limit=5),
    )
    moved = list[str]()
    for key in cluster.move("{windlass}:meta"):
        for attempt in attempts:
            with pytest.raises(ConnectionLostError):
                attempt()
        moved.append(key)
    assert len(moved) > 8
    assert driver.find(Filter(), limit=20) == before
    assert [r.id for r in driver.find(Filter(tag="a"), limit=5)] == [2]
    claims = turn(driver, *held)
    assert (len(claims), len(turn(driver, *claims))) == (5, 0)
    assert driver.count(Filter(statuses=(Status.COMPLETED,)), most=0) == 10
    assert driver.insert([job()])[0].id == len(before) + 1
    assert_counted(driver)


@pytest.mark.slow
def test_the_replica_of_a_node_that_died_is_found_though_the_map_named_the_dead_one_at_first(
    new_redis_cluster: Callable[..., RedisCluster],
) -> None:
    cluster = new_redis_cluster(replicas=1)
    with closing(RedisDriver(cluster.url())) as driver:
        driver.open()
        driver.insert([job()])
        node = cluster.node_of("{windlass}:meta")
        until(lambda: node.execute("WAIT", 1, 100) == 1)
        node.kill()
        with pytest.raises(ConnectionLostError):
            driver.insert([job()])
        until(lambda: works(driver))
        assert not node.running
        assert driver.find(Filter(), limit=5)[-1].id == 1


def works(driver: RedisDriver) -> bool:
    try:
        return bool(driver.insert([job()]))
    except StoreError:
        return False
