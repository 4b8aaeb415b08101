"""A batch as users hold it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, cast

from windlass.batch import BatchProgress
from windlass.offload import run_blocking
from windlass.task import Draft
from windlass.times import moment

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from types import TracebackType

    from windlass.client.batching import Batching
    from windlass.drivers.base import BatchRecord
    from windlass.times import Duration

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
        self._record = self._app.batch_record(self.id)
        return progress_of(self._record)

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

    async def ajoin(self, timeout: Duration | None = None) -> BatchProgress:
        """Await :meth:`join`."""
        return await self._app.ajoin_batch(self.id, timeout=timeout)

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


def progress_of(record: BatchRecord) -> BatchProgress:
    """Return how far a batch is."""
    return BatchProgress(
        total=record.total,
        left=record.left,
        completed=record.completed,
        dead=record.dead,
        cancelled=record.cancelled,
        nested=record.children,
        finished_at=moment(record.finished_at),
    )
