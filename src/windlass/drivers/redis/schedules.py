"""Schedules: read, decided about, and written with their jobs and history where nothing has moved meanwhile.

What a schedule is stands in one hash, by name; the last job of each of its queues is in a hash of its own, because only
the script that stores a job knows its id; its history is a list.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import msgspec

from windlass.drivers.redis.database import Database
from windlass.drivers.redis.insert import stored, words
from windlass.drivers.ticking import HELD, TICKS, ScheduleChanged, ScheduleRecord, TickRecord, stirs, wanted, written
from windlass.errors import ConnectionLostError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from windlass.drivers.redis.wire import Word
    from windlass.drivers.ticking import DecideSchedule, NewTick, ScheduleMove
    from windlass.job import Record

TRIES = 100
"""How often a decision is made again whose schedule has moved on meanwhile."""
MOST = 1000
"""Schedules read at once."""
_NOW = struct.Struct("<d")
_FIXED = struct.Struct("<ddd")
"""A row's number, its job, and the job that has its own one's key; 0 = none."""


class _Row(msgspec.Struct, frozen=True, array_like=True):
    """What else a row of history says."""

    tick: float
    at: float
    outcome: str
    queue: str
    other: int | None
    count: int | None
    first: float | None


_encode = msgspec.msgpack.encode
_record = msgspec.msgpack.Decoder(ScheduleRecord).decode
_row = msgspec.msgpack.Decoder(_Row).decode


class Schedules(Database):
    """What a driver does with schedules beside its turns."""

    def change_schedule(self, name: str, decide: DecideSchedule) -> ScheduleChanged:
        """Read a schedule, decide, and write the answer if it has not moved meanwhile; else decide again."""
        self.check_open()
        for _ in range(TRIES):
            head, (body, last, live) = self.run("read_schedules", 1, name)
            (now,) = _NOW.unpack(head)
            self.heard(now)
            before = _schedule(body, last) if body else None
            going = {int(job_id) for job_id in live.split(b",") if job_id}
            jobs = before.jobs if before is not None else {}
            move = decide(before, {queue: job_id for queue, job_id in jobs.items() if job_id in going}, now)
            if move is None:
                return ScheduleChanged(record=before)
            stirred = int(stirs(before, move.record))
            # Not confirmed by replicas: a watermark that is lost is lost with its jobs, and the tick fires again.
            answer = self.run("write_schedule", name, body, live, *_move(move, now, stirred))
            if answer is not None:
                return written(move, self._inserted(move, answer), now)
        raise ConnectionLostError(f"schedule {name} changes faster than it can be read; try again")

    def _inserted(self, move: ScheduleMove, answer: Sequence[Any]) -> list[Record]:
        return stored(self, wanted(move), answer) if answer else []

    def schedules(self, names: Collection[str] | None = None) -> list[ScheduleRecord]:
        """Return these schedules, or all, by name."""
        self.check_open()
        if names is None:
            names = [name.decode() for name in self.clients.ask("HKEYS", self.key("schedule"))]
        listed = sorted(set(names))
        found: list[ScheduleRecord] = []
        for start in range(0, len(listed), MOST):
            _, *rows = self.run("read_schedules", 0, *listed[start : start + MOST])
            found += (_schedule(body, last) for body, last in rows if body)
        return found

    def ticks(self, name: str, limit: int, before: int | None = None) -> list[TickRecord]:
        """Return rows of a schedule's history, the newest first."""
        self.check_open()
        rows = self.run("ticks", name, limit, "" if before is None else before) if limit > 0 else []
        return [_tick(row) for row in reversed(rows)]


def _move(move: ScheduleMove, now: float, stirred: int) -> list[Word]:
    """Spell a decision: what the schedule becomes, the rows, the jobs."""
    record, jobs = move.record, wanted(move)
    if record is None:
        return [b"", stirred, TICKS, 1, 0, *(words(jobs) if jobs else ())]
    body = _encode(msgspec.structs.replace(record, rows=record.rows + len(move.ticks), jobs={}))
    spelt: list[Word] = [body, stirred, TICKS, record.rows + 1, len(move.ticks)]
    for new in move.ticks:
        spelt += (int(new.job is not None), new.queue, _encode(_new_row(new, now)))
    return [*spelt, *(words(jobs) if jobs else ())]


def _new_row(new: NewTick, now: float) -> _Row:
    return _Row(new.tick, now, new.outcome, new.queue, new.other, new.count, new.first)


def _schedule(body: bytes, last: Sequence[bytes]) -> ScheduleRecord:
    jobs = {queue.decode(): int(job_id) for queue, job_id in zip(last[::2], last[1::2], strict=True)}
    return msgspec.structs.replace(_record(body), jobs=jobs)


def _tick(packed: bytes) -> TickRecord:
    number, job_id, rival = _FIXED.unpack_from(packed)
    row = _row(packed[_FIXED.size :])
    return TickRecord(
        number=int(number),
        tick=row.tick,
        at=row.at,
        outcome=HELD if rival else row.outcome,
        queue=row.queue,
        job_id=int(job_id) or None,
        other=int(rival) or row.other,
        count=row.count,
        first=row.first,
    )
