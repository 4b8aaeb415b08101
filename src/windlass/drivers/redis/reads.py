"""Finding and counting jobs without walking through all of them.

Ids come newest first from the indexes that know them in that order: of a tag, origin or batch if one is asked for, else of
the statuses and streams. They come in slices; what the indexes do not answer is tried job by job.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import msgspec

from windlass.drivers import patience
from windlass.errors import QueryTimeoutError
from windlass.fingerprint import cut
from windlass.job import FINISHED, Record, Status

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from windlass.drivers.base import Filter
    from windlass.drivers.redis.database import Database

SLICE = 500
"""Jobs read at once at most."""
_END = (1 << 53) - 1
_WHOLE = 64
"""With so many indexes or fewer each is asked for a whole slice."""
AT_ONCE = 1_000
"""So many indexes are asked by one script; beyond, a job that moves meanwhile may be seen in none of them."""
HELD = 5_000
"""So many running jobs are looked through together with the indexes; more are listed once, a little earlier."""


class Reader:
    """Reads slices of ids, and the jobs that they name."""

    def __init__(self, database: Database, *, hot: bool = False) -> None:
        self._database = database
        self._pool = database.pump if hot else database.clients
        self._hot = hot

    def records(self, ids: Sequence[int]) -> list[Record]:
        """Return those of the jobs that there are."""
        if not ids:
            return []
        head, values, told = self._database.run("read", *ids, hot=self._hot)
        table = self._database.table
        table.fresh(head[8:])
        return [
            table.record(job_id, v, progress)
            for job_id, v, progress in itertools.zip_longest(ids, values, told)
            if v is not None
        ]

    def find(self, which: Filter, *, limit: int, offset: int, before: int | None) -> list[Record]:
        """Return matching jobs, newest first."""
        found: list[Record] = []
        if limit <= 0:
            return found
        skip = offset
        for record in self._walk(which, before, limit + offset):
            if skip:
                skip -= 1
                continue
            found.append(record)
            if len(found) == limit:
                break
        return found

    def count(self, which: Filter, *, most: int) -> int:
        """Count matching jobs one by one, up to *most* + 1."""
        alone = [index for index, rest in self._leads(which) if rest == which]
        if alone:
            return min(int(self._pool.ask("ZCARD", alone[0])), most + 1)
        found = 0
        for _ in self._walk(which, None, most + 1):
            found += 1
            if found > most:
                break
        return found

    # ------------------------------------------------------------------ where ids come from

    def _walk(self, which: Filter, before: int | None, want: int) -> Iterator[Record]:
        """Yield matching jobs, newest first."""
        low, high = self._bounds(which, before)
        slice_ = max(16, min(SLICE, want))
        indexes = self._indexes(which)
        leads = bool(self._leads(which))
        holds = not leads and (not which.statuses or Status.RUNNING in which.statuses)
        held, worker = HELD if holds else 0, which.worker or ""
        running: list[int] | None = None
        while high > low:
            if patience.left() == 0.0:
                raise QueryTimeoutError
            ids, bound, there = self._slice(indexes, low, high, slice_, held=held, worker=worker)
            if there is None:  # too many for one script
                running = self._running(which) if running is None else running
                there = running
            ids = sorted({*ids, *(n for n in there if bound <= n < high)}, reverse=True)
            high = bound
            for record in self.records(ids):
                if matches(record, which):
                    yield record
            slice_ = SLICE

    def _slice(
        self, keys: Sequence[str], low: int, high: int, size: int, *, held: int, worker: str
    ) -> tuple[list[int], int, list[int] | None]:
        """Return ids in [low, high), newest first, that are complete down to the bound returned, and what runs."""
        each = size if len(keys) <= _WHOLE else max(8, 4 * size // len(keys))
        answers = []
        for start in range(0, max(1, len(keys)), AT_ONCE):
            some, held_now = keys[start : start + AT_ONCE], 0 if start else held
            answers.append(self._database.run("slice", low, high, each, held_now, worker, *some, hot=self._hot))
        running = answers[0][-1]
        found: set[int] = set()
        bound = low
        for ids in itertools.chain.from_iterable(answer[:-1] for answer in answers):
            numbers = [int(job_id) for job_id in ids]
            found.update(numbers)
            if len(numbers) == each:
                bound = max(bound, numbers[-1])
        ordered = sorted((n for n in found if n >= bound), reverse=True)
        if len(ordered) > size:
            ordered = ordered[:size]
            bound = ordered[-1]
        return ordered, bound, None if running is None else [int(job_id) for job_id in running]

    def _indexes(self, which: Filter) -> list[str]:
        leads = [index for index, _ in self._leads(which)]
        if len(leads) > 1:
            sizes = self._pool.do(lambda wire: wire.ask_all([("ZCARD", index) for index in leads]))
            return [min(zip(sizes, leads, strict=True))[1]]
        if leads:
            return leads
        table = self._database.table
        table.load()
        streams = table.numbers(which.queue, which.task)
        key = self._database.key
        indexes: list[str] = []
        for status in dict.fromkeys(which.statuses or tuple(Status)):
            if status is Status.PENDING:
                indexes += [key(line.format(n)) for n in streams for line in ("ready:{}", "back:{}", "wait:{}:b")]
            elif status is Status.DEAD and which.fingerprint is not None:
                indexes.append(key(f"fault:{which.fingerprint}"))
            elif status in FINISHED:
                letter = {Status.COMPLETED: "c", Status.DEAD: "d", Status.CANCELLED: "x"}[status]
                indexes += [key(f"done:{n}:{letter}") for n in streams]
            elif status is not Status.RUNNING:
                indexes += [key(f"wait:{n}:{'t' if status is Status.RETRYING else 's'}") for n in streams]
        return indexes

    def _running(self, which: Filter) -> list[int]:
        """Return the ids of all that runs, or of what one worker holds. They are in sets, which know no order."""
        key = self._database.key
        holders: list[str] = [holder.decode() for holder in self._pool.ask("SMEMBERS", key("holders"))]
        sets = [key("hand"), *(key(f"held:{h}") for h in holders if which.worker in (None, h))]
        return [int(job_id) for held in sets for job_id in self._members(held)]

    def _members(self, held: str) -> Iterator[bytes]:
        cursor = b"0"
        while True:
            cursor, ids = self._pool.ask("SSCAN", held, cursor, "COUNT", SLICE)
            yield from ids
            if cursor == b"0":
                return

    def _leads(self, which: Filter) -> list[tuple[str, Filter]]:
        """Return the indexes of a tag, origin or batch, each with the filter that it answers by itself."""
        key, kind = self._database.key, type(which)
        leads = []
        if which.batch is not None:
            leads.append((key(f"member:{which.batch}"), kind(batch=which.batch)))
        if which.origin is not None:
            leads.append((key(f"origin:{which.origin}"), kind(origin=which.origin)))
        if which.tag is not None:
            leads.append((key(f"tag:{which.tag}"), kind(tag=which.tag)))
        return leads

    def _bounds(self, which: Filter, before: int | None) -> tuple[int, int]:
        """Return the lowest id that may match, and the first above the highest: the first id of each minute is kept."""
        low, high = 0, _END if before is None else max(0, before)
        when = self._database.key("when")
        if which.created_after is not None:
            minute = int(which.created_after // 60) - 1
            first = self._pool.ask("ZREVRANGEBYSCORE", when, minute, "-inf", "LIMIT", 0, 1)
            low = int(first[0]) if first else 0
        if which.created_before is not None:
            back = int(self._pool.ask("HGET", self._database.meta, "back") or 0)
            minute = int(which.created_before // 60) + 2 + back
            first = self._pool.ask("ZRANGEBYSCORE", when, minute, "+inf", "LIMIT", 0, 1)
            high = min(high, int(first[0])) if first else high
        return low, high


class _Named(msgspec.Struct):
    type: str


_named = msgspec.json.Decoder(_Named).decode


def matches(record: Record, which: Filter) -> bool:
    """Tell whether a job fits the filter."""
    if which.statuses and record.status not in which.statuses:
        return False
    for wanted, is_ in (
        (which.queue, record.queue),
        (which.task, record.task),
        (which.origin, record.origin),
        (which.batch, record.batch_id),
        (which.worker, record.worker),
    ):
        if wanted is not None and wanted != is_:
            return False
    if which.tag is not None and which.tag not in msgspec.json.decode(record.tags or "[]"):
        return False
    if which.created_after is not None and record.created_at < which.created_after:
        return False
    if which.created_before is not None and record.created_at >= which.created_before:
        return False
    if which.started_before is not None and (record.started_at is None or record.started_at >= which.started_before):
        return False
    if which.fingerprint is not None and cut(record.error) != which.fingerprint:
        return False
    return which.error is None or _error_type(record) == which.error


def _error_type(record: Record) -> str | None:
    try:
        return None if record.error is None else _named(record.error).type
    except msgspec.DecodeError:
        return None
