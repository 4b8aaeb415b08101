"""Batches in memory: their counters, and which of them somebody has to decide about."""

from __future__ import annotations

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


class Batches:
    """All batches, by id."""

    def __init__(self) -> None:
        self._all: dict[int, BatchRecord] = {}
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
        batch = self._all.get(batch_id) if batch_id is not None else None
        if batch is None or (before in FINISHED and after is None):
            return
        changed: dict[str, int] = {}
        if before is None or after is None:
            changed["total"] = batch.total + (before is None) - (after is None)
        if before in FINISHED:
            changed[before.value] = getattr(batch, before.value) - 1
        if after in FINISHED:
            changed[after.value] = changed.get(after.value, getattr(batch, after.value)) + 1
        if changed:
            batch = self._all[batch.id] = _replace(batch, **changed)
        if after is Status.DEAD or (before is not None and not batch.left):
            self.ripe[batch.id] = None

    def change(self, batch_id: int, decide: DecideBatch, now: float) -> tuple[BatchRecord | None, Sequence[NewJob]]:
        """Decide about one; return it as it is then, and the jobs to store."""
        batch = self._all.get(batch_id)
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
            del self._all[batch.id]
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
            return [self._all[batch_id] for batch_id in sorted(set(ids)) if batch_id in self._all]
        newest = (batch for batch_id, batch in reversed(self._all.items()) if before is None or batch_id < before)
        return [batch for _, batch in zip(range(limit), newest, strict=False)]
