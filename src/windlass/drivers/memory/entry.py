"""What the memory driver keeps: an entry per job, a stream per queue and task, a line per priority in it."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TypeAlias

import msgspec

from windlass.drivers.base import PastAttempt
from windlass.job import FINISHED, Hold, NewJob, Record, Status
from windlass.lifecycle import TOTALS

STALE = 1000
"""Dead places that a heap may hold before it is rebuilt, if they are most of it."""


class Line:
    """The pending jobs of one stream and priority, by ``(seq, id)``.

    Those that take turns stand in heaps of their keys, the key whose turn it is first. A job that leaves by another door than
    a claim leaves a stale place behind, which is skipped when it comes up.
    """

    __slots__ = ("heap", "priority", "round", "stale")

    def __init__(self, priority: int) -> None:
        self.priority = priority
        self.heap: list[Place] = []
        self.round: dict[str, list[Place]] = {}
        self.stale = 0

    def add(self, entry: Entry) -> None:
        """Let a job wait here; a key that comes new has its turn after all others."""
        heap = self.heap if entry.fair is None else self.round.setdefault(entry.fair, [])
        heappush(heap, (entry.seq, entry.id, entry))

    def head(self) -> Entry | None:
        """Return the first job that still waits here; drop the stale places before it."""
        first = self._first(self.heap)
        while self.round:
            key = next(iter(self.round))
            next_one = self._first(self.round[key])
            if next_one is not None:
                return next_one if first is None or next_one.seq < first.seq else first
            del self.round[key]
        return first

    def take(self, entry: Entry) -> None:
        """Take out what ``head`` has returned; its key has had its turn."""
        if entry.fair is None:
            heappop(self.heap)
            return
        heap = self.round.pop(entry.fair)
        heappop(heap)
        if heap:
            self.round[entry.fair] = heap

    def _first(self, heap: list[Place]) -> Entry | None:
        while heap:
            if _waits(heap[0]):
                return heap[0][2]
            heappop(heap)
            self.stale -= 1
        return None

    def leave(self, gone: Entry) -> None:
        """Note that *gone*, which waits here, is about to go."""
        self.stale += 1
        heap = self.heap if gone.fair is None else self.round[gone.fair]
        if self.stale > STALE and self.stale * 2 > len(heap):
            before = len(heap)
            heap[:] = [place for place in heap if place[2] is not gone and _waits(place)]
            heapify(heap)
            self.stale -= before - len(heap)


def _waits(place: Place) -> bool:
    """Whether a job still stands there."""
    seq, _, entry = place
    return entry.seq == seq and entry.status is Status.PENDING and entry.blocked is None


class Stream:
    """The jobs of one queue and task: who waits, when the finished ended, and the counters."""

    __slots__ = ("counts", "ended", "lines", "queue", "task", "totals")

    def __init__(self, queue: str, task: str) -> None:
        self.queue = queue
        self.task = task
        self.lines: dict[int, Line] = {}
        self.ended: dict[Status, list[tuple[float, int]]] = {status: [] for status in FINISHED}
        self.counts: dict[Status, int] = dict.fromkeys(Status, 0)
        self.totals: dict[str, int] = dict.fromkeys(TOTALS, 0)


class Entry(msgspec.Struct, eq=False):
    """One job, changed in place. A ``Record`` of it is made only on the way out."""

    id: int
    new: NewJob
    """What never changes."""
    stream: Stream
    status: Status
    run_at: float
    created_at: float
    max_attempts: int | None
    tags: str | None = None
    seq: int = 0
    """The place in line, drawn when the job became available; kept while it runs."""
    attempt: int = 0
    failures: int = 0
    crashes: int = 0
    started_at: float | None = None
    """Of the last attempt that has ended."""
    finished_at: float | None = None
    error: bytes | None = None
    result: bytes | None = None
    worker: str | None = None
    """Of the last attempt that has ended."""
    past: list[PastAttempt] | None = None
    lease: int = 0
    holder: str | None = None
    """The worker that has the lease."""
    lease_started: float | None = None
    """When the leased attempt reached its handler; ``None`` while it is only prefetched."""
    deadline: float | None = None
    cancel: bool = False
    holds: tuple[Hold, ...] = ()
    flow: bytes | None = None
    blocked: str | None = None
    """The gate that it waits before, out of its line."""
    fair: str | None = None
    """The key by which it takes turns."""
    slots: tuple[str, ...] = ()
    """The limits that it has passed."""
    progress: bytes | None = None
    lines: list[tuple[int, float, str]] | None = None

    def record(self) -> Record:
        """Return the job as it is now."""
        new = self.new
        running = self.status is Status.RUNNING
        return Record(
            self.id,
            new.task,
            new.queue,
            self.status,
            new.priority,
            new.payload,
            self.attempt,
            self.failures,
            self.crashes,
            self.max_attempts,
            new.timeout,
            self.run_at,
            self.created_at,
            self.lease_started if running else self.started_at,
            self.finished_at,
            self.error,
            self.result,
            self.tags,
            new.origin,
            new.meta,
            new.batch_id,
            new.tick,
            new.idempotency_key,
            self.holder if running else self.worker,
            self.lease,
            self.cancel,
            self.flow,
            new.terms,
            self.progress,
        )


Place: TypeAlias = tuple[int, int, Entry]
"""Where a job stands in a heap: its place in the order, its id, itself."""
