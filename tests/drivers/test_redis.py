"""Redis keeps every promise of the Protocol, on the development dependencies' server and on the system's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from windlass.drivers.redis import RedisDriver
from windlass.testing.conformance import DriverConformance

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers.redis import Redis


class TestRedis(DriverConformance):
    @pytest.fixture
    def driver(self, redis_url: str) -> Iterator[RedisDriver]:
        self.url = redis_url
        self.others: list[RedisDriver] = []
        driver = RedisDriver(redis_url)
        driver.open()
        yield driver
        for other in [driver, *self.others]:
            other.close()

    def second(self, driver: RedisDriver) -> RedisDriver:  # type: ignore[override]
        other = RedisDriver(self.url)
        other.open()
        self.others.append(other)
        return other


@pytest.mark.slow
class TestRedisOfTheSystem(TestRedis):
    @pytest.fixture
    def redis_url(self, redis_of_the_system: Redis) -> str:
        redis_of_the_system.empty()
        return redis_of_the_system.url()
