"""Keeps how things stood each minute and hour; of all workers one writes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from windlass import observed
from windlass.observed import LEVELS

if TYPE_CHECKING:
    from windlass.drivers.base import Driver
    from windlass.observed import Level


class Sampler:
    """Looks at the clock, and takes a sample when a minute or an hour has ended."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._last: dict[Level, int] = {}

    def tick(self) -> None:
        """Write the samples that are due: one look at the store's clock, and nothing more while no minute ends."""
        now = self._driver.now()
        for level, (step, kept) in LEVELS.items():
            number = int(now // step)
            before = self._last.setdefault(level, number)
            if number > before:
                body = observed.taken(self._driver.tallies())
                self._driver.write(observed.journal(level), body, keep=kept, number=number)
                self._last[level] = number
