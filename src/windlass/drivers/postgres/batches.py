"""Batches on PostgreSQL: a row for each, which only what happens to its members locks, and who decides about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from windlass.drivers.base import BatchRecord
from windlass.errors import BatchStateError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from windlass.drivers.base import BatchMove, DecideBatch, NewBatch
    from windlass.drivers.postgres.connect import Connection
    from windlass.drivers.postgres.sql import Sql
    from windlass.job import NewJob

HELD = 5_000
"""Milliseconds for which a decision may hold its batch: a process that stops in the middle must not stop all others."""


def batch_of(row: Sequence[Any]) -> BatchRecord:
    """Make a record of a row of the batch statements."""
    fields = dict(zip(BatchRecord.__struct_fields__, row, strict=True))
    return BatchRecord(**{**fields, "fired": tuple(fields["fired"])})


def open_batch(connection: Connection, sql: Sql, new: NewBatch) -> BatchRecord:
    """Store a new one.

    Raises:
        BatchStateError: its parent has finished, or is not there.
    """
    with connection.transaction():
        if new.parent is not None and not connection.execute(sql.adopt_batch, (new.parent,)).rowcount:
            missing = connection.execute(sql.batches_by_id, ([new.parent],)).fetchone() is None
            raise BatchStateError(new.parent, missing=missing)
        values = (new.name, new.origin, _text(new.meta), new.parent, _text(new.callbacks))
        (batch_id,) = connection.execute(sql.open_batch, values).fetchone() or (0,)
        return find(connection, sql, [batch_id])[0]


def change_batch(
    connection: Connection,
    sql: Sql,
    batch_id: int,
    decide: DecideBatch,
    insert: Callable[[Connection, Sequence[NewJob]], object],
) -> BatchRecord | None:
    """Decide about one, locked, and write the answer; return it as it is then."""
    with connection.transaction():
        connection.execute(f"SET LOCAL idle_in_transaction_session_timeout = {HELD}", prepare=False)
        # The parent first: ids grow, and everybody locks in their order.
        connection.execute(sql.lock_parent, (batch_id,))
        connection.execute(sql.lock_batch, (batch_id,))
        connection.execute(sql.fold_batch, (batch_id, batch_id))
        found = find(connection, sql, [batch_id])
        if not found:
            return None
        (now,) = connection.execute(sql.now).fetchone() or (0.0,)
        move = decide(found[0], now)
        if move is None:
            return found[0]
        if move.jobs:
            insert(connection, move.jobs)
        return _write(connection, sql, found[0], move)


def _write(connection: Connection, sql: Sql, batch: BatchRecord, move: BatchMove) -> BatchRecord:
    values = (move.open, list(move.fired), move.finished_at, batch.id)
    row = connection.execute(sql.write_batch, values, binary=True).fetchone()
    if move.delete:
        connection.execute(sql.delete_batch, (batch.id,))
    if move.release_parent and batch.parent is not None:
        connection.execute(sql.release_batch, (batch.parent,))
    assert row is not None
    return batch_of(row)


def find(
    connection: Connection, sql: Sql, ids: Collection[int] | None, limit: int = 50, before: int | None = None
) -> list[BatchRecord]:
    """Return these, or the newest."""
    if ids is not None:
        rows = connection.execute(sql.batches_by_id, (list(ids),), binary=True).fetchall()
    else:
        rows = connection.execute(sql.batches, (before, before, limit), binary=True).fetchall()
    return [batch_of(row) for row in rows]


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()
