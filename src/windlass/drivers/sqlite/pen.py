"""The pen: one write connection for the process, and group commit.

SQLite has one writer at a time and a commit costs an fsync, so whatever waits is written together. There is no writer
thread: a caller who finds the pen free takes it and writes for everybody who waits, then hands it on. A lone caller
thus pays no switch of threads (measured: a hand-over costs as much as the fsync), and thirty-two callers share one
fsync. See ``docs/adr/0003-group-commit.md``.

An operation is a function of the transaction; it may run twice, so it touches nothing else.
"""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from windlass import shield
from windlass.drivers.sqlite.connect import is_busy, translate
from windlass.errors import ClosedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from windlass.drivers.sqlite.tx import Tx

T = TypeVar("T")

GROUP = 512
"""Operations written in one transaction at most."""


class _Ticket(Generic[T]):
    """One waiting operation."""

    __slots__ = ("done", "error", "lock", "operation", "result", "written")

    def __init__(self, operation: Callable[[Tx], T] | None) -> None:
        self.operation = operation
        self.done = False
        self.written = False
        self.result: T | None = None
        self.error: BaseException | None = None
        self.lock = threading.Lock()
        self.lock.acquire()

    def answer(self) -> T:
        if self.error is not None:
            raise self.error
        return self.result  # type: ignore[return-value]


class Pen:
    """The right to write, handed from caller to caller."""

    def __init__(self, begin: Callable[[sqlite3.Connection], Tx], *, patience: float) -> None:
        self._begin = begin
        self._patience = patience
        self._mutex = threading.Lock()
        self._waiting: deque[_Ticket[Any]] = deque()
        self._held = False
        self._holder: int | None = None
        self.connection: sqlite3.Connection | None = None
        self.commits = 0

    def write(self, operation: Callable[[Tx], T]) -> T:
        """Run *operation* in a transaction that is committed when this returns."""
        ticket = _Ticket(operation)
        with shield.mine():
            if not self._queue(ticket):
                self._lead(ticket)
        return ticket.answer()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the pen for the length of a block: nobody else in this process writes."""
        ticket: _Ticket[None] = _Ticket(None)
        guard, held = shield.mine(), False
        try:
            with guard:
                self._queue(ticket)
                held = True
            yield
        finally:
            if held:
                with guard:
                    self._hand_on()

    @property
    def mine(self) -> bool:
        """Whether the calling thread holds the pen, so that writing again would wait for itself for ever."""
        return self._holder == threading.get_ident()

    def _queue(self, ticket: _Ticket[Any]) -> bool:
        """Wait for the pen; True when somebody else has written the ticket meanwhile."""
        with self._mutex:
            if self._held:
                self._waiting.append(ticket)
                first = False
            else:
                self._held = first = True
        if not first:
            self._await(ticket)
            if ticket.done:
                return True
        self._holder = threading.get_ident()
        return False

    def _await(self, ticket: _Ticket[Any]) -> None:
        """Sleep until the ticket is written, or until it is its turn to lead."""
        try:
            ticket.lock.acquire()
        except BaseException:  # Ctrl-C: the pen must not be handed to somebody who has left
            with self._mutex:
                left = ticket in self._waiting
                if left:
                    self._waiting.remove(ticket)
            if not left:
                ticket.lock.acquire()
                if not ticket.done:
                    self._hand_on()
            raise

    def _lead(self, ticket: _Ticket[Any]) -> None:
        group = [ticket]
        with self._mutex:
            # An exclusive ticket has no operation; it must lead itself, so a group stops before it.
            while self._waiting and len(group) < GROUP and self._waiting[0].operation is not None:
                group.append(self._waiting.popleft())
        try:
            self._write(group)
        except BaseException:  # Ctrl-C while writing for others: they are written by whoever leads next
            with self._mutex:
                self._waiting.extendleft(other for other in reversed(group[1:]) if not other.written)
            group[1:] = [other for other in group[1:] if other.written]
            raise
        finally:
            self._hand_on()
            for other in group[1:]:
                other.done = True
                other.lock.release()

    def _hand_on(self) -> None:
        self._holder = None
        with self._mutex:
            if self._waiting:
                self._waiting.popleft().lock.release()
            else:
                self._held = False

    def _write(self, group: list[_Ticket[Any]]) -> None:
        try:
            self._commit(group)
        except Exception as error:  # noqa: BLE001 - it is handed to the callers it belongs to
            if len(group) == 1 or type(error) in (sqlite3.OperationalError, sqlite3.DatabaseError):
                shared = translate(error) if isinstance(error, sqlite3.Error) else error
                for ticket in group:
                    ticket.error = shared
                return
            # One bad operation must not spoil its neighbours: give each a transaction of its own.
            for ticket in group:
                self._write([ticket])

    def _commit(self, group: list[_Ticket[Any]]) -> None:
        connection = self.connection
        if connection is None:
            raise ClosedError
        committing = False
        try:
            take_lock(connection, self._patience)
            tx = self._begin(connection)
            for ticket in group:
                ticket.result = ticket.operation(tx)  # type: ignore[misc]
            tx.finish()
            committing = True
            connection.execute("COMMIT")
        except BaseException as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            elif committing and not isinstance(error, sqlite3.Error):
                # Ctrl-C that came during the commit is raised after it: all is written and must not be written again.
                for ticket in group:
                    ticket.written = True
            raise
        for ticket in group:
            ticket.written = True
        self.commits += 1
        tx.committed()


def take_lock(connection: sqlite3.Connection, patience: float) -> None:
    """Begin a write transaction, waiting fairly for other processes for at most *patience* seconds."""
    # SQLite's own busy handler backs off up to 100 ms and starves some: measured p99 59 ms and up to 842 ms with eight
    # contenders, against 253 ms for a short jittered nap.
    deadline = None
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if not is_busy(error):
                raise
            now = time.monotonic()
            deadline = deadline if deadline is not None else now + patience
            if now >= deadline:
                raise
            time.sleep(random.uniform(0.0005, 0.0015))  # noqa: S311
        else:
            return
