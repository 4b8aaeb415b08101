"""Batches: opened, read, and decided about."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import msgspec

from windlass.drivers.base import BatchRecord
from windlass.drivers.redis.database import Database
from windlass.drivers.redis.insert import refuse, words
from windlass.errors import BatchStateError, ConnectionLostError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from windlass.drivers.base import BatchMove, DecideBatch, NewBatch

TRIES = 30
"""How often a decision is made again whose batch has moved on meanwhile."""
MOST = 1000
"""Batches read at once."""
_NOW = struct.Struct("<d")
_COUNTS = ("open", "total", "completed", "dead", "cancelled", "children")


class _Head(msgspec.Struct, frozen=True, array_like=True):
    """What never changes of a batch."""

    name: str
    origin: str | None
    meta: bytes | None
    parent: int | None
    callbacks: bytes | None


_encode = msgspec.msgpack.encode
_head = msgspec.msgpack.Decoder(_Head).decode


class Batches(Database):
    """What a driver does with batches beside its turns."""

    def open_batch(self, batch: NewBatch) -> BatchRecord:
        """Store a new batch."""
        self.check_open()
        head = _encode(_Head(batch.name, batch.origin, batch.meta, batch.parent, batch.callbacks))
        why, row = self.run("open_batch", head, "" if batch.parent is None else batch.parent)
        if why:
            raise BatchStateError(batch.parent or 0, missing=why == b"missing")
        return _batch(row)

    def change_batch(self, batch_id: int, decide: DecideBatch) -> BatchRecord | None:
        """Read a batch, decide, and write the answer if nothing has moved meanwhile; else decide again."""
        self.check_open()
        for _ in range(TRIES):
            now, *rows = self.run("read_batches", batch_id)
            if not rows:
                self.clients.ask("ZREM", self.key("ripe"), batch_id)
                return None
            before = _batch(rows[0])
            move = decide(before, *_NOW.unpack(now))
            written = self._write_batch(before, rows[0], move)
            if written is not None:
                return written
        raise ConnectionLostError("this batch changes faster than it can be read; try again")

    def _write_batch(self, before: BatchRecord, row: Sequence[Any], move: BatchMove | None) -> BatchRecord | None:
        if move is None:
            return before if self.run("write_batch", before.id, *row[3], "", "", "", "", 0) is not None else None
        finished = "" if move.finished_at is None else repr(move.finished_at)
        parent = before.parent if move.release_parent and before.parent is not None else ""
        decision = (int(move.open), msgspec.json.encode(move.fired), finished, parent, int(move.delete))
        answer = self.run("write_batch", before.id, *row[3], *decision, *(words(move.jobs) if move.jobs else ()))
        if answer is None:
            return None
        if answer[0]:
            refuse(self, move.jobs, *answer[1:])
        return msgspec.structs.replace(before, open=move.open, fired=move.fired, finished_at=move.finished_at)

    def batches(
        self, ids: Collection[int] | None = None, *, limit: int = 50, before: int | None = None
    ) -> list[BatchRecord]:
        """Return these batches, or the newest first."""
        self.check_open()
        if ids is None:
            last = "+inf" if before is None else f"({before}"
            listed = self.clients.ask("ZREVRANGEBYSCORE", self.key("batches"), last, "-inf", "LIMIT", 0, max(0, limit))
        else:
            listed = sorted(set(ids))
        found: list[BatchRecord] = []
        for start in range(0, len(listed), MOST):
            found += map(_batch, self.run("read_batches", *listed[start : start + MOST])[1:])
        return found

    def ripe(self, limit: int) -> list[int]:
        """Return batches about which something is to be decided."""
        return [int(b) for b in self.clients.ask("ZRANGE", self.key("ripe"), 0, limit - 1)] if limit > 0 else []


def _batch(row: Sequence[Any]) -> BatchRecord:
    batch_id, packed, created, moving = row
    head = _head(packed)
    open_, total, completed, dead, cancelled, children, fired, finished = moving
    return BatchRecord(
        id=int(batch_id),
        name=head.name,
        origin=head.origin,
        meta=head.meta,
        parent=head.parent,
        callbacks=head.callbacks,
        created_at=float(created),
        open=open_ == b"1",
        total=int(total),
        completed=int(completed),
        dead=int(dead),
        cancelled=int(cancelled),
        children=int(children),
        fired=tuple(msgspec.json.decode(fired)),
        finished_at=float(finished) if finished else None,
    )
