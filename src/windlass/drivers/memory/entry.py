"""What the memory driver keeps: an entry per job, a stream per queue and task, a line per priority in it."""

from __future__ import annotations

from heapq import heapify, heappop

import msgspec

from windlass.drivers.base import PastAttempt
from windlass.job import FINISHED, Hold, NewJob, Record, Status
from windlass.lifecycle import TOTALS

STALE = 1000
"""Dead places that a heap may hold before it is rebuilt, if they are most of it."""


class Line:
    """The pending jobs of one stream and priority, by ``(seq, id)``.

    A job that leaves by another door than a claim leaves a stale place behind, which is skipped when it comes up.
    """

    __slots__ = ("heap", "priority", "stale")

    def __init__(self, priority: int) -> None:
        self.priority = priority
        self.heap: list[tuple[int, int, Entry]] = []
        self.stale = 0

    def head(self) -> Entry | None:
        """Return the first job that still waits here; drop the stale places before it."""
        heap = self.heap
        while heap:
            seq, _, entry = heap[0]
            if entry.seq == seq and entry.status is Status.PENDING and entry.blocked is None:
                return entry
            heappop(heap)
            self.stale -= 1
        return None

    def leave(self, gone: Entry) -> None:
        """Note that *gone*, which waits here, is about to go."""
        self.stale += 1
        if self.stale > STALE and self.stale * 2 > len(self.heap):
            self.heap = [
                item
                for item in self.heap
                if item[2] is not gone
                and item[2].seq == item[0]
                and item[2].status is Status.PENDING
                and item[2].blocked is None
            ]
            heapify(self.heap)
            self.stale = 0


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
