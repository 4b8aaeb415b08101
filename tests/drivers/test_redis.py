"""Redis keeps every promise of the Protocol, on the oldest server that is served, on newer ones and on Valkey."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import msgspec
import pytest

from tests.servers.redis_cluster import RedisCluster
from windlass import lifecycle
from windlass.drivers.base import Turn
from windlass.drivers.redis import RedisDriver
from windlass.lifecycle import Settlement
from windlass.testing.conformance import DriverConformance
from windlass.testing.conformance.bench import job, run_one, stored, take, totals

if TYPE_CHECKING:
    from collections.abc import Iterator


class TestRedis(DriverConformance):
    @pytest.fixture
    def driver(self, redis_url: str, redis_prefix: str) -> Iterator[RedisDriver]:
        self.url, self.prefix = redis_url, redis_prefix
        self.others: list[RedisDriver] = []
        driver = RedisDriver(redis_url, prefix=redis_prefix)
        driver.open()
        yield driver
        for other in [driver, *self.others]:
            other.close()

    def second(self, driver: RedisDriver) -> RedisDriver:  # type: ignore[override]
        other = RedisDriver(self.url, prefix=self.prefix)
        other.open()
        self.others.append(other)
        return other

    def test_a_lease_is_of_its_worker_alone(self, driver: RedisDriver) -> None:
        """The number alone ends nothing, as a server that has lost its last writes might give it out again."""
        record = msgspec.structs.replace(run_one(driver), worker="other")
        end = Settlement(record, lifecycle.succeed(record), driver.now())
        assert driver.exchange(Turn(worker="other", settlements=[end])).refused == [(record.id, record.lease)]
        assert stored(driver, record).lease == record.lease

    def test_the_same_end_twice_in_one_turn_counts_once(self, driver: RedisDriver) -> None:
        record = run_one(driver)
        end = Settlement(record, lifecycle.succeed(record), driver.now())
        turned = driver.exchange(Turn(worker=record.worker or "", settlements=[end, end]))
        assert turned.refused == [(record.id, record.lease)]
        assert totals(driver)["processed"] == 1

    def test_lines_are_merged_a_little_at_a_time(self, driver: RedisDriver) -> None:
        """Long and short lines of one priority, also those of jobs that came back, give their jobs in one order."""
        tasks = ("a", "b", "c")
        made = driver.insert([job("a" if n % 7 else "b" if n % 2 else "c") for n in range(400)])
        back = take(driver, 30, tasks=tasks)
        for record in back:
            failed = lifecycle.fail(record, b"{}", max_attempts=3, delay=0.0, now=driver.now())
            driver.exchange(Turn(worker=record.worker or "", settlements=[Settlement(record, failed, driver.now())]))
        made += driver.insert([job("b") for _ in range(5)])
        expected = [r.id for r in made[30:400]] + [r.id for r in back] + [r.id for r in made[400:]]
        got: list[int] = []
        while claims := take(driver, 90, tasks=tasks):
            got += [r.id for r in claims]
        assert got == expected

    def test_jobs_due_at_one_instant_come_by_id(self, driver: RedisDriver) -> None:
        """By number, not by digits."""
        made = driver.insert([job(delay=5) for _ in range(120)])
        driver.shift(10)
        assert [r.id for r in take(driver, 200)] == [r.id for r in made]


@pytest.mark.slow
@pytest.mark.parametrize(
    "redis_flavour", ["redis7", *(pytest.param(flavour, marks=pytest.mark.soak) for flavour in ("redis8", "valkey"))]
)
class TestOthers(TestRedis):
    """The same on newer servers and on Valkey."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisCluster]:
    """Three nodes."""
    with RedisCluster() as nodes:
        yield nodes


@pytest.mark.slow
class TestOnCluster(TestRedis):
    """The same on a Cluster, each test as an application of its own, on the node that has its slot."""

    @pytest.fixture
    def redis_url(self, cluster: RedisCluster) -> str:
        return cluster.url()

    @pytest.fixture
    def redis_prefix(self) -> str:
        return f"app_{secrets.token_hex(4)}"
