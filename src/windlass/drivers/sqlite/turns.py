"""Jobs that take turns, inside one transaction.

Such a job leaves ``ready`` for ``blocked``, as one before a shut gate does, in the line of its key. ``turn`` has the keys of each
stream and priority with a line, in the order in which their turns come. A claim calls so many back as it may take, the
first of each key in its turn; whom it does not take stands in line again at the next.
"""

from __future__ import annotations

from itertools import chain, islice, zip_longest
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from windlass.limits import fair_key
from windlass.uniqueness import flow_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from windlass.drivers.sqlite.connect import Plain
    from windlass.drivers.sqlite.sql import Sql

    Stream: TypeAlias = tuple[str, str]

SORTED = 1000
"""Jobs put in line in one go at most, so that a turn stays short."""

_encode = msgspec.json.encode


class Turns:
    """Whose turn it is."""

    __slots__ = ("_called", "_connection", "_execute", "_sql")

    def __init__(self, connection: sqlite3.Connection | Plain, sql: Sql) -> None:
        self._connection = connection
        self._execute = connection.execute
        self._sql = sql
        self._called: dict[int, tuple[str, str, int, str]] = {}
        """By id, the line that a called job comes from."""

    def is_called(self, job_id: int) -> bool:
        """Whether it is this job's turn."""
        return job_id in self._called

    def line_up(self, rows: Iterable[tuple[Any, ...]]) -> None:
        """Put jobs in line that have left ``ready``: (its columns, key) each."""
        rows = list(rows)
        blocked = [
            (job_id, _line(key, queue, task), queue, task, rank, seq, *rest)
            for queue, task, rank, seq, job_id, *rest, key in rows
        ]
        self._connection.executemany(self._sql.block, blocked)
        for queue, task, rank, key in dict.fromkeys((row[0], row[1], row[2], row[-1]) for row in rows):
            self._execute(self._sql.put_turn, (queue, task, rank, key, queue, task, rank))

    def sort(self, stream: Stream) -> None:
        """Put in line who has come since, so that a new key is known before the next is called."""
        rows = []
        for rank, seq, job_id, run_at, attempt, failures, crashes, flow in self._execute(
            self._sql.unsorted, (*stream, SORTED)
        ).fetchall():
            key = fair_key(flow_of(flow).gates)
            if key is not None:
                rows.append((*stream, rank, seq, job_id, run_at, attempt, failures, crashes, key))
        if rows:
            self._connection.executemany(self._sql.delete_ready, [row[:4] for row in rows])
            self.line_up(rows)

    def call(self, stream: Stream, number: int) -> None:
        """Let *number* of a stream back to where they stood, in turn."""
        spent: set[tuple[int, str]] = set()  # lines of which nobody is left
        while number > 0:
            keys = self._execute(self._sql.turns, (*stream, number + len(spent))).fetchall()
            left = [key for key in keys if key not in spent]
            if not left:
                return
            rank = left[0][0]  # of the best priority first, to the last
            group = [key for its_rank, key in left if its_rank == rank]
            each = -(-number // len(group))
            lines = [(key, self._first(stream, rank, key, each)) for key in group]
            spent.update((rank, key) for key, ids in lines if len(ids) < each)
            # One of each in turn, and again.
            in_turn = chain.from_iterable(zip_longest(*([(i, key) for i in ids] for key, ids in lines)))
            called = list(islice((one for one in in_turn if one is not None), number))
            for key, ids in lines:
                if not ids and (*stream, rank, key) not in self._called.values():  # they have left by another door
                    self._execute(self._sql.drop_turn, (*stream, rank, key))
            self._called.update((job_id, (*stream, rank, key)) for job_id, key in called)
            encoded = (_encode([job_id for job_id, _ in called]).decode(),)
            self._execute(self._sql.call_back, encoded)
            self._execute(self._sql.delete_blocked, encoded)
            number -= len(called)

    def _first(self, stream: Stream, rank: int, key: str, number: int) -> list[int]:
        rows = self._execute(self._sql.first_in_line, (_line(key, *stream), rank, number)).fetchall()
        return [row[0] for row in rows]

    def passed(self, job_id: int) -> None:
        """Note that a called job has had its key's turn."""
        queue, task, rank, key = self._called.pop(job_id)
        if self._execute(self._sql.first_in_line, (_line(key, queue, task), rank, 1)).fetchone() is None:
            self._execute(self._sql.drop_turn, (queue, task, rank, key))
        else:
            self._execute(self._sql.end_turn, (queue, task, rank, queue, task, rank, key))

    def wait(self, stream: Stream) -> bool:
        """Whether somebody of a stream is in line."""
        return self._execute(self._sql.turns, (*stream, 1)).fetchone() is not None


def _line(key: str, queue: str, task: str) -> str:
    """Return what ``blocked`` calls the line: tasks may share a key, not a line."""
    return f"{key}\x1f{queue}\x1f{task}"
