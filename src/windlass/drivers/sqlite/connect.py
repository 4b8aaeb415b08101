"""Opening the database file, and saying clearly why it cannot be opened."""

from __future__ import annotations

import os
import random
import sqlite3
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from windlass.drivers import patience
from windlass.errors import (
    ConfigurationError,
    ConnectionLostError,
    CorruptStoreError,
    QueryTimeoutError,
    StoreError,
    StoreFullError,
    WindlassError,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

OLDEST_SQLITE = (3, 38, 0)
"""json_each is built in since 3.38; RETURNING since 3.35."""

# SQLite's locks are not to be trusted on these, and its WAL mode needs memory shared between processes.
NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "lustre", "glusterfs", "fuse.sshfs", "fuse.glusterfs"}
)


MOMENT = 1.0
"""Seconds that opening waits for a lock: others may be making the same new file, one of them alone for an instant."""

STEPS = 10_000
"""Steps of SQLite's machine between looks at the clock."""


@contextmanager
def hurried(connection: sqlite3.Connection) -> Iterator[None]:
    """Interrupt what runs on a connection when whoever asks would wait no longer."""
    if patience.left() is None:
        yield
        return
    connection.set_progress_handler(lambda: patience.left() == 0.0, STEPS)
    try:
        with translated():
            yield
    finally:
        connection.set_progress_handler(None, STEPS)


@contextmanager
def translated() -> Iterator[None]:
    """Turn errors of the ``sqlite3`` module into Windlass's own."""
    try:
        yield
    except WindlassError:
        raise
    except sqlite3.Error as error:
        raise translate(error) from error


def translate(error: sqlite3.Error) -> StoreError:
    """Return the Windlass error that says what *error* means here."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return ConnectionLostError("the database is locked by another connection that does not let go")
    if code == sqlite3.SQLITE_INTERRUPT:
        return QueryTimeoutError()
    if code == sqlite3.SQLITE_FULL:
        return StoreFullError("no room left for the database: the disk is full")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return CorruptStoreError(
            f"the file is not a sound SQLite database ({error}); keep a copy, then try `sqlite3 FILE .recover`"
        )
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PERM):
        return ConnectionLostError(f"the database file cannot be used: {error}")
    return StoreError(str(error))


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another connection holds the lock."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def filesystem(path: Path) -> str:
    """Return the type of the file system that *path* is on, or ``""`` where that cannot be told."""
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    best, kind = "", ""
    wanted = os.path.realpath(path)
    for line in lines:
        before, _, after = line.partition(" - ")
        mount = before.split()[4].encode().decode("unicode_escape")
        inside = wanted == mount or wanted.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, after.split()[0]
    return kind


def check_place(path: Path) -> None:
    """Refuse a place where a database cannot live.

    Raises:
        ConfigurationError: the folder is missing, or on a network file system.
        ConnectionLostError: it cannot be written.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        need = ".".join(map(str, OLDEST_SQLITE))
        raise ConfigurationError(f"SQLite {need} or newer is needed; this Python has {sqlite3.sqlite_version}")
    folder = path.parent
    if not folder.is_dir():
        raise ConfigurationError(f"the folder {str(folder)!r} does not exist; create it, or give another path")
    if path.is_dir():
        raise ConfigurationError(f"{str(path)!r} is a folder; give the path of a file in it")
    kind = filesystem(path)
    if kind in NETWORK:
        raise ConfigurationError(
            f"{str(path)!r} is on a network file system ({kind}), where SQLite loses data; "
            "use a local disk, or PostgreSQL for several machines"
        )
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise ConnectionLostError(f"{str(path)!r} cannot be written by this user", passing=False)


def connect(path: str, *, durability: str, read_only: bool = False) -> sqlite3.Connection:
    """Open one connection with the settings that everything here relies on."""
    # Lock waits are ours (see Pen), so timeout=0; autocommit, because every BEGIN is written out.
    connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False, cached_statements=256)
    deadline = time.monotonic() + MOMENT
    try:
        while True:
            try:
                _set_up(connection, path, durability=durability, read_only=read_only)
            except sqlite3.OperationalError as error:
                if not is_busy(error) or time.monotonic() >= deadline:
                    raise
                time.sleep(random.uniform(0.0005, 0.0015))  # noqa: S311 - as for the lock, see Pen
            else:
                return connection
    except BaseException:
        connection.close()
        raise


def _set_up(connection: sqlite3.Connection, path: str, *, durability: str, read_only: bool) -> None:
    private = path == ":memory:"
    if not private:
        if not read_only and connection.execute("PRAGMA page_count").fetchone()[0] == 0:
            # A lone enqueue touches four pages, and each is written to the log whole: half the size, half the bytes to
            # sync. Measured: 10 % more enqueues of one, 10 % fewer of many.
            connection.execute("PRAGMA page_size = 2048")
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # only possible before the first table
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise ConfigurationError(f"the database cannot use write-ahead logging here (its mode is {mode!r})")
    synchronous = "OFF" if private else {"full": "FULL", "relaxed": "NORMAL"}[durability]
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute("PRAGMA wal_autocheckpoint = 4000")
    connection.execute(f"PRAGMA journal_size_limit = {64 << 20}")
    connection.execute("PRAGMA temp_store = MEMORY")
    if read_only:
        connection.execute("PRAGMA query_only = 1")


class Plain:
    """A connection whose rows are tuples, whatever ``row_factory`` its owner has set."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def _cursor(self) -> sqlite3.Cursor:
        cursor = self.connection.cursor()
        cursor.row_factory = None
        return cursor

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Run a statement."""
        return self._cursor().execute(statement, parameters)

    def executemany(self, statement: str, rows: Iterable[Sequence[Any]]) -> sqlite3.Cursor:
        """Run a statement for each row."""
        return self._cursor().executemany(statement, rows)
