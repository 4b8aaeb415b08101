"""The GRANTs of docs/stores/postgres.md are enough, and no more than they say; its other statements run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.waiting import until
from windlass import Windlass
from windlass.errors import SchemaError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.servers.postgres import Postgres

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[2] / "docs" / "stores" / "postgres.md"
STATEMENTS = re.findall(r"```sql\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """A server of its own: roles belong to all databases."""
    from tests.servers.postgres import Postgres

    with Postgres("pg18", fsync="off") as server:
        with Windlass(server.url(), schema="jobs") as app:
            app.migrate()
        for statement in STATEMENTS:
            server.execute(statement)
        yield server


@pytest.fixture
def connect(server: Postgres) -> Iterator[Callable[[str], Windlass]]:
    made: list[Windlass] = []

    def connect(role: str) -> Windlass:
        made.append(Windlass(server.url().replace("postgres@", f"{role}@"), schema="jobs", migrate="check", backoff=0))
        made[-1].register("double", lambda number: 2 * number)
        made[-1].register("fail", _fail)
        return made[-1]

    yield connect
    for app in made:
        app.close()


def _fail() -> None:
    raise ValueError("no")


def test_the_page_has_statements() -> None:
    assert len(STATEMENTS) >= 8


def test_one_role_enqueues_and_another_works(connect: Callable[[str], Windlass]) -> None:
    web, worker = connect("shop_web"), connect("shop_worker")
    job = web.enqueue("double", {"number": 1}, tags=["run"], queue="new to the store")
    jobs = [
        job,
        *web.enqueue_many([web.tasks["double"].using(delay=n % 2, tags=["run"]).job(n) for n in range(500)]),
    ]  # by COPY
    jobs += web.enqueue_many([web.tasks["double"].using(tags=["run"]).job(n) for n in range(5)])
    with psycopg.connect(web.settings.url) as connection:
        jobs.append(web.enqueue("double", {"number": 2}, connection=connection, tags=["run"]))
    dead = web.enqueue("fail", max_attempts=2)
    with worker.worker(concurrency=4):
        until(lambda: worker.count(status="completed", tag="run") == len(jobs))
        until(lambda: worker.get(dead.id).status == "dead")
    assert worker.get(job.id).result == 2


def test_a_web_process_may_enqueue_for_days(
    connect: Callable[[str], Windlass], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may not fold the counters, which is somebody else's job then, and no reason to fail."""
    monkeypatch.setattr("windlass.drivers.postgres.enqueue.FOLD", 10)
    web = connect("shop_web")
    jobs = [web.enqueue("double", {"number": 1}) for _ in range(25)]
    assert len({job.id for job in jobs}) == 25


def test_the_enqueuing_role_can_do_nothing_else(connect: Callable[[str], Windlass]) -> None:
    web = connect("shop_web")
    job = web.enqueue("double", {"number": 1})
    for forbidden in (lambda: web.get(job.id), lambda: web.cancel(job.id), lambda: web.purge(0), web.stats, web.claim):
        with pytest.raises(StoreError, match="this role may not"):
            forbidden()


def test_the_worker_s_role_manages_jobs(connect: Callable[[str], Windlass]) -> None:
    worker = connect("shop_worker")
    job = worker.enqueue("double", {"number": 1}, tags=["x"])
    assert worker.cancel(job.id).status == "cancelled"
    assert worker.stats().cancelled >= 1
    worker.pause(queue="default")
    worker.resume(queue="default")
    assert list(worker.retry_many(ids=[job.id]).ids) == [job.id]
    worker.driver.tidy()
    assert [f for f in worker.diagnose() if f.level == "error"] == []
    assert worker.delete(job.id) is None
    claim = worker.enqueue("double", {"number": 1}, queue="by hand") and worker.claim("by hand")
    assert claim is not None
    claim.release()
    assert worker.purge(0, statuses=("cancelled", "completed", "dead")) >= 0
    assert worker.rescue() == 0


def test_the_reading_role_looks_and_changes_nothing(connect: Callable[[str], Windlass]) -> None:
    reader, worker = connect("shop_reader"), connect("shop_worker")
    job = worker.enqueue("double", {"number": 1}, tags=["x"])
    assert reader.get(job.id).task == "double"
    assert reader.count(tag="x") >= 1
    assert job.id in [found.id for found in reader.jobs(queue="default", limit=1000)]
    assert reader.stats().pending >= 1
    assert reader.throughput() is not None
    assert reader.why(job.id)
    assert [f for f in reader.diagnose() if f.level == "error"] == []
    for forbidden in (lambda: reader.enqueue("double", {"number": 1}), lambda: reader.cancel(job.id)):
        with pytest.raises(StoreError, match="this role may not"):
            forbidden()


def test_the_reading_role_s_doctor_sees_other_roles_transactions(
    connect: Callable[[str], Windlass], server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("windlass.drivers.postgres.doctor.OLD", 0.0)
    with psycopg.connect(server.url()) as forgotten:
        forgotten.execute("SELECT 'who forgot me?'")
        (found,) = [f for f in connect("shop_reader").diagnose() if f.name == "oldest transaction"]
    assert "who forgot me?" in found.value


@pytest.mark.parametrize("role", ["shop_web", "shop_worker", "shop_reader"])
def test_none_of_them_can_change_the_schema(connect: Callable[[str], Windlass], server: Postgres, role: str) -> None:
    with pytest.raises(SchemaError, match="no Windlass tables"):
        Windlass(connect(role).settings.url, schema="jobs", prefix="other", migrate="check").stats()
    with pytest.raises(SchemaError, match="may not create"):
        Windlass(connect(role).settings.url, schema="jobs", prefix="other").stats()
    with pytest.raises(SchemaError, match="may not create"):
        Windlass(connect(role).settings.url, schema="other").stats()


def test_a_role_without_the_schema_is_told_so(server: Postgres) -> None:
    server.execute("CREATE ROLE nobody_here LOGIN")
    url = server.url().replace("postgres@", "nobody_here@")
    with Windlass(url, schema="jobs") as app, pytest.raises(StoreError, match="may not"):
        app.enqueue("double", {"number": 1})
