"""Behind PgBouncer in transaction mode everything works; notifications need the server's own address."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.servers.postgres import Postgres
from tests.waiting import until
from windlass import Windlass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.servers.databases import Databases
    from tests.servers.pgbouncer import PgBouncer

pytestmark = pytest.mark.slow


@pytest.fixture
def bouncer(postgres_server: Databases, new_pgbouncer: Callable[..., PgBouncer]) -> PgBouncer:
    """Two sessions for all clients, so that transactions of one client change the session all the time."""
    if not isinstance(postgres_server, Postgres):
        pytest.skip("the server is not ours; its address may be anything")
    return new_pgbouncer(postgres_server, default_pool_size=2)


@pytest.fixture
def url(bouncer: PgBouncer, postgres_url: str) -> str:
    return bouncer.through(postgres_url)


@pytest.fixture
def app(url: str) -> Iterator[Windlass]:
    """An application that knows nothing but the pooler's address."""
    with Windlass(url, backoff=0, poll=0.05) as app:
        app.register("double", lambda number: 2 * number)
        app.register("fail", _fail)
        yield app


def _fail() -> None:
    raise ValueError("no")


def test_the_pooler_is_noticed(app: Windlass, postgres_url: str) -> None:
    with Windlass(postgres_url) as direct:
        assert app.driver._connector.pooled  # type: ignore[attr-defined, unused-ignore]
        assert not direct.driver._connector.pooled  # type: ignore[attr-defined, unused-ignore]


def test_everything_works_without_prepared_statements(app: Windlass) -> None:
    """Each statement often enough for psycopg to have prepared it, from several threads at once."""
    jobs = [app.enqueue("double", {"number": n}, tags=["x"]) for n in range(20)]
    with ThreadPoolExecutor(8) as pool:
        jobs += pool.map(lambda n: app.enqueue("double", {"number": n}), range(200))
    jobs += app.enqueue_many([app.tasks["double"].job(n) for n in range(1000)])  # by COPY
    later = [app.enqueue("double", {"number": 1}, delay=3600) for _ in range(10)]
    bad = app.enqueue("fail", max_attempts=2)
    for job in later:
        assert app.cancel(job.id).status == "cancelled"
    with app.worker(concurrency=4):
        until(lambda: app.stats().completed == len(jobs), timeout=60)
        until(lambda: app.get(bad.id).status == "dead")
    assert app.stats().cancelled == 10
    assert [app.get(job.id).result for job in jobs[:20]] == [2 * n for n in range(20)]
    assert app.count(tag="x") == 20
    assert len(app.jobs(status="completed", limit=1000)) == 1000
    assert len(app.get(bad.id).history()) == 2
    assert app.retry(bad.id).status == "pending"
    assert app.pause(queue="default") is None
    assert app.resume(queue="default") is None
    assert app.purge(0) == len(jobs) + 10
    assert app.count() == 1
    assert app.migrate() == []


def test_a_transaction_of_the_handler_stays_on_one_session(app: Windlass, postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        connection.execute("CREATE TABLE note (pid integer)")

    def write(number: int) -> None:
        from windlass import current

        with current().transaction() as tx:
            for _ in range(5):
                tx.execute("INSERT INTO note VALUES (pg_backend_pid())")
            tx.result(number)

    app.register("write", write)
    jobs = [app.enqueue("write", {"number": n}) for n in range(20)]
    with app.worker(concurrency=4):
        until(lambda: app.stats().completed == 20)
    assert [app.get(job.id).result for job in jobs] == list(range(20))
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("SELECT count(*) FROM note").fetchone() == (100,)


def test_a_caller_s_connection_through_the_pooler_can_enqueue(app: Windlass, url: str) -> None:
    app.migrate()
    with psycopg.connect(url, prepare_threshold=None) as connection:
        app.enqueue("double", {"number": 1}, connection=connection)
        assert app.count() == 0
    assert app.count() == 1


def test_without_listen_url_the_worker_polls_and_says_so(app: Windlass, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "windlass"), app.worker(concurrency=1):
        until(lambda: app.driver._listener.trouble)  # type: ignore[attr-defined, unused-ignore]
        assert app.driver._listener.patience is None  # type: ignore[attr-defined, unused-ignore]
        job = app.enqueue("double", {"number": 1})
        until(lambda: app.get(job.id).status == "completed")
        (finding,) = [f for f in app.diagnose() if f.name == "notifications"]
    assert [r.getMessage() for r in caplog.records if "polling" in r.getMessage()]
    assert finding.level == "warning"
    assert "listen_url=" in finding.advice


def test_the_doctor_without_a_worker_names_the_pooler(app: Windlass) -> None:
    (finding,) = [f for f in app.diagnose() if f.name == "pooler"]
    assert finding.level == "note"
    assert "listen_url=" in finding.advice


def test_with_listen_url_the_worker_is_woken(url: str, postgres_url: str) -> None:
    """It does not look by itself, so it was told."""
    ran = threading.Event()
    with Windlass(url, listen_url=postgres_url, idle="quiet") as app, Windlass(url) as other:
        app.register("work", ran.set)
        with app.worker(concurrency=1):
            until(lambda: app.driver._listener.hears)  # type: ignore[attr-defined, unused-ignore]
            other.enqueue("work")
            assert ran.wait(20)
            assert {f.name: f.level for f in app.diagnose()}["pooler"] == "ok"


def test_a_pooler_that_is_restarted_is_found_again(bouncer: PgBouncer, app: Windlass) -> None:
    with app.worker(concurrency=1):
        first = app.enqueue("double", {"number": 1})
        until(lambda: app.get(first.id).status == "completed")
        bouncer.stop()
        bouncer.start()
        second = until(lambda: _enqueued(app))
        until(lambda: app.get(second).status == "completed")


def _enqueued(app: Windlass) -> int | None:
    from windlass.errors import ConnectionLostError

    try:
        return app.enqueue("double", {"number": 2}).id
    except ConnectionLostError:
        return None
