"""Group commit: what meets in one process is written together.

There is no writer thread: a caller who finds the right to write free takes it and writes for everybody who waits, then
hands it on. A lone caller thus pays no switch of threads, and thirty-two callers share one commit. See
``docs/adr/0003-group-commit.md``.
"""

from __future__ import annotations

import threading
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from windlass import shield

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from windlass.job import NewJob, Record

R = TypeVar("R")

GROUP = 512
"""Requests written in one transaction at most."""


class Ticket(Generic[R]):
    """One waiting request."""

    __slots__ = ("done", "error", "lock", "request", "result", "written")

    def __init__(self, request: R | None) -> None:
        self.request = request
        self.done = False
        self.written = False
        self.result: Any = None
        self.error: BaseException | None = None
        self.lock = threading.Lock()
        self.lock.acquire()

    def answer(self) -> Any:
        """Return the result, or raise the error."""
        if self.error is not None:
            raise self.error
        return self.result


class Group(Generic[R]):
    """The right to write, handed from caller to caller."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._waiting: deque[Ticket[R]] = deque()
        self._held = False
        self._holder: int | None = None
        self.commits = 0

    def commit(self, group: list[Ticket[R]]) -> None:
        """Write the requests of *group* in one transaction: all or none; set their results and ``written``."""
        raise NotImplementedError

    def common(self, error: Exception) -> Exception | None:
        """Return what to raise to the whole group if *error* is no single request's fault, else ``None``."""
        raise NotImplementedError

    def submit(self, request: R) -> Any:
        """Have a request written; it is committed when this returns."""
        ticket = Ticket(request)
        with shield.mine():
            if not self._queue(ticket):
                self._lead(ticket)
        return ticket.answer()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the right for the length of a block: nobody else in this process writes."""
        ticket: Ticket[R] = Ticket(None)
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
        """Whether the calling thread holds it, so that writing again would wait for itself for ever."""
        return self._holder == threading.get_ident()

    def _queue(self, ticket: Ticket[R]) -> bool:
        """Wait for the right; True when somebody else has written the ticket meanwhile."""
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

    def _await(self, ticket: Ticket[R]) -> None:
        """Sleep until the ticket is written, or until it is its turn to lead."""
        try:
            ticket.lock.acquire()
        except BaseException:  # Ctrl-C: the right must not be handed to somebody who has left
            with self._mutex:
                left = ticket in self._waiting
                if left:
                    self._waiting.remove(ticket)
            if not left:
                ticket.lock.acquire()
                if not ticket.done:
                    self._hand_on()
            raise

    def _lead(self, ticket: Ticket[R]) -> None:
        group = [ticket]
        with self._mutex:
            # An exclusive ticket has no request; it must lead itself, so a group stops before it.
            while self._waiting and len(group) < GROUP and self._waiting[0].request is not None:
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

    def _write(self, group: list[Ticket[R]]) -> None:
        try:
            self.commit(group)
        except Exception as error:  # noqa: BLE001 - it is handed to the callers it belongs to
            shared = error if len(group) == 1 else self.common(error)
            if shared is not None:
                for ticket in group:
                    ticket.error = shared
                return
            # One bad request must not spoil its neighbours: give each a transaction of its own.
            for ticket in group:
                self._write([ticket])
            return
        self.commits += 1


def store_together(
    group: Sequence[Ticket[Sequence[NewJob]]], store: Callable[[Sequence[NewJob]], Sequence[Record]]
) -> None:
    """Have the jobs of all tickets stored by one call of *store*, and give each ticket its own."""
    records = store([job for ticket in group for job in ticket.request or ()])
    place = 0
    for ticket in group:
        number = len(ticket.request or ())
        ticket.result = records[place : place + number]
        ticket.written = True
        place += number
