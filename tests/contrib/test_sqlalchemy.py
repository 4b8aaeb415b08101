"""SQLAlchemy on SQLite: jobs in the session's transaction, sessions in the job's.

The same on PostgreSQL is in tests/drivers/test_postgres_connections.py and tests/worker/test_postgres_transactions.py.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, scoped_session, sessionmaker

from windlass import Context, Windlass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy import Engine


class Base(DeclarativeBase):
    """Of the shop's models."""


class Order(Base):
    """One of a kind, so that a second effect is an error."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    item: Mapped[str]


class OwnSession(Session):
    """A session class from elsewhere, as SQLModel and Flask-SQLAlchemy have."""


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = create_engine(f"sqlite:///{tmp_path}/shop.db")
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Windlass]:
    with Windlass(f"sqlite:///{tmp_path}/shop.db", backoff=0, max_attempts=2, poll=0.05) as app:
        app.register("pack", lambda order: None, queue="elsewhere")
        app.migrate()
        yield app


SESSIONS: dict[str, Callable[[Engine], Any]] = {
    "Session": Session,
    "a session class of one's own": OwnSession,
    "sessionmaker": lambda engine: sessionmaker(engine)(),
    "scoped_session": lambda engine: closing(scoped_session(sessionmaker(engine))),
}
any_session = pytest.mark.parametrize("make", SESSIONS.values(), ids=SESSIONS)


def orders(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(text("SELECT count(*) FROM orders")).scalar_one())


@any_session
def test_a_commit_leaves_exactly_one_job_and_a_rollback_none(
    app: Windlass, engine: Engine, make: Callable[[Engine], Any]
) -> None:
    with make(engine) as session:
        for end in (session.rollback, session.commit):
            order = Order(item="rope")
            session.add(order)
            session.flush()
            app.enqueue("pack", {"order": order.id}, connection=session)
            end()
    assert (app.count(task="pack"), orders(engine)) == (1, 1)


def test_a_connection_s_transaction_decides(app: Windlass, engine: Engine) -> None:
    with engine.connect() as connection:
        app.enqueue("pack", {"order": 1}, connection=connection)
        connection.rollback()
    with engine.begin() as connection:
        app.enqueue("pack", {"order": 2}, connection=connection)
    assert [job.payload for job in app.jobs()] == [{"order": 2}]


def test_a_savepoint_takes_its_job_along(app: Windlass, engine: Engine) -> None:
    with Session(engine) as session:
        session.add(Order(item="rope"))
        session.flush()
        savepoint = session.begin_nested()
        app.enqueue("pack", {"order": 1}, connection=session)
        savepoint.rollback()
        app.enqueue("pack", {"order": 2}, connection=session)
        session.commit()
    assert [job.payload for job in app.jobs()] == [{"order": 2}]


@any_session
def test_a_session_s_writes_and_the_completion_are_one_commit(
    app: Windlass, engine: Engine, make: Callable[[Engine], Any]
) -> None:
    """The first attempt fails after its writes, and nothing of it is left; the second leaves everything once."""

    def run(ctx: Context) -> None:
        with make(engine) as session, ctx.transaction(connection=session) as tx:
            session.add(Order(id=1, item="rope"))
            session.flush()
            tx.enqueue(app.tasks["pack"].job(1))
            tx.result({"order": 1})
            if ctx.attempt == 1:
                raise ConnectionResetError

    app.register("run", run)
    job = app.enqueue("run", {})
    with app.worker(concurrency=1):
        assert job.join(timeout=30) == {"order": 1}
    assert (job.refresh().attempt, job.refresh().failures) == (2, 1)
    assert (app.count(task="pack"), orders(engine)) == (1, 1)
