"""What a handler is given: its job, and the ways to talk to its worker."""

from __future__ import annotations

import contextvars
import threading
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from windlass import carrying, notes
from windlass.errors import NotSupportedError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from types import TracebackType

    from windlass.job import Job, Record
    from windlass.notes import Scribe
    from windlass.task import Draft


class Host(Protocol):
    """What a context needs of the application and worker behind it."""

    carried: dict[str, contextvars.ContextVar[Any]]

    def wrap(self, record: Record) -> Job:
        """Show a record as a job."""

    def enqueue_draft(self, draft: Draft[Any], *, connection: Any = None) -> Job:
        """Store a draft."""

    def attempt_transaction(self, context: Context, connection: Any) -> AbstractContextManager[AttemptTransaction]:
        """Open the transaction that ends the attempt."""


class AttemptTransaction(Protocol):
    """An open ``ctx.transaction()``."""

    connection: Any

    def execute(self, statement: str, parameters: Any = ()) -> Any:
        """Run a statement of the handler's own in the transaction."""

    def enqueue(self, draft: Draft[Any]) -> Job:
        """Enqueue a child that appears if and when the transaction commits."""

    def result(self, value: Any) -> None:
        """Set the job's result."""


_current: contextvars.ContextVar[Context] = contextvars.ContextVar("windlass_context")


def current() -> Context:
    """Return the context of the attempt that runs here; outside of one, a detached context."""
    found = _current.get(None)
    return found if found is not None else Context(None, None)


def attempting(host: object) -> bool:
    """Whether an attempt at one of *host*'s jobs runs here."""
    context = _current.get(None)
    return context is not None and context.record is not None and context.belongs_to(host)


class Context:
    """The handler's view of its attempt.

    A plain call of a task gets a detached one: it has no job, and nothing it is told is kept.
    """

    __slots__ = ("_cancelled", "_host", "_record", "_stopping", "chunk", "ended", "scribe", "transaction_")

    def __init__(
        self,
        record: Record | None,
        host: Host | None,
        *,
        stopping: threading.Event | None = None,
        chunk: tuple[Record, ...] = (),
    ) -> None:
        self._record = record
        self._host = host
        self._cancelled: threading.Event | None = None
        self._stopping = stopping
        self.chunk = chunk
        """The jobs of a chunk: one call is for all of them."""
        self.ended = False
        """Whether ``transaction()`` has settled the attempt already."""
        self.transaction_: AttemptTransaction | None = None
        self.scribe: Scribe | None = None
        """Takes down what the handler tells; without one it is not kept."""

    @property
    def host(self) -> Host | None:
        """The application; a child process finds it only after the job has come."""
        return self._host

    @host.setter
    def host(self, host: Host | None) -> None:
        self._host = host

    @property
    def detached(self) -> bool:
        """Whether this is a plain call, with no job behind it."""
        return self._record is None

    @property
    def job(self) -> Job:
        """The job as it was claimed; of a chunk the first.

        Raises:
            NotSupportedError: this is a plain call.
        """
        if self._record is None or self._host is None:
            raise NotSupportedError("a plain call of a task has no job")
        return self._host.wrap(self._record)

    @property
    def jobs(self) -> tuple[Job, ...]:
        """All jobs that this call is for, in the order of its arguments: several in a chunk, else one."""
        if self.chunk and self._host is not None:
            return tuple(map(self._host.wrap, self.chunk))
        return (self.job,)

    @property
    def record(self) -> Record | None:
        """The stored job, as drivers see it."""
        return self._record

    def belongs_to(self, host: object) -> bool:
        """Whether its job is one of that application's."""
        return self._host is host

    @property
    def attempt(self) -> int:
        """The number of this try, from 1; 0 in a plain call."""
        return self._record.attempt if self._record else 0

    @property
    def lease(self) -> int:
        """A number that grows with every claim: pass it to outside systems as a fencing token; 0 in a plain call."""
        return self._record.lease if self._record else 0

    @property
    def cancelled(self) -> threading.Event:
        """Set when the handler should stop now: cancelled, out of time, or its lease is lost."""
        # Made on first use: most handlers never look.
        if self._cancelled is None:
            self._cancelled = threading.Event()
        return self._cancelled

    @property
    def stopping(self) -> threading.Event:
        """Set when the worker has begun to stop; there is still ``grace`` left."""
        if self._stopping is None:
            self._stopping = threading.Event()
        return self._stopping

    def progress(self, done: float, total: float | None = None, note: str = "") -> None:
        """Tell how far the job is: ``job.progress`` has the newest, everywhere. Never waits for the store.

        Raises:
            ValueError: a number is not finite.
        """
        encoded = notes.encoded(done, total, note)
        if self._record is not None and self.scribe is not None and not self.ended:
            for record in self.chunk or (self._record,):
                self.scribe.progress(record, encoded)

    def log(self, text: str) -> None:
        """Add a line to the job's own log: ``job.lines()`` reads it. Never waits for the store.

        A line is cut to 8 KiB, and the last 1,000 of a job are kept.
        """
        if self._record is not None and self.scribe is not None and not self.ended:
            for record in self.chunk or (self._record,):
                self.scribe.log(record, notes.trimmed(text))

    def enqueue(self, draft: Draft[Any]) -> Job:
        """Enqueue a child, ``task.job(...)``; inside ``transaction()`` it belongs to that."""
        if self.transaction_ is not None:
            return self.transaction_.enqueue(draft)
        return (self._host or draft.host).enqueue_draft(draft)

    def transaction(self, *, connection: Any = None) -> _TransactionBlock:
        """Commit the handler's own writes, its children, its result and its completion together, or nothing.

        Use as ``with`` or ``async with``. Leaving the block ends the attempt: whatever the handler does afterwards
        changes nothing. An exception inside rolls everything back and fails the attempt as usual.

        Raises:
            NotSupportedError: the store has no transactions, or this is a plain call.
            LeaseLostError: at the end, when the job has moved on; nothing was written.
        """
        if self._host is None or self._record is None:
            raise NotSupportedError("a plain call has no job to complete; ctx.transaction() needs a worker")
        if self.chunk:
            raise NotSupportedError("a chunk is several jobs, and ctx.transaction() completes one")
        if self.ended:
            raise NotSupportedError("this attempt was completed by an earlier ctx.transaction()")
        return _TransactionBlock(self, self._host.attempt_transaction(self, connection))

    @contextmanager
    def entered(self) -> Iterator[Context]:
        """Make this the current context for a block."""
        token = _current.set(self)
        tokens = self._load()
        try:
            yield self
        finally:
            carrying.leave(tokens)
            _current.reset(token)

    def enter(self) -> None:
        """Make this the current context for good; for code that runs in contextvars of its own."""
        _current.set(self)
        self._load()

    def _load(self) -> list[contextvars.Token[Any]]:
        """Set what the job carries from where it was enqueued."""
        if self._record is None:
            return []
        return carrying.enter(self._record, self._host.carried if self._host is not None else {})


_turns: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = weakref.WeakKeyDictionary()


class _TransactionBlock:
    """``ctx.transaction()``: a sync and an async context manager over the same transaction."""

    def __init__(self, context: Context, inner: AbstractContextManager[AttemptTransaction]) -> None:
        self._context = context
        self._inner = inner

    def __enter__(self) -> AttemptTransaction:
        transaction = self._inner.__enter__()
        self._context.transaction_ = transaction
        return transaction

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self._context.transaction_ = None
        return self._inner.__exit__(kind, error, trace)

    # SQLite has no async interface; the block is short by design, and runs on the handlers' own loop.
    async def __aenter__(self) -> AttemptTransaction:
        # The handlers of one loop take turns: one that waited in the loop's thread would keep the other from ending.
        import asyncio

        turn = self._turn = _turns.setdefault(asyncio.get_running_loop(), asyncio.Lock())
        await turn.acquire()
        try:
            return self.__enter__()
        except BaseException:
            turn.release()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        try:
            return self.__exit__(kind, error, trace)
        finally:
            self._turn.release()
