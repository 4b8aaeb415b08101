"""Workers are told of new work: by whom, when, and what happens when the telling fails."""

from __future__ import annotations

import re
import threading
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from tests.programs import Program
from tests.servers.databases import database_of
from tests.waiting import until
from windlass import Windlass
from windlass.drivers.postgres import PostgresDriver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.servers.databases import Databases
    from tests.servers.postgres import Postgres
    from windlass.drivers.postgres.bell import ListenBell

pytestmark = pytest.mark.slow

CHANNEL = "public.windlass"


@pytest.fixture
def driver(postgres_url: str) -> Iterator[PostgresDriver]:
    driver = PostgresDriver(postgres_url)
    driver.open()
    yield driver
    driver.close()


@pytest.fixture
def bell(driver: PostgresDriver) -> Iterator[ListenBell]:
    """A bell that hears and has nothing left to ring for."""
    bell = driver.bell()
    until(lambda: bell.patience is not None)
    while bell.wait(0.2):
        pass
    yield bell
    bell.close()


class Ear:
    """A listening session of the test's own."""

    def __init__(self, url: str) -> None:
        self.connection = psycopg.connect(url, autocommit=True)
        self.connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(CHANNEL)))

    def until_marked(self, url: str) -> list[str]:
        """Return what came before a mark that is sent now: notifications arrive in the order of their commits."""
        with psycopg.connect(url, autocommit=True) as other:
            other.execute("SELECT pg_notify(%s, 'mark')", (CHANNEL,))
        heard = []
        for notification in self.connection.notifies(timeout=20):
            if notification.payload == "mark":
                return heard
            heard.append(notification.payload)
        raise AssertionError("the mark did not arrive")


@pytest.fixture
def ear(postgres_url: str) -> Iterator[Ear]:
    ear = Ear(postgres_url)
    yield ear
    ear.connection.close()


def test_a_bell_is_rung_by_another_process(bell: ListenBell, postgres_url: str, tmp_path: Path) -> None:
    program = Program("enqueue", "--url", postgres_url, "work", cwd=tmp_path)
    assert bell.wait(20)
    assert program.ends() == 0
    program.close()


def test_a_bell_is_rung_again_for_what_was_not_visible_yet(bell: ListenBell, postgres_url: str) -> None:
    with Windlass(postgres_url) as other:
        other.enqueue("work")
    assert [bell.wait(20), bell.wait(5), bell.wait(5)] == [True, True, True]
    more = 0
    while bell.wait(0.5):  # on a busy machine somebody else's ring, late
        more += 1
    assert more <= 4


def test_a_caller_s_connection_rings_when_it_commits_and_not_before(
    bell: ListenBell, ear: Ear, postgres_url: str
) -> None:
    with Windlass(postgres_url) as app, psycopg.connect(postgres_url) as connection:
        app.enqueue("work", connection=connection)
        assert ear.until_marked(postgres_url) == []
        while bell.wait(0.2):  # the mark rings too
            pass
        connection.commit()
        assert bell.wait(20)
        assert ear.until_marked(postgres_url) == [""]


def test_a_rollback_rings_nobody(ear: Ear, driver: PostgresDriver, postgres_url: str) -> None:
    with Windlass(postgres_url) as app, psycopg.connect(postgres_url) as connection:
        app.enqueue("work", connection=connection)
        connection.rollback()
    assert ear.until_marked(postgres_url) == []


def test_a_listener_whose_session_is_killed_recovers(
    bell: ListenBell, postgres_url: str, postgres_server: Databases, caplog: pytest.LogCaptureFixture
) -> None:
    """Meanwhile nobody relies on it; when it works again, an insert rings."""
    name = database_of(postgres_url)
    gate = sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS {}")
    with psycopg.connect(postgres_url, autocommit=True) as connection, Windlass(postgres_url) as other:
        other.migrate()
        postgres_server.execute(gate.format(sql.Identifier(name), sql.SQL("false")))
        try:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
                " AND pid <> pg_backend_pid() AND (query LIKE 'LISTEN%' OR query LIKE '%pg_listening_channels%')"
            )
            until(lambda: bell.patience is None)
        finally:
            postgres_server.execute(gate.format(sql.Identifier(name), sql.SQL("true")))
        until(lambda: bell.patience is not None, timeout=40)
        while bell.wait(0.2):
            pass
        other.enqueue("work")
        assert bell.wait(20)
    said = [record.getMessage() for record in caplog.records if "notifications" in record.getMessage()]
    assert len(said) == 2, said
    assert "polling until they work" in said[0]
    assert "work again" in said[1]


def test_enqueuers_do_not_queue_on_the_notification_lock(ear: Ear, postgres_url: str) -> None:
    """Of those that commit at once one rings for all, and a worker that never looks by itself sees every job."""
    ran: list[int] = []
    together = threading.Barrier(8)

    def enqueue(number: int) -> None:
        with Windlass(postgres_url) as mine:
            mine.migrate()
            together.wait()
            for place in range(50):
                mine.enqueue("work", {"number": 50 * number + place})

    with Windlass(postgres_url, idle="quiet") as app:
        app.register("work", _adder(ran))
        app.migrate()
        threads = [threading.Thread(target=enqueue, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        heard = len(ear.until_marked(postgres_url))
        assert 0 < heard < 400
        with app.worker(concurrency=4):
            until(lambda: len(ran) == 400)
    assert sorted(ran) == list(range(400))


def _adder(ran: list[int]) -> Callable[..., None]:
    def work(number: int) -> None:
        ran.append(number)

    return work


def test_no_job_is_overlooked_by_a_worker_that_is_only_told(postgres_url: str) -> None:
    """While eight commit at once: the rings that were saved are made up for by the later looks."""
    ran: list[int] = []

    def enqueue(number: int) -> None:
        with Windlass(postgres_url) as mine:
            for place in range(50):
                mine.enqueue("work", {"number": 50 * number + place})

    with Windlass(postgres_url, idle="quiet") as app:
        app.register("work", _adder(ran))
        app.migrate()
        with app.worker(concurrency=4):
            until(lambda: app.driver._listener.hears)  # type: ignore[attr-defined]
            threads = [threading.Thread(target=enqueue, args=(number,)) for number in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            until(lambda: len(ran) == 400)
    assert sorted(ran) == list(range(400))


# ---------------------------------------------------------------------- quiet


def _spoken(server: Postgres, name: str) -> list[tuple[float, str]]:
    """Return the statements of application *name* and when they were said."""
    found = re.findall(rf"^(\S+) {name} LOG: +(?:statement|execute [^:]*): *(.{{0,80}})", server.said, re.MULTILINE)
    return [(float(at), words) for at, words in found]


@pytest.mark.parametrize(("idle", "silent"), [("quiet", True), ("normal", False)])
def test_a_quiet_worker_says_nothing_while_it_is_idle_and_wakes_when_a_job_is_due(
    new_postgres: Callable[..., Postgres], idle: str, silent: bool
) -> None:
    """Neither claims nor heartbeats nor housekeeping; the worker that is not quiet shows that they would be seen."""
    server = new_postgres(log_statement="all", log_line_prefix="%n %a ")
    ran = threading.Event()
    options: dict[str, Any] = {"beat": 0.5, "lost_after": 1.5, "idle": idle}
    with (
        Windlass(f"{server.url()}?application_name=theworker", **options) as app,
        Windlass(f"{server.url()}?application_name=client") as client,
    ):
        app.register("work", lambda last: ran.set() if last else None)
        app.migrate()
        with app.worker(concurrency=2):
            until(lambda: app.driver._listener.hears)  # type: ignore[attr-defined]
            client.enqueue("work", {"last": False})
            until(lambda: client.count(status="completed") == 1)
            began = time.time()
            client.enqueue("work", {"last": True}, delay=8)
            assert ran.wait(30)
            late = time.time() - began - 8
            ran.clear()
            client.enqueue("work", {"last": True})
            assert ran.wait(20), "it is told while it waits"
            said = _spoken(server, "theworker")
    between = [(at - began, words) for at, words in said if 4 < at - began < 7.5]
    assert any("exchange" in words for _, words in said)
    assert late < 2
    assert (not between) is silent, between
