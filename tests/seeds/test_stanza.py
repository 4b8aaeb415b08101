"""What stanza's job queue promises, in Windlass's words.

Each docstring names the feature or behaviour of stanza; where Windlass decides otherwise it says so.
"""

import logging
import sqlite3
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.seeds.bench import Gate, Open, Spawn, becomes, busy, ended
from tests.waiting import until
from windlass import (
    ConfigurationError,
    Context,
    DuplicateTaskError,
    Exponential,
    Job,
    JobNotFoundError,
    JobStateError,
    LeaseLostError,
    Linear,
    ShutdownTimeoutError,
    Snooze,
    Windlass,
    WorkerStateError,
)
from windlass.testing import testing

# ---------------------------------------------------------------------------------------- creating a queue


def test_jobs_are_rows_in_one_sqlite_file(file_url: str, tmp_path: Path, opened: Open) -> None:
    """Durable, SQLite-backed: a job is a row that any SQLite client can see."""
    opened(file_url).enqueue("send-email", {"to": "ada"})
    with closing(sqlite3.connect(tmp_path / "jobs.db")) as reader:
        [(count,)] = reader.execute("SELECT count(*) FROM windlass_job")
    assert count == 1


def test_jobs_survive_a_restart(file_url: str, opened: Open) -> None:
    """Jobs survive process restarts: the next process finds and runs them."""
    first = opened(file_url)
    job = first.enqueue("send-email", {"to": "ada"})
    first.close()

    second = opened(file_url)
    second.register("send-email", lambda to: f"sent to {to}")
    with second.worker():
        assert ended(second.get(job.id)).result == "sent to ada"


def test_the_defaults_are_windlass_own() -> None:
    """Defaults: 3 attempts and no time limit as in stanza; 0.2 s of poll and exponential back-off unlike stanza."""
    with Windlass("memory://") as app:
        assert app.settings.max_attempts == 3
        assert app.settings.timeout is None
        assert app.settings.poll == 0.2
        assert app.settings.backoff == Exponential(base=5, factor=2, cap=300, jitter=0.1)
        assert app.settings.queue == "default"


def test_a_worker_runs_ten_jobs_at_once_unless_told_otherwise(app: Windlass) -> None:
    """WithWorkers defaults to 1 in stanza and is `concurrency` of the worker here, 10 unless given."""
    assert app.worker().snapshot().concurrency == 10
    assert app.worker(concurrency=2).snapshot().concurrency == 2


def test_each_option_has_its_spelling() -> None:
    """WithPollInterval, WithMaxAttempts, WithRetryDelay, WithDefaultTimeout, WithLogger are constructor arguments."""
    logger = logging.getLogger("shop")
    options: dict[str, Any] = {"poll": 2, "max_attempts": 7, "backoff": Linear(10), "timeout": timedelta(minutes=5)}
    with Windlass("memory://", logger=logger, **options) as app:
        assert app.settings.poll == 2
        assert app.settings.max_attempts == 7
        assert app.settings.backoff == Linear(10)
        assert app.settings.timeout == 300
        assert app.log is logger


@pytest.mark.parametrize(
    "option",
    [
        {"max_attempts": 0},
        {"max_attempts": -1},
        {"poll": 0},
        {"poll": -1},
        {"backoff": -1},
        {"timeout": -1},
    ],
    ids=str,
)
def test_an_impossible_option_is_an_error(option: dict[str, Any]) -> None:
    """Stanza silently keeps the default for such values; Windlass refuses them."""
    with pytest.raises(ConfigurationError):
        Windlass("memory://", **option)


@pytest.mark.parametrize("concurrency", [0, -1])
def test_an_impossible_number_of_workers_is_an_error(app: Windlass, concurrency: int) -> None:
    """WithWorkers(0) and (-1) keep the default in stanza; here they are refused."""
    with pytest.raises(ConfigurationError):
        app.worker(concurrency=concurrency)


def test_a_retry_delay_of_zero_tries_again_at_once(app: Windlass) -> None:
    """WithRetryDelay(0) is valid: the job is pending again without waiting."""
    job = app.enqueue("flaky")
    claim = app.claim()
    assert claim is not None
    claim.nack(error="not now")
    assert job.refresh().status == "pending"


def test_a_logger_hears_what_happens(store: str, opened: Open, caplog: pytest.LogCaptureFixture) -> None:
    """WithLogger: completions, retries and dead letters reach the given logger."""
    app = opened(store, backoff=0, max_attempts=2, logger=logging.getLogger("shop.jobs"))

    @app.task
    def good() -> None: ...

    @app.task
    def bad() -> None:
        raise ValueError("no such user")

    with caplog.at_level(logging.DEBUG, logger="shop.jobs"), app.worker():
        ended(good.enqueue())
        ended(bad.enqueue())
        until(lambda: "is dead" in caplog.text)
    lines = {record.levelname: record.getMessage() for record in caplog.records if record.name == "shop.jobs"}
    assert "completed" in caplog.text
    assert "will retry" in lines["WARNING"]
    assert "is dead: ValueError: no such user" in lines["ERROR"]


def test_enqueue_works_before_anything_was_started(app: Windlass) -> None:
    """In stanza an enqueue before the first Start has no table; here the schema is made at first use."""
    assert app.enqueue("send-email", {"to": "ada"}).id > 0


# ---------------------------------------------------------------------------------------- registering handlers


def test_a_handler_is_registered_under_a_name_and_given_the_payload(app: Windlass) -> None:
    """Register("send-email", handler): the job type selects the handler, the JSON payload is its argument."""
    sent: list[tuple[str, str]] = []

    def handle(to: str, subject: str) -> None:
        sent.append((to, subject))

    app.register("send-email", handle)
    with app.worker():
        ended(app.enqueue("send-email", {"to": "ada", "subject": "Welcome!"}))
    assert sent == [("ada", "Welcome!")]


def test_a_handler_may_be_registered_while_the_worker_runs(app: Windlass) -> None:
    """Stanza documents registration before Start only; here it takes effect at the next turn."""
    with app.worker():
        job = app.enqueue("late")
        app.register("late", lambda: "done")
        assert ended(job).result == "done"


def test_registering_a_name_twice_is_an_error(app: Windlass) -> None:
    """In stanza the second handler silently wins; here that takes `replace=True`."""
    app.register("greet", lambda: "first")
    with pytest.raises(DuplicateTaskError):
        app.register("greet", lambda: "second")
    app.register("greet", lambda: "second", replace=True)
    with app.worker():
        assert ended(app.enqueue("greet")).result == "second"


def test_a_job_without_a_handler_stays_pending(app: Windlass) -> None:
    """Stanza fails it until it is dead; here it waits, untouched, for a worker that knows the task."""
    app.register("known", lambda: None)
    stranger = app.enqueue("unknown", max_attempts=1)
    with app.worker():
        ended(app.enqueue("known"))
        left = stranger.refresh()
        reason = app.why(stranger.id)
    assert (left.status, left.attempt, left.failures) == ("pending", 0, 0)
    assert reason.code == "unknown-task"


def test_a_worker_warns_of_a_job_it_does_not_know(app: Windlass, caplog: pytest.LogCaptureFixture) -> None:
    """Stanza says that no handler is registered by failing the job; here the job waits and the worker warns."""
    app.register("known", lambda: None)
    app.enqueue("unknown")
    with caplog.at_level(logging.WARNING), app.worker():
        ended(app.enqueue("known"))
        until(lambda: "unknown" in caplog.text)


def test_jobs_without_a_handler_can_be_made_to_die(store: str, opened: Open) -> None:
    """Stanza's own rule, no handler is a failure, is `unknown="dead"`."""
    app = opened(store, unknown="dead")
    with app.worker():
        assert ended(app.enqueue("unknown", max_attempts=1)).status == "dead"


def test_a_payload_that_cannot_be_read_fails_the_attempt(app: Windlass) -> None:
    """The recipe returns an unmarshal error, which is retried; here the decoding is done for the handler."""
    job = app.enqueue("greet", {"name": 42}, max_attempts=1)

    def greet(name: str) -> None: ...

    app.register("greet", greet)
    with app.worker():
        dead = ended(job)
    assert dead.status == "dead"
    assert dead.error is not None
    assert dead.error.kind == "payload"


# ---------------------------------------------------------------------------------------- enqueueing


def test_enqueue_answers_with_a_pending_job(app: Windlass) -> None:
    """Enqueue returns the id of a pending job with the defaults: queue `default`, three attempts."""
    job = app.enqueue("send-email", {"to": "ada"})
    assert job.id > 0
    assert (job.status, job.queue, job.max_attempts, job.attempt) == ("pending", "default", 3, 0)
    assert app.enqueue("send-email").id > job.id


def test_the_payload_comes_back_as_it_was_given(app: Windlass) -> None:
    """The payload is the caller's own JSON: a raw task is given it untouched."""

    @app.task(raw=True)
    def echo(value: Any) -> Any:
        return value

    given = {"to": "user@example.org", "nested": [1, 2.5, None, {"ü": "✓"}], "big": 2**60}
    job = app.enqueue("echo", given)
    assert app.get(job.id).payload == given
    with app.worker():
        assert ended(job).result == given


def test_no_payload_is_an_empty_object(app: Windlass) -> None:
    """A nil payload is stored as `{}`."""
    assert app.enqueue("sweep").payload == {}


def test_a_delay_is_kept_to_the_millisecond(app: Windlass) -> None:
    """Delay(5m) sets run_at; stanza rounds to whole seconds, Windlass does not."""
    job = app.enqueue("send-email", delay=timedelta(minutes=5, milliseconds=250))
    assert job.status == "scheduled"
    assert (job.run_at - job.created_at) / timedelta(milliseconds=1) == pytest.approx(300_250, abs=1)


def test_a_delayed_job_is_not_run_before_its_time(app: Windlass) -> None:
    """A delayed job is invisible to workers until it is due."""
    job = app.enqueue("send-email", delay=3600)
    assert app.claim() is None
    app.driver.shift(3600)
    claim = app.claim()
    assert claim is not None
    assert claim.job.id == job.id


def test_delayed_jobs_run_in_the_order_of_their_times(app: Windlass) -> None:
    """The oldest run_at goes first, whichever was enqueued first."""
    late, early = app.enqueue("send-email", delay=20), app.enqueue("send-email", delay=10)
    app.driver.shift(30)
    order = []
    while (claim := app.claim()) is not None:
        order.append(claim.job.id)
    assert order == [early.id, late.id]


def test_a_delayed_job_wakes_an_idle_worker(opened: Open, store: str) -> None:
    """A worker of stanza finds due jobs at its next tick; here it wakes when the job is due, whatever `poll` is."""
    app = opened(store, poll=60)
    app.register("soon", lambda: None)
    with app.worker():
        job = ended(app.enqueue("soon", delay=0.1))
    assert job.started_at is not None
    assert timedelta(0) <= job.started_at - job.run_at < timedelta(seconds=10)


def test_a_negative_delay_is_an_error(app: Windlass) -> None:
    """Stanza runs such a job at once; here it is refused."""
    with pytest.raises(ConfigurationError):
        app.enqueue("send-email", delay=-1)


def test_max_attempts_can_be_set_for_one_job(app: Windlass) -> None:
    """MaxAttempts(5) at enqueue wins over the default."""
    assert app.enqueue("send-email", max_attempts=5).refresh().max_attempts == 5


@pytest.mark.parametrize("attempts", [0, -1])
def test_impossible_max_attempts_at_enqueue_are_an_error(app: Windlass, attempts: int) -> None:
    """MaxAttempts(0) and (-1) keep the default in stanza; here they are refused."""
    with pytest.raises(ConfigurationError):
        app.enqueue("send-email", max_attempts=attempts)


def test_a_job_can_be_put_on_a_named_queue(app: Windlass) -> None:
    """OnQueue("reports") names the job's queue."""
    assert app.enqueue("generate-report", queue="reports").refresh().queue == "reports"


def test_a_worker_takes_from_all_queues_unless_told_otherwise(app: Windlass) -> None:
    """In stanza a queue's name is a label and every worker takes from all."""
    app.register("generate-report", lambda: None)
    with app.worker():
        assert ended(app.enqueue("generate-report", queue="reports")).status == "completed"
        assert ended(app.enqueue("generate-report")).status == "completed"


def test_a_worker_can_be_kept_to_a_queue(app: Windlass) -> None:
    """Named queues isolate nothing in stanza; here a worker can be told which to take from."""
    app.register("generate-report", lambda: None)
    other = app.enqueue("generate-report", queue="slow")
    with app.worker(queues="reports"):
        ended(app.enqueue("generate-report", queue="reports"))
        assert other.refresh().status == "pending"


# ---------------------------------------------------------------------------------------- life of a job


def test_a_job_that_succeeds_is_completed(app: Windlass) -> None:
    """pending → running → completed, with one attempt and all its instants."""
    app.register("send-email", lambda: None)
    before = datetime.now(UTC) - timedelta(seconds=1)
    job = app.enqueue("send-email")
    assert job.started_at is None
    assert job.finished_at is None
    with app.worker():
        job = ended(job)
    assert (job.status, job.attempt, job.failures, job.error) == ("completed", 1, 0, None)
    assert job.started_at is not None
    assert job.finished_at is not None
    assert before <= job.created_at <= job.started_at <= job.finished_at
    assert job.run_at.utcoffset() == timedelta(0)


def test_a_job_is_running_while_its_handler_runs(app: Windlass, gate: Gate) -> None:
    """Status `running`: currently being processed."""
    app.register("send-email", gate.pass_through)
    job = app.enqueue("send-email")
    with app.worker() as worker:
        gate.wait_for()
        seen = job.refresh()
        gate.open()
        ended(job)
    assert (seen.status, seen.worker) == ("running", worker.id)


def test_a_job_that_fails_once_is_tried_again(app: Windlass) -> None:
    """failed, retries remaining → pending → completed at the second attempt."""

    @app.task(max_attempts=2)
    def flaky(ctx: Context) -> None:
        if ctx.attempt == 1:
            raise ConnectionError("try later")

    with app.worker():
        job = ended(flaky.enqueue())
    assert (job.status, job.attempt, job.failures) == ("completed", 2, 1)
    assert [row.outcome for row in job.history()] == ["failed", "completed"]


def test_a_job_that_keeps_failing_is_dead(app: Windlass) -> None:
    """failed, no retries left → dead, with the last error and the time."""

    @app.task(max_attempts=2)
    def broken() -> None:
        raise ValueError("no such user")

    with app.worker():
        job = ended(broken.enqueue())
    assert (job.status, job.attempt, job.failures) == ("dead", 2, 2)
    assert job.error is not None
    assert job.error.message == "no such user"
    assert str(job.error) == "ValueError: no such user"
    assert job.finished_at is not None


def test_a_failed_attempt_that_will_be_repeated_is_retrying(opened: Open, store: str) -> None:
    """Stanza documents `failed` and never writes it; here `retrying` is what waits for its next try."""
    app = opened(store, backoff=Linear(30))
    job = app.enqueue("flaky")
    claim = app.claim()
    assert claim is not None
    claim.nack(error="boom")
    waiting = job.refresh()
    assert waiting.status == "retrying"
    assert app.stats().failed == 1
    assert [found.id for found in app.jobs(status="failed")] == [job.id]


def test_the_delay_between_retries_grows_by_the_same_step(opened: Open, store: str) -> None:
    """Linear back-off: the retry delay times the number of failures, spelt `Linear(30)`."""
    app = opened(store, backoff=Linear(30), max_attempts=5)
    job = app.enqueue("flaky")
    waits = []
    for _ in range(4):
        claim = app.claim()
        assert claim is not None
        claim.nack(error="boom")
        failed = job.history()[-1].finished_at
        assert failed is not None
        waits.append(round((job.refresh().run_at - failed).total_seconds()))
        app.driver.shift(waits[-1])
    assert waits == [30, 60, 90, 120]


def test_a_handler_that_blows_up_is_a_failed_attempt(app: Windlass) -> None:
    """A panic is recovered and follows the normal failure path; the worker lives on."""

    @app.task(max_attempts=1)
    def panic() -> None:
        raise SystemExit("panic")

    app.register("next", lambda: None)
    with app.worker(concurrency=1):
        job = ended(panic.enqueue())
        assert ended(app.enqueue("next")).status == "completed"
    assert job.status == "dead"
    assert job.error is not None
    assert job.error.type == "SystemExit"


def test_four_workers_run_each_job_once(app: Windlass) -> None:
    """Ten jobs over four workers: every one runs, none twice."""
    ran: list[int] = []

    @app.task
    def count(number: int) -> None:
        ran.append(number)

    jobs = app.enqueue_many([count.job(number) for number in range(10)])
    with app.worker(concurrency=4):
        for job in jobs:
            ended(job)
    assert sorted(ran) == list(range(10))


def test_a_backlog_is_not_worked_off_at_the_pace_of_the_poll(opened: Open, store: str) -> None:
    """A worker of stanza takes one job per poll interval; here `poll` is only for an idle worker."""
    app = opened(store, poll=3600)
    app.register("count", lambda: None)
    jobs = [app.enqueue("count") for _ in range(50)]
    with app.worker(concurrency=1):
        for job in jobs:
            ended(job)
    assert app.stats().completed == 50


# ---------------------------------------------------------------------------------------- timeouts


def blocked(ctx: Context) -> None:
    """Works until told to stop, as a handler should."""
    if ctx.cancelled.wait(20):
        raise InterruptedError("told to stop")


def test_the_default_timeout_ends_an_attempt(opened: Open, store: str) -> None:
    """WithDefaultTimeout: the handler is told to stop and the job fails with a timeout; below a second it works too."""
    app = opened(store, timeout=0.1, max_attempts=1)
    app.register("report", blocked)
    with app.worker():
        job = ended(app.enqueue("report"))
    assert job.status == "dead"
    assert job.error is not None
    assert job.error.kind == "timeout"
    assert "timed out after 0.1 s" in job.error.message
    assert "told to stop" in job.error.message


def test_a_timed_out_job_is_tried_again(app: Windlass) -> None:
    """A timeout follows the normal retry flow until the attempts are used up."""
    app.register("report", blocked)
    with app.worker():
        job = ended(app.enqueue("report", timeout=0.05, max_attempts=2))
    assert (job.status, job.failures) == ("dead", 2)
    assert [row.error.kind for row in job.history() if row.error] == ["timeout", "timeout"]


def test_a_timeout_at_enqueue_wins_over_the_default(opened: Open, store: str) -> None:
    """Timeout(d) at enqueue overrides the queue's default."""
    app = opened(store, timeout=3600, max_attempts=1)
    app.register("report", blocked)
    job = app.enqueue("report", timeout=timedelta(seconds=0.1))
    assert job.timeout == 0.1
    with app.worker():
        job = ended(job)
    assert job.error is not None
    assert "0.1 s" in job.error.message


def test_a_timeout_of_zero_disables_the_default(opened: Open, store: str, gate: Gate) -> None:
    """Timeout(0) means explicitly none, even when a default is set."""
    app = opened(store, timeout=0.05, max_attempts=1)

    @app.task
    def limited(ctx: Context) -> None:
        blocked(ctx)

    @app.task
    def unlimited(ctx: Context) -> bool:
        gate.pass_through()
        return ctx.cancelled.is_set()

    with app.worker():
        free = unlimited.using(timeout=0).enqueue()
        gate.wait_for()
        assert ended(limited.enqueue()).error is not None  # started later, and already over its time
        gate.open()
        job = ended(free)
    assert (job.status, job.result, job.timeout) == ("completed", False, 0)


def test_the_timeout_is_stored_with_the_job(file_url: str, opened: Open) -> None:
    """The timeout is kept per job in the database and survives restarts; unset is `None` here, not zero."""
    first = opened(file_url)
    limited, unset = first.enqueue("report", timeout=1800.5), first.enqueue("report")
    first.close()
    second = opened(file_url)
    assert second.get(limited.id).timeout == 1800.5
    assert second.get(unset.id).timeout is None


def test_a_handlers_own_timeout_error_is_an_ordinary_error(app: Windlass) -> None:
    """Stanza reports a handler's own deadline as the job's; here it is an error like any other."""

    @app.task(max_attempts=1, timeout=3600)
    def fetch() -> None:
        raise TimeoutError("the socket was slow")

    with app.worker():
        job = ended(fetch.enqueue())
    assert job.error is not None
    assert (job.error.kind, job.error.message) == ("error", "the socket was slow")


def test_what_a_handler_returns_after_its_time_does_not_count(app: Windlass) -> None:
    """A handler of stanza that ignores its context and returns nil completes; here its time was up."""

    @app.task(max_attempts=1, timeout=0.05)
    def stubborn(ctx: Context) -> str:
        ctx.cancelled.wait(20)
        return "finished all the same"

    with app.worker():
        job = ended(stubborn.enqueue())
    assert (job.status, job.result) == ("dead", None)


def test_an_async_handler_is_cancelled_when_its_time_is_up(app: Windlass) -> None:
    """The context's cancellation is asyncio's own in a coroutine function."""
    import asyncio

    told = threading.Event()

    @app.task(max_attempts=1, timeout=0.05)
    async def fetch() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            told.set()
            raise

    with app.worker():
        job = ended(fetch.enqueue())
    assert told.is_set()
    assert job.error is not None
    assert job.error.kind == "timeout"


# ---------------------------------------------------------------------------------------- start and stop


def test_start_works_in_the_background_and_stop_ends_it(app: Windlass) -> None:
    """Start and Stop are the lifecycle hooks: start returns at once, stop when the handlers are done."""
    app.register("send-email", lambda: None)
    worker = app.start()
    ended(app.enqueue("send-email"))
    app.stop()
    assert not worker.alive


def test_a_second_start_is_an_error(app: Windlass) -> None:
    """Start on a started queue fails."""
    app.start()
    with pytest.raises(WorkerStateError):
        app.start()
    app.stop()


def test_stopping_what_never_started_does_nothing(app: Windlass) -> None:
    """Stop of a queue that was never started is fine."""
    app.stop()
    app.worker().stop()


def test_a_stopped_worker_can_be_started_again(app: Windlass) -> None:
    """A stopped queue of stanza stays stopped; here start and stop can be repeated."""
    app.register("send-email", lambda: None)
    worker = app.worker()
    for _ in range(2):
        worker.start()
        assert ended(app.enqueue("send-email")).status == "completed"
        worker.stop()


def test_stop_waits_for_running_handlers(app: Windlass, gate: Gate) -> None:
    """Graceful shutdown: Stop returns when the in-flight job has finished."""
    app.register("report", gate.pass_through)
    job = app.enqueue("report")
    app.start()
    gate.wait_for()
    stopper = threading.Thread(target=app.stop)
    stopper.start()
    gate.open()
    stopper.join(20)
    assert job.refresh().status == "completed"


def test_stop_within_a_deadline_is_an_error_when_handlers_go_on(app: Windlass) -> None:
    """Stop with a context that expires returns an error; here it names the jobs that were given back."""
    started = threading.Event()

    @app.task
    def report(ctx: Context) -> None:
        started.set()
        blocked(ctx)

    job = report.enqueue()
    app.start()
    assert started.wait(20)
    with pytest.raises(ShutdownTimeoutError) as caught:
        app.stop(timeout=0.05)
    assert caught.value.job_ids == (job.id,)


def test_a_job_interrupted_by_a_stop_is_not_a_failure(app: Windlass) -> None:
    """Stanza books a failure, dead if it was the last; here the job is given back and counts nothing."""
    started = threading.Event()

    @app.task(max_attempts=1)
    def report(ctx: Context) -> None:
        if ctx.attempt == 1:
            started.set()
            blocked(ctx)

    job = report.enqueue()
    app.start()
    assert started.wait(20)
    with pytest.raises(ShutdownTimeoutError):
        app.stop(timeout=0)
    given = job.refresh()
    assert (given.status, given.failures, given.crashes) == ("pending", 0, 0)
    assert [row.outcome for row in given.history()] == ["released"]
    with app.worker():
        assert ended(job).attempt == 2


def test_a_handler_is_told_that_the_worker_stops(app: Windlass) -> None:
    """The context is cancelled when the queue stops; here `ctx.stopping` is set first and time is left to finish."""
    started = threading.Event()

    @app.task
    def report(ctx: Context) -> bool:
        started.set()
        assert ctx.stopping.wait(20)
        return ctx.cancelled.is_set()

    job = report.enqueue()
    with app.worker():
        assert started.wait(20)
    done = job.refresh()
    assert (done.status, done.result) == ("completed", False)


def test_a_job_left_running_is_taken_again(app: Windlass) -> None:
    """Recovery of stuck rows: stanza resets them at Start, here a lease that has run out is taken back."""
    app.register("send-email", lambda: None)
    job = app.enqueue("send-email")
    assert app.claim(lease=60) is not None
    assert job.refresh().status == "running"
    app.driver.shift(61)
    with app.worker():
        done = ended(job)
    assert (done.status, done.attempt, done.crashes) == ("completed", 2, 1)


def test_a_start_without_stuck_jobs_changes_nothing(app: Windlass) -> None:
    """Start with nothing to recover leaves the jobs as they are."""
    job = app.enqueue("unknown")
    with app.worker():
        pass
    assert app.rescue() == 0
    assert job.refresh() == job


@pytest.mark.slow
def test_a_killed_process_loses_no_job(file_url: str, opened: Open, spawn: Spawn) -> None:
    """A job that was running when its process died is taken again; one crash, no failure."""
    app = opened(file_url)
    app.register("report", lambda: "done")
    job = app.enqueue("report", max_attempts=1)
    program = spawn("""
        def report():
            print("started")
            sys.stdin.readline()

        app.register("report", report)
        app.run()
    """)
    assert program.stdout is not None
    assert program.stdout.readline() == "started\n"
    program.kill()
    program.wait()
    with app.worker():
        done = ended(job)
    assert (done.status, done.result, done.attempt, done.crashes, done.failures) == ("completed", "done", 2, 1, 0)
    assert [row.outcome for row in done.history()] == ["lost", "completed"]


@pytest.mark.slow
def test_a_second_process_leaves_what_runs_in_the_first_alone(file_url: str, opened: Open, spawn: Spawn) -> None:
    """A second process of stanza runs everything in flight again; here the first keeps its lease."""
    app = opened(file_url)
    app.register("other", lambda: None)
    job = app.enqueue("report")
    program = spawn("""
        def report():
            print("started")
            return sys.stdin.readline().strip()

        app.register("report", report)
        app.run()
    """)
    assert program.stdin is not None
    assert program.stdout is not None
    assert program.stdout.readline() == "started\n"
    app.register("report", lambda: "the second process ran it too")
    holder = job.refresh().worker
    with app.worker() as worker:
        # Through a whole `lost_after` the second process works and looks for lost jobs, and takes nothing.
        busy(app, "other", seconds=1.5)
        assert (job.refresh().status, job.refresh().worker) == ("running", holder)
        program.stdin.write("the first\n")
        program.stdin.flush()
        done = ended(job)
        assert worker.id != holder
    assert (done.result, done.attempt, done.crashes) == ("the first", 1, 0)


def test_a_job_that_kills_its_process_ends_dead(file_url: str, opened: Open, spawn: Spawn) -> None:
    """In stanza such a job is run for ever, past its attempts; here `max_crashes` bounds it."""
    app = opened(file_url, max_crashes=2)
    job = app.enqueue("poison")
    poison = """
        app.register("poison", lambda: os._exit(3))
        app.run()
    """
    for crash in (1, 2):
        assert spawn(poison).wait(20) == 3
        until(app.rescue)
        assert job.refresh().crashes == crash
    dead = job.refresh()
    assert (dead.status, dead.failures) == ("dead", 0)
    assert dead.error is not None
    assert dead.error.kind == "crash"


def test_a_late_handler_cannot_overwrite_the_newer_state(app: Windlass) -> None:
    """Stanza's completion is unconditional; here a write without the live lease is refused."""
    job = app.enqueue("report")
    late = app.claim(lease=1)
    assert late is not None
    app.driver.shift(2)
    assert app.rescue() == 1
    successor = app.claim()
    assert successor is not None
    with pytest.raises(LeaseLostError):
        late.ack("too late")
    assert job.refresh().status == "running"
    successor.ack("in time")
    assert job.refresh().result == "in time"


# ---------------------------------------------------------------------------------------- monitoring


@pytest.fixture
def one_of_each(opened: Open, store: str) -> tuple[Windlass, dict[str, Job]]:
    """A store with one job in every status."""
    app = opened(store, backoff=Linear(3600))
    jobs: dict[str, Job] = {}
    for status in ("completed", "dead", "retrying", "running"):
        jobs[status] = app.enqueue(status, queue="work", max_attempts=1 if status == "dead" else 3)
        claim = app.claim("work")
        assert claim is not None
        match status:
            case "completed":
                claim.ack()
            case "dead" | "retrying":
                claim.nack(error="boom")
    jobs["cancelled"] = app.enqueue("cancelled", queue="mail")
    app.cancel(jobs["cancelled"].id)
    jobs["scheduled"] = app.enqueue("scheduled", queue="mail", delay=60)
    jobs["pending"] = app.enqueue("pending", queue="mail")
    return app, jobs


def test_stats_are_zero_on_an_empty_store(app: Windlass) -> None:
    """Stats of an empty database: all zero."""
    stats = app.stats()
    assert (stats.pending, stats.running, stats.completed, stats.failed, stats.dead, stats.cancelled) == (0,) * 6


def test_stats_count_each_status(one_of_each: tuple[Windlass, dict[str, Job]]) -> None:
    """Stats count every status by itself; `failed` is what retries and what is dead."""
    app, jobs = one_of_each
    stats = app.stats()
    assert {status: getattr(stats, status) for status in jobs} == dict.fromkeys(jobs, 1)
    assert stats.failed == 2


def test_stats_count_pending_jobs(app: Windlass) -> None:
    """Three enqueued jobs are three pending ones."""
    for _ in range(3):
        app.enqueue("send-email")
    assert app.stats().pending == 3


def test_totals_do_not_fall_when_jobs_are_purged(app: Windlass) -> None:
    """Stanza's counters are row counts that fall at every purge; these only grow."""
    app.enqueue("send-email")
    claim = app.claim()
    assert claim is not None
    claim.ack()
    assert app.purge(0) == 1
    assert app.stats().completed == 0
    assert (app.stats().totals.enqueued, app.stats().totals.processed) == (1, 1)


@pytest.fixture
def shelf(app: Windlass) -> Windlass:
    """Two tasks on two queues, one job cancelled."""
    app.enqueue("send-email", queue="mail")
    app.enqueue("send-email", queue="mail")
    app.enqueue("report", queue="mail")
    app.enqueue("report", queue="slow")
    app.cancel(app.enqueue("send-email", queue="slow").id)
    return app


@pytest.mark.parametrize(
    ("filters", "number"),
    [
        ({}, 5),
        ({"queue": "mail"}, 3),
        ({"task": "report"}, 2),
        ({"status": "cancelled"}, 1),
        ({"queue": "mail", "task": "send-email", "status": "pending"}, 2),
        ({"queue": "nowhere"}, 0),
    ],
    ids=str,
)
def test_jobs_are_listed_and_counted_by_filters(shelf: Windlass, filters: dict[str, Any], number: int) -> None:
    """Jobs and JobCount filter by queue, type, status and all of them together."""
    found = shelf.jobs(**filters)
    assert len(found) == number
    assert shelf.count(**filters) == number
    assert all(getattr(job, name) == value for job in found for name, value in filters.items())


def test_jobs_are_listed_newest_first(shelf: Windlass) -> None:
    """The newest job stands first."""
    ids = [job.id for job in shelf.jobs()]
    assert ids == sorted(ids, reverse=True)


def test_limit_and_offset_page_through_jobs(shelf: Windlass) -> None:
    """Limit and Offset: a part of the list, and nothing past its end; the count ignores both."""
    assert len(shelf.jobs(limit=2)) == 2
    assert len(shelf.jobs(limit=2, offset=3)) == 2
    assert len(shelf.jobs(limit=2, offset=4)) == 1
    assert len(shelf.jobs(limit=2, offset=9)) == 0
    assert shelf.count() == 5


def test_a_cursor_pages_without_skipping(shelf: Windlass) -> None:
    """Stanza pages by offset only, which is slow and shifts under new jobs; here a page knows where the next begins."""
    first = shelf.jobs(limit=3)
    shelf.enqueue("report")
    second = shelf.jobs(limit=3, after=first.next)
    assert len({job.id for job in (*first, *second)}) == 5
    assert second.next is None


def test_fifty_jobs_are_listed_unless_told_otherwise(app: Windlass) -> None:
    """The default limit is 50."""

    @app.task
    def count() -> None: ...

    app.enqueue_many([count.job() for _ in range(60)])
    assert len(app.jobs()) == 50


def test_a_single_job_is_found_by_its_id(one_of_each: tuple[Windlass, dict[str, Job]]) -> None:
    """Job(42) shows type, status and the last error."""
    app, jobs = one_of_each
    dead = app.get(jobs["dead"].id)
    assert (dead.task, dead.status) == ("dead", "dead")
    assert dead.error is not None
    assert dead.error.message == "boom"


def test_an_unknown_id_is_not_found(app: Windlass) -> None:
    """Job(id) of an unknown job is an error."""
    with pytest.raises(JobNotFoundError):
        app.get(42)


# ---------------------------------------------------------------------------------------- management


def died(app: Windlass, **options: Any) -> Job:
    """Enqueue a job and let it die."""
    job = app.enqueue("send-email", max_attempts=1, **options)
    claim = app.claim()
    assert claim is not None
    claim.nack(error="boom")
    assert job.refresh().status == "dead"
    return job


def test_a_dead_job_can_be_retried(app: Windlass) -> None:
    """Retry brings a dead job back to pending, and it runs and completes."""
    job = died(app)
    app.retry(job.id)
    assert job.refresh().status == "pending"
    app.register("send-email", lambda: None)
    with app.worker():
        assert ended(job).status == "completed"


def test_retry_starts_counting_from_zero(app: Windlass) -> None:
    """Stanza grants one more attempt; by default Windlass grants all of them again and clears the finish."""
    job = died(app)
    app.retry(job.id)
    again = job.refresh()
    assert (again.failures, again.crashes, again.max_attempts, again.finished_at) == (0, 0, 1, None)
    assert len(again.history()) == 1


def test_retry_that_extends_grants_one_attempt(app: Windlass) -> None:
    """Stanza's own rule, max attempts plus one, is `mode="extend"`."""
    job = died(app)
    app.retry(job.id, mode="extend")
    assert (job.refresh().status, job.refresh().max_attempts, job.refresh().failures) == ("pending", 2, 1)
    claim = app.claim()
    assert claim is not None
    claim.nack(error="again")
    assert job.refresh().status == "dead"


def test_a_failed_job_can_be_retried_before_its_time(one_of_each: tuple[Windlass, dict[str, Job]]) -> None:
    """Retry works on failed jobs too: here that is one that waits for its next attempt."""
    app, jobs = one_of_each
    app.retry(jobs["retrying"].id)
    assert jobs["retrying"].refresh().status == "pending"


@pytest.mark.parametrize("status", ["pending", "scheduled", "running", "completed"])
def test_a_job_that_has_not_failed_is_not_retried(one_of_each: tuple[Windlass, dict[str, Job]], status: str) -> None:
    """Retry of a job that is neither failed nor dead is an error and changes nothing."""
    app, jobs = one_of_each
    with pytest.raises(JobStateError):
        app.retry(jobs[status].id)
    assert jobs[status].refresh().status == status


def test_a_pending_job_can_be_cancelled(app: Windlass) -> None:
    """Cancel: the job ends at once and is never run; unlike in stanza its finish is stamped."""
    job = app.enqueue("send-email")
    app.cancel(job.id)
    assert (job.refresh().status, job.refresh().finished_at is not None) == ("cancelled", True)
    assert app.claim() is None


def test_a_job_cannot_be_cancelled_twice(app: Windlass) -> None:
    """The second Cancel is an error, unless it is said to be fine."""
    job = app.enqueue("send-email")
    app.cancel(job.id)
    with pytest.raises(JobStateError):
        app.cancel(job.id)
    app.cancel(job.id, state_ok=True)


@pytest.mark.parametrize("status", ["completed", "dead"])
def test_a_finished_job_cannot_be_cancelled(one_of_each: tuple[Windlass, dict[str, Job]], status: str) -> None:
    """Cancel of a completed or dead job is an error."""
    app, jobs = one_of_each
    with pytest.raises(JobStateError):
        app.cancel(jobs[status].id)


def test_an_unknown_job_is_told_apart_from_a_wrong_state(app: Windlass) -> None:
    """One error stands for both in stanza; here they are two."""
    for operation in (app.cancel, app.retry, app.delete):
        with pytest.raises(JobNotFoundError):
            operation(42)
    assert app.cancel(42, missing_ok=True) is None


def test_a_running_job_that_stops_when_cancelled_is_cancelled(app: Windlass) -> None:
    """Cancel(id) reaches the handler's context; one that then fails is cancelled, not failed."""
    app.register("report", blocked)
    job = app.enqueue("report")
    with app.worker():
        becomes(job, "running")
        app.cancel(job.id)
        done = ended(job)
    assert (done.status, done.failures) == ("cancelled", 0)


def test_a_running_job_that_finishes_all_the_same_is_completed(app: Windlass) -> None:
    """A handler that returns after the signal has done its work."""

    @app.task
    def report(ctx: Context) -> str:
        assert ctx.cancelled.wait(20)
        return "the last page was written"

    job = report.enqueue()
    with app.worker():
        becomes(job, "running")
        app.cancel(job.id)
        assert ended(job).result == "the last page was written"


def test_a_job_that_runs_in_another_process_can_be_cancelled(file_url: str, opened: Open, spawn: Spawn) -> None:
    """Stanza can cancel only what its own process runs; here the signal travels through the store."""
    app = opened(file_url)
    job = app.enqueue("report")
    program = spawn("""
        def report(ctx: Context):
            print("started")
            ctx.cancelled.wait(20)
            raise InterruptedError

        app.register("report", report)
        app.run()
    """)
    assert program.stdout is not None
    assert program.stdout.readline() == "started\n"
    app.cancel(job.id)
    assert ended(job).status == "cancelled"


def test_many_jobs_can_be_retried_or_cancelled_at_once(one_of_each: tuple[Windlass, dict[str, Job]]) -> None:
    """The panel's bulk retry and cancel: what could be done is done, and what was refused is told."""
    app, jobs = one_of_each
    retried = app.retry_many(ids=[jobs["dead"].id, jobs["pending"].id, 4242])
    assert retried.ids == [jobs["dead"].id]
    assert {job_id: type(error) for job_id, error in retried.refused.items()} == {
        jobs["pending"].id: JobStateError,
        4242: JobNotFoundError,
    }
    cancelled = app.cancel_many(queue="mail", status="pending")
    assert cancelled.ids == [jobs["pending"].id]


def test_purge_deletes_what_finished_long_ago(app: Windlass) -> None:
    """Purge(24h) deletes completed and cancelled jobs, says how many, and they cannot be found any more."""
    app.cancel((cancelled := app.enqueue("send-email")).id)
    completed = app.enqueue("send-email")
    claim = app.claim()
    assert claim is not None
    claim.ack()
    app.driver.shift(48 * 3600)
    assert app.purge(timedelta(hours=24)) == 2
    for job in (cancelled, completed):
        with pytest.raises(JobNotFoundError):
            job.refresh()


def test_purge_keeps_what_is_recent_or_not_done(one_of_each: tuple[Windlass, dict[str, Job]]) -> None:
    """Purge touches no recent job, and no pending, failed or dead one however old."""
    app, jobs = one_of_each
    assert app.purge(timedelta(hours=24)) == 0
    app.driver.shift(48 * 3600)
    assert app.purge(timedelta(hours=24)) == 2
    assert {job.task for job in app.jobs()} == set(jobs) - {"completed", "cancelled"}
    assert app.purge(timedelta(hours=24)) == 0


# ---------------------------------------------------------------------------------------- recipes


def test_a_handler_can_enqueue_more_work(app: Windlass) -> None:
    """The recipe enqueues from request handlers; a job's handler can do so as well."""

    @app.task
    def welcome(user: int) -> int:
        return user

    @app.task
    def signup(ctx: Context, user: int) -> None:
        ctx.enqueue(welcome.job(user))

    with testing(app) as t:
        signup.enqueue(42)
        t.drain()
        assert t.assert_enqueued(welcome, user=42).result == 42


def test_a_handler_whose_subject_is_gone_just_returns(app: Windlass) -> None:
    """The recipe for a deleted entity: return, and the job is completed without retries."""
    questions: dict[int, str] = {}

    @app.task
    def process(question: int) -> str | None:
        found = questions.get(question)
        return found if found is None else found.upper()

    with app.worker():
        job = ended(process.enqueue(7))
    assert (job.status, job.attempt, job.result) == ("completed", 1, None)


def test_a_handler_can_say_later_without_failing(app: Windlass) -> None:
    """Stanza knows success and error only; Snooze puts a job off without using an attempt up."""

    @app.task(max_attempts=1)
    def poll(ctx: Context) -> str:
        if ctx.attempt == 1:
            raise Snooze(timedelta(hours=1))
        return "ready"

    with testing(app) as t:
        poll.enqueue()
        t.drain()
        assert t.jobs[0].status == "scheduled"
        t.advance(3600)
        t.drain()
        assert (t.jobs[0].result, t.jobs[0].failures) == ("ready", 0)


def test_finished_jobs_are_deleted_after_a_day_without_a_cron_job(opened: Open, store: str) -> None:
    """Stanza ships a cron job that purges after 24 h; here workers do it, and dead jobs are kept 90 days."""
    app = opened(store)
    assert app.settings.retention == {"completed": 86400, "cancelled": 86400, "dead": 90 * 86400}


def test_a_worker_deletes_finished_jobs_that_are_not_to_be_kept(opened: Open, store: str) -> None:
    """Retention is the worker's own business, not something to schedule."""
    app = opened(store, retention={"completed": 0})
    app.register("send-email", lambda: None)
    app.enqueue("send-email")
    with app.worker():
        until(lambda: app.stats().totals.processed == 1 and app.count() == 0)
