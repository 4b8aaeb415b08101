"""Batches as users hold them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, cast

import msgspec

from windlass import batch as rules
from windlass import codec, terms
from windlass.batch import BatchProgress, Callbacks
from windlass.client.enqueuing import Enqueuing
from windlass.client.filters import check_id, whole
from windlass.client.managing import Managing
from windlass.drivers.base import BatchRecord, NewBatch
from windlass.errors import BatchNotFoundError, ConfigurationError
from windlass.offload import offload, run_blocking
from windlass.settings import check_name
from windlass.task import Draft
from windlass.times import Duration, moment, seconds

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from datetime import datetime
    from types import TracebackType

    from windlass.job import Job

CHUNK = 1000
"""Members enqueued at once while a batch is filled."""


class Batch:
    """Jobs that belong together: filled in a ``with`` block, then looked at from anywhere by ``app.get_batch(id)``.

    What it shows is as it was when it was read; ``refresh()`` returns a newer view.
    """

    def __init__(self, app: Batching, record: BatchRecord, options: Mapping[str, Any] | None = None) -> None:
        self._app = app
        self._record = record
        self._options = options or {}
        self._buffer: list[Draft[Any]] | None = None
        self._eager = True

    def __repr__(self) -> str:
        """Show what matters most."""
        record = self._record
        return f"<Batch {record.id} {record.name!r} {record.total - record.left} of {record.total} ended>"

    def __eq__(self, other: object) -> bool:
        """Compare what is stored."""
        return self._record == other._record if isinstance(other, Batch) else NotImplemented

    def __hash__(self) -> int:
        """Hash by id."""
        return hash(self._record.id)

    @property
    def id(self) -> int:
        """The number the store gave it."""
        return self._record.id

    @property
    def name(self) -> str:
        """What it was called."""
        return self._record.name

    @property
    def origin(self) -> str | None:
        """Who or what made it, in the caller's words; its members have it too unless they say otherwise."""
        return self._record.origin

    @property
    def parent_id(self) -> int | None:
        """The batch that it is nested in."""
        return self._record.parent

    @property
    def created_at(self) -> datetime:
        """When it was opened."""
        return cast("datetime", moment(self._record.created_at))

    @property
    def open(self) -> bool:
        """Whether it is being filled: nothing fires before that is over."""
        return self._record.open

    @property
    def fired(self) -> tuple[str, ...]:
        """Which of ``death``, ``complete`` and ``success`` have come."""
        return tuple(name for name in self._record.fired if ":" not in name)

    def progress(self) -> BatchProgress:
        """Return how far it is now."""
        record = self._record = self._app.batch_record(self.id)
        return BatchProgress(
            total=record.total,
            left=record.left,
            completed=record.completed,
            dead=record.dead,
            cancelled=record.cancelled,
            nested=record.children,
            finished_at=moment(record.finished_at),
        )

    def refresh(self) -> Batch:
        """Return the batch as it is now."""
        return self._app.get_batch(self.id)

    def add(self, *drafts: Draft[Any]) -> None:
        """Add members, ``task.job(...)`` or ``chain(...)``: in the ``with`` block gathered and enqueued by thousands.

        Outside of it at once; a member's handler may add to its own batch.

        Raises:
            BatchStateError: it has finished.
        """
        for draft in drafts:
            if not isinstance(draft, Draft):
                raise TypeError(f"a batch takes task.job(...) values, not {draft!r}")
        if self._buffer is None:
            self._app.enqueue_members(self.id, drafts, self._options)
            return
        self._buffer += drafts
        while self._eager and len(self._buffer) >= CHUNK:
            self._flush(CHUNK)

    def batch(self, name: str, **options: Any) -> Batch:
        """Open a batch nested in this one; takes the options of ``app.batch``."""
        return self._app.batch(name, parent=self, **options)

    def cancel(self) -> int:
        """Cancel all members that have not ended, and those of nested batches; return how many."""
        return self._app.cancel_batch(self.id)

    def join(self, timeout: Duration | None = None) -> BatchProgress:
        """Wait until it has finished, and return its counts.

        Raises:
            TimeoutError: it has not within *timeout*.
        """
        return self._app.join_batch(self.id, timeout=timeout)

    def __enter__(self) -> Self:
        """Begin to fill it."""
        self._buffer = []
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Enqueue the rest and close it; what the block raises cancels the members that were enqueued already."""
        try:
            if error is None:
                while self._buffer:
                    self._flush(CHUNK)
        except BaseException:
            self._abandon()
            raise
        if error is not None:
            self._abandon()
            return
        self._buffer = None
        self._record = self._app.close_batch(self.id)

    async def __aenter__(self) -> Self:
        """Begin to fill it; nothing is written before the end of the block."""
        self._eager = False
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Do as the sync form does, off the loop."""
        await run_blocking(self._app.executor, lambda: self.__exit__(kind, error, trace))

    def _flush(self, number: int) -> None:
        assert self._buffer is not None
        part, self._buffer = self._buffer[:number], self._buffer[number:]
        self._app.enqueue_members(self.id, part, self._options)

    def _abandon(self) -> None:
        self._buffer = None
        self._app.cancel_batch(self.id)


class Batching(Enqueuing, Managing):
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
        several = (drafts,) if isinstance(drafts, Draft) else tuple(drafts)
        if not all(isinstance(draft, Draft) for draft in several):
            raise ConfigurationError(f"{name} takes task.job(...) or several, not {drafts!r}")
        return tuple(terms.link(self.new_job(draft), ()) for draft in several)

    def enqueue_members(
        self, batch_id: int, drafts: Iterable[Draft[Any]], options: Mapping[str, Any] | None = None
    ) -> list[Job]:
        """Store jobs as members of a batch."""
        given = {name: value for name, value in (options or {}).items() if value is not None}
        return self._insert([_member(draft, batch_id, given) for draft in drafts], None)

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
        closed = msgspec.structs.replace(batch, open=batch.open and not close)
        late = rules.COMPLETE in batch.fired
        # What the parent must know it learns before this batch is decided and ripe no more: a crash in between is made
        # good by whoever decides next.
        if batch.parent is not None and rules.ended(closed):
            if not rules.succeeded(closed):
                self._decide(batch.parent, nested=(batch_id, False))
            elif late:
                self._settle(batch.parent, close=False, nested=(batch_id, True))
        after = self._decide(batch_id, close=close, nested=nested)
        if after is None:
            return None
        if after.parent is not None and rules.ended(after) and not late:
            self._settle(after.parent, close=False)
        if rules.SUCCESS in after.fired and rules.callbacks_of(after).delete_on_success:
            self.delete_many(batch=batch_id)
        return after

    def _decide(self, batch_id: int, **given: Any) -> BatchRecord | None:
        return self.driver.change_batch(batch_id, lambda batch, now: rules.decide(batch, now, **given))

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
        """Wait until a batch has finished, and return its counts."""
        raise NotImplementedError


def _member(draft: Draft[Any], batch_id: int, given: Mapping[str, Any]) -> Draft[Any]:
    own = draft.options
    changes: dict[str, Any] = {"batch_id": batch_id}
    if own.origin is None and "origin" in given:
        changes["origin"] = given["origin"]
    if own.delay is None and own.run_at is None and "delay" in given:
        changes["delay"] = given["delay"]
    chosen = msgspec.structs.replace(own, **changes)
    return Draft(draft.task, draft.host, chosen, draft.arguments, draft.payload, then=draft.then)
