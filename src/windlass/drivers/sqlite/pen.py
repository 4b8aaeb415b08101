"""The pen: one write connection for the process, and group commit.

SQLite has one writer at a time and a commit costs an fsync, so whatever waits is written together (measured: a hand-over
to a thread costs as much as the fsync).

An operation is a function of the transaction; it may run twice, so it touches nothing else.
"""

from __future__ import annotations

import random
import sqlite3
import time
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from windlass.drivers.group import Group, Ticket
from windlass.drivers.sqlite.connect import is_busy, translate
from windlass.errors import ClosedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from windlass.drivers.sqlite.tx import Tx

T = TypeVar("T")
Operation: TypeAlias = "Callable[[Tx], Any]"


class Pen(Group["Operation"]):
    """The right to write to the file."""

    def __init__(self, begin: Callable[[sqlite3.Connection], Tx], *, patience: float) -> None:
        super().__init__()
        self._begin = begin
        self._patience = patience
        self.connection: sqlite3.Connection | None = None

    def write(self, operation: Callable[[Tx], T]) -> T:
        """Run *operation* in a transaction that is committed when this returns."""
        return self.submit(operation)  # type: ignore[no-any-return]

    def common(self, error: Exception) -> Exception | None:
        """Say what hit all of a group: the file itself."""
        if type(error) in (sqlite3.OperationalError, sqlite3.DatabaseError):
            return translate(error)  # type: ignore[arg-type]
        return None

    def commit(self, group: list[Ticket[Operation]]) -> None:
        """Run the operations of *group* in one transaction."""
        connection = self.connection
        if connection is None:
            raise ClosedError
        committing = False
        try:
            take_lock(connection, self._patience)
            tx = self._begin(connection)
            for ticket in group:
                ticket.result = ticket.request(tx)  # type: ignore[misc]
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
