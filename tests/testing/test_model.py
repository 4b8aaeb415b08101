"""Random programs on each driver show what the model shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from windlass.drivers.memory import MemoryDriver
from windlass.drivers.sqlite import SqliteDriver
from windlass.testing.model import run_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from windlass.drivers.base import Driver

DRIVERS: dict[str, Callable[[Callable[[], float]], Driver]] = {
    "memory": MemoryDriver,
    "sqlite": lambda clock: SqliteDriver(None, clock=clock),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DRIVERS)
def test_a_driver_agrees_with_the_model(name: str) -> None:
    run_model(DRIVERS[name], programs=500)
