"""Batches in memory: their counters, and which of them somebody has to decide about."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from windlass.drivers.base import first_batch
from windlass.errors import BatchStateError
from windlass.job import FINISHED, Status

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from windlass.drivers.base import BatchMove, BatchRecord, DecideBatch, NewBatch
    from windlass.job import NewJob

_replace = msgspec.structs.replace
_PLACE = {Status.COMPLETED: 1, Status.DEAD: 2, Status.CANCELLED: 3}


class Batches:
    """All batches, by id."""

    def __init__(self) -> None:
        self._all: dict[int, BatchRecord] = {}
        """All but their counters, which change with each job."""
        self._counts: dict[int, list[int]] = {}
        """Total, completed, dead, cancelled."""
        self.ripe: dict[int, None] = {}
        """In the order in which they ripened."""
        self._last = 0

    def open(self, new: NewBatch, now: float) -> BatchRecord:
        """Store a new one."""
        if new.parent is not None:
            parent = self._unfinished(new.parent)
            self._all[parent.id] = _replace(parent, children=parent.children + 1)
        self._last += 1
        batch = self._all[self._last] = first_batch(new, self._last, now)
        self._counts[self._last] = [0, 0, 0, 0]
        return batch

    def _unfinished(self, batch_id: int) -> BatchRecord:
        batch = self._all.get(batch_id)
        if batch is None or batch.finished_at is not None:
            raise BatchStateError(batch_id, missing=batch is None)
        return batch

    def check(self, jobs: Iterable[NewJob]) -> None:
        """Raise if a new job's batch cannot take it."""
        for batch_id in {job.batch_id for job in jobs if job.batch_id is not None}:
            self._unfinished(batch_id)

    def move(self, batch_id: int | None, before: Status | None, after: Status | None) -> None:
        """Count a member that moves. What has ended stays counted when it is deleted."""
        counts = self._counts.get(batch_id) if batch_id is not None else None
        if batch_id is None or counts is None or (before in FINISHED and after is None):
            return
        counts[0] += (before is None) - (after is None)
        if before in _PLACE:
            counts[_PLACE[before]] -= 1
        if after in _PLACE:
            counts[_PLACE[after]] += 1
        if after is Status.DEAD or (before is not None and counts[0] <= sum(counts[1:])):
            self.ripe[batch_id] = None

    def _counted(self, batch_id: int) -> BatchRecord | None:
        """Return a batch as it is now."""
        batch = self._all.get(batch_id)
        if batch is None:
            return None
        total, completed, dead, cancelled = self._counts[batch_id]
        return _replace(batch, total=total, completed=completed, dead=dead, cancelled=cancelled)

    def change(self, batch_id: int, decide: DecideBatch, now: float) -> tuple[BatchRecord | None, Sequence[NewJob]]:
        """Decide about one; return it as it is then, and the jobs to store."""
        batch = self._counted(batch_id)
        if batch is None:
            return None, ()
        self.ripe.pop(batch_id, None)
        move = decide(batch, now)
        if move is None:
            return batch, ()
        return self._write(batch, move), move.jobs

    def _write(self, batch: BatchRecord, move: BatchMove) -> BatchRecord:
        batch = _replace(batch, open=move.open, fired=move.fired, finished_at=move.finished_at)
        if move.delete:
            del self._all[batch.id], self._counts[batch.id]
        else:
            self._all[batch.id] = batch
        parent = self._all.get(batch.parent) if move.release_parent and batch.parent is not None else None
        if parent is not None:
            parent = self._all[parent.id] = _replace(parent, children=parent.children - 1)
            if not parent.children:
                self.ripe[parent.id] = None
        return batch

    def find(self, ids: Collection[int] | None, limit: int, before: int | None) -> list[BatchRecord]:
        """Return these, or the newest."""
        if ids is not None:
            chosen = sorted(set(ids))
        else:
            newest = (batch_id for batch_id in reversed(self._all) if before is None or batch_id < before)
            chosen = list(islice(newest, limit))
        return [batch for batch_id in chosen if (batch := self._counted(batch_id)) is not None]
