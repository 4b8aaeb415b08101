"""Schedules and their ticks as drivers know them.

A driver decides nothing about them either: :mod:`windlass.schedule` does, from a record read under the same lock under
which its answer is written. What a schedule was declared as is a text that no driver reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import msgspec

from windlass.job import NewJob, Record

TICKS = 1000
"""Rows of its history that are kept of a schedule, the newest."""
HELD = "held"
"""The outcome of a tick whose job was not stored, because another had its unique key."""


class ScheduleRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule as it is stored. Instants are epoch seconds of the store's clock."""

    name: str
    definition: bytes
    """JSON that only :mod:`windlass.schedule` reads."""
    revision: int
    """Raised whenever it is declared anew, paused or resumed; not when it fires."""
    watermark: float
    """The last instant up to which ticks have been considered: none before it fires ever again."""
    created_at: float
    paused_at: float | None = None
    fired: int = 0
    """Ticks that have fired."""
    rows: int = 0
    """The number of the last row of its history."""
    jobs: Mapping[str, int] = {}
    """The last job of each queue. The driver keeps it."""


class NewTick(msgspec.Struct, frozen=True, kw_only=True):
    """What has become of a tick: a row of history that is not stored yet."""

    tick: float
    outcome: str
    queue: str = ""
    """Empty: of all the schedule's queues."""
    job: NewJob | None = None
    """To be enqueued."""
    other: int | None = None
    """The job because of which it was skipped."""
    count: int | None = 1
    """So many ticks, of which this is the last; ``None``: more than anybody has counted."""
    first: float | None = None
    """The first of several."""


class TickRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A row of a schedule's history."""

    number: int
    """From 1; the next one is higher."""
    tick: float
    at: float
    """When it was considered."""
    outcome: str
    queue: str = ""
    job_id: int | None = None
    other: int | None = None
    count: int | None = 1
    first: float | None = None


class ScheduleMove(msgspec.Struct, frozen=True, kw_only=True):
    """What a schedule becomes; drivers write it in one step."""

    record: ScheduleRecord | None
    """``None``: it goes, with its history. ``rows`` and ``jobs`` are as they were: :func:`written` renews them."""
    ticks: tuple[NewTick, ...] = ()


class ScheduleChanged(msgspec.Struct, frozen=True, kw_only=True):
    """What ``Driver.change_schedule`` did."""

    record: ScheduleRecord | None
    """As it is now; ``None``: there is none."""
    ticks: Sequence[TickRecord] = ()
    jobs: Sequence[Record] = ()
    """What was enqueued."""


DecideSchedule: TypeAlias = "Callable[[ScheduleRecord | None, Mapping[str, int], float], ScheduleMove | None]"
"""A pure rule: the record (``None``: there is none), the jobs of ``record.jobs`` that have not ended, by queue, and the
store's time in; what it becomes out, ``None`` = nothing is to be done. It may be called more than once."""


def wanted(move: ScheduleMove) -> list[NewJob]:
    """Return the jobs to insert for a move, in order."""
    return [tick.job for tick in move.ticks if tick.job is not None]


def stirs(before: ScheduleRecord | None, after: ScheduleRecord | None) -> bool:
    """Whether workers must look at the schedules anew: then ``Turned.stamp`` is raised, and they are rung."""
    return (before and before.revision) != (after and after.revision)


def written(move: ScheduleMove, records: Sequence[Record], now: float) -> ScheduleChanged:
    """Return what a driver has to write of a move whose jobs were inserted: the record, and the rows of its history."""
    record = move.record
    if record is None:
        return ScheduleChanged(record=None)
    inserted = iter(records)
    number, jobs = record.rows, dict(record.jobs)
    rows = []
    for new in move.ticks:
        number += 1
        stored = next(inserted) if new.job is not None else None
        found = stored is not None and stored.found
        if stored is not None and not found:
            jobs[new.queue] = stored.id
        rows.append(
            TickRecord(
                number=number,
                tick=new.tick,
                at=now,
                outcome=HELD if found else new.outcome,
                queue=new.queue,
                job_id=None if stored is None or found else stored.id,
                other=stored.id if stored is not None and found else new.other,
                count=new.count,
                first=new.first,
            )
        )
    return ScheduleChanged(
        record=msgspec.structs.replace(record, rows=number, jobs=jobs),
        ticks=rows,
        jobs=[stored for stored in records if not stored.found],
    )
