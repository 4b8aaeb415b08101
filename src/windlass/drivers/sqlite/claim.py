"""The claim: the best pending jobs over all streams that a worker may take from, as far as their gates let them.

A candidate whose gate is shut is put aside, and the claim goes on with the next; a stream whose own gate is shut is
passed over as if it were paused. One that takes turns (``turns.py``) is put in line until it is called. Rows are read to the end before any is written: an open read would keep the rows that
are about to be deleted in use.
"""

from __future__ import annotations

from collections import Counter
from heapq import heapify, heappop, heapreplace
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from windlass.drivers.sqlite.holds import moving
from windlass.job import Record, Status
from windlass.limits import fair_key
from windlass.uniqueness import flow_of

if TYPE_CHECKING:
    import sqlite3

    from windlass.drivers.base import Turn
    from windlass.drivers.sqlite.connect import Plain
    from windlass.drivers.sqlite.gates import Barrier, Gates
    from windlass.drivers.sqlite.sql import Sql
    from windlass.drivers.sqlite.tx import Tx
    from windlass.job import Flow

    Stream: TypeAlias = tuple[str, str]

ASIDE = 1000
"""Jobs put aside in one turn at most, so that a turn stays short."""
_FLOW = 21
"""Where a row of the head statement has the job's flow."""
_STREAM = itemgetter(4, 3)
"""Takes queue and task from such a row."""


class Claim:
    """One turn's claim."""

    __slots__ = (
        "_aside",
        "_chosen",
        "_claims",
        "_early",
        "_fair",
        "_gone",
        "_slots",
        "_starting",
        "_turn",
        "_tx",
        "_wide",
    )

    def __init__(self, tx: Tx, turn: Turn, *, wide: bool, fair: bool) -> None:
        self._tx = tx
        self._turn = turn
        self._wide = wide
        """Whether there are gates of whole queues or tasks at all."""
        self._fair = fair
        """Whether some take turns."""
        self._claims: list[Record] = []
        self._chosen: list[tuple[Any, ...]] = []
        """Rows to be leased."""
        self._slots: dict[int, str] = {}
        """The limits that those have passed, as JSON."""
        self._gone: list[tuple[Any, ...]] = []
        self._starting: list[tuple[Flow, int, float]] = []
        self._early: list[tuple[Any, ...]] = []
        """A row of ``ready`` that was not in line yet, with its key: all of its stream are sorted first."""
        self._aside = 0

    @property
    def unfinished(self) -> bool:
        """Whether it was left off because too many had to be put aside."""
        return self._aside >= ASIDE

    def take(self) -> list[Record]:
        """Lease jobs, part by part of the demand."""
        streams = open_streams(self._tx.connection, self._tx.sql, self._turn, fair=self._fair)
        for part in self._turn.parts() if streams else ():
            goal = len(self._claims) + min(self._turn.limit - len(self._claims), part.limit)
            wanted = [s for s in streams if part.queues is None or s[0] in part.queues]
            if wanted and self._fair:
                self._call(wanted, goal - len(self._claims))
            while wanted and len(self._claims) < goal and not self.unfinished:
                aside = self._aside
                self._take_part(wanted, goal - len(self._claims))
                if self._early:
                    self._tx.turns.line_up(self._early)
                    self._early.clear()
                elif not self._fair or self._aside == aside:
                    break
                # Others have their turn in the place of those that were early, or found their gate shut.
                self._call(wanted, goal - len(self._claims))
        return self._claims

    def _take_part(self, streams: list[Stream], most: int) -> None:
        if len(streams) == 1 and not self._wide:
            self._take_from_one(streams[0], most)
        else:
            self._take_from(streams, most)
        self._write()

    def _call(self, streams: list[Stream], most: int) -> None:
        """Have those in ``ready`` whose turn it is."""
        turns = self._tx.turns
        for stream in streams:
            if turns.wait(stream):
                turns.sort(stream)
                turns.call(stream, most)

    def _take_from_one(self, stream: Stream, most: int) -> None:
        """Take the first of a stream: no more are read than are wanted, unless some have to be put aside."""
        seen, limit = 0, most
        while True:
            rows = self._tx.connection.execute(self._tx.sql.head, (*stream, limit, seen)).fetchall()
            for row in rows:
                if row[_FLOW] is None:
                    self._chosen.append(row)
                else:
                    self._offer(row, stream)
                if self._enough(most):
                    return
            if len(rows) < limit:
                return
            seen, limit = seen + len(rows), ASIDE

    def _take_from(self, streams: list[Stream], most: int) -> None:
        """Merge the heads of the streams."""
        statement = self._tx.sql.head
        # sqlite3 keeps one prepared statement per text; a number makes the texts of open cursors differ.
        cursors = [
            (stream, self._tx.connection.execute(f"{statement} -- {number}", (*stream, most + ASIDE, 0)))
            for number, stream in enumerate(streams)
            if not (self._wide and self._is_shut(stream))
        ]
        heads = [(*row[:2], row, cursor, stream) for stream, cursor in cursors for row in cursor.fetchmany(1)]
        heapify(heads)
        while heads:
            _, _, row, cursor, stream = heads[0]
            if self._wide and self._is_shut(stream):
                heappop(heads)
                continue
            if row[_FLOW] is None and not self._wide:
                self._chosen.append(row)
            else:
                self._offer(row, stream)
            if self._enough(most):
                break
            following = next(cursor, None)
            if following is None:
                heappop(heads)
            else:
                heapreplace(heads, (*following[:2], following, cursor, stream))
        for _, cursor in cursors:
            cursor.close()

    def _enough(self, most: int) -> bool:
        return len(self._chosen) >= most or self.unfinished or bool(self._early)

    def _is_shut(self, stream: Stream) -> bool:
        shut = shut_gate(self._tx.gates, stream, self._tx.now)
        if shut is not None:
            self._tx.gates.pass_over(shut)
        return shut is not None

    def _offer(self, row: tuple[Any, ...], stream: Stream) -> None:
        """Choose a candidate that passes its gates, or put it aside."""
        flow = None if row[_FLOW] is None else flow_of(row[_FLOW])
        key = None if flow is None else fair_key(flow.gates)
        if key is not None:
            if not self._tx.turns.is_called(row[2]):
                self._wait_for_turn(row, key)
                return
            self._tx.turns.passed(row[2])
        own = self._tx.gates.own(flow.gates) if flow is not None and flow.gates else []
        shut = next((barrier for barrier in own if not barrier.room(self._tx.now)), None)
        if shut is not None:
            self._put_aside(row, shut)
            return
        barriers = [*self._tx.gates.wide(*stream), *own] if self._wide else own
        slots = self._tx.gates.enter(row[2], barriers) if barriers else []
        if flow is not None and flow.holds:
            self._starting.append((flow, row[2], row[13]))
        if slots:
            self._slots[row[2]] = msgspec.json.encode(slots).decode()
        self._chosen.append(row)

    def _wait_for_turn(self, row: tuple[Any, ...], key: str) -> None:
        ready = _ready(row)
        self._early.append((*ready, key))
        self._gone.append(ready[:4])
        self._fair = True

    def _put_aside(self, row: tuple[Any, ...], barrier: Barrier) -> None:
        ready = _ready(row)
        self._tx.gates.block(barrier, ready=ready)
        self._gone.append(ready[:4])
        self._aside += 1

    def _write(self) -> None:
        """Write the leases, and take those claimed or put aside out of ``ready``."""
        many, sql = self._tx.connection.executemany, self._tx.sql
        if self._chosen:
            many(sql.lease, self._lease())
            self._chosen.clear()
        if self._gone:
            many(sql.delete_ready, self._gone)
            self._gone.clear()
        if self._starting:  # what is held only until the start
            holds = self._tx.holds
            holds.load(key for flow, *_ in self._starting for key in moving(flow, Status.PENDING, Status.RUNNING))
            for flow, job_id, created_at in self._starting:
                holds.move(flow, job_id, created_at, Status.PENDING, Status.RUNNING)
            self._starting.clear()

    def _lease(self) -> list[tuple[Any, ...]]:
        """Give leases to those chosen; return the rows of ``running``."""
        turn, now, claims, gone = self._turn, self._tx.now, self._claims, self._gone
        deadline = None if turn.deadline is None else now + turn.deadline
        worker, passed, lease = turn.worker, self._slots, self._tx.draw_leases(len(self._chosen))
        leases = []
        for place, row in enumerate(self._chosen, len(claims)):
            rank, seq, job_id, task, queue, priority, payload, attempt, failures, crashes, *rest = row
            most, timeout, run_at, created_at, error, tags, origin, meta, batch_id, tick, key, flow, terms = rest
            started = place < turn.start and crashes < turn.cautious
            started_at = now if started else None
            attempt += started
            lease += 1
            slots = passed.get(job_id) if passed else None
            held = (lease, worker, seq, run_at, started_at, attempt, failures, crashes, deadline, slots)
            leases.append((job_id, queue, task, *held))
            gone.append((queue, task, rank, seq))
            claims.append(
                Record(
                    job_id, task, queue, Status.RUNNING, priority, payload, attempt, failures, crashes, most, timeout,
                    run_at, created_at, started_at, None, error, None, tags, origin, meta, batch_id, tick, key, worker,
                    lease, False, flow, terms,
                )
            )  # fmt: skip
        for stream, number in Counter(map(_STREAM, self._chosen)).items():
            self._tx.count_moves(stream, Status.PENDING, Status.RUNNING, number)
        return leases


def _ready(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the row of ``ready`` that a row of the head statement is from."""
    rank, seq, job_id, task, queue, _, _, attempt, failures, crashes, _, _, run_at, *_ = row
    return queue, task, rank, seq, job_id, run_at, attempt, failures, crashes


def open_streams(connection: sqlite3.Connection | Plain, sql: Sql, turn: Turn, *, fair: bool) -> list[Stream]:
    """Return the (queue, task) pairs with pending jobs that this worker may take.

    Skips from stream to stream in the index: the jobs inside are not read, whosever they are.
    """
    found = connection.execute(sql.streams).fetchall()
    if fair:
        found = list(dict.fromkeys([*found, *connection.execute(sql.turn_streams)]))
    if not found:
        return []
    tasks, queues = frozenset(turn.tasks), _queues(turn) if turn.takes else turn.queues
    wanted = [s for s in found if s[1] in tasks and (queues is None or s[0] in queues)]
    if wanted and (paused := set(connection.execute(sql.pauses))):
        wanted = [s for s in wanted if ("queue", s[0]) not in paused and ("task", s[1]) not in paused]
    return wanted


def _queues(turn: Turn) -> frozenset[str] | None:
    """Return all queues of a demand; ``None`` = every queue."""
    queues: set[str] = set()
    for part in turn.takes:
        if part.queues is None:
            return None
        queues.update(part.queues)
    return frozenset(queues)


def shut_gate(gates: Gates, stream: Stream, now: float) -> Barrier | None:
    """Return a gate of a whole queue or task that lets nobody of *stream* pass."""
    return next((barrier for barrier in gates.wide(*stream) if not barrier.room(now)), None)
