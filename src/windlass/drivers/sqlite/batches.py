"""Batches inside one transaction: their counters, and which of them somebody has to decide about.

Members that move are added up here and written by ``flush``, once for each batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from windlass.drivers.base import BatchRecord, first_batch
from windlass.drivers.sqlite.insert import text
from windlass.errors import BatchStateError
from windlass.job import FINISHED, Status

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Mapping

    from windlass.drivers.base import BatchMove, NewBatch
    from windlass.drivers.sqlite.connect import Plain
    from windlass.drivers.sqlite.sql import Sql

_encode = msgspec.json.encode
_decode_fired = msgspec.json.Decoder(tuple[str, ...]).decode
_PLACE = {Status.COMPLETED: 1, Status.DEAD: 2, Status.CANCELLED: 3}


class Count:
    """What is to be added to one batch."""

    __slots__ = ("added", "died", "moved")

    def __init__(self) -> None:
        self.added = [0, 0, 0, 0]
        """Total, completed, dead, cancelled."""
        self.died = self.moved = False

    def row(self, batch_id: int) -> tuple[Any, ...]:
        """Return the parameters of ``count_members``."""
        total, *ended = self.added
        return (total, *ended, self.died, self.moved, total, sum(ended), batch_id)


def added(batch_id: int, number: int) -> tuple[Any, ...]:
    """Return the parameters of ``count_members`` for new members."""
    count = Count()
    count.added[0] = number
    return count.row(batch_id)


class Batches:
    """The batches that this transaction has to do with."""

    __slots__ = ("_connection", "_counts", "_sql")

    def __init__(self, connection: sqlite3.Connection | Plain, sql: Sql) -> None:
        self._connection = connection
        self._sql = sql
        self._counts: dict[int, Count] = {}

    def check(self, ids: Collection[int]) -> None:
        """Raise if one of these batches cannot take members."""
        rows = self._connection.execute(self._sql.unfinished, (_encode(list(ids)).decode(),))
        missing = sorted(set(ids) - {row[0] for row in rows})
        if missing:
            there = self._connection.execute(self._sql.batch_there, (missing[0],)).fetchone()
            raise BatchStateError(missing[0], missing=there is None)

    def add(self, numbers: Mapping[int, int]) -> None:
        """Count new members, so many of each batch."""
        for batch_id, number in numbers.items():
            self._count(batch_id).added[0] += number

    def move(self, batch_id: int, before: Status, after: Status | None) -> None:
        """Count a member that moves. What has ended stays counted when it is deleted."""
        if before in FINISHED:
            if after is None:
                return
        elif after is not None and after not in FINISHED:
            return
        count = self._count(batch_id)
        count.moved = True
        count.died = count.died or after is Status.DEAD
        if before in FINISHED:
            count.added[_PLACE[before]] -= 1
        if after is None:
            count.added[0] -= 1
        elif after in FINISHED:
            count.added[_PLACE[after]] += 1

    def _count(self, batch_id: int) -> Count:
        count = self._counts.get(batch_id)
        if count is None:
            count = self._counts[batch_id] = Count()
        return count

    def flush(self) -> None:
        """Write the counters."""
        if self._counts:
            rows = [count.row(batch_id) for batch_id, count in self._counts.items()]
            self._connection.executemany(self._sql.count_members, rows)
            self._counts.clear()

    def ripe(self, limit: int) -> list[int]:
        """Return batches about which something is to be decided; what has moved is written."""
        return [row[0] for row in self._connection.execute(self._sql.ripe, (limit,))]

    # ------------------------------------------------------------------ by hand

    def open(self, new: NewBatch, now: float) -> BatchRecord:
        """Store a new one."""
        execute = self._connection.execute
        if new.parent is not None:
            self.check((new.parent,))
            execute(self._sql.adopt_child, (new.parent,))
        [[batch_id]] = execute(self._sql.draw_batch).fetchall()
        values = (batch_id, new.name, new.origin, text(new.meta), new.parent, text(new.callbacks), now)
        execute(self._sql.open_batch, values)
        return first_batch(new, batch_id, now)

    def get(self, batch_id: int) -> BatchRecord | None:
        """Return one; what has moved is written."""
        row = self._connection.execute(self._sql.batch, (batch_id,)).fetchone()
        return None if row is None else record(row)

    def decided(self, batch_id: int) -> None:
        """Take a batch off the list of those that are ripe."""
        self._connection.execute(self._sql.decided, (batch_id,))

    def write(self, batch: BatchRecord, move: BatchMove) -> BatchRecord:
        """Write what was decided, but for the jobs; return the batch as it is then."""
        execute = self._connection.execute
        if move.delete:
            execute(self._sql.delete_batch, (batch.id,))
        else:
            execute(self._sql.write_batch, (move.open, _encode(move.fired).decode(), move.finished_at, batch.id))
        if move.release_parent and batch.parent is not None:
            execute(self._sql.release_child, (batch.parent,))
        return msgspec.structs.replace(batch, open=move.open, fired=move.fired, finished_at=move.finished_at)


def record(row: tuple[Any, ...]) -> BatchRecord:
    """Make a record of a row of the batch statements."""
    names = BatchRecord.__struct_fields__
    values = dict(zip(names, row, strict=True))
    return BatchRecord(**(values | {"open": bool(values["open"]), "fired": _decode_fired(values["fired"])}))
