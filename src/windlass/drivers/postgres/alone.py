"""Storing one plain job alone: what a web request does, so often that every microsecond of it counts.

The statement names the job's stream by its number, which each connection remembers: another server, or the same one after
a fail-over, may have given it to other names, and is always behind another connection. The statement compares the names
all the same.
"""

from __future__ import annotations

import struct
import time
from typing import TYPE_CHECKING

from windlass.drivers.postgres.insert import is_plain

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
    """Whether this is the way for *job*: it has nothing but the usual, and may run at once."""
    return not job.delay and is_plain(job)


class Alone:
    """The statement in its two forms: one rings, the other follows another so closely that it need not."""

    def __init__(self, sql: Sql, *, durability: str) -> None:
        columns = "now, id"
        if durability == "relaxed":  # commit without waiting for the disk: a setting of this transaction alone
            columns += ", set_config('synchronous_commit', 'off', true)"
        silent = sql.enqueue_one.replace("SELECT now, id FROM new", f"SELECT {columns} FROM new")
        rings = silent.replace(f"SELECT {columns}", f"SELECT {columns}, {sql.prefix}_ring_v1(true)")
        self._silent, self._rings = silent.encode(), rings.encode()
        self._stream = sql.stream
        self._rang_at = -BURST

    def insert(self, connection: Connection, job: NewJob) -> tuple[float, int] | None:
        """Store *job*; return the store's time and the id, or ``None``, having stored nothing, if its stream is new."""
        names = (job.queue, job.task, job.priority)
        stream = connection.streams.get(names) or self._look_up(connection, names)
        if stream is None:
            return None
        values = (
            stream,
            job.queue.encode(),
            job.task.encode(),
            b"%d" % job.priority,
            job.payload,
            None if job.max_attempts is None else b"%d" % job.max_attempts,
            None if job.timeout is None else repr(job.timeout).encode(),
        )
        now = time.monotonic()
        if now - self._rang_at > BURST:
            result = connection.quick(b"enqueue and ring", self._rings, values)
            self._rang_at = now
        else:
            result = connection.quick(b"enqueue", self._silent, values)
        if not result.ntuples:
            del connection.streams[names]
            return None
        return _TWO.unpack((result.get_value(0, 0) or b"") + (result.get_value(0, 1) or b""))

    def _look_up(self, connection: Connection, names: tuple[str, str, int]) -> bytes | None:
        row = connection.execute(self._stream, names).fetchone()
        if row is None:
            return None
        if len(connection.streams) >= STREAMS:
            connection.streams.clear()
        connection.streams[names] = stream = b"%d" % row[0]
        return stream
