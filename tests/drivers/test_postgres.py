"""PostgreSQL keeps every promise of the Protocol, on the newest server and on the system's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from windlass.drivers.postgres import PostgresDriver
from windlass.testing.conformance import DriverConformance

if TYPE_CHECKING:
    from collections.abc import Iterator


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
