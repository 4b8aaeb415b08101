"""Opening connections, and saying clearly why one cannot be opened or has failed."""

from __future__ import annotations

import contextlib
import math
import re
import select
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from windlass.drivers import patience
from windlass.errors import (
    ConfigurationError,
    ConnectionLostError,
    CorruptStoreError,
    QueryTimeoutError,
    SchemaError,
    StoreError,
    StoreFullError,
    WindlassError,
)

try:
    import psycopg
    from psycopg import errors
    from psycopg.conninfo import conninfo_to_dict, make_conninfo
    from psycopg.pq import DiagnosticField, ExecStatus, Format
except ImportError as missing:
    raise ConfigurationError(
        f"PostgreSQL needs psycopg, which cannot be imported ({missing}): pip install 'windlass[postgres]'"
    ) from missing

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from psycopg.pq.abc import PGresult

T = TypeVar("T")

OLDEST_SERVER = 130000
"""pg_current_xact_id() and friends are there since 13."""
BINARY = Format.BINARY
PATIENCE = 30.0
"""Seconds that one statement of a client may take."""
TRIES = 10
"""How often a statement is tried that lost against another transaction, and a decision whose job has moved on."""
FAREWELL = 1.0
"""Seconds that taking a statement back may take."""
CONNECT = 5
"""Seconds that a connection may take to open, unless the URL says something else."""

# A peer that has vanished is noticed although nothing is being sent, and although what was sent is never acknowledged.
_DEFAULTS: dict[str, Any] = {
    "connect_timeout": CONNECT,
    "keepalives": 1,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
    "application_name": "windlass",
    "client_encoding": "UTF8",
}


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that does not wait for ever: a half-open one never answers."""

    patience: float = PATIENCE
    """Seconds that one statement may take."""
    opened = 0.0
    """When, by the monotonic clock."""
    connector: Connector | None = None
    readable: select.poll | None = None
    """Tells without a round trip whether the server has said something unasked, goodbye for instance."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._known: set[bytes] = set()
        self.streams: dict[tuple[str, str, int], bytes] = {}
        """The numbers of streams by queue, task and priority, as this server has given them."""

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **options: Any) -> T:
        """Run a conversation with the server, and hang up when it takes too long."""
        try:
            return super().wait(_bounded(gen, time.monotonic() + self.patience), *args, **options)
        except _TooLateError as error:
            self._give_up()
            raise psycopg.OperationalError(
                f"the server has not answered for {self.patience:g} s; the connection was given up"
            ) from error

    def again(self, statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Run one statement, again if it lost against another transaction: then it has done nothing."""
        for _ in range(TRIES):
            try:
                return self.execute(statement, values, binary=True).fetchall()
            except (errors.DeadlockDetected, errors.SerializationFailure):
                continue
        return self.execute(statement, values, binary=True).fetchall()

    def quick(self, name: bytes, statement: bytes, values: Sequence[bytes | None]) -> PGresult:
        """Run a statement with ``$1`` parameters as text, prepared at its first use here; answers in binary.

        Straight through libpq: for the one statement that is run alone so often that a cursor costs more than its server.
        """
        if name not in self._known:
            self.pgconn.send_prepare(name, statement)
            self._answer()
            self._known.add(name)
        self.pgconn.send_query_prepared(name, values, result_format=BINARY)
        return self._answer()

    def _answer(self) -> PGresult:
        """Wait for the answer to what was sent."""
        pgconn, last = self.pgconn, None
        until = time.monotonic() + self.patience
        while pgconn.flush():
            select.select([], [pgconn.socket], [], 0.1)
            self._check_patience(until)
        while True:
            while pgconn.is_busy():
                select.select([pgconn.socket], [], [], 0.1) if self.readable is None else self.readable.poll(100)
                self._check_patience(until)
                pgconn.consume_input()
            result = pgconn.get_result()
            if result is None:
                break
            last = result
        if last is None or last.status not in (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK):
            raise _error(last)
        return last

    def _check_patience(self, until: float) -> None:
        if time.monotonic() > until:
            self._give_up()
            raise psycopg.OperationalError(f"the server has not answered for {self.patience:g} s")

    def _give_up(self) -> None:
        """Hang up; take the statement back first: waiting for a lock, it would be carried out for nobody in the end."""
        if self.connector is not None:
            self.connector.silent_at = time.monotonic()
        with contextlib.suppress(psycopg.Error):
            if psycopg.capabilities.has_cancel_safe():
                self.cancel_safe(timeout=FAREWELL)
        self.pgconn.finish()


def _error(result: PGresult | None) -> psycopg.Error:
    """Return the error that libpq reports."""
    if result is None:
        return psycopg.OperationalError("the connection was closed")
    state = result.error_field(DiagnosticField.SQLSTATE)
    message = result.error_message.decode("utf-8", "replace").strip() if result.error_message else "unknown error"
    try:
        return errors.lookup(state.decode())(message) if state else psycopg.OperationalError(message)
    except KeyError:
        return psycopg.DatabaseError(message)


class _TooLateError(Exception):
    """The other side has gone silent."""


def _bounded(gen: Generator[Any, Any, T], deadline: float) -> Generator[Any, Any, T]:
    """Pass everything through; psycopg sends 0 each 0.1 s in which nothing happens."""
    try:
        wish = next(gen)
        while True:
            ready = yield wish
            if not ready and time.monotonic() > deadline:
                gen.close()
                raise _TooLateError
            wish = gen.send(ready)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]


class Connector:
    """Knows where the server is; makes connections that commit by themselves."""

    def __init__(self, url: str) -> None:
        try:
            given = conninfo_to_dict(url)
        except psycopg.ProgrammingError as error:
            hidden = _hidden(url)
            # libpq quotes what it does not understand, passwords included.
            secret = url.partition("://")[2].rpartition("@")[0].partition(":")[2]
            why = str(error).replace(url, hidden).replace(secret, "…") if secret else str(error)
            raise ConfigurationError(f"{hidden!r} is not a PostgreSQL URL: {why}") from None
        self.conninfo = make_conninfo(**{**_DEFAULTS, **given})
        self.prepare: int | None = 0
        """After how many uses a statement is prepared: at once, or never behind a pooler."""
        self.silent_at = -math.inf
        """When a connection was last given up because nothing came: those opened before are not to be trusted either."""

    def connect(self, *, patience: float = PATIENCE) -> Connection:
        """Open a connection.

        Raises:
            ConnectionLostError: the server cannot be reached, or does not let us in.
        """
        try:
            connection = Connection.connect(self.conninfo, autocommit=True, prepare_threshold=self.prepare)
        except psycopg.Error as error:
            raise _unreachable(error) from error
        connection.patience, connection.connector, connection.opened = patience, self, time.monotonic()
        return connection

    def look(self) -> Connection:
        """Open the first connection, and learn what is at its other end."""
        connection = self.connect()
        try:
            with translated():
                # A pooler in transaction mode gives every transaction another backend: what is prepared in one is unknown to
                # the next. It gives itself away by announcing a process that is not the backend's.
                (backend,) = connection.execute("SELECT pg_backend_pid()", prepare=False).fetchone() or (0,)
            _check_server(connection.info.server_version)
            if backend != connection.info.backend_pid:
                self.prepare = connection.prepare_threshold = None
        except BaseException:
            connection.close()
            raise
        return connection

    @property
    def pooled(self) -> bool:
        """Whether a pooler such as pgbouncer is between us and the server."""
        return self.prepare is None


# Libpq gives the server's reason in words only. Where they are not English, or are of a pooler with words of its own,
# nobody is called wrong, and a worker waits.
_WRONG = re.compile(
    r"authentication failed|no password supplied|(role|database) \".*\" does not exist|no such (user|database)|pg_hba\.conf"
)


def _unreachable(error: psycopg.Error) -> WindlassError:
    """Return the error for a connection that could not be opened; it will not pass if every host finds us wrong."""
    text = str(error)
    tried = [line for line in text.splitlines() if line.startswith("- host:")] or [text]
    if all(map(_WRONG.search, tried)):
        return ConnectionLostError(text.strip().partition("\n")[0], passing=False)
    return translate(error)


def _check_server(version: int) -> None:
    if version < OLDEST_SERVER:
        raise ConfigurationError(f"PostgreSQL 13 or newer is needed; the server is {version // 10000}")


def _hidden(url: str) -> str:
    """Return the URL without what follows the first colon of its credentials."""
    scheme, _, rest = url.partition("://")
    credentials, at, place = rest.rpartition("@")
    return f"{scheme}://{credentials.partition(':')[0]}{':…' if ':' in credentials else ''}{at}{place}"


class ReadOnlyError(ConnectionLostError):
    """The connection is of no use: its server does not write."""


@contextmanager
def translated() -> Iterator[None]:
    """Turn errors of psycopg into Windlass's own."""
    try:
        yield
    except WindlassError:
        raise
    except psycopg.Error as error:
        raise translate(error) from error


def translate(error: psycopg.Error) -> WindlassError:
    """Return the Windlass error that says what *error* means here."""
    text = str(error).strip().partition("\n")[0]
    if error.sqlstate == "WL001":
        return other_database()
    match error:
        case errors.DiskFull():
            return StoreFullError(f"no room left for the database: {text}")
        case errors.DataCorrupted() | errors.IndexCorrupted():
            return CorruptStoreError(f"the database is damaged: {text}")
        case (
            errors.UndefinedTable() | errors.UndefinedFunction() | errors.InvalidSchemaName() | errors.UndefinedColumn()
        ):
            return SchemaError(f"Windlass's tables are missing or of another release ({text}); run `windlass migrate`")
        case errors.InsufficientPrivilege():
            return StoreError(f"this role may not do that: {text}")
        case errors.ReadOnlySqlTransaction():
            return ReadOnlyError("the server is read-only: a standby that has not been promoted")
        case errors.QueryCanceled() if patience.left() is not None:
            return QueryTimeoutError()
        case (
            errors.OperationalError()
            | errors.InterfaceError()
            | errors.DeadlockDetected()
            | errors.SerializationFailure()
            | errors.QueryCanceled()
            | errors.IdleInTransactionSessionTimeout()
        ):
            return ConnectionLostError(text or "the connection to PostgreSQL was lost")
    return StoreError(text)


def other_database() -> ConfigurationError:
    """Return the error for a caller's connection that leads elsewhere."""
    return ConfigurationError(
        "connection= is of another database than the one with the jobs; one transaction cannot span two"
    )


def as_psycopg(error: Exception) -> psycopg.Error | None:
    """Return an error of psycopg2, asyncpg or SQLAlchemy as psycopg's own; ``None`` if it is none of a database."""
    error = getattr(error, "orig", None) or error
    if isinstance(error, psycopg.Error):
        return error
    state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    if state is None:
        kinds = {kind.__name__ for kind in type(error).__mro__}
        return psycopg.OperationalError(str(error)) if kinds & {"OperationalError", "InterfaceError"} else None
    try:
        return errors.lookup(state)(str(error))
    except KeyError:
        made = psycopg.DatabaseError(str(error))
        made.sqlstate = state
        return made
