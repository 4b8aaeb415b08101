"""Storing one job alone that is plain, or has one key and no more: what a web request does, so often that every microsecond of it counts.

The statement names the job's stream by its number, which each connection remembers: another server, or the same one after
a fail-over, may have given it to other names, and is always behind another connection. The statement compares the names
all the same.
"""

from __future__ import annotations

import struct
import time
from typing import TYPE_CHECKING

import msgspec

from windlass.drivers.postgres.insert import flags_of, has_extras

if TYPE_CHECKING:
    from windlass.drivers.postgres.connect import Connection
    from windlass.drivers.postgres.sql import Sql
    from windlass.job import NewJob

BURST = 0.003
"""Seconds after a ring in which another is not needed: whoever was woken looks again after 5 ms, and later."""
STREAMS = 1_000
"""Numbers of streams that a connection remembers."""

_TWO = struct.Struct(">dq")


def alone(job: NewJob) -> bool:
    """Whether this is the way for *job*: it has nothing but the usual and at most one key, and may run at once."""
    return not (job.delay or has_extras(job)) and len(job.holds) + (job.idempotency_key is not None) <= 1


class Alone:
    """The statements: of each two forms, one rings, the other follows another so closely that it need not."""

    def __init__(self, sql: Sql, *, durability: str) -> None:
        # Commit without waiting for the disk, if the application said so: a setting of this transaction alone.
        extra = ", set_config('synchronous_commit', 'off', true)" if durability == "relaxed" else ""
        ring = f"{extra}, {sql.prefix}_ring_v1(true)"
        one, held = sql.enqueue_one, sql.enqueue_held
        self._statements = {
            b"enqueue": _with(one, extra),
            b"enqueue and ring": _with(one, ring),
            b"enqueue with a key": _with(held, extra),
            b"enqueue with a key and ring": _with(held, ring),
        }
        self._stream = sql.stream
        self._rang_at = -BURST

    def insert(self, connection: Connection, job: NewJob) -> tuple[float, int] | None:
        """Store *job*; return the store's time and the id, or ``None``, having stored nothing.

        That is so if its stream is new, or its key is held.
        """
        names = (job.queue, job.task, job.priority)
        stream = connection.streams.get(names) or self._look_up(connection, names)
        if stream is None:
            return None
        values: tuple[bytes | None, ...] = (
            stream,
            job.queue.encode(),
            job.task.encode(),
            b"%d" % job.priority,
            job.payload,
            None if job.max_attempts is None else b"%d" % job.max_attempts,
            None if job.timeout is None else repr(job.timeout).encode(),
        )
        name = b"enqueue"
        if (flow := job.flow()) is not None:
            name += b" with a key"
            key = None if job.idempotency_key is None else job.idempotency_key.encode()
            values += (flow.holds[0].key.encode(), b"%d" % flags_of(job, flow), key, msgspec.json.encode(flow))
        now = time.monotonic()
        rings = now - self._rang_at > BURST
        if rings:
            name += b" and ring"
        result = connection.quick(name, self._statements[name], values)
        if rings:
            self._rang_at = now
        if not result.ntuples:
            del connection.streams[names]
            return None
        at, job_id = _TWO.unpack((result.get_value(0, 0) or b"") + (result.get_value(0, 1) or b""))
        return (at, job_id) if job_id else None

    def _look_up(self, connection: Connection, names: tuple[str, str, int]) -> bytes | None:
        row = connection.execute(self._stream, names).fetchone()
        if row is None:
            return None
        if len(connection.streams) >= STREAMS:
            connection.streams.clear()
        connection.streams[names] = stream = b"%d" % row[0]
        return stream


def _with(statement: str, columns: str) -> bytes:
    """Add columns to what is selected in the end."""
    head, found, tail = statement.rpartition(" FROM ")
    return f"{head}{columns}{found}{tail}".encode()
