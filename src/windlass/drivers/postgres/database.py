"""The database and the connections to it: one for the pump, one that listens, a few for clients, more for transactions."""

from __future__ import annotations

import os
import threading
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import errors
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from windlass.drivers.base import LINES, Capabilities
from windlass.drivers.postgres import notes, schema
from windlass.drivers.postgres.bell import Listener
from windlass.drivers.postgres.connect import (
    TRIES,
    Connection,
    Connector,
    as_psycopg,
    other_database,
    translate,
    translated,
)
from windlass.drivers.postgres.insert import as_json
from windlass.drivers.postgres.pool import Pool
from windlass.drivers.postgres.sql import Sql
from windlass.drivers.postgres.tied import insertion
from windlass.drivers.postgres.turn import moves
from windlass.drivers.sql import drive, is_async, unwrap
from windlass.errors import (
    ClosedError,
    ConfigurationError,
    ConnectionLostError,
    LeaseLostError,
    SchemaError,
    WindlassError,
)
from windlass.settings import check_schema

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from windlass.drivers.base import AsyncExecute, Execute, Note
    from windlass.job import NewJob, Record
    from windlass.lifecycle import Settlement

CLIENTS = 4
"""Connections for everything that is not the pump's."""
REFUSED = 0
"""What a row of ``move`` says of one that was not made."""
HOT_PATIENCE = 6.0
"""Seconds after which a turn or a heartbeat gives an unanswering connection up: well below ``lost_after``."""


class Database:
    """A schema of a PostgreSQL database with Windlass's tables."""

    name = "postgres"
    capabilities = Capabilities(durable=True, shared=True, transactions=True, atomic_bulk=True, one_machine=False)

    def __init__(
        self,
        url: str,
        *,
        schema: str | None = None,
        prefix: str = "windlass",
        durability: str = "full",
        migrate: str = "auto",
        listen_url: str | None = None,
        quiet: bool = False,
        clients: int = CLIENTS,
    ) -> None:
        self._connector = Connector(url)
        self._listen_connector = Connector(listen_url) if listen_url is not None else self._connector
        self._schema, self._bare = schema, prefix
        self.durability = durability
        self._migrate = migrate
        self._quiet = quiet
        self._pump = Pool(self._connector, size=2, patience=HOT_PATIENCE)
        self.clients = Pool(self._connector, size=clients)
        self._transactions = Pool(self._connector, size=None, kept=clients)
        self.sql: Sql = Sql(schema or "public", prefix)
        self._store = ""
        self._opened = False
        self._pid = os.getpid()
        self._fork_lock = threading.Lock()
        self._listener = self._new_listener()

    @property
    def pooled(self) -> bool:
        """Whether a pooler is between us and the server."""
        return self._connector.pooled

    def _new_listener(self) -> Listener:
        return Listener(self._listen_connector, self.sql.channel, self._send_ping, quiet=self._quiet)

    # ------------------------------------------------------------------ life

    def open(self) -> None:
        """Connect, and create or check the schema."""
        first = self._connector.look()
        try:
            with translated():
                self._prepare(first)
        except BaseException:
            first.close()
            raise
        for pool in (self._pump, self.clients, self._transactions):
            pool.open()
        self.clients.put(first)
        self._listener = self._new_listener()
        self._opened = True

    def _prepare(self, connection: Connection) -> None:
        self.sql = self._located(connection)
        found = schema.version(connection, self.sql)
        schema.refuse_newer(found)
        if found < schema.LATEST:
            if self._migrate == "check":
                schema.check(found)
            schema.migrate(connection, self.sql)
        row = connection.execute(self.sql.meta).fetchone()
        self._store = row[1] if row else ""

    def _located(self, connection: Connection) -> Sql:
        """Return the statements for our schema, spelt out: another connection's search_path may be another one."""
        if self._schema is not None:
            return Sql(self._schema, self._bare)
        row = connection.execute("SELECT current_schema()").fetchone()
        if row is None or row[0] is None:
            raise ConfigurationError("no schema of this connection's search_path exists; pass schema=…")
        return Sql(check_schema("the schema of this connection's search_path", row[0]), self._bare)

    def script(self) -> str:
        """Return the statements of the missing steps; of all, when the server cannot be reached."""
        try:
            connection = self._connector.look()
        except ConnectionLostError as error:
            sql = Sql(self._schema or "public", self._bare)
            note = f"-- Every step, as the server cannot be reached: {' '.join(str(error).split())}\n"
            if self._schema is None:
                note += '-- The schema is taken to be "public"; for another say schema=… or WINDLASS_SCHEMA.\n'
            return note + schema.whole(sql)
        with closing(connection), translated():
            sql = self._located(connection)
            return schema.whole(sql, connection)

    def close(self) -> None:
        """Close every connection."""
        self._opened = False
        if self._pid == os.getpid():
            self._listener.close()
        for pool in (self._pump, self.clients, self._transactions):
            pool.close()

    def _check_open(self) -> None:
        if not self._opened:
            raise ClosedError
        if self._pid != os.getpid():
            with self._fork_lock:
                if self._pid != os.getpid():
                    self._abandoned = self._listener
                    self._listener = self._new_listener()
                    self._pid = os.getpid()

    def _send_ping(self, token: str) -> None:
        with self._pump.lend() as connection:
            connection.execute("SELECT pg_notify(%s, %s)", (self.sql.channel, token))

    # ------------------------------------------------------------------ the caller's connection

    def adopt(self, connection: Any) -> Any:
        """Check that *connection* is psycopg's; whether it is of this store, the insert itself checks."""
        if isinstance(connection, psycopg.Connection) or type(connection).__module__.startswith("psycopg2."):
            return connection
        raise TypeError(f"connection= must be a psycopg connection here, not {type(connection).__name__}")

    def adopt_async(self, connection: Any) -> AsyncExecute:
        """Check that *connection* is psycopg's."""
        if not isinstance(connection, psycopg.AsyncConnection):
            raise TypeError(
                f"connection= of type {type(connection).__qualname__} is not known; pass psycopg's or SQLAlchemy's"
            )

        async def execute(statement: str, values: Sequence[Any]) -> list[Any]:
            async with connection.cursor(row_factory=tuple_row) as cursor:
                with _of_the_caller():
                    await cursor.execute(statement, values)
                    return await cursor.fetchall()

        return execute

    def adopt_adapted(self, execute: Execute) -> Execute:
        """Return what runs statements; whether the connection is of this store, the insert itself checks."""

        def translating(statement: str, values: Sequence[Any] = ()) -> list[Any]:
            with _of_the_caller():
                return execute(statement, values)

        return translating

    @contextmanager
    def enlist(self, connection: Any) -> Iterator[Execute]:
        """Run the insert: in the caller's transaction, or a transaction by itself; what writes is one statement."""
        yield executor(connection)

    # ------------------------------------------------------------------ transactions

    @contextmanager
    def transaction(self, connection: Any = None) -> Iterator[PostgresTransaction]:
        """Open a transaction on a connection of its own, or go on with the caller's."""
        self._check_open()
        if connection is not None:
            with self._borrowed(connection) as transaction:
                yield transaction
            return
        with self._transactions.lend_raw() as own:  # the handler's own errors stay what they are
            with translated():
                own.execute("BEGIN")
            try:
                yield PostgresTransaction(own, own, self.sql, self._store)
                with translated():
                    own.execute("COMMIT")
            except BaseException:
                with suppress(psycopg.Error):  # a connection that cannot even roll back is thrown away
                    own.rollback()
                raise

    @contextmanager
    def _borrowed(self, connection: Any) -> Iterator[PostgresTransaction]:
        """Go on with a transaction of the caller's: theirs to begin, ours to end."""
        if is_async(connection):
            raise TypeError("ctx.transaction() takes a blocking connection, also in `async with`; this is an async one")
        raw = self.adopt(unwrap(connection))
        end = connection if hasattr(connection, "commit") else raw
        transaction = PostgresTransaction(raw, connection, self.sql, self._store)
        try:
            with _of_the_caller():
                if raw.autocommit and not _in_transaction(raw):
                    _run(raw, "BEGIN")
                transaction.begin()
            yield transaction
            if hasattr(connection, "flush"):
                connection.flush()
            with _of_the_caller():
                end.commit()
                if _in_transaction(raw):  # psycopg2 does not commit what it has not begun
                    _run(raw, "COMMIT")
        except BaseException:
            end.rollback()
            if not raw.closed and _in_transaction(raw):
                _run(raw, "ROLLBACK")
            raise


def executor(connection: Any) -> Execute:
    """Return what runs statements on a caller's connection."""

    def execute(statement: str, values: Sequence[Any] = ()) -> list[Any]:
        with _plain_cursor(connection) as cursor, _of_the_caller():
            cursor.execute(statement, values)
            return cursor.fetchall()  # type: ignore[no-any-return]

    return execute


def _in_transaction(connection: Any) -> bool:
    return bool(connection.info.transaction_status != TransactionStatus.IDLE)


def _run(connection: Any, statement: str) -> None:
    with _plain_cursor(connection) as cursor:
        cursor.execute(statement)


@contextmanager
def _of_the_caller() -> Iterator[None]:
    """Turn errors of whichever library it is into ours; a connection without our functions is the wrong one."""
    try:
        yield
    except WindlassError:
        raise
    except Exception as error:
        known = as_psycopg(error)
        if known is None:
            raise
        meant = translate(known)
        if isinstance(meant, SchemaError):
            meant = ConfigurationError(
                "connection= is of a database without Windlass's tables; one transaction cannot span two databases"
            )
        raise meant from error


def _plain_cursor(connection: Any) -> Any:
    """Return a cursor whose rows are tuples, whatever the connection's owner has set."""
    if isinstance(connection, psycopg.Connection):
        return connection.cursor(row_factory=tuple_row)
    from psycopg2.extensions import cursor as plain

    return connection.cursor(cursor_factory=plain)


class PostgresTransaction:
    """What ``ctx.transaction()`` holds."""

    def __init__(self, own: Any, connection: Any, sql: Sql, store: str) -> None:
        self._own = own
        self._store = store
        self._sql = sql
        self._begun: Any = None
        self.connection = connection

    def begin(self) -> None:
        """Check that the caller's connection is of this store, and remember what SQLAlchemy holds for a transaction."""
        (_, store) = self.row(self._sql.meta, ())
        if store != self._store:
            raise other_database()
        self._begun = self._root()

    def _root(self) -> Any:
        find = getattr(self.connection, "get_transaction", None)
        return None if find is None else find()

    def execute(self, statement: str, parameters: Any = None) -> Any:
        """Run a statement of the handler's own."""
        cursor = self._own.cursor()
        cursor.execute(statement, parameters or None)
        return cursor

    def insert(self, jobs: Sequence[NewJob]) -> list[Record]:
        """Enqueue in this transaction."""
        return drive(insertion(self._sql, jobs, self._store), executor(self._own))

    def note(self, told: Sequence[Note]) -> None:
        """Keep progress and log lines in this transaction."""
        with _of_the_caller():
            self.row(self._sql.note, (notes.spelt(told), LINES))

    def settle(self, settlement: Settlement) -> None:
        """Write the end of the lease in this transaction."""
        if self._root() is not self._begun or not _in_transaction(self._own):
            raise WindlassError("the transaction was ended inside ctx.transaction(); its end is the block's")
        if settlement.then:  # first, so that its batch never looks as if nothing were left
            with _of_the_caller():
                self.row(self._sql.enqueue_then, (as_json(settlement.then), self._store))
        spelt = moves([(settlement.record, settlement.transition, settlement.finished_at)])
        with _of_the_caller():
            answer = self._settled(spelt)
        if answer is not None and answer[0] == REFUSED:
            raise LeaseLostError(settlement.record.id, settlement.record.lease)

    def _settled(self, spelt: str) -> Any:
        """Move, again if others who wait for the same job deadlock with each other and this one is chosen to make room."""
        _run(self._own, "SAVEPOINT windlass")
        for _ in range(TRIES):
            try:
                return self.row(self._sql.move, (spelt, False))
            except Exception as error:
                if not isinstance(as_psycopg(error), errors.DeadlockDetected):
                    raise
                _run(self._own, "ROLLBACK TO SAVEPOINT windlass")
        return self.row(self._sql.move, (spelt, False))

    def row(self, statement: str, values: Sequence[Any]) -> Any:
        """Run a statement of ours and return its first row."""
        with _plain_cursor(self._own) as cursor:
            cursor.execute(statement, values)
            return cursor.fetchone()
