"""Storing jobs that have keys or are members of a batch: what the store answers, and what that means.

The insert is a generator of statements, for connections of ours and of the caller's alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from windlass.drivers.postgres.insert import as_json, is_tied, stored
from windlass.drivers.postgres.turn import array
from windlass.errors import BatchStateError, UniqueConflictError
from windlass.job import first_record

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from windlass.drivers.base import Statement
    from windlass.drivers.postgres.sql import Sql
    from windlass.job import NewJob, Record


class Answer(msgspec.Struct, frozen=True):
    """What the functions ``tie`` and ``enqueue_tied`` return."""

    now: float
    ids: list[int]
    """Of the jobs, or of those that hold their keys."""
    found: list[int] | None
    """The positions, from 1, of jobs that were not stored."""
    refused: int | None
    """Who holds a key that must not be held: nothing was stored."""
    broken: int | None
    """A batch that takes no members: nothing was stored."""
    missing: bool | None
    """There is no such batch."""


def insertion(
    sql: Sql, jobs: Sequence[NewJob], store: str | None, *, suffix: str = ""
) -> Generator[Statement, list[Any], list[Record]]:
    """Yield the statements of an insert and return the records; *suffix* is one more column.

    Raises:
        UniqueConflictError: a strict key is held.
        BatchStateError: a batch takes no members.
    """
    spelt = as_json(jobs), store
    if not any(map(is_tied, jobs)):
        ((now, ids, *_),) = yield sql.enqueue.replace(" FROM", f"{suffix} FROM", 1), spelt
        return stored(jobs, ids, now)
    (row,) = yield sql.enqueue_tied.replace(" FROM", f"{suffix} FROM", 1), spelt
    answer = Answer(*row[:6])
    records = yield from settled(sql, jobs, answer)
    for place, record in enumerate(records):
        if record is None:  # who held its key has gone meanwhile
            (records[place],) = yield from insertion(sql, [jobs[place]], store, suffix=suffix)
    return records  # type: ignore[return-value]


def settled(sql: Sql, jobs: Sequence[NewJob], answer: Answer) -> Generator[Statement, list[Any], list[Record | None]]:
    """Yield the statement that reads who holds the keys, if anybody does, and return the records.

    Raises:
        UniqueConflictError: a strict key is held.
        BatchStateError: a batch takes no members.
    """
    if answer.broken is not None:
        raise BatchStateError(answer.broken, missing=bool(answer.missing))
    if answer.refused is not None:
        raise UniqueConflictError((yield from _holder(sql, jobs, answer, answer.refused)))
    records: list[Record | None] = list(stored(jobs, answer.ids, answer.now))
    if answer.found:
        taken = set(answer.found)
        own = {record.id: record for place, record in enumerate(records, 1) if record and place not in taken}
        others = sorted({answer.ids[place - 1] for place in taken} - set(own))
        if others:
            own.update({record.id: record for record in (yield from read(sql, others))})
        for place in taken:
            holder = own.get(answer.ids[place - 1])
            records[place - 1] = None if holder is None else msgspec.structs.replace(holder, found=True)
    return records


def _holder(sql: Sql, jobs: Sequence[NewJob], answer: Answer, rival: int) -> Generator[Statement, list[Any], Record]:
    """Return who holds a key: a stored job, or one of the same call, which is not stored either."""
    drawn = answer.ids or []
    if rival in drawn:
        return first_record(jobs[drawn.index(rival)], 0, answer.now)
    found = yield from read(sql, [rival])
    # It has gone since: what is known of it is its number.
    return found[0] if found else first_record(jobs[0], rival, answer.now)


def read(sql: Sql, ids: Sequence[int]) -> Generator[Statement, list[Any], list[Record]]:
    """Yield the statement that reads these jobs and return them."""
    rows = yield sql.records, (array(ids),)
    # psycopg2 gives bytes as memory views.
    return [sql.record(tuple(bytes(v) if isinstance(v, memoryview) else v for v in row)) for row in rows]
