"""What workers leave behind about themselves: durations, samples; and what they can be told."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from tests.stores import STORES, url_of
from tests.waiting import until
from windlass import ConfigurationError, WorkerNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from windlass import Windlass


@pytest.fixture(params=STORES)
def app(request: pytest.FixtureRequest, make: Callable[..., Windlass], tmp_path: Path) -> Windlass:
    """An application, on each store, with a quick heartbeat."""
    return make(url=url_of(request.param, request, tmp_path), beat=0.2)


def test_durations_of_the_fleet_add_up(app: Windlass) -> None:
    """Of every attempt that reached its handler, whatever its end; they stay when the jobs go."""

    @app.task(max_attempts=1, keep=0)
    def work(number: int) -> None:
        if number == 3:
            raise ValueError

    app.enqueue_many([work.job(number) for number in range(5)])
    for _ in range(2):  # two workers, one after the other
        with app.worker(concurrency=1):
            until(lambda: app.stats().totals.processed + app.stats().totals.failed >= 5)
    [measure] = app.measures()
    assert (measure.queue, measure.task) == ("default", work.name)
    assert measure.wait.count == measure.run.count == 5
    assert measure.run.total <= 5 * 1.0 or measure.run.mean is not None
    app.enqueue("other", {})
    assert len(app.measures()) == 1


def test_a_sample_is_taken_of_each_minute(app: Windlass) -> None:
    """By one of the workers; the totals in it never fall."""

    @app.task(queue="mail")
    def send() -> None: ...

    send.enqueue()
    with app.worker(), app.worker():
        until(lambda: app.stats().completed == 1)
        app.driver.shift(61.0)
        until(app.samples)
        app.enqueue("unknown", {}, queue="other")
        app.driver.shift(60.0)
        until(lambda: len(app.samples()) == 2)
    first, second = app.samples()
    assert (second.at - first.at).total_seconds() in (60, 120)  # a minute of the real clock may have ended as well
    assert first.queues["mail"].processed == first.total().processed == 1
    assert "other" not in first.queues
    assert second.queues["other"].pending == second.total().pending == 1
    assert second.total("mail").enqueued == 1
    assert second.total("nowhere").enqueued == 0
    assert app.samples("minute", limit=1)[0].at == second.at
    assert [s.at for s in app.samples(before=second.at)] == [first.at]
    with pytest.raises(ConfigurationError, match="minute, hour"):
        app.samples("day")  # type: ignore[arg-type]


def test_a_quiet_worker_claims_nothing_until_it_is_to_resume(app: Windlass) -> None:
    """What it runs goes on."""
    release, ran = threading.Event(), threading.Semaphore(0)

    @app.task
    def hold() -> None:
        ran.release()
        release.wait(20)

    hold.enqueue()
    with app.worker(concurrency=2) as worker:
        assert ran.acquire(timeout=20)
        app.order(worker.id, "quiet")
        until(lambda: app.workers()[0].quiet)
        assert app.workers()[0].status == "running"
        later = hold.enqueue()
        release.set()
        until(lambda: app.stats().completed == 1)
        assert later.refresh().status == "pending"
        app.order(worker.id, "resume")
        assert ran.acquire(timeout=20)
        until(lambda: app.stats().completed == 2)
        until(lambda: not app.workers()[0].quiet)


def test_a_worker_that_is_told_to_stop_ends(app: Windlass) -> None:
    """As after a signal: what runs is finished."""
    stopped = threading.Event()
    app.on_stop(stopped.set)

    @app.task
    def work() -> None: ...

    worker = app.worker()
    worker.start()
    app.order(worker.id, "stop")
    assert stopped.wait(20)
    until(lambda: not worker.alive)
    assert app.workers()[0].status == "stopped"
    with pytest.raises(WorkerNotFoundError, match="no worker"):
        app.order(worker.id, "quiet")


def test_an_order_that_there_is_not_is_refused(app: Windlass) -> None:
    """At the door."""
    with pytest.raises(ConfigurationError, match="quiet, resume, stop"):
        app.order("w", "dance")  # type: ignore[arg-type]
