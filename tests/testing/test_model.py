"""Random programs on each driver show what the model shows."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.servers.redis_binaries import FLAVOURS
from windlass.drivers.memory import MemoryDriver
from windlass.drivers.postgres import PostgresDriver
from windlass.drivers.redis import RedisDriver
from windlass.drivers.sqlite import SqliteDriver
from windlass.testing.model import run_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.servers.postgres import Postgres
    from tests.servers.redis import Redis
    from tests.servers.redis_cluster import RedisCluster
    from windlass.drivers.base import Driver

SOAK = [pytest.mark.soak, pytest.mark.timeout(3600)]
DRIVERS: dict[str, Callable[[Callable[[], float]], Driver]] = {
    "memory": MemoryDriver,
    "sqlite": lambda clock: SqliteDriver(None, clock=clock),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DRIVERS)
@pytest.mark.parametrize("programs", [120, pytest.param(5000, marks=SOAK)])
def test_a_driver_agrees_with_the_model(name: str, programs: int) -> None:
    run_model(DRIVERS[name], programs=programs)


class StillDriver(PostgresDriver):
    """Asks the server for the time, which stands still there and not here; empties the store when opened."""

    def open(self) -> None:
        super().open()
        with self.clients.lend() as connection:
            (tables,) = connection.execute(_TABLES).fetchone() or ("",)
            connection.execute(
                f"TRUNCATE {tables} RESTART IDENTITY; UPDATE still.windlass_meta SET shift = 0, rewind = 0;"
                "ALTER SEQUENCE still.windlass_seq RESTART; ALTER SEQUENCE still.windlass_lease_seq RESTART",
                prepare=False,
            )

    def now(self) -> float:
        now: float = self._rows(self.sql.now)[0][0]
        return now


_TABLES = """
SELECT string_agg(format('%I.%I', schemaname, tablename), ', ')
FROM pg_tables WHERE schemaname = 'still' AND tablename <> 'windlass_meta'
"""

# What comes before pg_catalog in the path hides what is there.
_STAGE = """
CREATE SCHEMA still;
CREATE FUNCTION still.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS 'SELECT to_timestamp({:f})';
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flavour", "programs"),
    [
        ("pg18", 15),
        ("pg15", 8),
        *(pytest.param(f, 1000, marks=SOAK) for f in ("pg18", "pg15")),
    ],
)
def test_postgres_agrees_with_the_model(flavour: str, programs: int, new_postgres: Callable[..., Postgres]) -> None:
    server = new_postgres(flavour, fsync="off", synchronous_commit="off", full_page_writes="off")
    staged = False

    def make(clock: Callable[[], float]) -> PostgresDriver:
        nonlocal staged
        if not staged:
            with psycopg.connect(server.url(), autocommit=True) as connection:
                connection.execute(_STAGE.format(clock()))
            staged = True
        options = "-csearch_path%3Dstill,pg_catalog"
        return StillDriver(f"{server.url(socket=True)}&options={options}", quiet=True)

    run_model(make, programs=programs)


class StillRedis(RedisDriver):
    """Asks the server for the time, which stands still in its scripts; empties the store when opened."""

    def open(self) -> None:
        self.clients.open()
        self.clients.ask("FLUSHALL")
        super().open()

    def now(self) -> float:
        now: float = struct.unpack_from("<d", self.run("read")[0])[0]
        return now


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flavour", "programs"),
    [
        ("redis", 40),
        ("redis7", 10),
        ("valkey", 10),
        *(pytest.param(f, 1000, marks=SOAK) for f in FLAVOURS),
    ],
)
def test_redis_agrees_with_the_model(flavour: str, programs: int, new_redis: Callable[..., Redis]) -> None:
    run_model(_still(new_redis(flavour).url()), programs=programs)


@pytest.mark.slow
def test_a_cluster_agrees_with_the_model(new_redis_cluster: Callable[..., RedisCluster]) -> None:
    run_model(_still(new_redis_cluster().url()), programs=15)


def _still(url: str) -> Callable[[Callable[[], float]], RedisDriver]:
    """Return what makes drivers in whose scripts the time stands still."""

    def make(clock: Callable[[], float]) -> RedisDriver:
        still = f"{{'{clock():.0f}', '0'}}"
        return StillRedis(url, edit=lambda text: text.replace("call('TIME')", still))

    return make
