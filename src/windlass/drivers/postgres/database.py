"""The database and the connections to it: one for the pump, one that listens, a few for clients, more for transactions."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import errors
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from windlass.drivers.base import Capabilities
from windlass.drivers.postgres import schema
from windlass.drivers.postgres.bell import Listener
from windlass.drivers.postgres.connect import Connection, Connector, translated
from windlass.drivers.postgres.insert import as_json, stored
from windlass.drivers.postgres.pool import Pool
from windlass.drivers.postgres.sql import Sql
from windlass.drivers.postgres.turn import moves
from windlass.drivers.sql import unwrap
from windlass.errors import ClosedError, ConfigurationError, LeaseLostError, SchemaError, WindlassError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from windlass.drivers.base import AsyncExecute, Execute
    from windlass.job import NewJob, Record
    from windlass.lifecycle import Settlement

CLIENTS = 4
"""Connections for everything that is not the pump's."""
HOT_PATIENCE = 6.0
"""Seconds after which a turn or a heartbeat gives an unanswering connection up: well below ``lost_after``."""
TRIES = 10
"""How often a statement is tried that lost against another transaction, and a decision whose job has moved on."""


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
        self._durability = durability
        self._migrate = migrate
        self._quiet = quiet
        self._pump = Pool(self._connector, size=2, patience=HOT_PATIENCE)
        self._clients = Pool(self._connector, size=clients)
        self._transactions = Pool(self._connector, size=None, kept=clients)
        self._sql: Sql = Sql(schema or "public", prefix)
        self._store = ""
        self._opened = False
        self._pid = os.getpid()
        self._fork_lock = threading.Lock()
        self._listener = self._new_listener()

    def _new_listener(self) -> Listener:
        return Listener(self._listen_connector, self._sql.channel, self._send_ping, quiet=self._quiet)

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
        for pool in (self._pump, self._clients, self._transactions):
            pool.open()
        self._clients.put(first)
        self._listener = self._new_listener()
        self._opened = True

    def _prepare(self, connection: Connection) -> None:
        if self._schema is None:
            # Spelt out from here on: another connection's search_path may be another one.
            row = connection.execute("SELECT current_schema()").fetchone()
            if row is None or row[0] is None:
                raise ConfigurationError("no schema of this connection's search_path exists; pass schema=…")
            self._sql = Sql(row[0], self._bare)
        else:
            self._sql = Sql(self._schema, self._bare)
        found = schema.version(connection, self._sql)
        schema.refuse_newer(found)
        if found < schema.LATEST:
            if self._migrate == "check":
                schema.check(found)
            schema.migrate(connection, self._sql)
        row = connection.execute(self._sql.meta).fetchone()
        self._store = row[1] if row else ""

    def close(self) -> None:
        """Close every connection."""
        self._opened = False
        if self._pid == os.getpid():
            self._listener.close()
        for pool in (self._pump, self._clients, self._transactions):
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
            connection.execute("SELECT pg_notify(%s, %s)", (self._sql.channel, token))

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

    def adopt_adapted(self, execute: Execute) -> None:
        """Do nothing: the insert itself checks."""

    @contextmanager
    def enlist(self, connection: Any) -> Iterator[Execute]:
        """Run the insert, which is one statement: in the caller's transaction, or a transaction by itself."""

        def execute(statement: str, values: Sequence[Any] = ()) -> list[Any]:
            with _plain_cursor(connection) as cursor, _of_the_caller():
                cursor.execute(statement, values)
                return cursor.fetchall()  # type: ignore[no-any-return]

        yield execute

    # ------------------------------------------------------------------ transactions

    @contextmanager
    def transaction(self, connection: Any = None) -> Iterator[PostgresTransaction]:
        """Open a transaction on a connection of its own, or go on with the caller's."""
        self._check_open()
        if connection is not None:
            with self._borrowed(connection) as transaction:
                yield transaction
            return
        with self._transactions.lend() as own:
            own.execute("BEGIN")
            try:
                yield PostgresTransaction(own, own, self._sql, self._store)
                _check_still_open(own)
                own.execute("COMMIT")
            except BaseException:
                if not own.closed:
                    own.rollback()
                raise

    @contextmanager
    def _borrowed(self, connection: Any) -> Iterator[PostgresTransaction]:
        """Go on with a transaction of the caller's: theirs to begin, ours to end."""
        raw = self.adopt(unwrap(connection))
        end = connection if hasattr(connection, "commit") else raw
        try:
            with translated():
                if raw.autocommit and raw.pgconn.transaction_status == TransactionStatus.IDLE:
                    raw.execute("BEGIN")
            yield PostgresTransaction(raw, connection, self._sql, self._store)
            if hasattr(connection, "flush"):
                connection.flush()
            with translated():
                end.commit()
        except BaseException:
            end.rollback()
            raise


def _check_still_open(connection: Connection) -> None:
    if connection.pgconn.transaction_status == TransactionStatus.IDLE:
        raise WindlassError("the transaction was ended inside ctx.transaction(); its end is the block's")


@contextmanager
def _of_the_caller() -> Iterator[None]:
    """Say of a caller's connection without our functions that it is the wrong one."""
    try:
        with translated():
            yield
    except SchemaError as error:
        raise ConfigurationError(
            "connection= is of a database without Windlass's tables; one transaction cannot span two databases"
        ) from error


def _plain_cursor(connection: Any) -> Any:
    """Return a cursor whose rows are tuples, whatever the connection's owner has set."""
    if isinstance(connection, psycopg.Connection):
        return connection.cursor(row_factory=tuple_row)
    from psycopg2.extensions import cursor as plain

    return connection.cursor(cursor_factory=plain)


class PostgresTransaction:
    """What ``ctx.transaction()`` holds."""

    def __init__(self, own: psycopg.Connection[Any], connection: Any, sql: Sql, store: str) -> None:
        self._own = own
        self._store = store
        self._sql = sql
        self.connection = connection

    def execute(self, statement: str, parameters: Any = None) -> psycopg.Cursor[Any]:
        """Run a statement of the handler's own."""
        return self._own.execute(statement, parameters or None)

    def insert(self, jobs: Sequence[NewJob]) -> list[Record]:
        """Enqueue in this transaction."""
        with translated():
            now, ids = self._row(self._sql.enqueue, (as_json(jobs), self._store))
        return stored(jobs, ids, now)

    def settle(self, settlement: Settlement) -> None:
        """Write the end of the lease in this transaction."""
        spelt = moves([(settlement.record, settlement.transition, settlement.finished_at)])
        with translated():
            if self._settled(spelt) is not None:
                raise LeaseLostError(settlement.record.id, settlement.record.lease)

    def _settled(self, spelt: str) -> Any:
        """Move, again if others who wait for the same job deadlock with each other and this one is chosen to make room."""
        with self._own.cursor() as cursor:
            cursor.execute("SAVEPOINT windlass")
            for _ in range(TRIES):
                try:
                    return self._row(self._sql.move, (spelt, False))
                except errors.DeadlockDetected:
                    cursor.execute("ROLLBACK TO SAVEPOINT windlass")
            return self._row(self._sql.move, (spelt, False))

    def _row(self, statement: str, values: Sequence[Any]) -> Any:
        with self._own.cursor(row_factory=tuple_row) as cursor:
            return cursor.execute(statement, values).fetchone()
