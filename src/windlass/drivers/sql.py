"""What the SQL stores share: an insert on a connection that belongs to the caller.

The insert is a generator of statements (``Driver.insertion``); here it is run on whatever the caller has. The caller's
transaction decides: nothing is committed that the caller has begun.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from windlass.drivers.base import AsyncExecute, Driver, Execute, Statement
    from windlass.job import NewJob, Record

T = TypeVar("T")


def is_async(connection: Any) -> bool:
    """Whether a connection or session is used with ``await``."""
    if hasattr(connection, "run_sync"):  # SQLAlchemy's AsyncSession and AsyncConnection
        return True
    return inspect.iscoroutinefunction(getattr(connection, "execute", None)) or hasattr(connection, "__aenter__")


def unwrap(connection: Any) -> Any:
    """Return the driver's own connection inside a SQLAlchemy or Django object; others as they are."""
    if _made_by("sqlalchemy", connection):
        if hasattr(connection, "get_bind") and hasattr(connection, "connection"):  # a Session
            connection = connection.connection()
        _join(connection)
        return connection.connection.driver_connection
    if _made_by("django", connection):
        connection.ensure_connection()
        return connection.connection
    return connection


def _made_by(library: str, connection: Any) -> bool:
    """Whether its class, or one that it is derived from (SQLModel has a session of its own), is this library's."""
    return any(kind.__module__.split(".", 1)[0] == library for kind in type(connection).__mro__)


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
    with driver.enlist(driver.adopt(unwrap(connection))) as execute:
        return drive(driver.insertion(jobs), execute)


async def ainsert_on(driver: Driver, connection: Any, jobs: Sequence[NewJob]) -> list[Record]:
    """Run the insert on an async connection of the caller's, in the caller's own loop.

    Raises:
        TypeError: it is a sync connection, or of a kind that is not known.
    """
    if not is_async(connection):
        raise TypeError("connection= is a sync one; use the blocking form (enqueue)")
    if hasattr(connection, "run_sync"):
        return await connection.run_sync(lambda inner: _run_adapted(driver, inner, jobs))  # type: ignore[no-any-return]
    return await _adrive(driver, driver.adopt_async(connection), jobs)


def _run_adapted(driver: Driver, inner: Any, jobs: Sequence[NewJob]) -> list[Record]:
    """Run the insert inside SQLAlchemy's ``run_sync``, where an async driver looks like a DB-API one."""
    if hasattr(inner, "get_bind") and hasattr(inner, "connection"):
        inner = inner.connection()
    _join(inner)
    numbered = inner.dialect.paramstyle == "numeric_dollar"

    def execute(sql: str, values: Sequence[Any] = ()) -> list[Any]:
        result = inner.exec_driver_sql(_numbered(sql) if numbered else sql, tuple(values))
        return result.fetchall() if result.returns_rows else []

    return drive(driver.insertion(jobs), driver.adopt_adapted(execute))


def _numbered(sql: str) -> str:
    """Spell ``%s`` as ``$1``, ``$2``, …: asyncpg's way."""
    first, *rest = sql.split("%s")
    return first + "".join(f"${number}{part}" for number, part in enumerate(rest, 1))


def drive(steps: Generator[Statement, list[Any], T], execute: Execute) -> T:
    """Run the statements that *steps* yields."""
    try:
        statement = next(steps)
        while True:
            statement = steps.send(execute(*statement))
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]


async def _adrive(driver: Driver, execute: AsyncExecute, jobs: Sequence[NewJob]) -> list[Record]:
    steps = driver.insertion(jobs)
    try:
        statement = next(steps)
        while True:
            statement = steps.send(await execute(*statement))
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
