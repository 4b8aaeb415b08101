"""Waiting for a job's end: by being told, not by asking."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.events.faulty import Counting, Cut, Deaf
from tests.waiting import until
from windlass import (
    Cancel,
    Context,
    JobCancelledError,
    JobFailedError,
    JobNotFoundError,
    PayloadError,
    Windlass,
    lifecycle,
    telling,
)
from windlass.client.waiting import End
from windlass.drivers.base import Turn
from windlass.lifecycle import Settlement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass
class Point:
    x: int
    y: int


def mirror(point: Point) -> Point:
    return Point(point.y, point.x)


def test_a_join_returns_the_result_as_the_task_has_it(app: Windlass, other: Windlass) -> None:
    """Where the task is not known it is JSON; so it is in ``job.result``."""
    app.register("mirror", mirror)
    with app.worker():
        job = app.enqueue("mirror", {"point": {"x": 1, "y": 2}})
        assert job.join(timeout=30) == Point(2, 1)
        assert app.join(job.id) == Point(2, 1)
        assert job.refresh().result == {"x": 2, "y": 1}
        if other is not app:
            assert other.join(job.id) == {"x": 2, "y": 1}


def test_a_join_from_another_process_is_told_of_the_end(app: Windlass, other: Windlass) -> None:
    running, go = threading.Event(), threading.Event()

    def work() -> str:
        running.set()
        assert go.wait(30)
        return "done"

    app.register("work", work)
    with app.worker():
        job = app.enqueue("work")
        assert running.wait(30)
        answer: list[Any] = []
        thread = threading.Thread(target=lambda: answer.append(other.join(job.id, timeout=60)), daemon=True)
        thread.start()
        until(lambda: other.ear.open)
        go.set()
        thread.join(60)
    assert answer == ["done"]


def test_a_job_that_is_tried_again_is_waited_for(app: Windlass) -> None:
    def flaky(ctx: Context) -> int:
        if ctx.attempt < 3:
            raise ValueError("not yet")
        return ctx.attempt

    app.register("flaky", flaky, max_attempts=3)
    with app.worker():
        assert app.enqueue("flaky").join(timeout=60) == 3


def test_a_join_raises_what_became_of_the_job(app: Windlass) -> None:
    def fail() -> None:
        raise ValueError("x" * 3000)

    def cancel() -> None:
        raise Cancel("not wanted")

    app.register("fail", fail, max_attempts=1)
    app.register("cancel", cancel)
    with app.worker():
        with pytest.raises(JobFailedError) as failed:
            app.enqueue("fail").join(timeout=60)
        assert failed.value.job.error.message == "x" * 3000
        with pytest.raises(JobCancelledError) as cancelled:
            app.enqueue("cancel").join(timeout=60)
        assert cancelled.value.job.status == "cancelled"
    with pytest.raises(JobNotFoundError):
        app.join(999)
    late = app.enqueue("fail", delay=60)
    with pytest.raises(TimeoutError, match=r"within 0\.01 s"):
        late.join(timeout=0.01)
    with pytest.raises(TimeoutError):
        late.join(timeout=0)


@pytest.mark.parametrize(("by_hand", "error"), [("cancel", JobCancelledError), ("delete", JobNotFoundError)])
def test_a_change_by_hand_ends_the_wait(app: Windlass, by_hand: str, error: type[Exception]) -> None:
    job = app.enqueue("x", delay=600)
    raised: list[Exception] = []

    def wait() -> None:
        try:
            job.join(timeout=60)
        except Exception as e:
            raised.append(e)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    until(lambda: app.ear.open)
    getattr(app, by_hand)(job.id)
    thread.join(60)
    assert [type(each) for each in raised] == [error]


def test_any_number_of_coroutines_wait_without_threads(app: Windlass) -> None:
    """The pool of the twins stays free for the others."""
    go = threading.Event()

    def work(number: int) -> int:
        assert go.wait(60)
        return number

    app.register("work", work)

    async def main() -> list[int]:
        jobs = [await app.aenqueue("work", {"number": number}) for number in range(30)]
        waits = [asyncio.create_task(job.ajoin(timeout=60)) for job in jobs]
        await asyncio.sleep(0)
        await app.aenqueue("work", {"number": -1})
        go.set()
        return await asyncio.gather(*waits)

    with app.worker(concurrency=40):
        assert asyncio.run(main()) == list(range(30))


@pytest.mark.parametrize("colour", ["thread", "async"])
def test_a_handler_cannot_wait_for_a_job_of_its_own_application(app: Windlass, colour: str) -> None:
    """It would hold the slot that the job may need."""

    def parent() -> None:
        app.enqueue("child").join(timeout=5)

    async def aparent() -> None:
        await (await app.aenqueue("child")).ajoin(timeout=5)

    app.register("parent", parent if colour == "thread" else aparent, max_attempts=1)
    with app.worker(), pytest.raises(JobFailedError, match="cannot wait for a job") as failed:
        app.enqueue("parent").join(timeout=60)
    assert failed.value.job.error.type.endswith("WorkerStateError")


def test_a_handler_may_wait_for_a_job_of_another_application(app: Windlass) -> None:
    with Windlass("memory://", poll=0.05) as inner, inner.worker():
        inner.register("double", lambda number: number * 2)
        app.register("parent", lambda: inner.enqueue("double", {"number": 2}).join(timeout=60))
        with app.worker():
            assert app.enqueue("parent").join(timeout=60) == 4


def test_of_a_job_that_leaves_nothing_the_end_is_known_by_those_who_wait(app: Windlass) -> None:
    """With its result; who comes later finds no such job."""
    job = app.enqueue("x")
    answer: list[Any] = []
    thread = threading.Thread(target=lambda: answer.append(job.join(timeout=60)), daemon=True)
    thread.start()
    until(lambda: app.ear.open and app.ear._by_job)
    [record] = app.driver.exchange(Turn(worker="w", limit=1, start=1, tasks=("x",))).claims
    ended = Settlement(record, lifecycle.succeed(record, b"5", keep=False), app.driver.now())
    assert app.driver.exchange(Turn(worker="w", settlements=[ended])).refused == []
    telling.tell(app, ended)
    thread.join(60)
    assert answer == [5]
    with pytest.raises(JobNotFoundError):
        job.join(timeout=1)


def test_who_has_seen_a_job_waits_for_the_news_of_how_it_went(app: Windlass) -> None:
    """Between the end of a job that leaves nothing and its event there is an instant; without an event it is missing."""
    job = app.enqueue("x")
    end = End(job.id, app)
    assert end.look() is None
    app.driver.change([job.id], lambda record, _: lifecycle.delete(record))
    assert end.look() is None
    with pytest.raises(JobNotFoundError):
        end.look()


def test_a_result_that_is_not_what_the_task_says_is_an_error(app: Windlass) -> None:
    def liar() -> int:
        return "text"  # type: ignore[return-value]

    app.register("liar", liar)
    with app.worker():
        job = app.enqueue("liar")
        with pytest.raises(PayloadError, match=r"see job\.result"):
            job.join(timeout=60)
    assert job.refresh().result == "text"


def test_the_result_of_a_transaction_is_read_from_the_store(app: Windlass) -> None:
    """The event does not carry it."""
    if not app.capabilities.transactions:
        pytest.skip("this store has no transactions")

    def work(ctx: Context) -> None:
        with ctx.transaction() as tx:
            tx.result(7)

    app.register("work", work)
    with app.worker():
        assert app.enqueue("work").join(timeout=60) == 7


# ---------------------------------------------------------------------------------------- what it costs


@pytest.fixture
def on() -> Iterator[Callable[[Any], Any]]:
    """Swap in a store made for the test."""
    app = Windlass("memory://", poll=0.05)

    def swap(driver: Any) -> Any:
        driver.open()
        return app, app.swapped(driver)

    yield swap
    app.close()


def test_a_join_looks_twice_and_is_told(on: Callable[[Any], Any]) -> None:
    """Once before it listens, once when it does; the end is in the event."""
    driver = Counting()
    app, swapped = on(driver)
    with swapped:
        running, go = threading.Event(), threading.Event()

        def work() -> int:
            running.set()
            assert go.wait(30)
            return 3

        app.register("work", work)
        answer: list[int] = []
        with app.worker():
            job = app.enqueue("work")
            assert running.wait(30)
            thread = threading.Thread(target=lambda: answer.append(job.join(timeout=60)), daemon=True)
            thread.start()
            until(lambda: driver.calls["get"] == 2)
            go.set()
            thread.join(60)
            assert (answer, driver.calls["get"]) == ([3], 2)
            assert job.join() == 3
            assert driver.calls["get"] == 3


def test_all_joins_of_a_process_share_one_subscription(on: Callable[[Any], Any]) -> None:
    driver = Counting()
    app, swapped = on(driver)
    with swapped:
        app.register("double", lambda number: number * 2)
        jobs = [app.enqueue("double", {"number": number}) for number in range(20)]
        answers: dict[int, int] = {}

        def wait(number: int) -> None:
            answers[number] = jobs[number].join(timeout=60)

        threads = [threading.Thread(target=wait, args=(number,), daemon=True) for number in range(20)]
        for thread in threads:
            thread.start()
        with app.worker():
            for thread in threads:
                thread.join(60)
    assert answers == {number: number * 2 for number in range(20)}
    assert driver.calls["subscribe"] == 1


@pytest.mark.parametrize("driver", [Deaf, Cut])
def test_one_who_cannot_listen_looks_for_himself(on: Callable[[Any], Any], driver: type[Any]) -> None:
    """A stream that is not there, or breaks while one waits, delays the answer and loses nothing."""
    store = driver()
    app, swapped = on(store)
    with swapped:
        running, go = threading.Event(), threading.Event()

        def work() -> int:
            running.set()
            assert go.wait(30)
            return 3

        app.register("work", work)
        answer: list[int] = []
        with app.worker():
            job = app.enqueue("work")
            thread = threading.Thread(target=lambda: answer.append(job.join(timeout=60)), daemon=True)
            thread.start()
            assert running.wait(30)
            if driver is Cut:
                until(lambda: app.ear.open)
                store.cut = True
            go.set()
            thread.join(60)
    assert answer == [3]


def test_a_closed_application_waits_for_nothing(app: Windlass) -> None:
    job = app.enqueue("x", delay=600)
    raised: list[str] = []

    def wait() -> None:
        try:
            job.join(timeout=60)
        except Exception as error:
            raised.append(type(error).__name__)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    until(lambda: app.ear.open)
    app.close()
    thread.join(60)
    assert raised == ["ClosedError"]
