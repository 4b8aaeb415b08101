"""The methods of a driver that keeps no schedules yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from windlass.errors import NotYetError

if TYPE_CHECKING:
    from collections.abc import Collection

    from windlass.drivers.ticking import DecideSchedule, ScheduleChanged, ScheduleRecord, TickRecord


class Unscheduled:
    """No schedules."""

    name: str

    def change_schedule(self, name: str, decide: DecideSchedule) -> ScheduleChanged:
        """Refuse: there is no place for them."""
        raise NotYetError(f"schedules are not built yet for the {self.name} store")

    def schedules(self, names: Collection[str] | None = None) -> list[ScheduleRecord]:
        """Return none."""
        return []

    def ticks(self, name: str, limit: int, before: int | None = None) -> list[TickRecord]:
        """Return none."""
        return []
