"""Decisions about jobs: read, decided here, and written where nothing has moved meanwhile."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from windlass.drivers.base import Changed
from windlass.drivers.changing import until_made
from windlass.drivers.redis import turn as spelling
from windlass.drivers.redis import value
from windlass.drivers.redis.database import Database
from windlass.errors import JobError, UniqueConflictError
from windlass.lifecycle import gives_way, superseded

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from windlass.drivers.base import Decide
    from windlass.job import Record
    from windlass.lifecycle import Transition

TRIES = 10
"""How often a decision is made again whose job has moved on meanwhile."""
CHUNK = 200
"""Jobs changed by one script at most."""
_NOW = struct.Struct("<d")


class Changes(Database):
    """What a driver does with jobs by hand."""

    def change(self, ids: Collection[int], decide: Decide) -> list[Changed]:
        """Read the jobs, decide, and write the answers where nothing has moved meanwhile; decide again where it has."""
        self.check_open()

        def attempt(left: Sequence[int], made: dict[int, Changed]) -> None:
            for start in range(0, len(left), CHUNK):
                self._try_to_change(left[start : start + CHUNK], decide, made)

        return until_made(ids, attempt, tries=TRIES)

    def _try_to_change(self, ids: Sequence[int], decide: Decide, made: dict[int, Changed]) -> None:
        head, values, _ = self.run("read", *ids)
        (now,) = _NOW.unpack_from(head)
        self.heard(now)
        self.table.fresh(head[8:])
        decided: list[tuple[Record, Transition]] = []
        words: list[Any] = []
        for job_id, found in zip(ids, values, strict=True):
            if found is None:
                made[job_id] = Changed(job_id, None, None)
                continue
            record = self.table.record(job_id, found)
            try:
                transition = decide(record, now)
            except JobError as error:
                made[job_id] = Changed(job_id, record, None, error)
                continue
            decided.append((record, transition))
            words += _written(record, value.known(found), transition, now)
        if not decided:
            return
        missed, met, rivals = self.run("change", *words)
        in_the_way = dict(zip(met[::2], zip(met[1::2], rivals, strict=True), strict=True))
        for place, (record, transition) in enumerate(decided, 1):
            if place in in_the_way:
                made[record.id] = self._met(record, transition, *in_the_way[place])
            elif place not in missed:
                made[record.id] = Changed(record.id, record, transition)

    def _met(self, record: Record, transition: Transition, rival: bytes, packed: bytes | None) -> Changed:
        """Say what became of a job whose key another one has."""
        if gives_way(transition):
            return Changed(record.id, record, superseded(transition, int(rival)))
        other = None if packed is None else self.table.record(int(rival), packed)
        return Changed(record.id, record, None, UniqueConflictError(other or record))


def _written(record: Record, beyond: value.Known, transition: Transition, now: float) -> tuple[Any, ...]:
    """Spell a decision for the script ``change``."""
    decision = spelling.decided(record, transition, finished=now, now=now, yields=gives_way(transition))
    op, head, tail, past = decision
    last = value.last_attempt(record, beyond)
    if last is not None and transition.status is not None:
        past = value.pack_attempt(last)
    body = b"" if transition.update is None else value.updated(record, transition.update)
    return (record.id, beyond.head, op, head, tail, past, body)
