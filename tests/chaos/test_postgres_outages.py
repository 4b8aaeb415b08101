"""Servers restart, networks break and others hold locks while jobs flow: workers go on by themselves."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.chaos import outage
from tests.chaos.ledger import stored
from tests.chaos.outage import RESUMED, ready, resumes, stops
from tests.waiting import until
from windlass import ConnectionLostError, Windlass

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

    from tests.chaos.fleet import Fleet
    from tests.chaos.traffic import Traffic
    from tests.servers.pgbouncer import PgBouncer
    from tests.servers.postgres import Postgres
    from tests.servers.proxy import Proxy
    from windlass import Outcome

    NewFleet = Callable[..., Fleet]
    NewApp = Callable[..., Windlass]
    NewTraffic = Callable[[Windlass], Traffic]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

BUSY = 20.0
"""Seconds that threads wait for a connection that others use, on however busy a machine."""


def finish(app: Windlass, url: str, fleet: Fleet, traffic: Traffic) -> dict[Outcome, int]:
    return outage.finish(app, fleet, traffic, stored=lambda: stored(url))


def test_the_server_restarts_in_every_way(
    new_postgres: Callable[..., Postgres], new_fleet: NewFleet, new_app: NewApp, traffic: NewTraffic
) -> None:
    server = new_postgres()
    app = new_app(server.url())
    app.stats()
    fleet = new_fleet(server.url(), 2, CHAOS_LOST_AFTER=15)
    ready(app, fleet)
    jobs = traffic(app)
    for stop in (lambda: server.stop("fast"), lambda: server.stop("immediate"), server.kill):
        jobs.flows()
        stop()
        stops(jobs)
        server.start()
        resumes(app)
    jobs.flows()
    assert jobs.lost
    finish(app, server.url(), fleet, jobs)


def test_all_backends_are_terminated_again_and_again(  # noqa: PLR0917 - fixtures
    new_postgres: Callable[..., Postgres],
    new_fleet: NewFleet,
    new_app: NewApp,
    traffic: NewTraffic,
    dice: random.Random,
    size: float,
) -> None:
    """Claims, settlements and enqueues lose their answers at any moment; nothing runs twice for that.

    In every other round after the commit, surely: it waits for a standby that does not exist.
    """
    server = new_postgres()
    app = new_app(server.url())
    app.stats()
    fleet = new_fleet(server.url(), 2, CHAOS_LOST_AFTER=15)
    ready(app, fleet)
    jobs = traffic(app)
    rounds = int(20 * size)
    ended = unanswered = 0
    with psycopg.connect(server.url(), autocommit=True, application_name="chaos") as connection:

        def count(what: str) -> int:
            row = connection.execute(
                f"SELECT count({what}) FROM pg_stat_activity WHERE application_name = 'windlass'"
            ).fetchone()
            assert row is not None
            return int(row[0])

        def standby(name: str) -> None:
            connection.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{name}'")
            connection.execute("SELECT pg_reload_conf()")

        for number in range(rounds):
            jobs.flows(dice.randrange(1, 20))
            if number % 2:
                standby("nobody")
                until(lambda: count("*") and count("CASE wait_event WHEN 'SyncRep' THEN 1 END") >= 2, every=0.002)
                unanswered += count("CASE wait_event WHEN 'SyncRep' THEN 1 END")
            ended += count("pg_terminate_backend(pid)")
            if number % 2:
                standby("")
    print(f"{ended} backends ended, {unanswered} commits without an answer")  # noqa: T201
    assert ended > rounds
    assert unanswered >= rounds
    resumes(app)
    finish(app, server.url(), fleet, jobs)


def test_the_pooler_and_the_server_behind_it_restart(  # noqa: PLR0917 - fixtures
    new_postgres: Callable[..., Postgres],
    new_pgbouncer: Callable[..., PgBouncer],
    new_fleet: NewFleet,
    new_app: NewApp,
    traffic: NewTraffic,
    dice: random.Random,
) -> None:
    server = new_postgres()
    bouncer = new_pgbouncer(server, server_login_retry=1)
    app = new_app(bouncer.url())
    app.stats()
    fleet = new_fleet(bouncer.url(), 2, CHAOS_LOST_AFTER=15)
    ready(app, fleet)
    jobs = traffic(app)
    for restart in (lambda: (bouncer.stop(), bouncer.start()), lambda: server.restart("immediate")):
        jobs.flows(dice.randrange(25, 50))
        restart()
        resumes(app)
    jobs.flows()
    finish(app, server.url(), fleet, jobs)


@pytest.mark.parametrize("fault", [pytest.param("both", marks=pytest.mark.soak), "replies", "old", "drop", "refuse"])
def test_the_network_fails(  # noqa: PLR0917 - fixtures
    fault: str,
    new_postgres: Callable[..., Postgres],
    new_proxy: Callable[[int], Proxy],
    new_fleet: NewFleet,
    new_app: NewApp,
    traffic: NewTraffic,
) -> None:
    server = new_postgres()
    proxy = new_proxy(server.port)
    app = new_app(server.url())
    app.stats()
    fleet = new_fleet(proxy.through(server.url()), 2, CHAOS_LOST_AFTER=45)
    ready(app, fleet)
    jobs = traffic(app)
    jobs.flows()
    match fault:
        case "both" | "replies":
            proxy.freeze("both" if fault == "both" else "replies")
            until(lambda: fleet.said.count("pump: the store is away") >= 2, timeout=90)
            proxy.thaw()
        case "old":  # as after a failover: what was connected hears nothing any more, and must find out
            proxy.freeze(new="work")
        case "drop":
            before = proxy.counts.resets
            proxy.drop_replies(times=12)
            until(lambda: proxy.counts.resets == before + 12, timeout=90)
        case "refuse":
            proxy.refuse()
            proxy.reset()
            until(lambda: fleet.said.count("pump: the store is away") >= 2, timeout=90)
            jobs.flows()
            proxy.thaw()
    resumes(app)
    finish(app, server.url(), fleet, jobs)


def test_somebody_else_takes_every_connection(
    new_postgres: Callable[..., Postgres],
    new_fleet: NewFleet,
    new_app: NewApp,
    traffic: NewTraffic,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Workers go on with what they have; who comes late is told why, and a late worker gets in when there is room."""
    monkeypatch.setattr("windlass.drivers.postgres.pool.SHARE", BUSY)
    server = new_postgres(max_connections=40, superuser_reserved_connections=0)
    app = new_app(server.url())
    app.stats()
    fleet = new_fleet(server.url(), 2, CHAOS_SHARE=BUSY)
    ready(app, fleet)
    jobs = traffic(app)
    jobs.flows()
    with ExitStack() as taken:
        while True:
            try:
                taken.enter_context(psycopg.connect(server.url()))
            except psycopg.OperationalError:
                break
        newcomer = new_app(server.url())  # has no connection, and none to wait for
        with pytest.raises(ConnectionLostError, match="too many clients"):
            newcomer.stats()
        fleet.start()
        until(lambda: "worker: the store is away" in fleet.said)
        assert fleet.said.count("too many clients") == 1
        # Neither threads of a client nor a worker's heart fail while another has the connection that there is.
        with ThreadPoolExecutor(8) as threads:
            assert len(list(threads.map(lambda _: app.stats(), range(100)))) == 100
        jobs.flows(100)
        resumes(app)
    assert newcomer.stats().completed
    until(lambda: sum(worker.status == "running" for worker in newcomer.driver.workers()) == 3)
    assert fleet.said.count("too many clients") == 1
    resumes(newcomer)
    finish(newcomer, server.url(), fleet, jobs)


@contextmanager
def failing_over(
    new_postgres: Callable[..., Postgres], new_fleet: NewFleet, new_app: NewApp, traffic: NewTraffic
) -> Iterator[tuple[Postgres, Postgres, Traffic]]:
    """Give a server and its standby, which takes over within the block, while jobs flow by a URL with both."""
    first = new_postgres(synchronous_standby_names="*")
    with first.standby(synchronous_standby_names="") as second:
        url = (
            f"postgresql://postgres@127.0.0.1:{first.port},127.0.0.1:{second.port}/postgres"
            "?target_session_attrs=read-write"
        )
        app = new_app(url)
        app.stats()
        fleet = new_fleet(url, 2, CHAOS_LOST_AFTER=15)
        ready(app, fleet)
        jobs = traffic(app)
        jobs.flows()
        yield first, second, jobs
        resumes(app)
        jobs.flows()
        finish(app, second.url(), fleet, jobs)


def test_a_standby_takes_over(
    new_postgres: Callable[..., Postgres], new_fleet: NewFleet, new_app: NewApp, traffic: NewTraffic
) -> None:
    """Of a URL with two hosts the one that writes is found, also when it has changed."""
    with failing_over(new_postgres, new_fleet, new_app, traffic) as (first, second, jobs):
        first.kill()
        stops(jobs)
        second.promote()


def test_a_server_that_becomes_read_only_is_left(
    new_postgres: Callable[..., Postgres], new_fleet: NewFleet, new_app: NewApp, traffic: NewTraffic
) -> None:
    """Its sessions live on when it is demoted in place; they are of no use any more."""
    with failing_over(new_postgres, new_fleet, new_app, traffic) as (first, second, jobs):
        first.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        first.execute("SELECT pg_reload_conf()")
        stops(jobs)
        (place,) = first.execute("SELECT pg_current_wal_flush_lsn()")[0]
        until(lambda: second.execute(f"SELECT pg_last_wal_replay_lsn() >= '{place}'") == [(True,)])
        second.promote()


def test_transactions_of_others_stay_open(
    new_postgres: Callable[..., Postgres], new_fleet: NewFleet, new_app: NewApp, traffic: NewTraffic
) -> None:
    """Readers, writers, and one with a job of its own: the rest flows on, and that job appears with its commit."""
    server = new_postgres()
    app = new_app(server.url())
    app.stats()
    fleet = new_fleet(server.url(), 2, CHAOS_LOST_AFTER=15)
    ready(app, fleet)
    jobs = traffic(app)
    server.execute("CREATE TABLE theirs (id int)")
    with psycopg.connect(server.url()) as reader, psycopg.connect(server.url()) as writer:
        with psycopg.connect(server.url()) as enqueuer:
            reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            reader.execute("SELECT count(*) FROM windlass_ready")
            writer.execute("INSERT INTO theirs VALUES (1)")
            own = [app.enqueue("in_thread", {"length": 0}, connection=enqueuer).id for _ in range(5)]
            jobs.flows(100)
            resumes(app)
            assert not set(own) & {line["job"] for line in fleet.notes()}
            enqueuer.rollback()
            own = [app.enqueue("in_thread", {"length": 0}, connection=enqueuer).id for _ in range(5)]
            jobs.flows(50)
            resumes(app)
            assert not set(own) & {line["job"] for line in fleet.notes()}
            enqueuer.commit()
        until(lambda: set(own) <= {line["job"] for line in fleet.notes()}, timeout=RESUMED)
        jobs.acknowledged += own
        finish(app, server.url(), fleet, jobs)


def test_a_table_is_locked_for_longer_than_patience(
    new_postgres: Callable[..., Postgres], new_fleet: NewFleet, new_app: NewApp, traffic: NewTraffic
) -> None:
    """Statements that are given up are taken back: they do not pile up, and nothing is done for nobody in the end."""
    server = new_postgres()
    app = new_app(server.url())
    app.stats()
    fleet = new_fleet(server.url(), 2, CHAOS_LOST_AFTER=45)
    ready(app, fleet)
    jobs = traffic(app)
    jobs.flows(50)
    with psycopg.connect(server.url()) as connection:
        connection.execute("LOCK TABLE windlass_running IN ACCESS EXCLUSIVE MODE")
        seen: set[int] = set()

        def given_up() -> bool:
            seen.update(now := _waiting(server))
            return len(seen) >= 8 and len(now) < 8

        until(given_up, timeout=90)
    resumes(app)
    finish(app, server.url(), fleet, jobs)


def _waiting(server: Postgres) -> set[int]:
    """Return the backends of ours that wait for a lock."""
    rows = server.execute(
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'windlass' AND wait_event_type = 'Lock'"
    )
    return {row[0] for row in rows}
