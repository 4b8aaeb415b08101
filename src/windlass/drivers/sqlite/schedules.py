"""Schedules and their history inside one transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from windlass.drivers.sqlite.insert import text
from windlass.drivers.ticking import TICKS, ScheduleChanged, ScheduleRecord, TickRecord, stirs, wanted, written

if TYPE_CHECKING:
    from collections.abc import Mapping

    from windlass.drivers.sqlite.tx import Tx
    from windlass.drivers.ticking import DecideSchedule

_encode = msgspec.json.encode
_decode_jobs = msgspec.json.Decoder(dict[str, int]).decode
_NAMES = ScheduleRecord.__struct_fields__


def change(tx: Tx, name: str, decide: DecideSchedule) -> ScheduleChanged:
    """Ask *decide* about one and write its answer."""
    tx.flush()
    row = tx.connection.execute(tx.sql.schedule, (name,)).fetchone()
    before = None if row is None else record(row)
    move = decide(before, {} if before is None else _live(tx, before.jobs), tx.now)
    if move is None:
        return ScheduleChanged(record=before)
    changed = written(move, tx.insert(wanted(move)), tx.now)
    _write(tx, name, changed)
    if stirs(before, changed.record):
        tx.run(tx.sql.raise_stamp)
        tx.wake()
    return changed


def _live(tx: Tx, jobs: Mapping[str, int]) -> dict[str, int]:
    """Return the jobs that have not ended."""
    rows = tx.connection.execute(tx.sql.live_jobs, (_encode(list(jobs.values())).decode(),))
    live = {row[0] for row in rows}
    return {queue: job_id for queue, job_id in jobs.items() if job_id in live}


def _write(tx: Tx, name: str, changed: ScheduleChanged) -> None:
    if changed.record is None:
        tx.run(tx.sql.delete_schedule, name)
        tx.run(tx.sql.delete_ticks, name, 1 << 62)
        return
    values: dict[str, Any] = msgspec.structs.asdict(changed.record)
    values |= {"definition": text(changed.record.definition), "jobs": _encode(changed.record.jobs).decode()}
    tx.run(tx.sql.put_schedule, *(values[field] for field in _NAMES))
    rows = [(name, *msgspec.structs.astuple(tick)) for tick in changed.ticks]
    if rows:
        tx.connection.executemany(tx.sql.put_tick, rows)
        tx.run(tx.sql.delete_ticks, name, changed.record.rows - TICKS)


def record(row: tuple[Any, ...]) -> ScheduleRecord:
    """Make a record of a row of the schedule statements."""
    values = dict(zip(_NAMES, row, strict=True))
    return ScheduleRecord(**(values | {"jobs": _decode_jobs(values["jobs"])}))


def tick(row: tuple[Any, ...]) -> TickRecord:
    """Make a row of history of a row of the tick statement."""
    return TickRecord(**dict(zip(TickRecord.__struct_fields__, row, strict=True)))
