"""What happens in any process is heard by all who listen, and costs nothing while nobody does."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.events.faulty import Cut, Mute
from tests.waiting import until
from windlass import (
    Event,
    JobCancelled,
    JobCompleted,
    JobDead,
    JobDeleted,
    JobEnqueued,
    JobEvent,
    JobFailed,
    JobStarted,
    QueuePaused,
    QueueResumed,
    Windlass,
)
from windlass.client import stream
from windlass.job import BIT, Hold, NewJob, Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from windlass.client.stream import Events


def fetch(events: Events, number: int) -> list[Any]:
    """Wait for so many events."""
    found = []
    for _ in range(number):
        event = events.get(timeout=30)
        assert event is not None, f"only {found} came"
        found.append(event)
    return found


def double(number: int) -> int:
    return number * 2


def test_the_life_of_a_job_is_heard_elsewhere(app: Windlass, other: Windlass) -> None:
    """In order, each event with the job as it then was."""
    app.register("double", double)
    with other.listen(JobEnqueued, JobStarted, JobCompleted) as events, app.worker():
        job = app.enqueue("double", {"number": 4}, tags=["a"], origin="shop", meta={"b": 1})
        heard = fetch(events, 3)
    assert {type(event) for event in heard} == {JobEnqueued, JobStarted, JobCompleted}
    assert [type(e) for e in heard if not isinstance(e, JobEnqueued)] == [JobStarted, JobCompleted]
    ended = heard[-1] if isinstance(heard[-1], JobCompleted) else heard[-2]
    assert (ended.job.id, ended.job.status, ended.job.result, ended.cut) == (job.id, "completed", 8, ())
    assert (ended.job.tags, ended.job.origin, ended.job.meta, ended.job.payload) == (
        ("a",), "shop", {"b": 1}, {"number": 4},
    )  # fmt: skip
    assert ended.duration >= 0


def test_one_hears_the_kinds_one_asked_for(app: Windlass, other: Windlass) -> None:
    """A kind stands for all that are derived from it; none asked for is all."""
    with other.listen(QueuePaused) as paused, other.listen(JobEvent) as jobs, other.listen() as everything:
        app.pause(queue="mail")
        app.cancel(app.enqueue("x").id)
        app.resume(queue="mail")
        assert [type(event) for event in fetch(jobs, 2)] == [JobEnqueued, JobCancelled]
        assert [type(event) for event in fetch(everything, 4)] == [
            QueuePaused, JobEnqueued, JobCancelled, QueueResumed,
        ]  # fmt: skip
        assert [(event.kind, event.name) for event in fetch(paused, 1)] == [("queue", "mail")]
        assert paused.get(timeout=0) is None


def test_changes_by_hand_are_heard(app: Windlass, other: Windlass) -> None:
    """Cancelled and deleted, one or many."""
    ids = [other.enqueue("x").id for _ in range(4)]  # so that the changes are the first that this one has to tell
    with other.listen(JobCancelled, JobDeleted) as events:
        app.cancel(ids[0])
        app.cancel_many(ids=ids[1:3])
        app.delete_many(ids=ids[2:])
        heard = fetch(events, 5)
    assert [(type(event), event.job.id) for event in heard] == [
        *((JobCancelled, job_id) for job_id in ids[:3]),
        *((JobDeleted, job_id) for job_id in ids[2:]),
    ]
    assert heard[0].job.status == "cancelled"
    assert heard[0].job.finished_at is not None


def test_the_error_of_a_failure_is_heard(app: Windlass, other: Windlass) -> None:
    """With whether it will be tried again; the exception itself stays in its process."""

    def fail() -> None:
        raise ValueError("no")

    app.register("fail", fail, max_attempts=2)
    with other.listen(JobFailed, JobDead) as events, app.worker():
        app.enqueue("fail")
        first, second, dead = fetch(events, 3)
    assert [first.will_retry, second.will_retry] == [True, False]
    assert (str(first.error), first.exception) == ("ValueError: no", None)
    assert (type(dead), dead.job.status, str(dead.job.error)) == (JobDead, "dead", "ValueError: no")


def test_what_is_long_is_left_out_and_named(app: Windlass, other: Windlass) -> None:
    """The store has it."""
    with other.listen(JobEnqueued) as events:
        app.enqueue("x", {"text": "y" * 5000}, meta={"a": 1})
        [event] = fetch(events, 1)
    assert (event.cut, event.job.payload, event.job.meta) == (("payload",), None, {"a": 1})
    assert event.job.refresh().payload == {"text": "y" * 5000}


def test_one_who_does_not_fetch_loses_the_oldest(app: Windlass, monkeypatch: pytest.MonkeyPatch) -> None:
    """And can see how many."""
    monkeypatch.setattr(stream, "KEPT", 3)
    with app.listen(JobEnqueued) as events:
        ids = [app.enqueue("x").id for _ in range(5)]
        until(lambda: events.missed == 2)
        assert [event.job.id for event in fetch(events, 3)] == ids[2:]


def test_an_iteration_ends_when_the_application_is_closed(app: Windlass) -> None:
    heard: list[Event] = []
    listening = threading.Event()

    def listen() -> None:
        with app.listen(JobEnqueued) as events:
            listening.set()
            heard.extend(events)

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    assert listening.wait(20)
    app.enqueue("x")
    until(lambda: heard)
    app.close()
    thread.join(20)
    assert not thread.is_alive()
    assert len(heard) == 1


def test_events_are_heard_on_an_event_loop(app: Windlass, other: Windlass) -> None:
    async def listen() -> list[int]:
        async with other.alisten(JobEnqueued) as events:
            ids = [(await app.aenqueue("x")).id for _ in range(3)]
            assert [event.job.id async for event in _first(events, 2)] == ids[:2]
            last = await events.get(timeout=30)
            assert isinstance(last, JobEnqueued)
            assert await events.get(timeout=0.01) is None
            return [last.job.id]

    assert asyncio.run(listen()) == [3]


async def _first(events: Any, number: int) -> Any:
    async for event in events:
        yield event
        number -= 1
        if not number:
            return


def test_while_nobody_listens_no_event_is_made(app: Windlass) -> None:
    """A worker knows it from its turns, and knows it again when somebody comes."""
    app.register("double", double)
    with app.worker():
        job = app.enqueue("double", {"number": 1})
        until(lambda: job.refresh().finished)
        assert not app.hub.wants(JobStarted)
        with app.listen(JobStarted):
            assert app.hub.wants(JobStarted)


# ---------------------------------------------------------------------------------------- faults


@pytest.fixture
def on() -> Any:
    """An application on a store made for the test."""
    app = Windlass("memory://", backoff=0, poll=0.05)

    def swap(driver: Any) -> Any:
        driver.open()
        return app.swapped(driver)

    app.register("double", double)
    yield lambda driver: (app, swap(driver))
    app.close()


def test_no_job_suffers_when_publishing_fails(on: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    """It is said once, and once that it is over."""
    driver = Mute()
    app, swapped = on(driver)
    with swapped, app.listen(JobCompleted) as events, app.worker():
        for number in range(3):
            job = app.enqueue("double", {"number": number})
            until(lambda job=job: job.refresh().finished)
            assert job.refresh().result == number * 2
            until(lambda: not app.publisher._queue)
        until(lambda: caplog.text.count("cannot be published") == 1)
        driver.broken = False
        app.enqueue("double", {"number": 5})
        assert fetch(events, 1)[0].job.result == 10
        until(lambda: caplog.text.count("published again") == 1)
    assert caplog.text.count("cannot be published") == 1


def test_one_hears_again_after_the_stream_was_cut(on: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    driver = Cut()
    app, swapped = on(driver)
    with swapped, app.listen(JobEnqueued) as events:
        app.enqueue("double", {"number": 1})
        fetch(events, 1)
        driver.cut = True
        until(lambda: driver.calls["subscribe"] == 2)
        until(lambda: "are heard again" in caplog.text)
        app.enqueue("double", {"number": 2})
        assert fetch(events, 1)[0].job.payload == {"number": 2}
    assert caplog.text.count("cannot be heard") == 1


# ---------------------------------------------------------------------------------------- will_retry


def test_a_job_that_is_superseded_will_not_be_retried() -> None:
    """Its key was taken while it ran: the failure is its end, and a cancellation."""
    mask = BIT[Status.SCHEDULED] | BIT[Status.PENDING] | BIT[Status.RETRYING]
    heard: list[Event] = []
    running, go = threading.Event(), threading.Event()

    def fail() -> None:
        running.set()
        assert go.wait(30)
        raise ValueError("no")

    with Windlass("memory://", backoff=60, poll=0.05) as app:
        app.register("fail", fail, max_attempts=5)
        app.on(JobFailed)(heard.append)
        app.on(JobCancelled)(heard.append)
        new = NewJob(task="fail", queue="default", payload=b"{}", holds=(Hold("k", mask),))
        [record] = app.driver.insert([new])
        with app.worker(queues="default"):
            assert running.wait(30)
            app.driver.insert([NewJob(task="fail", queue="later", payload=b"{}", holds=(Hold("k", mask),))])
            go.set()
            until(lambda: len(heard) == 2)
        failed, cancelled = heard
        assert isinstance(failed, JobFailed)
        assert isinstance(cancelled, JobCancelled)
        assert (failed.will_retry, failed.error.type, failed.job.id) == (False, "ValueError", record.id)
        assert (cancelled.job.status, app.get(record.id).status) == ("cancelled", "cancelled")
