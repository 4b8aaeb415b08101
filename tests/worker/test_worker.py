"""What a handler does decides what becomes of its job."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.waiting import until
from tests.worker.ending import ended, outcomes, reaches
from windlass import Cancel, ClosedError, Context, Discard, JobDead, JobFailed, Retry, Snooze, current
from windlass.errors import WorkerStateError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from windlass import Windlass


def test_a_return_completes_and_keeps_the_result(app: Windlass) -> None:
    """The value comes back as JSON; the history has one completed attempt."""

    @app.task
    def add(a: int, b: int) -> dict[str, int]:
        return {"sum": a + b}

    with app.worker() as worker:
        job = ended(add.enqueue(1, b=2))
        me = worker.id
    assert (job.status, job.result, job.attempt, job.failures, job.crashes) == ("completed", {"sum": 3}, 1, 0, 0)
    (attempt,) = job.history()
    assert (attempt.number, attempt.worker, attempt.outcome.value, attempt.error) == (1, me, "completed", None)
    assert attempt.started_at is not None
    assert attempt.finished_at is not None
    assert attempt.started_at <= attempt.finished_at


def test_raising_fails_until_no_try_is_left(app: Windlass) -> None:
    """Each failure is a row of history with its error; the last makes the job dead."""

    @app.task(max_attempts=3)
    def broken() -> None:
        error = ValueError(f"try {current().attempt}")
        error.data = {"try": current().attempt}  # type: ignore[attr-defined]
        raise error

    with app.worker():
        job = ended(broken.enqueue())
    assert (job.status, job.attempt, job.failures, job.crashes) == ("dead", 3, 3, 0)
    assert outcomes(job) == ["failed"] * 3
    assert [a.error and a.error.message for a in job.history()] == ["try 1", "try 2", "try 3"]
    assert job.error is not None
    assert (job.error.type, job.error.kind.value, job.error.data) == ("ValueError", "error", {"try": 3})
    assert "raise error" in job.error.traceback


def test_a_job_that_succeeds_at_last_is_completed(app: Windlass) -> None:
    """Failures stay in its counters and history."""

    @app.task(max_attempts=3)
    def third() -> str:
        if current().attempt < 3:
            raise OSError
        return "at last"

    with app.worker():
        job = ended(third.enqueue())
    assert (job.status, job.result, job.failures) == ("completed", "at last", 2)
    assert outcomes(job) == ["failed", "failed", "completed"]


def test_retry_brings_its_own_delay(app: Windlass) -> None:
    """``Retry(after=)`` counts a failure and waits as long as it says, not as the policy does."""

    @app.task(backoff=1)
    def later() -> None:
        raise Retry("not yet", after=timedelta(hours=1))

    with app.worker():
        job = reaches(later.enqueue(), "retrying")
    assert job.failures == 1
    assert 3590 < (job.run_at - job.history()[0].finished_at).total_seconds() <= 3600  # type: ignore[operator]


def test_snooze_counts_nothing(app: Windlass) -> None:
    """The job is scheduled again, with a history row and no failure."""

    @app.task(max_attempts=1)
    def sleepy() -> str:
        if current().attempt < 4:
            raise Snooze(0)
        return "awake"

    with app.worker():
        job = ended(sleepy.enqueue())
    assert (job.status, job.failures, job.crashes, job.attempt) == ("completed", 0, 0, 4)
    assert outcomes(job) == ["snoozed"] * 3 + ["completed"]


def test_discard_is_dead_at_once(app: Windlass) -> None:
    """It counts one failure and says why."""

    @app.task(max_attempts=9)
    def useless() -> None:
        raise Discard("no such customer")

    with app.worker():
        job = ended(useless.enqueue())
    assert (job.status, job.failures, job.attempt) == ("dead", 1, 1)
    assert job.error is not None
    assert (job.error.kind.value, job.error.message) == ("discard", "no such customer")


def test_cancel_from_the_handler_is_cancelled(app: Windlass) -> None:
    """``Cancel`` ends the job without a failure."""

    @app.task
    def unwanted() -> None:
        raise Cancel("changed my mind")

    with app.worker():
        job = ended(unwanted.enqueue())
    assert (job.status, job.failures, outcomes(job)) == ("cancelled", 0, ["cancelled"])


def test_retry_on_tries_again_only_for_those(app: Windlass) -> None:
    """Other exceptions end the job at once; ``discard_on`` always does."""

    @app.task(max_attempts=3, retry_on=OSError)
    def picky(kind: str) -> None:
        raise OSError if kind == "os" else KeyError

    @app.task(max_attempts=3, discard_on=(LookupError,))
    def hopeless() -> None:
        raise KeyError("gone")

    with app.worker():
        again, once, never = ended(picky.enqueue("os")), ended(picky.enqueue("key")), ended(hopeless.enqueue())
    assert (again.failures, once.failures, never.failures) == (3, 1, 1)
    assert {again.status, once.status, never.status} == {"dead"}
    assert never.error is not None
    assert never.error.kind == "discard"


@pytest.mark.parametrize(("value", "says"), [(object(), "object"), ("x" * (2 << 20), "bytes")])
def test_a_result_that_cannot_be_stored_fails_the_attempt(app: Windlass, value: Any, says: str) -> None:
    """The error names what was wrong with it."""

    @app.task(max_attempts=1)
    def answer() -> Any:
        return value

    with app.worker():
        job = ended(answer.enqueue())
    assert job.status == "dead"
    assert job.error is not None
    assert job.error.kind == "payload"
    assert "result" in job.error.message
    assert says in job.error.message


def test_a_payload_that_does_not_fit_follows_the_retry_rules(app: Windlass) -> None:
    """A newer worker may understand it: kind ``payload``, and as many tries as any failure."""
    app.enqueue("later", {"other": 1})

    @app.task(max_attempts=2)
    def later(number: int) -> None: ...

    with app.worker():
        (job,) = app.jobs()
        job = ended(job)
    assert (job.status, job.failures) == ("dead", 2)
    assert job.error is not None
    assert job.error.kind == "payload"
    assert "later" in job.error.message


def test_a_broken_back_off_falls_back_to_the_default(app: Windlass, caplog: pytest.LogCaptureFixture) -> None:
    """A policy that raises or answers nonsense costs no job; it is logged."""

    @app.task(backoff=lambda *_: 1 / 0)
    def raising() -> None:
        raise ValueError

    @app.task(backoff=lambda *_: "soon")
    def nonsense() -> None:
        raise ValueError

    with caplog.at_level(logging.ERROR), app.worker():
        jobs = [reaches(raising.enqueue(), "retrying"), reaches(nonsense.enqueue(), "retrying")]
    for job in jobs:
        assert 3 < (job.run_at - job.history()[0].finished_at).total_seconds() < 6  # type: ignore[operator]
    assert caplog.text.count("the back-off of task") == 2


def test_a_policy_may_say_the_instant(app: Windlass) -> None:
    """A ``datetime`` is when, and the policy sees this failure counted."""
    when = datetime.now(UTC) + timedelta(hours=2)
    seen = []

    def policy(job: Any, error: BaseException) -> datetime:
        seen.append((job.failures, type(error)))
        return when

    @app.task(backoff=policy)
    def broken() -> None:
        raise ValueError

    with app.worker():
        job = reaches(broken.enqueue(), "retrying")
    assert abs((job.run_at - when).total_seconds()) < 0.01
    assert seen == [(1, ValueError)]


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, BaseException, asyncio.CancelledError])
@pytest.mark.parametrize("colour", ["thread", "async"])
def test_no_exception_ends_more_than_its_attempt(app: Windlass, kind: type[BaseException], colour: str) -> None:
    """Whatever is raised is a failure of that job; the next one runs."""

    def thread() -> None:
        raise kind

    async def loop() -> None:
        raise kind

    app.register("evil", loop if colour == "async" else thread, max_attempts=2)
    app.register("good", lambda: None)
    with app.worker(concurrency=1):
        evil = ended(app.enqueue("evil"))
        good = ended(app.enqueue("good"))
    assert (evil.status, evil.failures) == ("dead", 2)
    assert evil.error is not None
    assert evil.error.type.endswith(kind.__name__)
    assert good.status == "completed"


def test_endless_recursion_is_a_failure(app: Windlass) -> None:
    """The stack overflows in the handler, not in the worker."""

    @app.task(max_attempts=1)
    def deep() -> None:
        deep()

    with app.worker():
        job = ended(deep.enqueue())
    assert job.error is not None
    assert job.error.type == "RecursionError"


def test_an_error_that_cannot_speak_is_still_stored(app: Windlass) -> None:
    """A broken ``__str__``, a lone surrogate and odd ``data`` hurt nobody."""

    class MuteError(Exception):
        data = object()

        def __str__(self) -> str:
            raise RuntimeError

    @app.task(max_attempts=1)
    def say(what: str) -> None:
        raise MuteError if what == "mute" else ValueError("\ud800")

    with app.worker():
        mute, lone = ended(say.enqueue("mute")), ended(say.enqueue("lone"))
    assert mute.error is not None
    assert "could not be read" in mute.error.message
    assert lone.error is not None
    assert lone.error.type == "ValueError"


def test_leaked_threads_and_garbage_hurt_nobody(app: Windlass, capfd: pytest.CaptureFixture[str]) -> None:
    """A handler that leaves threads behind and prints bytes completes, and the worker stops in time."""
    release = threading.Event()

    @app.task
    def messy() -> None:
        for _ in range(20):
            threading.Thread(target=release.wait, daemon=True).start()
        os.write(1, b"\x00\xff\xfe garbage\n")
        sys.stdout.write("more\n")

    try:
        with app.worker():
            assert ended(messy.enqueue()).status == "completed"
    finally:
        release.set()


@pytest.mark.parametrize("colour", ["thread", "async"])
def test_a_child_that_comes_back_from_a_handler_ends(make: Callable[..., Windlass], colour: str) -> None:
    """A handler forks and both processes return: one completion, and the copy is gone."""
    app = make()

    def fork() -> int:
        return os.fork()

    async def afork() -> int:
        return os.fork()

    app.register("fork", afork if colour == "async" else fork)
    with app.worker():
        job = ended(app.enqueue("fork"))
    assert job.result > 0
    assert os.waitpid(job.result, 0) == (job.result, 0)
    assert outcomes(job) == ["completed"]


def test_late_registration_is_picked_up(app: Windlass) -> None:
    """A job of a task that nobody knows waits, and runs as soon as the task is registered."""
    job = app.enqueue("newcomer", {"x": 1})

    @app.task
    def known() -> None: ...

    with app.worker():
        ended(known.enqueue())
        assert job.refresh().status == "pending"
        assert app.why(job.id).code == "unknown-task" or app.why(job.id).code == "no-worker"
        app.register("newcomer", lambda x: x)
        assert ended(job).result == 1
        app.unregister("newcomer")
        second = app.enqueue("newcomer", {"x": 2})
        ended(known.enqueue())
        assert second.refresh().status == "pending"


def test_an_alias_takes_the_old_name_s_jobs(app: Windlass) -> None:
    """A rename loses no job that waits under the old name."""
    job = app.enqueue("old", {})
    app.register("new", lambda: "done", aliases=["old"])
    with app.worker():
        assert ended(job).result == "done"


def test_a_paused_queue_or_task_waits(app: Windlass) -> None:
    """Paused jobs stay pending while others run, and run after the resume."""

    @app.task
    def one() -> None: ...

    @app.task
    def two() -> None: ...

    app.pause(queue="slow")
    app.pause(task="two")
    with app.worker():
        held, stopped = one.using(queue="slow").enqueue(), two.enqueue()
        ended(one.enqueue())
        assert {held.refresh().status, stopped.refresh().status} == {"pending"}
        assert (app.why(held.id).code, app.why(stopped.id).code) == ("queue-paused", "task-paused")
        app.resume(queue="slow")
        app.resume(task="two")
        assert {ended(held).status, ended(stopped).status} == {"completed"}


def test_a_worker_takes_only_its_queues(app: Windlass) -> None:
    """The others wait for a worker of theirs."""

    @app.task
    def work() -> None: ...

    other = work.using(queue="b").enqueue()
    with app.worker(queues="a"):
        ended(work.using(queue="a").enqueue())
        assert other.refresh().status == "pending"


def test_events_tell_what_is_stored(app: Windlass) -> None:
    """Listeners hear ``JobFailed`` with ``will_retry`` and the exception, then ``JobDead``; a broken one is harmless."""
    heard: list[tuple[str, Any]] = []

    @app.on(JobFailed)
    def failing(event: JobFailed) -> None:
        heard.append(("failed", (event.will_retry, type(event.exception), event.job.status.value)))
        raise RuntimeError("a listener of no use")

    @app.on(JobDead)
    def dying(event: JobDead) -> None:
        heard.append(("dead", app.get(event.job.id).status.value))

    @app.task(max_attempts=2)
    def broken() -> None:
        raise ValueError

    with app.worker():
        ended(broken.enqueue())
    assert heard == [
        ("failed", (True, ValueError, "pending")),
        ("failed", (False, ValueError, "dead")),
        ("dead", "dead"),
    ]


@pytest.mark.parametrize("colour", ["thread", "async"])
def test_log_records_carry_the_job_s_id(app: Windlass, caplog: pytest.LogCaptureFixture, colour: str) -> None:
    """Records made while a job runs have its id and task; others have none."""
    log = logging.getLogger("mine")

    def speak() -> int:
        log.warning("hello")
        return current().job.id

    async def aspeak() -> int:
        return speak()

    app.register("speak", aspeak if colour == "async" else speak)
    with caplog.at_level(logging.WARNING, "mine"), app.worker():
        job = ended(app.enqueue("speak"))
        log.warning("outside")
    inside, outside = (record for record in caplog.records if record.name == "mine")
    assert (inside.job_id, inside.task, job.result) == (job.id, "speak", job.id)  # type: ignore[attr-defined]
    assert outside.job_id is None  # type: ignore[attr-defined]


@pytest.mark.slow
def test_a_job_on_its_last_crash_runs_alone(make: Callable[..., Windlass]) -> None:
    """While it runs nothing else starts in its process; afterwards the others do."""
    app = make(max_crashes=2)
    alone, go = threading.Event(), threading.Event()

    @app.task
    def poison() -> None:
        alone.set()
        assert go.wait(20)

    @app.task
    def neighbour() -> None: ...

    job = poison.enqueue()
    claim = app.claim(lease=0.001)
    assert claim is not None
    until(app.rescue)
    assert job.refresh().crashes == 1
    with app.worker(concurrency=4) as worker:
        assert alone.wait(20)
        others = [neighbour.enqueue() for _ in range(3)]
        turns = worker._parts.pump.turns  # type: ignore[union-attr]
        until(lambda: worker._parts.pump.turns >= turns + 2)  # type: ignore[union-attr]
        assert {other.refresh().status for other in others} == {"pending"}
        go.set()
        assert {ended(other).status for other in [job, *others]} == {"completed"}


def test_two_applications_side_by_side_keep_to_their_own(make: Callable[..., Windlass], tmp_path: Any) -> None:
    """Two stores, two workers, one process: each runs its own jobs."""
    apps = [make(), make(url=f"sqlite:///{tmp_path}/other.db"), make(prefix="third")]
    for number, app in enumerate(apps):
        app.register("who", lambda number=number: number)
    with apps[0].worker(), apps[1].worker(), apps[2].worker():
        jobs = [[app.enqueue("who") for _ in range(20)] for app in apps]
        assert [{ended(job).result for job in mine} for mine in jobs] == [{0}, {1}, {2}]


def test_a_second_start_is_refused(app: Windlass) -> None:
    """``start`` twice is a ``WorkerStateError``; after a stop it starts again under a new id."""
    worker = app.worker()
    worker.start()
    first = worker.id
    with pytest.raises(WorkerStateError, match="running already"):
        worker.start()
    worker.stop()
    worker.stop()
    worker.start()
    assert worker.id != first
    worker.stop()
    app.start()
    with pytest.raises(WorkerStateError, match="running already"):
        app.start()
    app.stop()
    app.stop()


def test_a_closed_application_refuses_everything(make: Callable[..., Windlass]) -> None:
    """Every operation and its twin raises ``ClosedError``; closing again is harmless."""
    app = make()

    @app.task
    def work() -> None: ...

    job = work.enqueue()
    app.close()
    app.close()
    for call in (
        work.enqueue, app.stats, app.jobs, app.count, app.queues, app.workers, app.rescue, app.claim, app.start,
        app.run, app.worker, job.refresh, job.history, lambda: app.get(job.id), lambda: app.cancel(job.id),
        lambda: app.retry(job.id), lambda: app.delete(job.id), lambda: app.purge(1), lambda: app.pause(queue="x"),
        lambda: app.why(job.id), lambda: app.enqueue("work"), lambda: app.enqueue_many([work.job()]),
        app.diagnose, app.migrate, app.throughput,
    ):  # fmt: skip
        with pytest.raises(ClosedError):
            call()

    async def twins() -> None:
        for call in (work.aenqueue, app.astats, app.ajobs, lambda: app.aget(job.id), lambda: app.aenqueue("work")):
            with pytest.raises(ClosedError):
                await call()

    asyncio.run(twins())


@pytest.mark.slow
@pytest.mark.parametrize("colour", ["thread", "async"])
def test_closing_under_a_worker_hangs_nothing(make: Callable[..., Windlass], colour: str) -> None:
    """A worker whose application was closed stops; the job is given to the next one, not lost."""
    app = make(grace=1, beat=0.2, lost_after=0.8)
    begun, go = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go.wait(20)

    async def awork() -> None:
        begun.set()
        await asyncio.to_thread(go.wait, 20)

    app.register("work", awork if colour == "async" else work)
    worker = app.worker()
    worker.start()
    job = app.enqueue("work")
    assert begun.wait(20)
    app.close()
    go.set()
    worker.stop()
    second = make()
    second.register("work", lambda: "second")
    with second.worker():
        assert until(lambda: second.get(job.id).status == "completed" or second.rescue())


def test_hooks_see_the_worker_and_each_attempt(app: Windlass) -> None:
    """Start before the first claim, around every attempt, stop after the last."""
    seen: list[str] = []

    @app.on_start
    def begin() -> None:
        seen.append("start")

    @app.on_stop
    def end() -> None:
        seen.append("stop")

    @app.around_attempt
    def around(context: Context) -> Iterator[None]:
        seen.append(f"before {context.attempt}")
        try:
            yield
        finally:
            seen.append(f"after {context.attempt}")

    @app.task(max_attempts=2)
    def work() -> None:
        seen.append("work")
        if current().attempt == 1:
            raise ValueError

    with app.worker():
        ended(work.enqueue())
    assert seen == ["start", "before 1", "work", "after 1", "before 2", "work", "after 2", "stop"]
