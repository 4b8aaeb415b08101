"""Schedules and their history in memory."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from windlass.drivers.ticking import TICKS, ScheduleChanged, stirs, wanted, written
from windlass.job import FINISHED

if TYPE_CHECKING:
    from collections.abc import Collection

    from windlass.drivers.memory.store import Store
    from windlass.drivers.ticking import DecideSchedule, ScheduleRecord, TickRecord


class Schedules:
    """All schedules, by name."""

    def __init__(self) -> None:
        self._all: dict[str, ScheduleRecord] = {}
        self._rows: dict[str, deque[TickRecord]] = {}
        self.stamp = 0
        """Raised whenever workers must look at them anew."""

    def change(self, store: Store, name: str, decide: DecideSchedule, now: float) -> ScheduleChanged:
        """Ask *decide* about one and write its answer."""
        before = self._all.get(name)
        last = before.jobs if before is not None else {}
        live = {queue: job_id for queue, job_id in last.items() if _lives(store, job_id)}
        move = decide(before, live, now)
        if move is None:
            return ScheduleChanged(record=before)
        jobs = wanted(move)
        changed = written(move, store.insert(jobs, now) if jobs else (), now)
        if changed.record is None:
            self._all.pop(name, None)
            self._rows.pop(name, None)
        else:
            self._all[name] = changed.record
            self._rows.setdefault(name, deque(maxlen=TICKS)).extend(changed.ticks)
        if stirs(before, changed.record):
            self.stamp += 1
            store.wake = True
        return changed

    def find(self, names: Collection[str] | None) -> list[ScheduleRecord]:
        """Return these, or all, by name."""
        return [self._all[name] for name in sorted(self._all if names is None else set(names) & self._all.keys())]

    def ticks(self, name: str, limit: int, before: int | None) -> list[TickRecord]:
        """Return rows of a history, the newest first."""
        rows = (row for row in reversed(self._rows.get(name, ())) if before is None or row.number < before)
        return [row for _, row in zip(range(limit), rows, strict=False)]


def _lives(store: Store, job_id: int) -> bool:
    entry = store.jobs.get(job_id)
    return entry is not None and entry.status not in FINISHED
