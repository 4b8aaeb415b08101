"""Who has which unique key, inside one transaction.

What is known of a key is read once and changed here; ``flush`` writes what has changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from windlass.uniqueness import enters, leaves

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from windlass.drivers.sqlite.connect import Plain
    from windlass.drivers.sqlite.sql import Sql
    from windlass.job import Flow, Status


class Holds:
    """The keys that this transaction has to do with."""

    __slots__ = ("_changed", "_connection", "_known", "_now", "_sql")

    def __init__(self, connection: sqlite3.Connection | Plain, sql: Sql, now: float) -> None:
        self._connection = connection
        self._sql = sql
        self._now = now
        self._known: dict[str, tuple[int, float | None] | None] = {}
        """By key, the job and until when after it has left its statuses; ``None``: nobody."""
        self._changed: set[str] = set()

    def load(self, keys: Iterable[str]) -> None:
        """Read the keys that are not known yet, together."""
        missing = [key for key in keys if key not in self._known]
        if missing:
            self._known.update(dict.fromkeys(missing))
            if len(missing) == 1:  # one enqueue, most of the time
                rows = self._connection.execute(self._sql.hold, (missing[0],))
            else:
                rows = self._connection.execute(self._sql.holds, (msgspec.json.encode(missing).decode(),))
            self._known.update((key, (job_id, until)) for key, job_id, until in rows)

    def held(self, keys: Iterable[str]) -> dict[str, int]:
        """Return the jobs that have these keys."""
        keys = list(keys)
        self.load(keys)
        known = [(key, held) for key in keys if (held := self._known[key]) is not None]
        return {key: job_id for key, (job_id, until) in known if until is None or until > self._now}

    def take(self, taken: Iterable[tuple[str, int]]) -> None:
        """Give keys to new jobs."""
        for key, job_id in taken:
            self._set(key, (job_id, None))

    def rival(self, flow: Flow, job_id: int, before: Status, after: Status | None) -> int | None:
        """Return the job that keeps *job_id* from moving, if one does."""
        if after is None:
            return None
        entered = [hold.key for hold in flow.holds if enters(hold, before, after)]
        return next((other for other in self.held(entered).values() if other != job_id), None)

    def move(self, flow: Flow, job_id: int, created_at: float, before: Status, after: Status | None) -> None:
        """Take and give up keys as a job moves; there is no rival."""
        for hold in flow.holds:
            if after is not None and enters(hold, before, after):
                self._set(hold.key, (job_id, None))
            elif after is None or leaves(hold, before, after):
                self._give_up(hold.key, job_id, None if after is None else created_at + hold.window)

    def _give_up(self, key: str, job_id: int, until: float | None) -> None:
        self.load((key,))
        held = self._known[key]
        if held is None or held[0] != job_id:
            return
        if until is None or until <= self._now:
            self._set(key, None)
        elif held[1] is None:
            self._set(key, (job_id, until))

    def _set(self, key: str, held: tuple[int, float | None] | None) -> None:
        self._known[key] = held
        self._changed.add(key)

    def flush(self) -> None:
        """Write what has changed."""
        if not self._changed:
            return
        taken: list[tuple[Any, ...]] = []
        free: list[tuple[str]] = []
        for key in self._changed:
            held = self._known[key]
            if held is None:
                free.append((key,))
            else:
                taken.append((key, *held))
        self._changed.clear()
        if free:
            self._connection.executemany(self._sql.drop_hold, free)
        if taken:
            self._connection.executemany(self._sql.put_hold, taken)


def moving(flow: Flow, before: Status, after: Status | None) -> list[str]:
    """Return the keys that a move has to do with."""
    return [
        hold.key for hold in flow.holds if after is None or enters(hold, before, after) or leaves(hold, before, after)
    ]
