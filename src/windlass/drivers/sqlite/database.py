"""The file and its connections: one that writes, a few that read, and none that crosses a fork."""

from __future__ import annotations

import contextlib
import contextvars
import os
import sqlite3
import threading
import time
import weakref
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from windlass import shield
from windlass.drivers.base import Capabilities
from windlass.drivers.sql import unwrap
from windlass.drivers.sqlite import notes, schema
from windlass.drivers.sqlite.bell import ring_all
from windlass.drivers.sqlite.connect import Plain, check_place, connect, hurried, translate, translated
from windlass.drivers.sqlite.pen import Pen, take_lock
from windlass.drivers.sqlite.sql import Sql
from windlass.drivers.sqlite.tx import Tx
from windlass.errors import (
    ClosedError,
    ConfigurationError,
    ConnectionLostError,
    LeaseLostError,
    SchemaError,
    WindlassError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from windlass.drivers.base import AsyncExecute, Execute, Note
    from windlass.job import NewJob, Record
    from windlass.lifecycle import Settlement

T = TypeVar("T")

READERS = 4
"""Idle read connections kept open."""
PATIENCE = 30.0
"""Seconds to wait for a lock that another process holds."""


class Database:
    """A SQLite file with Windlass's tables, or a private one in memory (``path=None``)."""

    def __init__(
        self,
        path: str | Path | None,
        *,
        prefix: str = "windlass",
        durability: str = "full",
        migrate: str = "auto",
        clock: Callable[[], float] = time.time,
        patience: float = PATIENCE,
    ) -> None:
        self.path = None if path is None else Path(path).absolute()
        self.capabilities = Capabilities(
            durable=path is not None, shared=path is not None, transactions=True, atomic_bulk=True, one_machine=True
        )
        self._sql = Sql(prefix)
        self._durability = durability
        self._migrate = migrate
        self._clock = clock
        self._patience = patience
        self._shift = 0.0
        self._opened = False
        self._reset()

    def _reset(self) -> None:
        """Start with no connection: in a new driver, and in a forked child, which must not touch the parent's."""
        self._pid = os.getpid()
        self._kept: list[sqlite3.Connection] = []
        # A forgotten application must not leave files open; before the collector comes to the connections themselves.
        # Not at exit: threads of a worker that nobody stopped may still be writing then.
        weakref.finalize(self, _close_all, self._kept, self._pid).atexit = False
        self._pen = Pen(self._begin, patience=self._patience)
        self._readers: list[sqlite3.Connection] = []
        self._spare: sqlite3.Connection | None = None
        self._gate = threading.Lock()
        self._file: tuple[int, int] | None = None

    # ------------------------------------------------------------------ life

    def open(self) -> None:
        """Open the file, and create or check the schema."""
        with translated():
            if self.path is not None:
                check_place(self.path)
                if self._migrate == "check" and not self.path.exists():
                    raise SchemaError(
                        f"{str(self.path)!r} does not exist; run `windlass migrate` or use migrate='auto'"
                    )
            connection = self._connect()
            try:
                self._prepare(connection)
            except BaseException:
                self._let_go(connection)
                raise
        self._pen.connection = connection
        self._file = self._identity()
        self._opened = True

    def _prepare(self, connection: sqlite3.Connection) -> None:
        found = schema.version(connection, self._sql.prefix)
        schema.refuse_newer(found)
        if found == schema.LATEST:
            return
        if self._migrate == "check":
            schema.check(connection, self._sql.prefix)
        take_lock(connection, self._patience)
        try:
            schema.migrate(connection, self._sql.prefix)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Close every connection."""
        self._opened = False
        if self._pid != os.getpid():
            return
        # Whoever writes just now may finish.
        with contextlib.nullcontext() if self._pen.mine else self._pen.exclusive(), self._gate:
            connections = [*self._readers, self._spare, self._pen.connection]
            self._readers, self._spare, self._pen.connection = [], None, None
        for connection in connections:
            if connection is not None:
                self._let_go(connection)

    def _connect(self, *, read_only: bool = False) -> sqlite3.Connection:
        path = ":memory:" if self.path is None else str(self.path)
        with shield.mine():  # an interrupted handler must not lose what it has just opened
            connection = connect(path, durability=self._durability, read_only=read_only)
            self._kept.append(connection)
        return connection

    def _let_go(self, connection: sqlite3.Connection) -> None:
        with contextlib.suppress(ValueError):
            self._kept.remove(connection)
        connection.close()

    @property
    def commits(self) -> int:
        """Transactions written by this process."""
        return self._pen.commits

    def _ready(self) -> None:
        if not self._opened:
            raise ClosedError
        if self._pid != os.getpid():
            if self.path is None:
                raise ClosedError("a private in-memory store does not cross a fork; use a file")
            # The inherited connections are abandoned, not closed: closing would touch the parent's locks.
            self._abandoned = (self._pen, self._readers, self._spare)
            self._reset()
            with translated():
                self._pen.connection = self._connect()
            self._file = self._identity()

    def _identity(self) -> tuple[int, int] | None:
        if self.path is None:
            return None
        found = self.path.stat()
        return found.st_dev, found.st_ino

    def _check_still_there(self) -> None:
        """Refuse to go on writing into a file that nobody else can see any more."""
        if self.path is None:
            return
        try:
            found = self._identity()
        except OSError:
            found = None
        if found != self._file:
            raise ConnectionLostError(
                f"the database {str(self.path)!r} was deleted, moved or replaced while it was in use; "
                "put it back, or restart this process to go on with what is there now"
            )

    def _begin(self, connection: sqlite3.Connection | Plain) -> Tx:
        self._check_still_there()
        tx = Tx(connection, self._sql, self._clock, ring_all)
        self._shift = tx.shift
        return tx

    def _write(self, operation: Callable[[Tx], T]) -> T:
        self._ready()
        self._refuse_inside()
        try:
            return self._pen.write(operation)
        except sqlite3.Error as error:
            raise translate(error) from error

    @property
    def _inside(self) -> bool:
        """Whether the caller is in its own ``ctx.transaction()``, in whichever thread it does its work."""
        block = _block.get()
        return block is not None and block.open and block.driver is self

    def _refuse_inside(self) -> None:
        if self._inside:
            raise WindlassError(
                "this is inside ctx.transaction(), which holds the database's write lock; "
                "use tx.enqueue(...) or ctx.enqueue(...) there"
            )
        if self._pen.mine:  # waiting would be for ever: the block goes on only when this thread is free
            raise WindlassError(
                "another handler on this event loop is inside ctx.transaction(), and a blocking call would wait for it "
                "for ever; await the twin (aenqueue, ...) instead, or use `async with ctx.transaction()`"
            )

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """Lend a read connection; a private store has only the one."""
        self._ready()
        if self.path is None:
            with contextlib.nullcontext() if self._pen.mine or self._inside else self._pen.exclusive():
                assert self._pen.connection is not None
                with hurried(self._pen.connection):
                    yield self._pen.connection
            return
        with translated():
            with self._gate:
                connection = self._readers.pop() if self._readers else None
            connection = connection or self._connect(read_only=True)
            try:
                with hurried(connection):
                    yield connection
            finally:
                with self._gate:
                    keep = self._opened and len(self._readers) < READERS
                    if keep:
                        self._readers.append(connection)
                if not keep:
                    self._let_go(connection)

    def adopt(self, connection: Any) -> Any:
        """Check that *connection* is a sqlite3 connection to this file."""
        if not isinstance(connection, sqlite3.Connection):
            raise TypeError(f"connection= must be a sqlite3.Connection here, not {type(connection).__name__}")
        self.adopt_file(Plain(connection).execute("PRAGMA database_list").fetchone()[2])
        return connection

    def adopt_file(self, file: str) -> None:
        """Check that a caller's connection is of this file."""
        if self.path is None or not file or not Path(file).samefile(self.path):
            raise ConfigurationError(
                f"connection= is of {file or 'an in-memory database'!r}, but the jobs are in {str(self.path)!r}; "
                "one transaction cannot span two SQLite files"
            )

    def adopt_async(self, connection: Any) -> AsyncExecute:
        """Refuse: Python's sqlite3 has no async connections, and SQLAlchemy's are adapted."""
        raise TypeError(f"connection= of type {type(connection).__qualname__} is not known; pass SQLAlchemy's")

    def adopt_adapted(self, execute: Execute) -> Execute:
        """Check that SQLAlchemy's async connection is of this file."""
        self.adopt_file(execute("PRAGMA database_list", ())[0][2])
        return execute

    @contextmanager
    def enlist(self, connection: sqlite3.Connection) -> Iterator[Execute]:
        """Run statements in our own transaction when none is open, else in a savepoint."""

        def execute(sql: str, values: Sequence[Any] = ()) -> list[Any]:
            return Plain(connection).execute(sql, values).fetchall()  # the caller's own shape of rows is none of ours

        ours = not connection.in_transaction
        mode = getattr(connection, "autocommit", None)  # since Python 3.12; a bool unless it is the older way
        autocommit = mode if isinstance(mode, bool) else connection.isolation_level is None
        execute("BEGIN IMMEDIATE" if ours else "SAVEPOINT windlass")
        try:
            yield execute
        except BaseException:
            execute("ROLLBACK" if ours else "ROLLBACK TO windlass")
            if not ours:
                execute("RELEASE windlass")
            raise
        if not ours:
            execute("RELEASE windlass")
        elif autocommit:  # else the caller commits, as for any statement of theirs
            execute("COMMIT")

    # ------------------------------------------------------------------ transactions

    @contextmanager
    def transaction(self, connection: Any = None) -> Iterator[SqliteTransaction]:
        """Open a transaction of its own, holding the pen so that this process waits its turn; or use the caller's."""
        self._ready()
        if connection is not None:
            with self._borrowed(connection) as transaction:
                yield transaction
            return
        self._refuse_inside()
        with self._pen.exclusive():
            with translated():
                own = self._pen.connection if self.path is None else (self._spare or self._connect())
            if own is None:
                raise ClosedError
            self._spare = None
            block = _Block(self)
            _block.set(block)
            try:
                with translated():
                    take_lock(own, self._patience)
                    tx = self._begin(Plain(own))
                yield SqliteTransaction(tx, own)
                _still_open(own)
                with translated():
                    tx.finish()
                    own.execute("COMMIT")
            except BaseException:
                if own.in_transaction:
                    own.execute("ROLLBACK")
                raise
            finally:
                block.open = False
                own.row_factory = None
                if self.path is not None:
                    self._spare = own
            tx.committed()

    @contextmanager
    def _borrowed(self, connection: Any) -> Iterator[SqliteTransaction]:
        """Go on with a transaction of the caller's: theirs to begin, ours to end."""
        raw = self.adopt(unwrap(connection))
        end = connection if hasattr(connection, "commit") else raw
        try:
            with translated():
                if not raw.in_transaction:
                    take_lock(raw, self._patience)
                tx = self._begin(Plain(raw))
            yield SqliteTransaction(tx, connection)
            if hasattr(connection, "flush"):
                connection.flush()
            with translated():
                tx.finish()
                end.commit()
        except BaseException:
            end.rollback()
            raise
        tx.committed()


def _close_all(connections: list[sqlite3.Connection], pid: int) -> None:
    if pid == os.getpid():  # a forked child leaves its parent's alone
        for connection in connections:
            connection.close()


def _still_open(connection: sqlite3.Connection) -> None:
    if not connection.in_transaction:
        raise WindlassError("the transaction was ended inside ctx.transaction(); its end is the block's")


class _Block:
    """An open ``ctx.transaction()``."""

    def __init__(self, driver: Database) -> None:
        self.driver = driver
        self.open = True


# By context and not by thread: handlers take turns on one event loop, and the twins work on threads of their own.
_block: contextvars.ContextVar[_Block | None] = contextvars.ContextVar("windlass_sqlite_block", default=None)


class SqliteTransaction:
    """What ``ctx.transaction()`` holds."""

    def __init__(self, tx: Tx, connection: Any) -> None:
        self._tx = tx
        self._connection = tx.connection.connection  # type: ignore[union-attr]
        self.connection = connection

    def execute(self, statement: str, parameters: Any = ()) -> sqlite3.Cursor:
        """Run a statement of the handler's own."""
        return self._connection.execute(statement, parameters)

    def insert(self, jobs: Sequence[NewJob]) -> list[Record]:
        """Enqueue in this transaction."""
        with translated():
            records = self._tx.insert(jobs)
            self._tx.flush()
        return records

    def note(self, what: Sequence[Note]) -> None:
        """Keep progress and log lines in this transaction."""
        with translated():
            notes.write(self._tx, what)

    def settle(self, settlement: Settlement) -> None:
        """Write the end of the lease in this transaction."""
        with translated():
            if self._tx.settle([settlement]):
                raise LeaseLostError(settlement.record.id, settlement.record.lease)
            self._tx.flush()
