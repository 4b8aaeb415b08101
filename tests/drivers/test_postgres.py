"""PostgreSQL keeps every promise of the Protocol, on the newest server and on the system's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.servers.databases import Pool
from tests.servers.postgres import Postgres
from windlass.drivers.postgres import PostgresDriver
from windlass.testing.conformance import DriverConformance

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.mark.slow
class TestPostgres(DriverConformance):
    @pytest.fixture
    def driver(self, postgres_url: str) -> Iterator[PostgresDriver]:
        self.url = postgres_url
        self.others: list[Any] = []
        driver = PostgresDriver(postgres_url)
        driver.open()
        yield driver
        for other in [driver, *self.others]:
            other.close()

    def second(self, driver: PostgresDriver) -> PostgresDriver:  # type: ignore[override]
        other = PostgresDriver(self.url)
        other.open()
        self.others.append(other)
        return other

    def foreign_connection(self, driver: PostgresDriver) -> Any:  # type: ignore[override]
        connection = psycopg.connect(self.url)
        self.others.append(connection)
        return connection


@pytest.fixture(scope="module")
def system_pool() -> Iterator[Pool]:
    """Databases on the system's server."""
    with Postgres("pg15", fsync="off", full_page_writes="off") as server:
        yield Pool(server)


@pytest.mark.soak
class TestPostgresOfTheSystem(TestPostgres):
    """The same on the system's, where the model's random programs do all of it in every run."""

    @pytest.fixture
    def postgres_url(self, system_pool: Pool) -> Iterator[str]:
        url = system_pool.take()
        yield url
        system_pool.give_back(url)
