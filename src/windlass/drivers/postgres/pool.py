"""A handful of open connections, lent one at a time.

Small on purpose: it opens a connection when one is missing, says at once when that fails, looks before lending whether the
server has hung up meanwhile (no round trip: a closed socket is readable), and starts anew in a forked child.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from typing import TYPE_CHECKING

import psycopg
from psycopg.pq import TransactionStatus

from windlass import shield
from windlass.drivers.postgres.connect import PATIENCE, Connection, Connector, ReadOnlyError, translate
from windlass.errors import ClosedError, ConnectionLostError

if TYPE_CHECKING:
    from types import TracebackType


class Loan:
    """A connection for the length of a block. A class, as a generator costs twice as much, and an enqueue is short."""

    __slots__ = ("_connection", "_ours", "_pool")

    def __init__(self, pool: Pool, *, ours: bool) -> None:
        self._pool = pool
        self._ours = ours

    def __enter__(self) -> Connection:
        self._connection = self._pool.acquire()
        return self._connection

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        meant = translate(error) if self._ours and isinstance(error, psycopg.Error) else None
        if isinstance(meant, ReadOnlyError):
            self._connection.close()  # another host may have become the one that writes
        self._pool.release(self._connection)
        if meant is not None:
            raise meant from error


SHARE = 1.0
"""Seconds to wait for somebody else's connection when no new one can be opened."""


class Pool:
    """At most *size* connections at once, ``None`` = no bound; the *kept* last used stay open."""

    def __init__(
        self, connector: Connector, *, size: int | None, kept: int | None = None, patience: float = PATIENCE
    ) -> None:
        self._connector = connector
        self._size = size
        self._kept = kept if kept is not None else size or 1
        self._patience = patience
        self._abandoned: list[list[Connection]] = []
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._idle: list[Connection] = []
        self._lent = 0
        self._returned = threading.Condition(threading.Lock())
        self._closed = False

    def open(self) -> None:
        """Lend again, after a close."""
        self._closed = False

    def lend(self) -> Loan:
        """Lend a connection for a block of our own, whose errors become Windlass's."""
        return Loan(self, ours=True)

    def lend_raw(self) -> Loan:
        """Lend a connection for a block of the handler's, whose errors stay what they are."""
        return Loan(self, ours=False)

    def acquire(self) -> Connection:
        """Take a connection out; for :class:`Loan`."""
        if self._pid != os.getpid():
            # The parent's connections are kept, never closed: closing would end the parent's sessions.
            self._abandoned.append(self._idle)
            self._reset()
        with self._returned:
            while self._size is not None and self._lent >= self._size and not self._closed:
                self._returned.wait()
            if self._closed:
                raise ClosedError
            self._lent += 1
            connection = self._take_idle()
        return connection if connection is not None else self._open()

    def release(self, connection: Connection) -> None:
        """Take a connection back; a broken one, or one in the middle of a transaction, is thrown away."""
        if self._pid != os.getpid():  # lent before a fork
            connection.close()
            return
        with self._returned:
            self._lent -= 1
            if (
                self._closed
                or len(self._idle) >= self._kept
                or connection.closed
                or connection.pgconn.transaction_status != TransactionStatus.IDLE
            ):
                connection.close()
            else:
                self._idle.append(connection)
            self._returned.notify()

    def put(self, connection: Connection) -> None:
        """Take over a connection that somebody else has opened."""
        connection.patience = self._patience
        self._idle.append(connection)

    def close(self) -> None:
        """Close what is idle now, and what is lent when it comes back."""
        self._closed = True
        if self._pid == os.getpid():
            with self._returned:
                while self._idle:
                    self._idle.pop().close()
                self._returned.notify_all()

    def _open(self) -> Connection:
        try:
            with shield.mine():  # an interrupted handler must not lose what it has just opened
                return self._connector.connect(patience=self._patience)
        except BaseException as error:
            # The server may have no room for another one: share those there are.
            if isinstance(error, ConnectionLostError) and (connection := self._await_idle()) is not None:
                return connection
            with self._returned:
                self._lent -= 1
                self._returned.notify()
            raise

    def _take_idle(self) -> Connection | None:
        """Return an idle connection that is good; call with the lock held."""
        while self._idle:
            connection = self._idle.pop()
            if connection.opened > self._connector.silent_at and _alive(connection):
                return connection
            connection.close()
        return None

    def _await_idle(self) -> Connection | None:
        """Wait a moment for a connection that is lent now; our own slot is taken already."""
        deadline = time.monotonic() + SHARE
        with self._returned:
            while (connection := self._take_idle()) is None:
                left = deadline - time.monotonic()
                if self._lent <= 1 or left <= 0:
                    return None
                self._returned.wait(left)
        return connection


def _alive(connection: Connection) -> bool:
    """Tell whether an idle connection is still good: a server that leaves says so, or closes the socket."""
    if connection.closed:
        return False
    poll = connection.readable
    if poll is None:
        poll = connection.readable = select.poll()
        poll.register(connection.fileno(), select.POLLIN)
    if not poll.poll(0):
        return True
    # A notice or a changed parameter is readable too.
    with contextlib.suppress(Exception):
        connection.pgconn.consume_input()
        connection.pgconn.is_busy()
        return not poll.poll(0) and connection.pgconn.status == 0
    return False
