"""``ctx.transaction()`` on PostgreSQL: the handler's writes, its children, its result and its completion are one commit."""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg
import psycopg2
import pytest
import sqlalchemy
from psycopg.rows import dict_row
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from tests.waiting import until
from windlass import Context, Discard, Windlass
from windlass.errors import LeaseLostError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from windlass.job import Job

pytestmark = pytest.mark.slow

NOTE = "INSERT INTO note VALUES ('mine')"


@pytest.fixture
def app(postgres_url: str) -> Iterator[Windlass]:
    with Windlass(postgres_url, backoff=0, max_attempts=2, idle="quiet") as app:
        app.migrate()
        with psycopg.connect(postgres_url) as connection:
            connection.execute("CREATE TABLE note (text text)")
        app.register("child", lambda: None, queue="elsewhere")
        yield app


def notes(app: Windlass) -> int:
    with psycopg.connect(app.settings.url) as connection:
        return len(connection.execute("SELECT FROM note").fetchall())


def worked(app: Windlass, function: Callable[..., Any]) -> Job:
    """Run one job of *function* to its end."""
    app.register("work", function)
    job = app.enqueue("work")
    with app.worker(concurrency=1, queues="default"):
        until(lambda: app.get(job.id).finished_at)
    return app.get(job.id)


def failed(job: Job) -> str:
    assert job.status == "dead"
    assert job.error is not None
    return f"{job.error.type}: {job.error.message}"


# ---------------------------------------------------------------------- a connection of its own


@pytest.mark.parametrize("kind", ["with", "async with"])
def test_everything_in_the_block_is_committed_together(app: Windlass, kind: str) -> None:
    seen: list[tuple[int, int, str]] = []

    def block(ctx: Context, tx: Any) -> None:
        assert tx.execute("INSERT INTO note VALUES (%s) RETURNING text", ("mine",)).fetchone() == ("mine",)
        tx.enqueue(app.tasks["child"].job())
        ctx.enqueue(app.tasks["child"].job())
        tx.result({"done": True})
        seen.append((notes(app), app.count(task="child"), app.get(ctx.job.id).status))

    def sync(ctx: Context) -> str:
        with ctx.transaction() as tx:
            block(ctx, tx)
        return "too late"

    async def awaiting(ctx: Context) -> str:
        async with ctx.transaction() as tx:
            block(ctx, tx)
        return "too late"

    job = worked(app, sync if kind == "with" else awaiting)
    assert seen == [(0, 0, "running")]
    assert (notes(app), app.count(task="child")) == (1, 2)
    assert (job.status, job.result, job.attempt) == ("completed", {"done": True}, 1)


@pytest.mark.parametrize("kind", ["with", "async with"])
def test_a_block_that_fails_leaves_nothing(app: Windlass, kind: str) -> None:
    def sync(ctx: Context) -> None:
        with ctx.transaction() as tx:
            tx.execute(NOTE)
            tx.enqueue(app.tasks["child"].job())
            tx.result(1)
            raise ValueError("no")

    async def awaiting(ctx: Context) -> None:
        async with ctx.transaction() as tx:
            tx.execute(NOTE)
            tx.enqueue(app.tasks["child"].job())
            raise ValueError("no")

    job = worked(app, sync if kind == "with" else awaiting)
    assert failed(job) == "ValueError: no"
    assert (job.attempt, job.result) == (2, None)
    assert (notes(app), app.count(task="child")) == (0, 0)


def test_a_statement_that_fails_fails_the_attempt(app: Windlass) -> None:
    """PostgreSQL has given the transaction up: to go on regardless is refused by it."""

    def run(ctx: Context) -> None:
        with ctx.transaction() as tx:
            tx.execute(NOTE)
            with pytest.raises(psycopg.errors.UndefinedTable):
                tx.execute("SELECT FROM nothing")

    assert "transaction is aborted" in failed(worked(app, run))
    assert notes(app) == 0


def test_an_error_of_the_handler_s_own_statement_leaves_the_block_as_it_is(app: Windlass) -> None:
    def work(ctx: Context) -> str:
        try:
            with ctx.transaction() as tx:
                tx.execute("INSERT INTO nowhere VALUES (1)")
        except psycopg.errors.UndefinedTable:
            return "theirs"
        return "ours"

    assert worked(app, work).result == "theirs"


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_the_block_s_end_cannot_be_taken_ahead(app: Windlass, end: str) -> None:
    """The job is not completed: what the handler wrote may be gone."""

    def run(ctx: Context) -> None:
        with ctx.transaction() as tx:
            tx.execute(end)

    assert "its end is the block's" in failed(worked(app, run))


def test_a_session_that_is_committed_in_the_block_does_not_complete_the_job(app: Windlass) -> None:
    def run(ctx: Context) -> None:
        with Session(_engine(app.settings.url, "psycopg")) as session, ctx.transaction(connection=session):
            session.execute(sqlalchemy.text(NOTE))
            session.commit()

    assert "its end is the block's" in failed(worked(app, run))


def test_a_lease_that_was_taken_away_rolls_everything_back(app: Windlass) -> None:
    """The successor writes it once."""
    raised: list[BaseException] = []

    def run(ctx: Context) -> None:
        try:
            with ctx.transaction() as tx:
                tx.execute(NOTE)
                tx.enqueue(app.tasks["child"].job())
                if ctx.attempt == 1:
                    app.retry(ctx.job.id, force=True)
        except LeaseLostError as error:
            raised.append(error)
            raise

    assert worked(app, run).status == "completed"
    assert len(raised) == 1
    assert (notes(app), app.count(task="child")) == (1, 1)


def test_a_job_enqueued_in_the_block_wakes_another_worker_when_it_commits(app: Windlass) -> None:
    def run(ctx: Context) -> None:
        with ctx.transaction() as tx:
            tx.enqueue(app.tasks["child"].job())

    app.register("work", run)
    with Windlass(app.settings.url, idle="quiet") as other:
        other.register("child", lambda: None)
        with other.worker(concurrency=1), app.worker(concurrency=1, queues="default"):
            until(lambda: other.driver._listener.hears)  # type: ignore[attr-defined]
            app.enqueue("work")
            until(lambda: app.count(status="completed") == 2)


# ---------------------------------------------------------------------- the caller's


def _engine(url: str, library: str) -> sqlalchemy.Engine:
    return sqlalchemy.create_engine(url.replace("postgresql:", f"postgresql+{library}:"), poolclass=NullPool)


def _psycopg2(url: str, *, autocommit: bool) -> Any:
    connection = psycopg2.connect(url)
    connection.autocommit = autocommit
    return closing(connection)


LENDERS: dict[str, Callable[[str], Any]] = {
    "psycopg": psycopg.connect,
    "psycopg that commits by itself": lambda url: psycopg.connect(url, autocommit=True, row_factory=dict_row),
    "psycopg2": lambda url: _psycopg2(url, autocommit=False),
    "psycopg2 that commits by itself": lambda url: _psycopg2(url, autocommit=True),
    "SQLAlchemy session": lambda url: Session(_engine(url, "psycopg")),
    "SQLAlchemy session on psycopg2": lambda url: Session(_engine(url, "psycopg2")),
    "SQLAlchemy connection": lambda url: _engine(url, "psycopg").connect(),
    "SQLAlchemy connection that commits by itself": lambda url: (
        _engine(url, "psycopg").connect().execution_options(isolation_level="AUTOCOMMIT")
    ),
}

any_lender = pytest.mark.parametrize("lend", LENDERS.values(), ids=LENDERS)


@any_lender
@pytest.mark.parametrize("kind", ["with", "async with"])
def test_the_caller_s_connection_is_committed_with_the_job(
    app: Windlass, lend: Callable[[str], Any], kind: str
) -> None:
    seen: list[tuple[int, str]] = []

    def block(ctx: Context, tx: Any, connection: Any) -> None:
        tx.execute("INSERT INTO note VALUES (%s)", ("mine",))
        if isinstance(connection, Session):
            connection.execute(sqlalchemy.text("INSERT INTO note VALUES (:text)"), {"text": "mine"})
        tx.enqueue(app.tasks["child"].job())
        tx.result(7)
        assert tx.connection is connection
        seen.append((notes(app), app.get(ctx.job.id).status))

    def sync(ctx: Context) -> None:
        with lend(app.settings.url) as connection, ctx.transaction(connection=connection) as tx:
            block(ctx, tx, connection)

    async def awaiting(ctx: Context) -> None:
        with lend(app.settings.url) as connection:
            async with ctx.transaction(connection=connection) as tx:
                block(ctx, tx, connection)

    job = worked(app, sync if kind == "with" else awaiting)
    assert seen == [(0, "running")]
    assert (job.status, job.result) == ("completed", 7)
    assert notes(app) == (2 if "session" in lend_name(lend) else 1)
    assert app.count(task="child") == 1


def lend_name(lend: Callable[[str], Any]) -> str:
    return next(name for name, one in LENDERS.items() if one is lend)


@any_lender
def test_what_fails_on_the_caller_s_connection_is_rolled_back_with_the_job(
    app: Windlass, lend: Callable[[str], Any]
) -> None:
    def run(ctx: Context) -> None:
        with lend(app.settings.url) as connection, ctx.transaction(connection=connection) as tx:
            tx.execute(NOTE)
            tx.enqueue(app.tasks["child"].job())
            raise ValueError("no")

    assert failed(worked(app, run)) == "ValueError: no"
    assert (notes(app), app.count(task="child")) == (0, 0)


def test_a_session_is_flushed_before_the_end(app: Windlass) -> None:
    """What an ORM keeps for later is part of the block."""
    table = sqlalchemy.Table(
        "note", sqlalchemy.MetaData(), sqlalchemy.Column("text", sqlalchemy.Text, primary_key=True)
    )
    registry = sqlalchemy.orm.registry()

    class Note:
        text: str

    registry.map_imperatively(Note, table)

    def run(ctx: Context) -> None:
        with Session(_engine(app.settings.url, "psycopg")) as session, ctx.transaction(connection=session):
            note = Note()
            note.text = "mine"
            session.add(note)

    assert worked(app, run).status == "completed"
    assert notes(app) == 1


def test_a_connection_of_another_store_is_refused_before_anything_is_settled(
    app: Windlass, postgres_database: Callable[[], str]
) -> None:
    """Another store has jobs and leases of the same numbers."""
    url = postgres_database()
    with Windlass(url) as other, psycopg.connect(url, autocommit=True) as elsewhere:
        other.register("work", lambda: None)
        theirs = other.enqueue("work")
        claim = other.claim()
        assert claim is not None
        assert claim.job.id == theirs.id == 1

        def run(ctx: Context) -> None:
            with ctx.transaction(connection=elsewhere):
                pass

        assert "another database" in failed(worked(app, run))
        assert other.get(theirs.id).status == "running"
        claim.ack()


def test_an_async_connection_is_refused(app: Windlass) -> None:
    """The block is short and blocking; what to pass is said."""

    async def run(ctx: Context) -> None:
        engine = create_async_engine(app.settings.url.replace("postgresql:", "postgresql+psycopg:"), poolclass=NullPool)
        async with AsyncSession(engine) as session, ctx.transaction(connection=session):
            pass

    def own(ctx: Context) -> None:
        async def use() -> None:
            async with await psycopg.AsyncConnection.connect(app.settings.url) as connection:
                with ctx.transaction(connection=connection):
                    pass

        asyncio.run(use())

    assert "TypeError: ctx.transaction() takes a blocking connection" in failed(worked(app, run))
    app.unregister("work")
    assert "TypeError: ctx.transaction() takes a blocking connection" in failed(worked(app, own))


@pytest.mark.parametrize("kept", [True, False], ids=["committed", "rolled back"])
def test_what_is_told_inside_is_kept(app: Windlass, kept: bool) -> None:
    """Written with the transaction, or after it was rolled back."""

    def work(ctx: Context) -> None:
        ctx.log("before")
        with ctx.transaction():
            ctx.log("inside")
            ctx.progress(1, 2)
            if not kept:
                raise Discard("no")

    job = worked(app, work)
    assert job.status == ("completed" if kept else "dead")
    assert [line.text for line in job.lines()] == ["before", "inside"]
    assert str(job.progress) == "1/2"
