"""Storing new jobs: what meets in one process shares a script."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from windlass.drivers.group import Group, Ticket, store_together
from windlass.drivers.redis import value
from windlass.drivers.redis.table import spelt
from windlass.errors import BatchStateError, StoreError, UniqueConflictError
from windlass.job import BIT, NewJob, Record, Status, first_record

if TYPE_CHECKING:
    from windlass.drivers.redis.database import Database
    from windlass.drivers.redis.wire import Word

BULK = 1000
"""Jobs stored by one script at most: two or three milliseconds in which nobody else is served."""
_HOW = struct.Struct("<HBd")
_NOW = struct.Struct("<d")
_PENDING = BIT[Status.PENDING]


class Enqueues(Group[Sequence[NewJob]]):
    """New jobs that meet in one process are stored together."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self._database = database

    def insert(self, jobs: Sequence[NewJob]) -> list[Record]:
        """Store new jobs; each thousand of them all or none."""
        if not jobs:
            return []
        if len(jobs) > BULK // 2:
            made: list[Record] = []
            for start in range(0, len(jobs), BULK):
                made += self._store(jobs[start : start + BULK])
            return made
        records: list[Record] = self.submit(jobs)
        return records

    def commit(self, group: list[Ticket[Sequence[NewJob]]]) -> None:
        """Store the jobs of all tickets, some of them together."""
        batch: list[Ticket[Sequence[NewJob]]] = []
        size = 0
        for ticket in group:
            number = len(ticket.request or ())
            if batch and size + number > BULK:
                store_together(batch, self._store)
                batch, size = [], 0
            batch.append(ticket)
            size += number
        store_together(batch, self._store)

    def common(self, error: Exception) -> Exception | None:
        """Say what hit all of a group: a script is carried out as a whole or not at all, so trying again is for others to say."""
        return error if isinstance(error, StoreError) else None

    def _store(self, jobs: Sequence[NewJob]) -> list[Record]:
        if len(jobs) == 1 and (keys := _keys(jobs[0])) is not None:
            found = self._store_one(jobs[0], keys)
            if found is not None:
                return [found]
        return stored(self._database, jobs, self._database.stored("enqueue", words(jobs)))

    def _store_one(self, job: NewJob, keys: Sequence[str]) -> Record | None:
        """Store a job by the shortest way, if its stream is known here and the server's table is the same."""
        table, name = self._database.table, (job.priority, job.queue, job.task)
        streams = table.streams if name in table.streams.number_of else table.load()
        number = streams.number_of.get(name)
        if number is None:
            return None
        answer = self._database.stored("enqueue_one", (streams.token, number, job.priority, value.body(job), *keys))
        if answer is None:
            table.load()
            return None
        if not answer:
            return None
        head, job_id, *other = answer
        (now,) = _NOW.unpack_from(head)
        self._database.heard(now)
        if not other:
            return first_record(job, job_id, now)
        if any(hold.strict for hold in job.holds):
            return None
        return msgspec.structs.replace(table.record(int(other[0]), other[1]), found=True)


def _keys(job: NewJob) -> tuple[str, ...] | None:
    """Return the unique keys of a job that can be stored by the shortest way; ``None``: it cannot."""
    if job.delay > 0:
        return None
    if value.is_plain(job):
        return ()
    if job.gates or not value.stands_alone(job):
        return None
    flow = job.flow()
    holds = flow.holds if flow is not None else ()
    return tuple(hold.key for hold in holds) if all(hold.mask & _PENDING for hold in holds) else None


def stored(database: Database, jobs: Sequence[NewJob], answer: Sequence[Any]) -> list[Record]:
    """Read what a script says that has stored new jobs, or would not."""
    head, first, places, values = answer
    (now,) = _NOW.unpack_from(head)
    database.heard(now)
    if not first:
        refuse(database, jobs, head, places, values)
    records = [first_record(job, first + n, now) for n, job in enumerate(jobs)]
    if places:
        table = database.table
        table.fresh(head[8:])
        for place, job_id, packed in zip(places[::2], places[1::2], values, strict=True):
            records[place - 1] = msgspec.structs.replace(table.record(int(job_id), packed), found=True)
    return records


def refuse(
    database: Database, jobs: Sequence[NewJob], head: bytes, why: Sequence[Any], values: Sequence[bytes]
) -> NoReturn:
    """Raise what a script has said why jobs may not be stored."""
    reason, number = why[0], int(why[1])
    if reason == b"new":
        raise UniqueConflictError(first_record(jobs[number - 1], 0, *_NOW.unpack_from(head)))
    if reason == b"held":
        database.table.fresh(head[8:])
        raise UniqueConflictError(database.table.record(number, values[0]))
    raise BatchStateError(number, missing=reason == b"missing")


class Streams:
    """The streams of some new jobs, in the order in which they came up."""

    def __init__(self) -> None:
        self.positions: dict[tuple[str, str, int], int] = {}

    def add(self, name: tuple[str, str, int]) -> int:
        """Return the position of a new one, from 1 on."""
        position = self.positions[name] = len(self.positions) + 1
        return position

    def names(self) -> list[Word]:
        """Spell them."""
        return [spelt(*name) for name in self.positions]


def new_jobs(jobs: Sequence[NewJob], streams: Streams) -> list[Word]:
    """Spell new jobs for the scripts: body, and how it is placed."""
    made: list[Word] = []
    positions = streams.positions
    for job in jobs:
        name = (job.queue, job.task, job.priority)
        number = positions.get(name) or streams.add(name)
        how: Word = b""
        if job.run_at is not None:
            how = _HOW.pack(number, 2, job.run_at)
        elif job.delay > 0:
            how = _HOW.pack(number, 1, job.delay)
        elif number > 1:
            how = _HOW.pack(number, 0, 0.0)
        made += (value.body(job), how)
    return made


def words(jobs: Sequence[NewJob]) -> list[Word]:
    """Spell new jobs with their streams."""
    streams = Streams()
    made = new_jobs(jobs, streams)
    names = streams.names()
    return [len(names), *names, *made]
