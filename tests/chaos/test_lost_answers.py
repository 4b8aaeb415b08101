"""The connection breaks between the server's commit and our reading of it: nothing is lost, done twice or misreported."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.chaos.ledger import assert_consistent
from tests.silence import ask_nobody
from tests.waiting import until
from windlass import ConnectionLostError, Context, JobCancelled, LeaseLost, Status, Windlass
from windlass.drivers.base import Turn, Worker
from windlass.drivers.postgres import PostgresDriver, alone
from windlass.job import NewJob
from windlass.lifecycle import Settlement, succeed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.servers.databases import Databases
    from tests.servers.proxy import Proxy


@pytest.fixture
def proxy(postgres_server: Databases, new_proxy: Callable[[int], Proxy]) -> Proxy:
    with psycopg.connect(postgres_server.url()) as connection:
        return new_proxy(connection.info.port)


@pytest.fixture
def driver(postgres_url: str, proxy: Proxy) -> Iterator[PostgresDriver]:
    driver = PostgresDriver(proxy.through(postgres_url))
    driver.open()
    yield driver
    driver.close()


def turn(driver: PostgresDriver, *settlements: Settlement, limit: int = 0) -> Turn:
    return Turn(worker="w", settlements=settlements, limit=limit, start=limit, tasks=("t",))


def ends(driver: PostgresDriver, number: int) -> list[Settlement]:
    """Claim so many new jobs and return their ends."""
    driver.beat(Worker(id="w", host="h", pid=1))
    driver.insert([NewJob(task="t", queue="default", payload=b"{}") for _ in range(number)])
    claims = driver.exchange(turn(driver, limit=number)).claims
    assert len(claims) == number
    return [Settlement(record, succeed(record), driver.now()) for record in claims]


def test_an_enqueue_whose_answer_is_lost_raises_and_is_kept_whole(
    apps: tuple[Windlass, Windlass], postgres_url: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alone, "BURST", -1.0)  # each rings, so that there is one statement to prepare
    app, _ = apps
    ask_nobody(app)

    @app.task(name="t")
    def task() -> None:
        pass

    for _ in range(2):  # so that the stream is known and the statement is prepared
        app.enqueue("t")
    proxy.drop_replies()
    with pytest.raises(ConnectionLostError):
        app.enqueue("t")
    app.enqueue_many([task.job()] * 7)  # so that the statement is prepared
    proxy.drop_replies()
    with pytest.raises(ConnectionLostError):
        app.enqueue_many([task.job()] * 7)
    assert proxy.counts.resets == 2
    assert app.stats().pending == 17
    assert_consistent(postgres_url)


def test_a_settlement_whose_answer_was_lost_is_not_refused(driver: PostgresDriver, proxy: Proxy) -> None:
    settlements = ends(driver, 3)
    proxy.drop_replies()
    with pytest.raises(ConnectionLostError):
        driver.exchange(turn(driver, *settlements))
    assert driver.exchange(turn(driver, *settlements)).refused == []


def test_it_is_not_refused_either_when_the_question_whether_it_was_written_is_lost(
    driver: PostgresDriver, proxy: Proxy
) -> None:
    settlements = ends(driver, 3)
    proxy.drop_replies()
    with pytest.raises(ConnectionLostError):
        driver.exchange(turn(driver, *settlements))
    proxy.drop_replies(after=b"finished_at)")  # of the question: the parameters of its first use
    with pytest.raises(ConnectionLostError):
        driver.exchange(turn(driver, *settlements))
    assert proxy.counts.resets == 2
    assert driver.exchange(turn(driver, *settlements)).refused == []


def test_claims_are_not_lost_with_a_survey_of_the_marks(
    driver: PostgresDriver, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("windlass.drivers.postgres.marks.SURVEY", 0.0)
    driver.insert([NewJob(task="t", queue="default", payload=b"{}") for _ in range(3)])
    proxy.drop_replies(after=b"rewind, (SELECT")
    claimed = [driver.exchange(turn(driver, limit=1)).claims for _ in range(3)]
    assert proxy.counts.resets == 1
    assert [len(claims) for claims in claimed] == [1, 1, 1]


@pytest.fixture
def apps(postgres_url: str, proxy: Proxy) -> Iterator[tuple[Windlass, Windlass]]:
    """Give an application whose worker is behind the proxy, and one beside it."""
    direct = Windlass(postgres_url)
    behind = Windlass(proxy.through(postgres_url), beat=0.5, lost_after=2)
    direct.stats()
    yield behind, direct
    behind.close()
    direct.close()


@pytest.mark.slow
def test_claims_whose_answer_was_lost_come_back(apps: tuple[Windlass, Windlass], proxy: Proxy) -> None:
    behind, direct = apps
    ran: list[tuple[int, int]] = []

    @behind.task(name="marker")
    def handler(ctx: Context) -> None:
        ran.append((ctx.job.id, ctx.attempt))

    with behind.worker(concurrency=4):
        for round_ in range(5):
            before = proxy.counts.resets
            proxy.drop_replies(after=b"{marker}", times=3)
            jobs = direct.enqueue_many([handler.job()] * 8)
            until(lambda before=before: proxy.counts.resets == before + 3)
            until(lambda round_=round_: direct.stats().completed == 8 * (round_ + 1))
            assert {job.id for job in jobs} <= {job_id for job_id, _ in ran}
    assert sorted(ran) == [(job_id, 1) for job_id in sorted({job_id for job_id, _ in ran})]
    assert len(ran) == 40


def test_a_cancellation_whose_signal_was_lost_arrives_all_the_same(
    apps: tuple[Windlass, Windlass], proxy: Proxy
) -> None:
    behind, direct = apps
    running = threading.Event()

    @behind.task(name="marker")
    def handler(ctx: Context) -> None:
        running.set()
        if ctx.cancelled.wait(60):
            raise RuntimeError

    with behind.worker(concurrency=1):
        job = behind.enqueue("marker")
        assert running.wait(10)
        proxy.drop_replies(after=b"{marker}", times=4)
        until(lambda: proxy.counts.resets >= 1)
        direct.cancel(job.id)
        until(lambda: proxy.counts.resets >= 4)
        until(lambda: direct.get(job.id).status is Status.CANCELLED)


def test_a_lease_that_was_taken_away_is_noticed_though_the_signal_was_lost(
    apps: tuple[Windlass, Windlass], proxy: Proxy
) -> None:
    behind, direct = apps
    running, told = threading.Event(), threading.Event()

    @behind.task(name="marker")
    def handler(ctx: Context) -> None:
        if ctx.attempt == 1:
            running.set()
            if ctx.cancelled.wait(60):
                told.set()

    with behind.worker(concurrency=2):
        job = behind.enqueue("marker")
        assert running.wait(10)
        proxy.drop_replies(after=b"{marker}", times=4)
        until(lambda: proxy.counts.resets >= 1)
        direct.retry(job.id, force=True)
        until(lambda: proxy.counts.resets >= 4)
        until(lambda: direct.get(job.id).status is Status.COMPLETED)
        assert told.wait(10)


@pytest.mark.slow
def test_what_ends_while_the_server_is_away_is_written_when_it_is_back(
    apps: tuple[Windlass, Windlass], proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the clock was last heard long ago: knowing the time must need no server."""
    monkeypatch.setattr("windlass.drivers.postgres.driver.FRESH", -1.0)
    behind, direct = apps
    running, end = threading.Barrier(3), threading.Event()
    refused: list[LeaseLost | JobCancelled] = []
    behind.on(LeaseLost)(refused.append)

    @behind.task(name="in_thread")
    def in_thread() -> None:
        running.wait(10)
        end.wait(60)

    @behind.task(name="on_loop")
    async def on_loop() -> None:
        import asyncio

        await asyncio.to_thread(in_thread.function)

    with behind.worker(concurrency=2) as worker:
        jobs = [behind.enqueue("in_thread"), behind.enqueue("on_loop")]
        running.wait(10)
        proxy.refuse()
        proxy.reset()
        parts = worker._parts
        assert parts is not None
        until(lambda: parts.pump._backoff.failing)
        end.set()
        until(lambda: all(execution.finished for execution in parts.pump.running.values()))
        proxy.thaw()
        until(lambda: direct.stats().completed == 2)
        assert [direct.get(job.id).attempt for job in jobs] == [1, 1]
    assert refused == []


def test_a_worker_that_waits_long_between_its_tries_is_woken_when_the_server_is_back(
    apps: tuple[Windlass, Windlass], proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("windlass.worker.service.SLOWEST", 100.0)
    behind, direct = apps

    @behind.task(name="marker")
    def handler() -> None:
        pass

    with behind.worker(concurrency=1) as worker:
        assert worker._parts is not None
        pump, listener = worker._parts.pump, behind.driver._listener  # type: ignore[attr-defined]
        until(lambda: listener.hears)
        proxy.refuse()
        proxy.reset()
        until(lambda: pump._backoff.failing and not listener.hears)
        pump._backoff._failures = 20
        pump._bell.ring()
        until(lambda: pump._backoff._failures > 20)  # now it sleeps for 50 s at least
        proxy.thaw()
        job = direct.enqueue("marker")
        until(lambda: direct.get(job.id).status is Status.COMPLETED, timeout=30)
