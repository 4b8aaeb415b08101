"""SQLite keeps every promise of the Protocol, in a file and in memory."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from windlass.drivers.sqlite import SqliteDriver
from windlass.testing.conformance import DriverConformance

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class TestSqliteFile(DriverConformance):
    @pytest.fixture
    def driver(self, tmp_path: Path) -> Iterator[SqliteDriver]:
        self.path = tmp_path / "jobs.db"
        driver = SqliteDriver(self.path, durability="relaxed")
        driver.open()
        self.foreign: list[sqlite3.Connection] = []
        yield driver
        driver.close()
        for connection in self.foreign:
            connection.close()

    def second(self, driver: SqliteDriver) -> SqliteDriver:  # type: ignore[override]
        other = SqliteDriver(driver.path, durability="relaxed")
        other.open()
        return other

    def foreign_connection(self, driver: SqliteDriver) -> Any:  # type: ignore[override]
        connection = sqlite3.connect(driver.path)  # type: ignore[arg-type]
        self.foreign.append(connection)
        return connection


class TestSqlitePrivate(DriverConformance):
    @pytest.fixture
    def driver(self) -> Iterator[SqliteDriver]:
        driver = SqliteDriver(None)
        driver.open()
        yield driver
        driver.close()
