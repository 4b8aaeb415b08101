"""Redis keeps every promise of the Protocol, on the oldest server that is served, on newer ones and on Valkey."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from windlass.drivers.redis import RedisDriver
from windlass.testing.conformance import DriverConformance

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


@pytest.mark.slow
@pytest.mark.parametrize("redis_flavour", ["redis7", "redis8", "valkey"])
class TestOthers(TestRedis):
    """The same on newer servers and on Valkey."""
