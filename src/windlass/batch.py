"""Batches: many jobs with callbacks for when they have all ended.

Theory: the store counts members as they move, in the step that moves them. A batch about which something is to be
decided is *ripe*; whoever sees it (any worker, or the process that closes it) asks :func:`decide` and has the answer
written, callbacks included, in one step that first reads the batch anew. So a crash between any two steps delays a
callback until the next worker looks, and nothing enqueues one twice: what has been fired is written with it.

Rules:

* ``complete`` fires when all members and nested batches have ended and nobody adds from outside any more.
* ``success`` fires when, besides, every one of them completed; if a dead member is retried later, then.
* ``death`` fires at the first member that dies.
* A nested batch is finished for its parent when its ``complete`` fires; if it was no success, the parent is none until
  it is.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from windlass.drivers.base import BatchMove, BatchRecord
from windlass.terms import Link, single

if TYPE_CHECKING:
    from windlass.job import NewJob

COMPLETE, SUCCESS, DEATH = "complete", "success", "death"
_FAILED = "failed:"
"""Marks, in ``fired``, a nested batch that is no success, or none yet."""
_MENDED = "mended:"
"""Marks one that is a success: who has looked at it before, and comes late, must not fail it again."""


class Callbacks(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a batch brings with it, as it is stored."""

    success: tuple[Link, ...] = ()
    complete: tuple[Link, ...] = ()
    death: tuple[Link, ...] = ()
    delete_on_success: bool = False


class BatchProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a batch is; counts of members that were deleted after their end stay."""

    total: int
    left: int
    completed: int
    dead: int
    cancelled: int
    nested: int
    """Nested batches that have not finished."""
    finished_at: datetime | None

    @property
    def share(self) -> float:
        """From 0 to 1: how many have ended."""
        return 1.0 if not self.total else (self.total - self.left) / self.total

    @property
    def finished(self) -> bool:
        """Whether all have ended, and its ``complete`` callbacks are enqueued."""
        return self.finished_at is not None

    @property
    def succeeded(self) -> bool:
        """Whether it has finished, and every member completed."""
        return self.finished and not (self.dead or self.cancelled or self.left)


def callbacks_of(batch: BatchRecord) -> Callbacks:
    """Decode what a batch brings with it."""
    return Callbacks() if batch.callbacks is None else msgspec.json.decode(batch.callbacks, type=Callbacks)


def ended(batch: BatchRecord) -> bool:
    """Whether nothing is left to wait for."""
    return not batch.open and not batch.left and not batch.children


def succeeded(batch: BatchRecord) -> bool:
    """Whether every member and nested batch completed."""
    failed = any(mark.startswith(_FAILED) for mark in batch.fired)
    return ended(batch) and not (batch.dead or batch.cancelled or failed)


def decide(
    batch: BatchRecord, now: float, *, close: bool = False, nested: tuple[int, bool] | None = None
) -> BatchMove | None:
    """Say what becomes of a batch; ``None`` = nothing.

    *close*: nobody adds from outside any more. *nested*: a nested batch, and whether it was a success.
    """
    before = batch
    batch = msgspec.structs.replace(batch, open=batch.open and not close, fired=marked(batch.fired, nested))
    callbacks = callbacks_of(batch)
    due = [
        (name, links)
        for name, holds, links in (
            (DEATH, batch.dead > 0, callbacks.death),
            (COMPLETE, ended(batch), callbacks.complete),
            (SUCCESS, succeeded(batch), callbacks.success),
        )
        if holds and name not in batch.fired
    ]
    if not due and batch == before:
        return None
    names = {name for name, _ in due}
    return BatchMove(
        open=batch.open,
        fired=(*batch.fired, *(name for name, _ in due)),
        finished_at=now if COMPLETE in names else batch.finished_at,
        jobs=tuple(_callback(batch, name, link) for name, links in due for link in links),
        release_parent=COMPLETE in names and batch.parent is not None,
        delete=SUCCESS in names and callbacks.delete_on_success,
    )


def marked(fired: tuple[str, ...], nested: tuple[int, bool] | None) -> tuple[str, ...]:
    """Note that a nested batch is no success, or that it is one."""
    if nested is None:
        return fired
    batch_id, success = nested
    failed, mended = f"{_FAILED}{batch_id}", f"{_MENDED}{batch_id}"
    if mended in fired or (failed in fired and not success):
        return fired
    return (*(other for other in fired if other != failed), mended if success else failed)


def delete(batch: BatchRecord) -> BatchMove:
    """Forget a batch; its parent does not wait for it any more."""
    waits = batch.parent is not None and COMPLETE not in batch.fired
    return BatchMove(open=False, fired=batch.fired, finished_at=batch.finished_at, release_parent=waits, delete=True)


def _callback(batch: BatchRecord, name: str, link: Link) -> NewJob:
    job = single(link)
    meta = {} if job.meta is None else msgspec.json.decode(job.meta)
    meta["batch"] = {"id": batch.id, "name": batch.name, "event": name}
    return msgspec.structs.replace(job, meta=msgspec.json.encode(meta), origin=job.origin or batch.origin)
