"""Storing new jobs: what meets in one process shares a script."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING

from windlass.drivers.group import Group, Ticket, store_together
from windlass.drivers.redis import value
from windlass.drivers.redis.table import spelt
from windlass.errors import StoreError
from windlass.job import NewJob, Record, first_record

if TYPE_CHECKING:
    from windlass.drivers.redis.database import Database
    from windlass.drivers.redis.wire import Word

BULK = 1000
"""Jobs stored by one script at most: two or three milliseconds in which nobody else is served."""
_HOW = struct.Struct("<HBd")
_NOW = struct.Struct("<d")


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
        if len(jobs) == 1 and jobs[0].delay <= 0 and value.is_plain(jobs[0]):
            found = self._store_one(jobs[0])
            if found is not None:
                return [found]
        head, first, _ = self._database.stored("enqueue", words(jobs))
        (now,) = _NOW.unpack_from(head)
        self._database.heard(now)
        return [first_record(job, first + n, now) for n, job in enumerate(jobs)]

    def _store_one(self, job: NewJob) -> Record | None:
        """Store a plain job by the shortest way, if its stream is known here and the server's table is the same."""
        table, name = self._database.table, (job.priority, job.queue, job.task)
        streams = table.streams if name in table.streams.number_of else table.load()
        number = streams.number_of.get(name)
        if number is None:
            return None
        answer = self._database.stored("enqueue_one", (streams.token, number, job.priority, value.body(job)))
        if answer is None:
            table.load()
            return None
        (now,) = _NOW.unpack_from(answer[0])
        self._database.heard(now)
        return first_record(job, answer[1], now)


def words(jobs: Sequence[NewJob]) -> list[Word]:
    """Spell new jobs for the script."""
    streams: dict[tuple[str, str, int], int] = {}
    made: list[Word] = []
    for job in jobs:
        name = (job.queue, job.task, job.priority)
        number = streams.get(name)
        if number is None:
            number = streams[name] = len(streams) + 1
        how: Word = b""
        if job.run_at is not None:
            how = _HOW.pack(number, 2, job.run_at)
        elif job.delay > 0:
            how = _HOW.pack(number, 1, job.delay)
        elif number > 1:
            how = _HOW.pack(number, 0, 0.0)
        made += (value.body(job), how)
    return [len(streams), *(spelt(*name) for name in streams), *made]
