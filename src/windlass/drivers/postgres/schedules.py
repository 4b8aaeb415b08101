"""Schedules on PostgreSQL: whoever decides about one has its name to itself until the answer is committed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from windlass.drivers.postgres.batches import HELD
from windlass.drivers.ticking import TICKS, ScheduleChanged, ScheduleRecord, TickRecord, stirs, wanted, written

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from windlass.drivers.postgres.connect import Connection
    from windlass.drivers.postgres.sql import Sql
    from windlass.drivers.ticking import DecideSchedule
    from windlass.job import NewJob, Record

_encode = msgspec.json.encode
_FIELDS = ScheduleRecord.__struct_fields__


def change(
    connection: Connection,
    sql: Sql,
    name: str,
    decide: DecideSchedule,
    insert: Callable[[Connection, Sequence[NewJob]], list[Record]],
) -> ScheduleChanged:
    """Ask *decide* about one and write its answer."""
    with connection.transaction():
        # Not the row: of two who declare a new one, neither has it. And by itself: what is read must be as of afterwards.
        connection.execute(sql.lock_schedule, (str(HELD), f"{sql.channel} schedule {name}"))
        found = find(connection, sql, [name])
        before = found[0] if found else None
        last = {} if before is None else before.jobs
        now, ids = connection.execute(sql.live_jobs, (list(last.values()),), binary=True).fetchone() or (0.0, [])
        move = decide(before, {queue: job_id for queue, job_id in last.items() if job_id in ids}, now)
        if move is None:
            return ScheduleChanged(record=before)
        jobs = wanted(move)
        changed = written(move, insert(connection, jobs) if jobs else (), now)
        _write(connection, sql, name, changed)
        if stirs(before, changed.record):
            connection.execute(sql.raise_stamp)  # last, as all turns of the fleet share its row
        return changed


def _write(connection: Connection, sql: Sql, name: str, changed: ScheduleChanged) -> None:
    if changed.record is None:
        connection.execute(sql.delete_schedule, (name, name))
        return
    connection.execute(sql.put_schedule, (_encode(_spelt(changed.record)).decode(),))
    if changed.ticks:
        rows = _encode(changed.ticks[-TICKS:]).decode()
        connection.execute(sql.put_ticks, (name, changed.record.rows - TICKS, name, rows))


def _spelt(record: ScheduleRecord) -> dict[str, Any]:
    return msgspec.structs.asdict(record) | {"definition": record.definition.decode()}


def find(connection: Connection, sql: Sql, names: Collection[str] | None) -> list[ScheduleRecord]:
    """Return these, or all, by name."""
    wish = None if names is None else list(names)
    rows = connection.execute(sql.schedules, (wish, wish), binary=True).fetchall()
    return [ScheduleRecord(**dict(zip(_FIELDS, row, strict=True))) for row in rows]


def tick(row: tuple[Any, ...]) -> TickRecord:
    """Make a row of history of a row of the tick statement."""
    return TickRecord(**dict(zip(TickRecord.__struct_fields__, row, strict=True)))
