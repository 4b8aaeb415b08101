"""``connection=`` on PostgreSQL: the job appears if and when the caller commits, whatever the caller's library is."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import asyncpg
import psycopg
import psycopg2
import psycopg2.extras
import pytest
import sqlalchemy
from psycopg.rows import dict_row
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from tests.waiting import until
from windlass import Windlass
from windlass.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator

pytestmark = pytest.mark.slow

NOTE = "INSERT INTO note VALUES ('mine')"


def work(number: int) -> None: ...


@pytest.fixture
def app(postgres_url: str) -> Iterator[Windlass]:
    """An application with a table of the caller's own beside its tables."""
    with Windlass(postgres_url, backoff=0) as app:
        app.register("work", work)
        app.migrate()
        with psycopg.connect(postgres_url) as connection:
            connection.execute("CREATE TABLE note (text text)")
        yield app


def notes(app: Windlass) -> int:
    with psycopg.connect(app.settings.url) as connection:
        return len(connection.execute("SELECT FROM note").fetchall())


# ---------------------------------------------------------------------- what callers have


class Caller:
    """A connection or session of some library, and how its owner uses it."""

    def __init__(self, connection: Any, run: Callable[[str], Any]) -> None:
        self.connection, self.run = connection, run
        self.commit, self.rollback = connection.commit, connection.rollback


@contextmanager
def _psycopg(url: str, **options: Any) -> Iterator[Caller]:
    with suppress(psycopg.errors.InFailedSqlTransaction), psycopg.connect(url, **options) as connection:
        yield Caller(connection, connection.execute)


@contextmanager
def _psycopg2(url: str, *, autocommit: bool = False, **options: Any) -> Iterator[Caller]:
    connection = psycopg2.connect(url, **options)
    connection.autocommit = autocommit
    yield Caller(connection, lambda text: connection.cursor().execute(text))
    connection.close()


def _engine(url: str, library: str) -> sqlalchemy.Engine:
    return sqlalchemy.create_engine(url.replace("postgresql:", f"postgresql+{library}:"), poolclass=NullPool)


@contextmanager
def _core(url: str, library: str = "psycopg", **options: Any) -> Iterator[Caller]:
    with _engine(url, library).connect().execution_options(**options) as connection:
        yield Caller(connection, lambda text: connection.execute(sqlalchemy.text(text)))


@contextmanager
def _orm(url: str, library: str = "psycopg") -> Iterator[Caller]:
    with Session(_engine(url, library)) as session:
        yield Caller(session, lambda text: session.execute(sqlalchemy.text(text)))


CALLERS: dict[str, Callable[[str], Any]] = {
    "psycopg": _psycopg,
    "psycopg with dictionaries": lambda url: _psycopg(url, row_factory=dict_row),
    "psycopg2": _psycopg2,
    "psycopg2 with dictionaries": lambda url: _psycopg2(url, cursor_factory=psycopg2.extras.RealDictCursor),
    "SQLAlchemy connection": _core,
    "SQLAlchemy connection on psycopg2": lambda url: _core(url, "psycopg2"),
    "SQLAlchemy session": _orm,
    "SQLAlchemy session on psycopg2": lambda url: _orm(url, "psycopg2"),
}
AUTOCOMMIT: dict[str, Callable[[str], Any]] = {
    "psycopg": lambda url: _psycopg(url, autocommit=True, row_factory=dict_row),
    "psycopg2": lambda url: _psycopg2(url, autocommit=True),
    "SQLAlchemy connection": lambda url: _core(url, isolation_level="AUTOCOMMIT"),
}

any_caller = pytest.mark.parametrize("caller", CALLERS.values(), ids=CALLERS)


# ---------------------------------------------------------------------- blocking


@any_caller
def test_a_job_appears_when_the_caller_commits(app: Windlass, caller: Callable[[str], Any]) -> None:
    with caller(app.settings.url) as mine:
        mine.run(NOTE)
        job = app.enqueue("work", {"number": 1}, connection=mine.connection, tags=["new"])
        assert (app.count(), notes(app)) == (0, 0)
        mine.commit()
        assert (app.count(), notes(app)) == (1, 1)
    assert app.get(job.id).payload == {"number": 1}
    assert app.get(job.id).tags == ("new",)


@any_caller
def test_a_job_goes_with_the_caller_s_rollback(app: Windlass, caller: Callable[[str], Any]) -> None:
    with caller(app.settings.url) as mine:
        mine.run(NOTE)
        app.enqueue("work", {"number": 1}, connection=mine.connection)
        mine.rollback()
        mine.commit()
    assert (app.count(), notes(app)) == (0, 0)


@any_caller
def test_the_enqueue_may_be_the_first_thing_in_the_transaction(app: Windlass, caller: Callable[[str], Any]) -> None:
    """SQLAlchemy begins a transaction by itself and has to know of it, or its commit would do nothing."""
    with caller(app.settings.url) as mine:
        app.enqueue("work", {"number": 1}, connection=mine.connection)
        assert app.count() == 0
        mine.commit()
        assert app.count() == 1
        app.enqueue("work", {"number": 2}, connection=mine.connection)
    assert app.count() == (2 if caller in (_psycopg, CALLERS["psycopg with dictionaries"]) else 1)  # its block commits


@pytest.mark.parametrize("caller", AUTOCOMMIT.values(), ids=AUTOCOMMIT)
def test_a_connection_that_commits_by_itself_enqueues_at_once(app: Windlass, caller: Callable[[str], Any]) -> None:
    with caller(app.settings.url) as mine:
        jobs = app.enqueue_many([app.tasks["work"].job(n) for n in range(3)], connection=mine.connection)
        assert [job.payload["number"] for job in jobs] == [0, 1, 2]
        assert app.count() == 3


@any_caller
def test_many_jobs_are_enqueued_in_the_caller_s_transaction(app: Windlass, caller: Callable[[str], Any]) -> None:
    """More than there would be for a COPY, in one statement, in order."""
    with caller(app.settings.url) as mine:
        drafts = [app.tasks["work"].using(delay=60 * (n % 2), tags=["x"]).job(n) for n in range(1000)]
        jobs = app.enqueue_many(drafts, connection=mine.connection)
        assert app.count() == 0
        mine.commit()
    assert [job.id for job in jobs] == sorted(job.id for job in jobs)
    assert [app.get(job.id).payload["number"] for job in jobs[::333]] == [0, 333, 666, 999]
    assert app.count(status="scheduled") == 500
    assert app.count(tag="x") == 1000


@pytest.mark.parametrize("autocommit", [True, False])
def test_a_psycopg_savepoint_that_is_rolled_back_takes_its_jobs_along(app: Windlass, autocommit: bool) -> None:
    with psycopg.connect(app.settings.url, autocommit=autocommit) as connection:
        with connection.transaction():
            kept = app.enqueue("work", {"number": 1}, connection=connection)
            with connection.transaction(force_rollback=True):
                app.enqueue("work", {"number": 2}, connection=connection)
            assert app.count() == 0
        assert app.count() == 1
        assert [job.id for job in app.jobs()] == [kept.id]


@pytest.mark.parametrize("library", ["psycopg", "psycopg2"])
@pytest.mark.parametrize("caller", [_core, _orm])
def test_a_nested_block_that_is_rolled_back_takes_its_jobs_along(
    app: Windlass, caller: Callable[..., Any], library: str
) -> None:
    with caller(app.settings.url, library) as mine:
        kept = app.enqueue("work", {"number": 1}, connection=mine.connection)
        nested = mine.connection.begin_nested()
        app.enqueue("work", {"number": 2}, connection=mine.connection)
        nested.rollback()
        mine.commit()
    assert [job.id for job in app.jobs()] == [kept.id]


def test_a_repeatable_read_transaction_of_the_caller_can_enqueue(app: Windlass) -> None:
    with psycopg.connect(app.settings.url) as connection:
        connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        connection.execute("SELECT FROM note")
        app.enqueue("work", {"number": 1})  # somebody else's, meanwhile
        app.enqueue("work", {"number": 2}, connection=connection)
    assert app.count() == 2


# ---------------------------------------------------------------------- awaitable


class AsyncCaller:
    """The same with ``await``."""

    def __init__(self, connection: Any, run: Callable[[str], Coroutine[Any, Any, Any]]) -> None:
        self.connection, self.run = connection, run
        self.commit, self.rollback = connection.commit, connection.rollback


@asynccontextmanager
async def _apsycopg(url: str, **options: Any) -> AsyncIterator[AsyncCaller]:
    connection = await psycopg.AsyncConnection.connect(url, **options)
    yield AsyncCaller(connection, connection.execute)
    await connection.close()


@asynccontextmanager
async def _acore(url: str, library: str) -> AsyncIterator[AsyncCaller]:
    engine = create_async_engine(url.replace("postgresql:", f"postgresql+{library}:"), poolclass=NullPool)
    async with engine.connect() as connection:
        yield AsyncCaller(connection, lambda text: connection.execute(sqlalchemy.text(text)))


@asynccontextmanager
async def _aorm(url: str, library: str) -> AsyncIterator[AsyncCaller]:
    engine = create_async_engine(url.replace("postgresql:", f"postgresql+{library}:"), poolclass=NullPool)
    async with AsyncSession(engine) as session:
        yield AsyncCaller(session, lambda text: session.execute(sqlalchemy.text(text)))


ASYNC_CALLERS: dict[str, Callable[[str], Any]] = {
    "psycopg": _apsycopg,
    "psycopg with dictionaries": lambda url: _apsycopg(url, row_factory=dict_row),
    "SQLAlchemy connection on psycopg": lambda url: _acore(url, "psycopg"),
    "SQLAlchemy connection on asyncpg": lambda url: _acore(url, "asyncpg"),
    "SQLAlchemy session on psycopg": lambda url: _aorm(url, "psycopg"),
    "SQLAlchemy session on asyncpg": lambda url: _aorm(url, "asyncpg"),
}

any_async_caller = pytest.mark.parametrize("caller", ASYNC_CALLERS.values(), ids=ASYNC_CALLERS)


@any_async_caller
def test_a_job_appears_when_the_async_caller_commits(app: Windlass, caller: Callable[[str], Any]) -> None:
    async def use() -> None:
        async with caller(app.settings.url) as mine:
            await mine.run(NOTE)
            await app.aenqueue("work", {"number": 1}, connection=mine.connection, tags=["new"])
            drafts = [app.tasks["work"].job(n) for n in range(500)]
            jobs = await app.aenqueue_many(drafts, connection=mine.connection)
            assert (app.count(), notes(app)) == (0, 0)
            await mine.commit()
            assert (app.count(), notes(app)) == (501, 1)
            assert (await app.aget(jobs[-1].id)).payload == {"number": 499}
            # First thing in a transaction.
            await app.tasks["work"].using(connection=mine.connection).aenqueue(7)
            assert app.count() == 501
            await mine.commit()
            assert app.count() == 502

    asyncio.run(use())


@any_async_caller
def test_a_job_goes_with_the_async_caller_s_rollback(app: Windlass, caller: Callable[[str], Any]) -> None:
    async def use() -> None:
        async with caller(app.settings.url) as mine:
            await mine.run(NOTE)
            await app.aenqueue("work", {"number": 1}, connection=mine.connection)
            await mine.rollback()
            await mine.commit()

    asyncio.run(use())
    assert (app.count(), notes(app)) == (0, 0)


def test_an_async_psycopg_connection_that_commits_by_itself_enqueues_at_once(app: Windlass) -> None:
    async def use() -> None:
        async with _apsycopg(app.settings.url, autocommit=True) as mine:
            await app.aenqueue("work", {"number": 1}, connection=mine.connection)
            assert app.count() == 1
            async with mine.connection.transaction(force_rollback=True):
                await app.aenqueue("work", {"number": 2}, connection=mine.connection)

    asyncio.run(use())
    assert app.count() == 1


# ---------------------------------------------------------------------- the wrong ones


@any_async_caller
def test_an_async_connection_is_refused_by_the_blocking_form(app: Windlass, caller: Callable[[str], Any]) -> None:
    async def use() -> None:
        async with caller(app.settings.url) as mine:
            with pytest.raises(TypeError, match="aenqueue"):
                app.enqueue("work", {"number": 1}, connection=mine.connection)

    asyncio.run(use())


@any_caller
def test_a_blocking_connection_is_refused_by_the_twin(app: Windlass, caller: Callable[[str], Any]) -> None:
    with caller(app.settings.url) as mine, pytest.raises(TypeError, match=r"blocking form \(enqueue\)"):
        asyncio.run(app.aenqueue("work", {"number": 1}, connection=mine.connection))


def test_asyncpg_s_own_connection_is_refused_with_what_to_pass(app: Windlass) -> None:
    async def use() -> None:
        connection = await asyncpg.connect(app.settings.url)
        with pytest.raises(TypeError, match="SQLAlchemy"):
            await app.aenqueue("work", {"number": 1}, connection=connection)
        await connection.close()

    asyncio.run(use())


@pytest.mark.parametrize("connection", [object(), "postgresql://localhost/x", 5])
def test_what_is_no_connection_is_a_type_error(app: Windlass, connection: Any) -> None:
    with pytest.raises(TypeError, match="connection="):
        app.enqueue("work", {"number": 1}, connection=connection)


@pytest.mark.parametrize("tables", [True, False], ids=["with tables", "without tables"])
@any_caller
def test_another_database_is_refused(
    app: Windlass, caller: Callable[[str], Any], tables: bool, postgres_database: Callable[[], str]
) -> None:
    """Whether it has tables of the same names or none at all; nothing is enqueued in either."""
    url = postgres_database()
    with Windlass(url) as other:
        if tables:
            other.migrate()
        with caller(url) as theirs:
            with pytest.raises(ConfigurationError, match="two"):
                app.enqueue("work", {"number": 1}, connection=theirs.connection)
            theirs.rollback()
        assert app.count() == other.count() == 0


@pytest.mark.parametrize("tables", [True, False], ids=["with tables", "without tables"])
@any_async_caller
def test_another_database_is_refused_with_await(
    app: Windlass, caller: Callable[[str], Any], tables: bool, postgres_database: Callable[[], str]
) -> None:
    url = postgres_database()

    async def use() -> None:
        async with caller(url) as theirs:
            with pytest.raises(ConfigurationError, match="two"):
                await app.aenqueue("work", {"number": 1}, connection=theirs.connection)
            await theirs.rollback()

    with Windlass(url) as other:
        if tables:
            other.migrate()
        asyncio.run(use())
        assert app.count() == other.count() == 0


# ---------------------------------------------------------------------- the worker


@any_caller
def test_a_worker_that_does_not_look_by_itself_is_woken_by_the_caller_s_commit(
    postgres_url: str, caller: Callable[[str], Any]
) -> None:
    with Windlass(postgres_url, idle="quiet") as app:
        app.register("work", work)
        with app.worker(concurrency=1):
            until(lambda: app.driver._listener.hears)  # type: ignore[attr-defined]
            with caller(postgres_url) as mine:
                job = app.enqueue("work", {"number": 1}, connection=mine.connection)
                mine.commit()
            until(lambda: app.get(job.id).status == "completed")
