"""Making, finding and settling batches."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from windlass import batch as rules
from windlass import codec, terms
from windlass.batch import BatchProgress, Callbacks
from windlass.carrying import TRACE, below
from windlass.client.batch import Batch, progress_of
from windlass.client.filters import check_id, whole
from windlass.client.listening import Listening
from windlass.client.managing import Managing
from windlass.client.sending import Sending
from windlass.drivers.base import BatchMove, BatchRecord, NewBatch
from windlass.errors import BatchNotFoundError, ConfigurationError
from windlass.events import BatchFinished
from windlass.offload import offload
from windlass.settings import check_name
from windlass.task import Draft
from windlass.times import Duration, seconds

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from windlass.events import Event
    from windlass.job import Job


class Batching(Sending, Managing, Listening):
    """Batches, with their twins."""

    def batch(
        self,
        name: str,
        *,
        origin: str | None = None,
        delay: Duration | None = None,
        meta: Mapping[str, Any] | None = None,
        on_success: Draft[Any] | Sequence[Draft[Any]] = (),
        on_complete: Draft[Any] | Sequence[Draft[Any]] = (),
        on_death: Draft[Any] | Sequence[Draft[Any]] = (),
        delete_on_success: bool = False,
        parent: Batch | int | None = None,
    ) -> Batch:
        """Open a batch: ``with app.batch("images", on_success=report.job()) as b: b.add(resize.job(1))``.

        Args:
            name: what people will read.
            origin: of the batch and its members.
            delay: of the members.
            meta: JSON kept with it.
            on_success: jobs to enqueue, once, when all members have completed.
            on_complete: when all have ended, however.
            on_death: when the first has died.
            delete_on_success: remove the batch and its members then.
            parent: a batch that waits for this one.

        Raises:
            BatchStateError: the parent has finished.
            ConfigurationError: an option cannot be right.
        """
        callbacks = Callbacks(
            success=self._links("on_success", on_success),
            complete=self._links("on_complete", on_complete),
            death=self._links("on_death", on_death),
            delete_on_success=delete_on_success,
        )
        limit = self.settings.payload_limit
        new = NewBatch(
            name=check_name("a batch's name", name),
            origin=None if origin is None else check_name("origin", origin),
            meta=None if meta is None else codec.encode(dict(meta), task=name, what="meta", limit=limit),
            parent=parent.id if isinstance(parent, Batch) else None if parent is None else check_id(parent),
            callbacks=None if callbacks == Callbacks() else msgspec.json.encode(callbacks),
        )
        options = {"origin": origin, "delay": None if delay is None else seconds(delay, name="delay")}
        return Batch(self, self.driver.open_batch(new), options)

    abatch = offload(batch)

    def _links(self, name: str, drafts: Draft[Any] | Sequence[Draft[Any]]) -> tuple[terms.Link, ...]:
        several = tuple(drafts) if isinstance(drafts, list | tuple) else (drafts,)
        if not all(isinstance(draft, Draft) for draft in several):
            raise ConfigurationError(f"{name} takes task.job(...) or several, not {drafts!r}")
        trace = self.trace()
        jobs = [self.new_job(draft) for draft in several]
        if trace:  # nobody traces a callback's enqueue: it belongs to what opens the batch
            jobs = [msgspec.structs.replace(job, meta=below(job.meta, {TRACE: trace})) for job in jobs]
        return tuple(terms.link(job, ()) for job in jobs)

    def enqueue_members(
        self, batch_id: int, drafts: Iterable[Draft[Any]], options: Mapping[str, Any] | None = None
    ) -> list[Job]:
        """Store jobs as members of a batch."""
        given = {name: value for name, value in (options or {}).items() if value is not None}
        return self.enqueue_many([_member(draft, batch_id, given) for draft in drafts])

    def get_batch(self, batch_id: int) -> Batch:
        """Return a batch.

        Raises:
            BatchNotFoundError: there is none.
        """
        return Batch(self, self.batch_record(batch_id))

    aget_batch = offload(get_batch)

    def batch_record(self, batch_id: int) -> BatchRecord:
        """Read a batch.

        Raises:
            BatchNotFoundError: there is none.
        """
        found = self.driver.batches([check_id(batch_id)])
        if not found:
            raise BatchNotFoundError(batch_id)
        return found[0]

    def batches(self, *, limit: int = 50, after: int | None = None) -> list[Batch]:
        """Return the newest batches; pass the last one's id as *after* for the next page."""
        if not whole(limit) or not 1 <= limit <= 1000:
            raise ConfigurationError(f"limit must be a whole number from 1 to 1000, not {limit!r}")
        return [Batch(self, record) for record in self.driver.batches(limit=limit, before=after)]

    abatches = offload(batches)

    def close_batch(self, batch_id: int) -> BatchRecord:
        """Say that nothing more is added from outside: what is due fires."""
        return self._settle(batch_id, close=True) or self.batch_record(batch_id)

    def cancel_batch(self, batch_id: int) -> int:
        """Cancel all members that have not ended, those of nested batches too; return how many."""
        self.batch_record(batch_id)
        cancelled = 0
        for status in ("scheduled", "pending", "retrying", "running"):
            cancelled += len(self.cancel_many(batch=batch_id, status=status))
        for nested in self._nested(batch_id):
            cancelled += self.cancel_batch(nested)
        self._settle(batch_id, close=True)
        return cancelled

    def delete_batch(self, batch_id: int) -> None:
        """Forget a batch: its members stay and end as they would, and nothing fires."""
        self.batch_record(batch_id)
        self.driver.change_batch(batch_id, lambda batch, _: rules.delete(batch))

    def settle_batches(self, ids: Collection[int]) -> None:
        """Have what is due of ripe batches written; safe from any number of processes at once."""
        for batch_id in ids:
            self._settle(batch_id, close=False)

    def _settle(self, batch_id: int, *, close: bool, nested: tuple[int, bool] | None = None) -> BatchRecord | None:
        batch = next(iter(self.driver.batches([batch_id])), None)
        if batch is None:
            return None
        fired = rules.marked(batch.fired, nested)
        closed = msgspec.structs.replace(batch, open=batch.open and not close, fired=fired)
        late = rules.COMPLETE in batch.fired
        # A parent takes a nested batch for a failure from before it can finish until it is seen to be a success: so neither
        # a crash nor a member that ends while we look makes a success of the parent.
        told = batch.parent is not None and rules.succeeded(closed)
        if batch.parent is not None and told:
            self._settle(batch.parent, close=False, nested=(batch_id, True))
        elif batch.parent is not None and not late:
            self._decide(batch.parent, nested=(batch_id, False))
        after = self._decide(batch_id, close=close, nested=nested)
        if after is None:
            return None
        if after.parent is not None and not told and rules.succeeded(after):  # since we looked
            self._settle(after.parent, close=False, nested=(batch_id, True))
        if after.parent is not None and rules.ended(after) and not late:
            self._settle(after.parent, close=False)
        if rules.SUCCESS in after.fired and rules.callbacks_of(after).delete_on_success:
            self.delete_many(batch=batch_id)
        return after

    def _decide(self, batch_id: int, **given: Any) -> BatchRecord | None:
        moves: list[BatchMove | None] = []

        def decide(batch: BatchRecord, now: float) -> BatchMove | None:
            # A driver may ask again; what it was told last is what it has written.
            move = rules.decide(batch, now, **given)
            moves.append(move and (move if rules.COMPLETE not in batch.fired else None))
            return move

        batch = self.driver.change_batch(batch_id, decide)
        finished = batch is not None and moves and moves[-1] is not None and rules.COMPLETE in batch.fired
        if batch is not None and finished and self.hub.wants(BatchFinished):
            self.hub.emit(
                BatchFinished(
                    batch_id=batch.id,
                    name=batch.name,
                    completed=batch.completed,
                    dead=batch.dead,
                    cancelled=batch.cancelled,
                )
            )
        return batch

    def _nested(self, batch_id: int) -> list[int]:
        """Return the batches nested in one: they are newer."""
        found, before = [], None
        while page := self.driver.batches(limit=500, before=before):
            newer = [batch for batch in page if batch.id > batch_id]
            found += [batch.id for batch in newer if batch.parent == batch_id]
            if len(newer) < len(page):
                break
            before = page[-1].id
        return found

    def join_batch(self, batch_id: int, *, timeout: Duration | None = None) -> BatchProgress:
        """Wait until a batch has finished, and return its counts; a batch that goes on success is waited for too.

        Raises:
            BatchNotFoundError: there is none.
            TimeoutError: it has not finished within *timeout*.
            WorkerStateError: this is a handler, whose slot a member may need.
        """
        end = _BatchEnd(self, batch_id)
        return self._await(end.look, end.wants, timeout)

    async def ajoin_batch(self, batch_id: int, *, timeout: Duration | None = None) -> BatchProgress:
        """Await :meth:`join_batch`."""
        end = _BatchEnd(self, batch_id)
        return await self._aawait(end.look, end.wants, timeout)


class _BatchEnd:
    """What a waiter for a batch looks for."""

    def __init__(self, app: Batching, batch_id: int) -> None:
        self._app = app
        self._id = check_id(batch_id)
        self._told: BatchFinished | None = None

    def look(self) -> BatchProgress | None:
        """Return its counts, if it has finished."""
        try:
            progress = progress_of(self._app.batch_record(self._id))
        except BatchNotFoundError:
            if self._told is None:
                raise
            return _as_told(self._told)
        return progress if progress.finished else None

    def wants(self, event: Event) -> bool:
        """Whether an event is its end."""
        if isinstance(event, BatchFinished) and event.batch_id == self._id:
            self._told = event
            return True
        return False


def _as_told(event: BatchFinished) -> BatchProgress:
    """Return the counts of a batch that is gone since it has finished."""
    total = event.completed + event.dead + event.cancelled
    return BatchProgress(
        total=total, left=0, completed=event.completed, dead=event.dead, cancelled=event.cancelled, nested=0,
        finished_at=datetime.now(UTC),
    )  # fmt: skip


def _member(draft: Draft[Any], batch_id: int, given: Mapping[str, Any]) -> Draft[Any]:
    own = draft.options
    changes: dict[str, Any] = {"batch_id": batch_id}
    if own.origin is None and "origin" in given:
        changes["origin"] = given["origin"]
    if own.delay is None and own.run_at is None and "delay" in given:
        changes["delay"] = given["delay"]
    chosen = msgspec.structs.replace(own, **changes)
    return Draft(draft.task, draft.host, chosen, draft.arguments, draft.payload, then=draft.then)
