"""What a job's terms say is heeded by whoever meets it: workers, the rescuer, the testing kit, claims by hand."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from tests.waiting import until
from tests.worker import handlers
from tests.worker.ending import ended, outcomes
from windlass import ConfigurationError, Context, JobCancelled, JobNotFoundError, Retry, chain, current, rescuer
from windlass.drivers.base import Turn
from windlass.drivers.memory import MemoryDriver
from windlass.terms import Terms, encode, link, terms_of
from windlass.testing import testing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from typing import TypeAlias

    from windlass import Windlass
    from windlass.job import Record
    from windlass.task import AnyTask

    Way: TypeAlias = "Callable[[Windlass], AbstractContextManager[Callable[[], object]]]"


def nothing() -> None: ...


# ---------------------------------------------------------------------------------------- at the door


@pytest.mark.parametrize(
    "wrong",
    [
        {"expires": 0},
        {"expires": -1},
        {"expires": datetime(2030, 1, 1)},
        {"deadline": 0},
        {"deadline": float("nan")},
        {"on_crash": "explode"},
        {"keep": "never"},
        {"keep": 2},
        {"keep": 0.0},
    ],
    ids=str,
)
def test_terms_that_cannot_be_right_are_refused(app: Windlass, wrong: dict[str, Any]) -> None:
    """By the decorator, by ``using`` and by name alike."""
    task = app.register("nothing", nothing)
    with pytest.raises(ConfigurationError):
        app.register("other", nothing, **wrong)
    with pytest.raises(ConfigurationError):
        task.using(**wrong)
    with pytest.raises(ConfigurationError):
        app.enqueue("nothing", **wrong)


def test_a_job_that_could_never_start_is_refused(app: Windlass) -> None:
    """Its delay is longer than it is of use."""
    task = app.register("nothing", nothing, expires=60)
    later = datetime(2040, 1, 1, tzinfo=UTC)
    with pytest.raises(ConfigurationError, match="expires"):
        task.using(delay=60).enqueue()
    with pytest.raises(ConfigurationError, match="deadline"):
        task.using(run_at=later, deadline=later - timedelta(days=1)).enqueue()
    assert task.using(delay=59).enqueue().status == "scheduled"


def terms(app: Windlass, task: AnyTask, **options: Any) -> Terms:
    return terms_of(app.new_job(task.using(**options).job()))


def test_a_call_goes_before_its_task_term_by_term(app: Windlass) -> None:
    """What the call does not say stays as the task says; an instant replaces a duration."""
    task = app.register("nothing", nothing, expires=60, on_crash="dead", keep=0)
    assert terms(app, task) == Terms(expires=60, on_crash="dead", keep=False)
    assert terms(app, task, expires=timedelta(minutes=2)) == Terms(expires=120, on_crash="dead", keep=False)
    at = datetime(2040, 1, 1, tzinfo=UTC)
    assert terms(app, task, expires=at) == Terms(expires_at=at.timestamp(), on_crash="dead", keep=False)
    assert terms(app, task, keep=True, on_crash="retry", deadline=9) == Terms(expires=60, deadline=9)


def test_a_plain_job_carries_no_terms(app: Windlass) -> None:
    """Nor does one whose call says what is usual anyway."""
    task = app.register("nothing", nothing)
    assert app.new_job(task.job()).terms is None
    assert app.new_job(task.using(keep=True, on_crash="retry").job()).terms is None


# ---------------------------------------------------------------------------------------- expiry


def test_an_expired_job_is_cancelled_without_being_run(app: Windlass) -> None:
    """It counts no attempt, leaves no history, and says why; the event is told."""
    seen: list[int] = []
    app.on(JobCancelled)(lambda event: seen.append(event.job.id))
    task = app.register("nothing", nothing, expires=60)
    with testing(app) as t:
        job = task.enqueue()
        t.advance(61)
        assert t.drain() == 0
        after = job.refresh()
        assert (after.status, after.attempt, after.history()) == ("cancelled", 0, [])
        assert str(after.error).startswith("windlass.Expired: expired: not started within 60 s")
    done = threading.Event()
    app.register("done", done.set)
    with app.worker(concurrency=1):
        late = task.using(expires=datetime(2020, 1, 1, tzinfo=UTC)).enqueue()
        app.enqueue("done")
        assert done.wait(30)  # the slot of the expired job is free again
        assert ended(late).status == "cancelled"
    assert seen == [job.id, late.id]
    assert (app.stats().cancelled, app.stats().totals.cancelled) == (1, 1)


def test_a_job_that_has_started_once_does_not_expire(app: Windlass) -> None:
    """A retry may come later than the first start had to."""

    @app.task(expires=60, backoff=100)
    def second() -> None:
        if not tried:
            tried.append(1)
            raise OSError
        tried.append(2)

    tried: list[int] = []
    with testing(app) as t:
        job = second.enqueue()
        t.drain()
        t.advance(101)
        t.drain()
        assert (job.refresh().status, tried) == ("completed", [1, 2])


def test_an_expired_job_that_is_retried_by_hand_is_run(app: Windlass) -> None:
    """Whoever does that wants it to run."""
    task = app.register("nothing", nothing, expires=60)
    with testing(app) as t:
        job = task.enqueue()
        t.advance(61)
        t.drain()
        app.retry(job.id)
        assert t.drain() == 1
        assert (job.refresh().status, job.refresh().attempt) == ("completed", 1)


def test_a_claim_by_hand_passes_over_what_has_expired(app: Windlass) -> None:
    """It goes on to the next job, and returns nothing when there is none."""
    task = app.register("nothing", nothing, expires=60)
    driver = MemoryDriver(lambda: time[0])
    time = [1000.0]
    driver.open()
    with app.swapped(driver):
        late = [task.enqueue() for _ in range(3)]
        time[0] += 61
        good = task.enqueue()
        claim = app.claim()
        assert claim is not None
        assert claim.job.id == good.id
        assert app.claim() is None
        assert {job.refresh().status.value for job in late} == {"cancelled"}


# ---------------------------------------------------------------------------------------- deadline


def test_an_attempt_is_stopped_at_its_deadline_and_the_job_is_dead(app: Windlass) -> None:
    """Whichever comes first counts, the time limit or the deadline; no try is left after that."""

    @app.task(deadline=0.2, timeout=60, max_attempts=9)
    def endless(ctx: Context) -> None:
        ctx.cancelled.wait(30)

    with app.worker():
        job = ended(endless.enqueue())
    assert (job.status, job.failures) == ("dead", 1)
    assert job.error is not None
    assert job.error.kind == "timeout"
    assert job.error.message.startswith("missed its deadline")


def test_a_time_limit_before_the_deadline_is_only_a_failure(app: Windlass) -> None:
    """There is time for another try."""

    @app.task(deadline=3600, timeout=0.1, max_attempts=2)
    def endless(ctx: Context) -> None:
        ctx.cancelled.wait(30)

    with app.worker():
        job = ended(endless.enqueue())
    assert (job.status, job.failures) == ("dead", 2)
    assert job.error is not None
    assert job.error.message == "timed out after 0.1 s"


def test_no_try_is_left_that_could_only_start_after_the_deadline(app: Windlass) -> None:
    """Dead at once, with the error of the attempt; one that still can is made."""

    @app.task(deadline=60, max_attempts=9)
    def failing(after: float) -> None:
        raise Retry("not now", after=after)

    with testing(app) as t:
        jobs = [failing.enqueue(59), failing.enqueue(61)]
        t.drain()
        assert [job.refresh().status.value for job in jobs] == ["retrying", "dead"]
        claim = failing.enqueue(0)
        taken = app.claim()
        assert taken is not None
        taken.nack(delay=61)
        assert claim.refresh().status == "dead"


def test_a_job_past_its_deadline_is_not_started(app: Windlass) -> None:
    """It is dead: the failure says what it missed."""
    ran: list[int] = []
    task = app.register("append", lambda: ran.append(1), deadline=60)
    with testing(app) as t:
        job = task.enqueue()
        t.advance(60)
        assert t.drain() == 0
        after = job.refresh()
        assert (after.status, after.failures, ran) == ("dead", 1, [])
        assert after.error is not None
        assert after.error.message.startswith("missed its deadline, 2026-01-01 00:01:00")


# ---------------------------------------------------------------------------------------- crashes, and what is kept


def test_a_crash_is_the_last_where_that_was_asked_for(app: Windlass) -> None:
    """The rescuer reads it from the job: it need not know the task."""
    task = app.register("nothing", nothing)
    driver = MemoryDriver()
    driver.open()
    with app.swapped(driver):
        jobs = [task.using(on_crash="dead").enqueue(), task.enqueue()]
        driver.exchange(Turn(worker="gone", limit=2, start=2, tasks=("nothing",)))
        rescuer.give_back(driver, driver.orphans(9), worker="me", max_crashes=3)
        assert [job.refresh().status.value for job in jobs] == ["dead", "pending"]
        assert [job.refresh().crashes for job in jobs] == [1, 1]


def test_a_crashed_child_is_the_last_where_that_was_asked_for(app: Windlass) -> None:
    """The process lane counts like the rescuer."""
    crash = app.register("crash", handlers.crash, lane="process", on_crash="dead")
    with app.worker():
        job = ended(crash.enqueue("exit"))
    assert (job.status, job.crashes, outcomes(job)) == ("dead", 1, ["lost"])


@contextmanager
def by_worker(app: Windlass) -> Iterator[Callable[[], object]]:
    with app.worker(concurrency=1):
        yield lambda: until(lambda: not app.stats().pending + app.stats().running)


@contextmanager
def by_testing(app: Windlass) -> Iterator[Callable[[], object]]:
    with testing(app) as t:
        yield t.drain


@contextmanager
def by_hand(app: Windlass) -> Iterator[Callable[[], object]]:
    def run() -> None:
        while (claim := app.claim()) is not None:
            try:
                claim.ack(app.tasks[claim.job.task](**claim.job.payload))
            except OSError as error:
                claim.nack(error=error)

    yield run


ways = pytest.mark.parametrize("way", [by_worker, by_testing, by_hand])


@ways
def test_a_job_of_which_nothing_is_kept_is_gone_when_it_has_completed(app: Windlass, way: Way) -> None:
    """It is counted; one that fails stays."""

    @app.task(keep=False, max_attempts=1)
    def brief(fail: bool) -> str:
        if fail:
            raise OSError
        return "result"

    with way(app) as run:
        done, failed = brief.enqueue(fail=False), brief.enqueue(fail=True)
        run()
        assert [job.id for job in app.jobs()] == [failed.id]
        assert (app.stats().completed, app.stats().totals.processed) == (0, 1)
        with pytest.raises(JobNotFoundError):
            done.refresh()


# ---------------------------------------------------------------------------------------- chains


def chained(app: Windlass, first: AnyTask, *later: tuple[AnyTask, tuple[str, ...]]) -> Record:
    """Store a job with steps after it."""
    steps = tuple(link(app.new_job(task.job(0)), previous) for task, previous in later)
    job = msgspec.structs.replace(app.new_job(first.job(1)), terms=encode(Terms(chain=steps)))
    return app.driver.insert([job])[0]


@ways
def test_a_completed_step_brings_the_next_with_its_result(app: Windlass, way: Way) -> None:
    """Each step is enqueued with the completion of the one before; the last has none after it."""

    @app.task
    def add(number: int) -> int:
        return number + 1

    with way(app) as run:
        chained(app, add, (add, ("number",)), (add, ("number",)))
        run()
        assert [job.result for job in reversed(app.jobs())] == [2, 3, 4]


def test_a_step_that_fails_brings_nothing(app: Windlass) -> None:
    """The chain ends with it."""

    @app.task(max_attempts=1)
    def fail(number: int) -> None:
        raise OSError

    with testing(app) as t:
        chained(app, fail, (fail, ("number",)))
        assert t.drain() == 1
        assert len(t.jobs) == 1


def test_a_transaction_heeds_the_terms_of_its_job(make: Callable[..., Windlass]) -> None:
    """The next step of the chain is enqueued in it; of a job of which nothing is kept, nothing is."""
    app = make()

    @app.task(keep=False)
    def first() -> None:
        with current().transaction() as tx:
            tx.result(20)

    @app.task
    def second(number: int) -> int:
        return number + 1

    with app.worker():
        chain(first.job(), second).enqueue()
        until(lambda: app.jobs(status="completed"))
    [job] = app.jobs()
    assert (job.task, job.result) == ("second", 21)
