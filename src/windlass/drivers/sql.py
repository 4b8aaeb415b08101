"""What the SQL stores share: an insert on a connection that belongs to the caller.

The insert is a generator of statements (``Driver.insertion``); here it is run on whatever the caller has. The caller's
transaction decides: nothing is committed that the caller has begun.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence

    from windlass.drivers.base import Driver
    from windlass.job import NewJob, Record


def is_async(connection: Any) -> bool:
    """Whether a connection or session is used with ``await``."""
    if hasattr(connection, "run_sync"):  # SQLAlchemy's AsyncSession and AsyncConnection
        return True
    return inspect.iscoroutinefunction(getattr(connection, "execute", None)) or hasattr(connection, "__aenter__")


def unwrap(connection: Any) -> Any:
    """Return the driver's own connection inside a SQLAlchemy or Django object; others as they are."""
    module = type(connection).__module__
    if module.startswith("sqlalchemy."):
        if hasattr(connection, "get_bind") and hasattr(connection, "connection"):  # a Session
            connection = connection.connection()
        _join(connection)
        return connection.connection.driver_connection
    if module.startswith("django."):
        connection.ensure_connection()
        return connection.connection
    return connection


def _join(connection: Any) -> None:
    """Let SQLAlchemy know that its transaction has begun; else its ``commit()`` would have nothing to commit."""
    if not connection.in_transaction():
        connection.exec_driver_sql("SELECT 1")


def insert_on(driver: Driver, connection: Any, jobs: Sequence[NewJob]) -> list[Record]:
    """Run the insert on a sync connection of the caller's.

    Raises:
        TypeError: it is an async connection, or of another store.
    """
    if is_async(connection):
        raise TypeError("connection= is an async one; use the awaitable twin (aenqueue)")
    return _run(driver, driver.adopt(unwrap(connection)), jobs)


async def ainsert_on(driver: Driver, connection: Any, jobs: Sequence[NewJob]) -> list[Record]:
    """Run the insert on an async connection of the caller's, in the caller's own loop.

    Raises:
        TypeError: it is a sync connection, or of a kind that is not known.
    """
    if not is_async(connection):
        raise TypeError("connection= is a sync one; use the blocking form (enqueue)")
    if hasattr(connection, "run_sync"):
        return await connection.run_sync(lambda inner: _run_adapted(driver, inner, jobs))  # type: ignore[no-any-return]
    raise TypeError(f"connection= of type {type(connection).__qualname__} is not known; pass SQLAlchemy's")


def _run(driver: Driver, connection: sqlite3.Connection, jobs: Sequence[NewJob]) -> list[Record]:
    """Run the insert on a sqlite3 connection: our own transaction when none is open, else a savepoint."""

    def execute(sql: str, values: Sequence[Any] = ()) -> list[Any]:
        cursor = connection.cursor()
        cursor.row_factory = None  # the caller's own shape of rows is none of ours
        return cursor.execute(sql, values).fetchall()

    ours = not connection.in_transaction
    mode = getattr(connection, "autocommit", None)  # since Python 3.12; a bool unless it is the older way
    autocommit = mode if isinstance(mode, bool) else connection.isolation_level is None
    execute("BEGIN IMMEDIATE" if ours else "SAVEPOINT windlass")
    try:
        records = _drive(driver, execute, jobs)
    except BaseException:
        execute("ROLLBACK" if ours else "ROLLBACK TO windlass")
        if not ours:
            execute("RELEASE windlass")
        raise
    if not ours:
        execute("RELEASE windlass")
    elif autocommit:  # else the caller commits, as for any statement of theirs
        execute("COMMIT")
    return records


def _run_adapted(driver: Driver, inner: Any, jobs: Sequence[NewJob]) -> list[Record]:
    """Run the insert inside SQLAlchemy's ``run_sync``, where an async driver looks like a DB-API one."""
    if hasattr(inner, "get_bind") and hasattr(inner, "connection"):
        inner = inner.connection()
    _join(inner)
    adapted = inner.connection.dbapi_connection

    def execute(sql: str, values: Sequence[Any]) -> list[Any]:
        cursor = adapted.cursor()
        try:
            cursor.execute(sql, tuple(values))
            return cursor.fetchall() if cursor.description else []
        finally:
            cursor.close()

    file = execute("PRAGMA database_list", ())[0][2]
    driver.adopt_file(file)  # type: ignore[attr-defined]
    return _drive(driver, execute, jobs)


def _drive(driver: Driver, execute: Callable[[str, Sequence[Any]], list[Any]], jobs: Sequence[NewJob]) -> list[Record]:
    steps = driver.insertion(jobs)
    try:
        statement = next(steps)
        while True:
            statement = steps.send(execute(*statement))
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
