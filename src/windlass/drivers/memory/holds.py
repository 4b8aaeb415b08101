"""Who has which unique key, in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from windlass.errors import UniqueConflictError
from windlass.job import first_record
from windlass.uniqueness import enters, leaves

if TYPE_CHECKING:
    from collections.abc import Sequence

    from windlass.drivers.memory.entry import Entry
    from windlass.job import Hold, NewJob, Status


class Holds:
    """The keys that are held: by which job, and until when after it has left its statuses."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[Entry, float | None]] = {}

    def holder(self, key: str, now: float) -> Entry | None:
        """Return the job that has a key."""
        entry, until = self._held.get(key, (None, None))
        return None if until is not None and until <= now else entry

    def check(self, jobs: Sequence[NewJob], now: float) -> None:
        """Raise if a strict hold of a new job is taken, by a stored job or by an earlier one of *jobs*."""
        seen: dict[str, NewJob] = {}
        for job in jobs:
            flow = job.flow()
            for hold in flow.holds if flow is not None else ():
                rival = self.holder(hold.key, now)
                if hold.strict and (rival is not None or hold.key in seen):
                    raise UniqueConflictError(
                        rival.record() if rival is not None else first_record(seen[hold.key], 0, now)
                    )
                seen.setdefault(hold.key, job)

    def rival(self, entry: Entry, before: Status | None, after: Status | None, now: float) -> Entry | None:
        """Return the job that keeps *entry* from moving, if one does."""
        for hold in entry.holds:
            if after is not None and enters(hold, before, after):
                other = self.holder(hold.key, now)
                if other is not None and other is not entry:
                    return other
        return None

    def move(self, entry: Entry, before: Status | None, after: Status | None, now: float) -> None:
        """Take and give up keys as a job moves; there is no rival."""
        for hold in entry.holds:
            if after is not None and enters(hold, before, after):
                self._held[hold.key] = (entry, None)
            elif before is not None and (after is None or leaves(hold, before, after)):
                self._give_up(hold, entry, after, now)

    def _give_up(self, hold: Hold, entry: Entry, after: Status | None, now: float) -> None:
        mine = self._held.get(hold.key)
        if mine is None or mine[0] is not entry:
            return
        until = entry.created_at + hold.window
        if after is None or until <= now:
            del self._held[hold.key]
        elif mine[1] is None:
            self._held[hold.key] = (entry, until)
