"""Modes change what an enqueue does in one context, and nowhere else."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from typing import TYPE_CHECKING, Any

import pytest

from windlass import Context, JobCompleted, JobEvent, JobFailed, Retry, Snooze, Windlass
from windlass.drivers.base import NewBatch
from windlass.job import NewJob
from windlass.testing import Batches, ignoring, recording, synchronous, testing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=["memory", "sqlite"])
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Windlass]:
    """An application on each store, with a few tasks."""
    url = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/jobs.db"
    with Windlass(url, durability="relaxed") as app:
        app.register("double", lambda number: number * 2)
        app.register("fail", _fail, max_attempts=2)
        yield app


def _fail() -> None:
    raise ValueError("no")


def elsewhere(call: Any) -> Any:
    """Call in another thread, with none of this one's context."""
    answer: list[Any] = []
    thread = threading.Thread(target=lambda: answer.append(contextvars.Context().run(call)), daemon=True)
    thread.start()
    thread.join()
    return answer[0]


# ---------------------------------------------------------------------------------------- synchronous


def test_a_synchronous_job_has_ended_when_it_is_enqueued(app: Windlass) -> None:
    with synchronous(app) as here:
        job = app.enqueue("double", {"number": 4})
        assert (job.status, job.result, job.join()) == ("completed", 8, 8)
        assert here.assert_enqueued("double", number=4) == job
    assert app.stats().totals.enqueued == 0


def test_a_delay_is_not_waited_for(app: Windlass) -> None:
    with synchronous(app):
        assert app.enqueue("double", {"number": 1}, delay=3600).status == "completed"


def test_a_synchronous_failure_shows_in_the_job(app: Windlass) -> None:
    """It ends as it would; no retry comes, not even with the next job of that task."""
    with synchronous(app) as here:
        job = app.enqueue("fail")
        assert (job.status, job.failures) == ("retrying", 1)
        app.enqueue("fail", max_attempts=1)
        assert [each.failures for each in here.jobs] == [1, 1]
        assert [each.status for each in here.jobs] == ["retrying", "dead"]


def test_a_synchronous_failure_can_be_raised(app: Windlass) -> None:
    """A snooze is no failure, a wish to be tried again is."""
    app.register("snooze", lambda: (_ for _ in ()).throw(Snooze(60)))
    app.register("again", lambda: (_ for _ in ()).throw(Retry("later")))
    with synchronous(app, raise_errors=True):
        with pytest.raises(ValueError, match="no"):
            app.enqueue("fail")
        assert app.enqueue("snooze").status == "scheduled"
        with pytest.raises(Retry):
            app.enqueue("again")


def test_what_a_synchronous_handler_enqueues_runs_at_once_too(app: Windlass) -> None:
    """Depth first, in both colours."""
    order: list[str] = []

    def child(name: str) -> None:
        order.append(name)

    def parent(ctx: Context) -> None:
        app.enqueue("child", {"name": "from parent"})
        order.append("parent")

    async def aparent(ctx: Context) -> None:
        await app.aenqueue("child", {"name": "from aparent"})
        order.append("aparent")

    app.register("child", child)
    app.register("parent", parent)
    app.register("aparent", aparent)
    with synchronous(app) as here:
        app.enqueue("parent")
        app.enqueue("aparent")
        assert len(here.jobs) == 4
    assert order == ["from parent", "parent", "from aparent", "aparent"]
    assert app.count() == 0


def test_other_threads_and_tasks_enqueue_as_ever(app: Windlass) -> None:
    async def both() -> tuple[str, str]:
        started, go = asyncio.Event(), asyncio.Event()

        async def outside() -> str:
            started.set()
            await go.wait()
            return (await app.aenqueue("double", {"number": 1})).status

        task = asyncio.create_task(outside())
        await started.wait()
        with synchronous(app):
            go.set()
            inside = await app.aenqueue("double", {"number": 1})
            return inside.status, await task

    with synchronous(app):
        assert elsewhere(lambda: app.enqueue("double", {"number": 1}).status) == "pending"
    assert asyncio.run(both()) == ("completed", "pending")
    assert app.count(status="pending") == 2


def test_listeners_hear_of_synchronous_jobs(app: Windlass) -> None:
    heard: list[int] = []
    app.on(JobCompleted)(lambda event: heard.append(event.job.result))
    with synchronous(app):
        app.enqueue("double", {"number": 3})
    assert heard == [6]


def test_waiting_for_what_never_ends_is_an_error_at_once(app: Windlass) -> None:
    """In a harness what is due runs first."""
    with synchronous(app), pytest.raises(TimeoutError, match="never ends"):
        app.enqueue("fail").join()
    with testing(app) as t:
        assert app.enqueue("double", {"number": 2}).join() == 4
        late = app.enqueue("double", {"number": 3}, delay=60)
        with pytest.raises(TimeoutError, match="advance the clock"):
            late.join()
        t.advance(60)
        assert asyncio.run(late.ajoin()) == 6


# ---------------------------------------------------------------------------------------- ignoring


@pytest.mark.parametrize(
    ("ignore", "kept"),
    [
        (True, []),
        ("double", ["fail"]),
        (["double", "fail"], []),
        (lambda job: job.queue == "low", ["double"]),
        (Batches(), ["double", "fail"]),
        (["fail", Batches()], ["double"]),
    ],
)
def test_what_is_ignored_is_dropped_and_noted(app: Windlass, ignore: Any, kept: list[str]) -> None:
    with ignoring(app, ignore) as seen:
        jobs = app.enqueue_many(
            [app.tasks["double"].job(1), app.tasks["fail"].using(queue="low").job()],
        )
    assert [job.task for job in jobs if job.id] == kept == [job.task for job in reversed(app.jobs())]
    assert [job.task for job in seen.jobs] == kept
    assert [job.task for job in seen.ignored] == [job.task for job in jobs if not job.id]


def test_only_this_context_ignores(app: Windlass) -> None:
    with ignoring(app):
        assert app.enqueue("double", {"number": 1}).id == 0
        assert elsewhere(lambda: app.enqueue("double", {"number": 1}).id) > 0
    assert app.enqueue("double", {"number": 1}).id > 0


def test_what_is_ignored_does_not_run_synchronously_whichever_block_comes_first(app: Windlass) -> None:
    with synchronous(app), ignoring(app, "double") as seen:
        assert app.enqueue("double", {"number": 1}).id == 0
        assert app.enqueue("fail").failures == 1
        assert len(seen.ignored) == 1
    with ignoring(app, "double") as seen, synchronous(app):
        assert app.enqueue("double", {"number": 1}).id == 0
        assert app.enqueue("fail").failures == 1
        assert len(seen.ignored) == 1


def test_a_batch_is_ignored_with_its_members_and_what_is_nested_in_it() -> None:
    with Windlass("memory://") as app, ignoring(app, Batches("images")) as seen:
        batch = app.driver.open_batch(NewBatch(name="images"))
        nested = app.driver.open_batch(NewBatch(name="thumbnails", parent=batch.id))
        other = app.driver.open_batch(NewBatch(name="mails"))
        assert (batch.id, nested.id, other.id > 0) == (0, 0, True)
        for one in (batch, nested, other):
            app.driver.insert([NewJob(task="x", queue="default", payload=b"{}", batch_id=one.id)])
        assert [new.name for new in seen.ignored_batches] == ["images", "thumbnails"]
        assert (len(seen.ignored), app.count()) == (2, 1)
        assert app.driver.change_batch(0, lambda batch, now: None) is not None
        assert [found.name for found in app.driver.batches([0, other.id])] == ["thumbnails", "mails"]


def test_the_harness_ignores_batches(app: Windlass) -> None:
    with testing(app, ignore=["fail", Batches(lambda batch: batch.origin == "upload")]) as t:
        assert app.driver.open_batch(NewBatch(name="a", origin="upload")).id == 0
        assert app.driver.open_batch(NewBatch(name="b")).id > 0
        app.enqueue("fail")
        app.enqueue("double", {"number": 1})
        assert [batch.name for batch in t.ignored_batches] == ["a"]
        assert [job.task for job in t.ignored] == ["fail"]
        assert [job.task for job in t.jobs] == ["double"]


def test_jobs_of_a_callers_transaction_are_ignored_too(tmp_path: Path) -> None:
    import sqlite3
    from contextlib import closing

    with Windlass(f"sqlite:///{tmp_path}/jobs.db") as app:
        app.migrate()
        with closing(sqlite3.connect(tmp_path / "jobs.db")) as connection, ignoring(app, "a") as seen:
            assert app.enqueue("a", connection=connection).id == 0
            assert app.enqueue("b", connection=connection).id > 0
            connection.commit()
            assert [job.task for job in seen.jobs] == ["b"]
        assert [job.task for job in app.jobs()] == ["b"]


def test_children_of_a_transaction_are_ignored_too(tmp_path: Path) -> None:
    with Windlass(f"sqlite:///{tmp_path}/jobs.db") as app:
        seen: list[str] = []

        def parent(ctx: Context) -> None:
            with ignoring(app, "a") as here, ctx.transaction() as tx:
                tx.enqueue(app.tasks["a"].job())
                tx.enqueue(app.tasks["b"].job())
            seen.extend(job.task for job in here.ignored)

        app.register("a", lambda: None)
        app.register("b", lambda: None, queue="later")
        app.register("parent", parent)
        job = app.enqueue("parent")
        with app.worker(queues="default"):
            from tests.worker.ending import ended

            assert ended(job).status == "completed"
        assert seen == ["a"]
        assert [each.task for each in app.jobs(queue="later")] == ["b"]


# ---------------------------------------------------------------------------------------- recording


def test_what_is_recorded_is_stored_too(app: Windlass) -> None:
    app.enqueue("double", {"number": 0})
    with recording(app) as seen:
        job = app.enqueue("double", {"number": 1})
        elsewhere(lambda: app.enqueue("double", {"number": 2}))
        assert seen.jobs == [job]
        assert seen.assert_enqueued("double", number=1) == job
        seen.assert_not_enqueued("double", number=2)
    assert app.count() == 3


def test_listeners_hear_in_a_drain_what_they_would_hear_of_a_worker(app: Windlass) -> None:
    """Each once, at once, with the exception."""
    heard: list[tuple[str, str]] = []
    app.on(JobEvent)(lambda event: heard.append((type(event).__name__, event.job.status)))
    exceptions: list[BaseException | None] = []
    app.on(JobFailed)(lambda event: exceptions.append(event.exception))

    @app.task(max_attempts=2)
    def broken() -> None:
        raise ValueError("no route")

    @app.task
    def works() -> None: ...

    with testing(app) as t:
        broken.enqueue()
        works.using(expires=1).enqueue()
        t.advance(5)
        t.drain()
        assert heard == [
            ("JobEnqueued", "pending"),
            ("JobEnqueued", "pending"),
            ("JobStarted", "running"),
            ("JobFailed", "retrying"),
            ("JobCancelled", "cancelled"),
        ]
        heard.clear()
        t.advance(3600)
        works.enqueue()
        t.drain()
    assert sorted(heard) == [
        ("JobCompleted", "completed"),
        ("JobDead", "dead"),
        ("JobEnqueued", "pending"),
        ("JobFailed", "dead"),
        ("JobStarted", "running"),
        ("JobStarted", "running"),
    ]
    assert [type(error) for error in exceptions] == [ValueError, ValueError]
