"""The memory driver keeps every promise of the Protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from windlass.drivers.memory import MemoryDriver
from windlass.testing.conformance import DriverConformance

if TYPE_CHECKING:
    from collections.abc import Iterator


class TestMemory(DriverConformance):
    @pytest.fixture
    def driver(self) -> Iterator[MemoryDriver]:
        driver = MemoryDriver()
        driver.open()
        yield driver
        driver.close()
