"""Twenty hosts on one PostgreSQL server: each hears what concerns it, and no more is asked than must be."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from psycopg import sql

from tests.chaos.ledger import assert_consistent
from tests.waiting import until
from windlass import Context, ShutdownTimeoutError, Status, Windlass
from windlass.drivers.postgres.bell import TRUSTED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.servers.postgres import Postgres
    from windlass.worker.worker import Worker

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

HOSTS = 20
LOOKS = 3
"""A notified worker looks at once and twice again: what was announced may not be visible yet."""


class Fleet:
    """Twenty workers, each with a driver, a bell and a heart of its own."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.starts: Counter[int] = Counter()
        self.running: Counter[int] = Counter()
        self.lock = threading.Lock()
        self.apps = [self._make() for _ in range(HOSTS)]
        self.workers: list[Worker] = [app.start(concurrency=2) for app in self.apps]

    def _make(self) -> Windlass:
        app = Windlass(self.url, beat=4, lost_after=20)

        @app.task(name="quick")
        def quick(ctx: Context) -> None:
            with self.lock:
                self.starts[ctx.job.id] += 1

        @app.task(name="long")
        def long(ctx: Context) -> None:
            with self.lock:
                self.running[ctx.job.id] += 1
            if ctx.cancelled.wait(60):
                raise InterruptedError

        return app

    @property
    def turns(self) -> int:
        return sum(worker._parts.pump.turns for worker in self.workers if worker._parts is not None)

    @property
    def hearing(self) -> bool:
        return all(app.driver._listener.hears for app in self.apps)  # type: ignore[attr-defined]

    def close(self) -> None:
        with ThreadPoolExecutor(HOSTS) as threads:
            list(threads.map(self._stop, self.workers))
        for app in self.apps:
            app.close()

    def _stop(self, worker: Worker) -> None:
        with suppress(ShutdownTimeoutError):  # where a test has failed, long jobs still run
            worker.stop(0.1)


@pytest.fixture
def server(new_postgres: Callable[..., Postgres]) -> Postgres:
    return new_postgres(max_connections=300, fsync="off", track_functions="all")


@pytest.fixture
def fleet(server: Postgres) -> Iterator[Fleet]:
    fleet = Fleet(server.url())
    yield fleet
    fleet.close()


def test_twenty_hosts_share_the_work_and_hear_the_news(
    server: Postgres, fleet: Fleet, new_app: Callable[..., Windlass]
) -> None:
    app = new_app(server.url())
    until(lambda: fleet.hearing)

    # One job wakes all that are idle, for a bounded number of turns, and is claimed once.
    rounds = 10
    before, began = fleet.turns, time.monotonic()
    for number in range(1, rounds + 1):
        job = app.enqueue("quick")
        until(lambda job=job: app.get(job.id).status is Status.COMPLETED)
        assert fleet.starts[job.id] == 1
        assert len(fleet.starts) == number
    woken = fleet.turns - before
    print(f"{woken / rounds:.1f} turns for each lone job, of {HOSTS} idle hosts")  # noqa: T201
    # Beside the looks: those that settle, and each host's own every few seconds, however long it has taken.
    own = 2 + (time.monotonic() - began) / (0.9 * TRUSTED)
    assert woken <= rounds * (HOSTS * (LOOKS + 1) + 10) + own * HOSTS

    # Many jobs: each is claimed once.
    app.enqueue_many([fleet.apps[0].find_task("quick").job() for _ in range(2000)])  # type: ignore[union-attr]
    until(lambda: app.stats().completed == 2000 + rounds, timeout=60)
    assert set(fleet.starts.values()) == {1}
    assert len(fleet.starts) == 2000 + rounds

    # Whatever runs anywhere is cancelled.
    long = [app.enqueue("long").id for _ in range(2 * HOSTS)]
    until(lambda: len(fleet.running) == 2 * HOSTS)
    app.cancel_many(ids=long)
    until(lambda: app.stats().cancelled == 2 * HOSTS)

    # What is paused stands still on every host as soon as the turns under way are over, and goes on.
    app.pause(task="quick")
    (paused,) = server.execute("SELECT clock_timestamp()")
    turning = sql.SQL("SELECT 1 FROM pg_stat_activity WHERE application_name = 'windlass' AND xact_start <= {}")
    until(lambda: not server.execute(turning.format(paused[0])))
    waiting = [app.enqueue("quick").id for _ in range(100)]
    other = [app.enqueue("long").id for _ in range(2 * HOSTS)]  # taken by turns that come later than those jobs
    until(lambda: len(fleet.running) == 4 * HOSTS)
    assert not any(fleet.starts[job_id] for job_id in waiting)
    app.cancel_many(ids=other)
    app.resume(task="quick")
    until(lambda: all(fleet.starts[job_id] == 1 for job_id in waiting))
    until(lambda: app.stats().running == 0)
    assert_consistent(server.url())
    assert set(fleet.running.values()) == {1}
    assert set(fleet.starts.values()) == {1}
