"""What go-jobqueue promises, in Windlass's words; batches, its bundles, have tests of their own.

Each docstring names the feature or behaviour of go-jobqueue; where Windlass decides otherwise it says so.
"""

import asyncio
import logging
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.seeds.bench import Gate, Open, Spawn, becomes, busy, ended
from tests.waiting import until
from windlass import (
    Claim,
    ClosedError,
    ConfigurationError,
    Context,
    DuplicateTaskError,
    Exponential,
    Fixed,
    Job,
    JobCompleted,
    JobDead,
    JobEnqueued,
    JobFailed,
    JobNotFoundError,
    JobStateError,
    LeaseLostError,
    PayloadError,
    Retry,
    SchemaError,
    ShutdownTimeoutError,
    SignatureError,
    Windlass,
    WorkerStateError,
)
from windlass.job import NewJob
from windlass.testing import testing

Connect = Callable[[], Any]


@pytest.fixture
def store(database: str) -> str:
    """Go-jobqueue lives in a database, so these tests do."""
    return database


@pytest.fixture
def shared(database: str) -> str:
    return database


@dataclass
class EmailPayload:
    to: str
    subject: str = "Welcome!"


def claimed(app: Windlass, **options: Any) -> Claim:
    """Claim the job that must be there."""
    claim = app.claim(**options)
    assert claim is not None
    return claim


def died(app: Windlass, task: str = "x", *, error: BaseException | str = "boom", **options: Any) -> Job:
    """Enqueue a job and let it die."""
    job = app.enqueue(task, max_attempts=1, **options)
    claimed(app, tasks=[task]).nack(error=error)
    return job.refresh()


def waited(job: Job) -> float:
    """Return the seconds from the end of the last attempt to the next."""
    failed = job.history()[-1].finished_at
    assert failed is not None
    return (job.refresh().run_at - failed).total_seconds()


# ---------------------------------------------------------------------------------------- the database


def test_a_job_is_a_row_that_any_client_sees(app: Windlass, connect: Connect) -> None:
    """PostgreSQL backend: jobs are rows of a table; here of a table that the first use makes."""
    app.enqueue("send-email", {"to": "ada"})
    [(count,)] = connect().execute("SELECT count(*) FROM windlass_job").fetchall()
    assert count == 1


@pytest.mark.slow
def test_a_job_outlives_the_process_that_enqueued_it(store: str, opened: Open, spawn: Spawn) -> None:
    """Reliable persistence: what a process has enqueued is there when it is gone."""
    program = spawn("print(app.enqueue('send-email', {'to': 'ada'}).id); os._exit(0)")
    job = opened(store).get(int(program.communicate(timeout=20)[0]))
    assert (job.status, job.payload) == ("pending", {"to": "ada"})


def test_a_schema_that_is_kept_by_hand_is_checked(store: str, opened: Open) -> None:
    """Whoever runs migrations apart, as there, says `migrate="check"`: what is missing is an error, and not made."""
    careful = opened(store, migrate="check")
    with pytest.raises(SchemaError):
        careful.enqueue("x")
    opened(store).migrate()
    assert opened(store, migrate="check").enqueue("x").id > 0


def test_migrating_again_does_nothing(store: str, opened: Open) -> None:
    """Statements of an upgrade are copied from the README there; here `migrate()` does what is due, once."""
    app = opened(store)
    app.migrate()
    job = app.enqueue("x")
    assert app.migrate() == []
    assert job.refresh() == job


def test_starting_resets_no_job(store: str, opened: Open, gate: Gate) -> None:
    """InitJobQueue resets nothing: an application that starts leaves alone what runs elsewhere."""
    first = opened(store)
    first.register("work", gate.pass_through)
    job = first.enqueue("work")
    with first.worker():
        gate.wait_for()
        second = opened(store)
        second.register("work", lambda: "the second ran it too")
        with second.worker():
            assert second.get(job.id).status == "running"
        gate.open()
        done = ended(job)
    assert (done.attempt, done.result) == (1, None)


# ---------------------------------------------------------------------------------------- registering workers


def takes_payload(email: EmailPayload) -> None: ...


def takes_context(ctx: Context, email: EmailPayload) -> None:
    assert ctx.job.task == "EmailPayload"


def returns_result(email: EmailPayload) -> str:
    return f"sent to {email.to}"


def returns_result_with_context(ctx: Context, email: EmailPayload) -> dict[str, Any]:
    return {"to": email.to, "attempt": ctx.attempt}


async def is_async(ctx: Context, email: EmailPayload) -> str:
    return email.subject


@pytest.mark.parametrize(
    ("handler", "result"),
    [
        (takes_payload, None),
        (takes_context, None),
        (returns_result, "sent to ada"),
        (returns_result_with_context, {"to": "ada", "attempt": 1}),
        (is_async, "Welcome!"),
    ],
)
def test_a_function_is_registered_by_its_payload(app: Windlass, handler: Callable[..., Any], result: Any) -> None:
    """RegisterFunc: with or without context and result; the payload's type is the task and the JSON is decoded."""
    app.handler(EmailPayload)(handler)
    with app.worker():
        job = ended(app.dispatch(EmailPayload("ada")))
    assert (job.task, job.payload) == ("EmailPayload", {"to": "ada", "subject": "Welcome!"})
    assert (job.status, job.result) == ("completed", result)


def test_a_function_is_registered_under_a_name(app: Windlass) -> None:
    """RegisterFuncForJobType("send-email", fn)."""
    app.register("send-email", returns_result)
    with app.worker():
        job = ended(app.enqueue("send-email", {"email": {"to": "ada"}}))
    assert job.result == "sent to ada"


def test_a_raw_function_is_given_job_and_payload(app: Windlass) -> None:
    """Register("custom-job", func(ctx, job)): the whole job, and the JSON as it is."""

    def custom(ctx: Context, payload: Any) -> list[Any]:
        return [ctx.job.id, ctx.job.origin, payload]

    app.register("custom-job", custom, raw=True)
    with app.worker():
        job = ended(app.enqueue("custom-job", ["anything", 1], origin="upload"))
    assert job.result == [job.id, "upload", ["anything", 1]]


@pytest.mark.parametrize(
    "function",
    [
        lambda *everything: None,
        lambda first, /: None,
        "no function",
        None,
    ],
    ids=["any number", "no name", "text", "nothing"],
)
def test_a_bad_signature_is_refused_at_registration(app: Windlass, function: Any) -> None:
    """RegisterFunc panics for what cannot be a worker; here it is an error, at registration too."""
    with pytest.raises(SignatureError):
        app.register("bad", function)


def test_a_function_with_two_contexts_is_refused(app: Windlass) -> None:
    """One context there, first; here one Context, anywhere."""

    def confused(one: Context, two: Context) -> None: ...

    with pytest.raises(SignatureError):
        app.task(confused)


def test_a_second_worker_for_one_type_is_refused(app: Windlass) -> None:
    """Register of a type that has a worker panics."""
    app.register("send-email", takes_payload)
    with pytest.raises(DuplicateTaskError):
        app.register("send-email", returns_result)


def test_a_worker_can_be_registered_while_threads_run(app: Windlass) -> None:
    """Register panics once threads run; here it holds from the next turn on."""
    with app.worker():
        job = app.enqueue("late")
        app.register("late", lambda: "in time")
        assert ended(job).result == "in time"


def test_an_unregistered_type_is_left_for_others(store: str, opened: Open) -> None:
    """Unregister: its jobs are not taken here any more, and wait for a process that knows them."""
    app = opened(store)
    app.register("known", lambda: None)
    app.register("gone", lambda: None)
    app.unregister("gone")
    with app.worker():
        left = app.enqueue("gone")
        ended(app.enqueue("known"))
        assert (left.refresh().status, left.refresh().attempt) == ("pending", 0)
        other = opened(store)
        other.register("gone", lambda: "the other process")
        with other.worker():
            assert ended(left).result == "the other process"


def test_a_worker_claims_only_types_it_knows(app: Windlass) -> None:
    """Claims name the registered types; a backlog of others in front of them does not matter."""
    strangers = [app.enqueue("unknown", priority=9) for _ in range(20)]
    app.register("known", lambda: None)
    with app.worker(concurrency=1):
        assert ended(app.enqueue("known")).status == "completed"
    assert {job.refresh().attempt for job in strangers} == {0}


# ---------------------------------------------------------------------------------------- a new job


def test_a_new_job_has_what_it_was_given(app: Windlass) -> None:
    """NewJob: type, origin, payload, start and retry count; the id is the store's, not the caller's."""
    at = datetime.now(UTC) + timedelta(hours=1)
    job = app.enqueue("send-email", {"to": "ada"}, origin="user-registration", run_at=at, max_attempts=4, priority=2)
    again = app.get(job.id)
    assert (again.task, again.origin, again.payload) == ("send-email", "user-registration", {"to": "ada"})
    assert (again.max_attempts, again.priority, again.status) == (4, 2, "scheduled")
    assert abs(again.run_at - at) < timedelta(milliseconds=1)
    assert (again.started_at, again.finished_at, again.error, again.result) == (None, None, None, None)


@pytest.mark.parametrize(
    "payload", [{"a": 1}, [1, "b"], "text", 42, 1.5, True, False, None, {}, 2**60, "\u2713\u0000"], ids=repr
)
def test_any_json_can_be_a_payload(app: Windlass, payload: Any) -> None:
    """The payload is any JSON value; a nil one, refused there, is `null` to a raw task."""
    app.register("echo", lambda value: [value], raw=True)
    with app.worker():
        job = ended(app.enqueue("echo", payload))
    assert job.payload == payload
    assert job.result == [payload]


def test_a_value_that_encodes_itself_can_be_a_payload(app: Windlass) -> None:
    """A value that marshals to JSON is stored as that JSON."""
    given = {"email": EmailPayload("ada"), "at": datetime(2026, 1, 2, tzinfo=UTC), "after": timedelta(seconds=5)}
    payload = app.enqueue("send-email", given).refresh().payload
    assert payload["email"] == {"to": "ada", "subject": "Welcome!"}
    assert payload["at"] == "2026-01-02T00:00:00Z"


@pytest.mark.parametrize(
    "payload",
    [object(), print, 1j, float("nan"), {"x": float("inf")}, {1j: 2}],
    ids=["object", "function", "complex", "nan", "infinity", "key"],
)
def test_what_is_not_json_is_refused_at_once(app: Windlass, payload: Any) -> None:
    """A payload that cannot be JSON is an error of NewJob, before anything is stored."""
    with pytest.raises(PayloadError):
        app.enqueue("send-email", payload)
    assert app.count() == 0


def test_an_empty_type_is_refused(app: Windlass) -> None:
    """A job needs a type; so does an origin, if it is given, need a name."""
    with pytest.raises(ConfigurationError):
        app.enqueue("")
    with pytest.raises(ConfigurationError):
        app.enqueue("x", origin="")
    with pytest.raises(ConfigurationError):
        app.enqueue("x", origin="o" * 201)


def test_a_payload_that_does_not_fit_fails_the_attempt(app: Windlass) -> None:
    """A payload that does not unmarshal is the job's error, and it is tried again: a newer worker may know it."""
    job = app.enqueue("EmailPayload", {"from": "ada"}, max_attempts=2)
    app.handler(EmailPayload)(takes_payload)
    with app.worker():
        dead = ended(job)
    assert dead.error is not None
    assert (dead.status, dead.failures, dead.error.kind) == ("dead", 2, "payload")


# ---------------------------------------------------------------------------------------- priority and start


def test_a_higher_priority_is_started_first(app: Windlass) -> None:
    """Priority: higher values first, then in the order of creation, whatever the types."""
    order = [app.enqueue(f"task-{n % 5}", priority=n % 3).id for n in range(15)]
    expected = [order[n] for n in sorted(range(15), key=lambda n: (-(n % 3), n))]
    assert [claimed(app).job.id for _ in range(15)] == expected


def test_a_worker_of_one_thread_starts_by_priority(app: Windlass) -> None:
    """NewJobWithPriority: the critical task overtakes those that wait."""
    ran: list[str] = []
    for name in ("usual", "critical-task"):
        app.register(name, lambda name=name: ran.append(name), raw=False)
    app.enqueue("usual")
    last = app.enqueue("usual")
    app.enqueue("critical-task", priority=100)
    with app.worker(concurrency=1):
        ended(last)
    assert ran == ["critical-task", "usual", "usual"]


@pytest.mark.parametrize("priority", [32768, -32769, 1.5, True, "high"], ids=repr)
def test_a_priority_is_a_whole_number_of_16_bits(app: Windlass, priority: Any) -> None:
    """Priorities are 64 bits wide there and 16 here; what does not fit is refused, not cut."""
    with pytest.raises(ConfigurationError):
        app.enqueue("x", priority=priority)
    assert [app.enqueue("x", priority=edge).refresh().priority for edge in (-32768, 32767)] == [-32768, 32767]


def test_a_deferred_job_is_not_started_before_its_time(app: Windlass) -> None:
    """Deferred execution: started when its time has come, not before."""
    job = app.enqueue("scheduled-task", run_at=datetime.now(UTC) + timedelta(hours=1))
    app.driver.shift(3590)
    assert app.claim() is None
    app.driver.shift(11)
    assert claimed(app).job.id == job.id


def test_a_lone_deferred_job_starts_without_polling(store: str, opened: Open) -> None:
    """Nobody announces a deferred job there, so a lone one waits for the next poll; here the worker wakes for it."""
    app = opened(store, poll=600)
    app.register("soon", lambda: None)
    with app.worker():
        job = ended(app.enqueue("soon", delay=0.3))
    assert job.started_at is not None
    assert timedelta(0) <= job.started_at - job.run_at < timedelta(seconds=10)


def test_a_retry_that_falls_due_starts_without_polling(store: str, opened: Open) -> None:
    """The same of a retry: its time alone wakes the worker."""
    app = opened(store, poll=600, backoff=Fixed(0.3))

    @app.task
    def flaky(ctx: Context) -> None:
        if ctx.attempt == 1:
            raise ConnectionError("not yet")

    with app.worker():
        assert ended(flaky.enqueue()).attempt == 2


def test_a_start_that_has_passed_is_now(app: Windlass) -> None:
    """A start in the past, or none, is available at once."""
    job = app.enqueue("x", run_at=datetime(2001, 1, 1, tzinfo=UTC))
    assert claimed(app).job.id == job.id


# ---------------------------------------------------------------------------------------- retries


def test_a_retry_count_is_one_less_than_the_attempts(app: Windlass) -> None:
    """NewJob(…, 3) is three retries after the first try: `max_attempts=4`."""
    runs: list[int] = []

    @app.task(max_attempts=4)
    def flaky_task(ctx: Context) -> None:
        runs.append(ctx.attempt)
        raise ValueError("boom")

    with app.worker():
        job = ended(flaky_task.enqueue())
    assert runs == [1, 2, 3, 4]
    assert (job.status, job.failures) == ("dead", 4)


def test_a_job_without_retries_is_one_attempt(app: Windlass) -> None:
    """The default there, no retry, is `max_attempts=1`; the default here is three attempts."""
    assert app.enqueue("x").max_attempts == 3
    assert died(app, "y").failures == 1


def test_a_schedule_of_retries_is_a_function(store: str, opened: Open) -> None:
    """RegisterScheduleRetry: a function of the job says when; 2ⁿ minutes, as in the README."""

    def retry_at(job: Job, error: BaseException) -> datetime:
        seen.append((job.failures, str(error)))
        return datetime.fromtimestamp(app.driver.now(), UTC) + timedelta(minutes=2**job.failures)

    seen: list[tuple[int, str]] = []
    app = opened(store, max_attempts=9)
    app.register("flaky-task", lambda: None, backoff=retry_at)
    job = app.enqueue("flaky-task")
    waits = []
    for _ in range(3):
        claimed(app).nack(error="boom")
        waits.append(round(waited(job)))
        app.driver.shift(waits[-1])
    assert waits == [120, 240, 480]
    assert seen == [(1, "boom"), (2, "boom"), (3, "boom")]


def test_a_schedule_of_retries_that_fails_costs_no_retry(
    store: str, opened: Open, caplog: pytest.LogCaptureFixture
) -> None:
    """A failing scheduler, like a missing one, makes a job terminal there; here the default takes over."""

    def broken(job: Job, error: BaseException) -> float:
        raise ZeroDivisionError

    app = opened(store)
    app.register("flaky-task", lambda: None, backoff=broken)
    job = app.enqueue("flaky-task")
    claimed(app).nack(error="boom")
    assert job.refresh().status == "retrying"
    assert waited(job) == pytest.approx(5, abs=0.6)
    assert "back-off" in caplog.text


def test_no_schedule_of_retries_is_needed(store: str, opened: Open) -> None:
    """Retries need a registered scheduler there; here every task has the application's back-off."""
    app = opened(store, backoff=Exponential(base=10, jitter=0))
    job = app.enqueue("plain")
    claimed(app).nack(error="boom")
    assert waited(job) == pytest.approx(10, abs=1)


def test_a_handler_can_say_itself_when_to_retry(app: Windlass) -> None:
    """A schedule is per type there; here one failure may also bring its own delay."""

    @app.task
    def throttled() -> None:
        raise Retry("429", after=600)

    with app.worker():
        job = becomes(throttled.enqueue(), "retrying")
    assert waited(job) == pytest.approx(600, abs=1)


def test_a_job_that_waits_for_its_retry_shows_its_error(app: Windlass) -> None:
    """The error is cleared there while a retry is due; here it stays, and each attempt keeps its own."""
    job = app.enqueue("x")
    claimed(app).nack(error="first", delay=60)
    waiting = job.refresh()
    assert waiting.error is not None
    assert (waiting.status, waiting.error.message) == ("retrying", "first")
    app.driver.shift(60)
    claimed(app).nack(error="second", delay=60)
    assert [row.error.message for row in job.history() if row.error] == ["first", "second"]


def test_a_success_ends_the_retries(app: Windlass) -> None:
    """A job that succeeds before its retries are used up is done."""

    @app.task(max_attempts=5)
    def flaky(ctx: Context) -> str:
        if ctx.attempt < 3:
            raise ConnectionError("not yet")
        return "at last"

    with app.worker():
        job = ended(flaky.enqueue())
    assert (job.status, job.attempt, job.failures, job.result) == ("completed", 3, 2, "at last")
    assert app.claim() is None


# ---------------------------------------------------------------------------------------- threads


def test_four_threads_work_at_once(app: Windlass, gate: Gate) -> None:
    """StartThreads(ctx, 4): four jobs at a time, and no fifth."""
    app.register("work", gate.pass_through)
    jobs = [app.enqueue("work") for _ in range(5)]
    with app.worker(concurrency=4) as worker:
        gate.wait_for(4)
        assert worker.snapshot().running == 4
        assert app.count(status="pending") == 1
        gate.open()
        assert {ended(job).status for job in jobs} == {"completed"}


@pytest.mark.parametrize("threads", [0, -1])
def test_no_threads_are_an_error(app: Windlass, threads: int) -> None:
    """StartThreads of none or fewer is an error."""
    with pytest.raises(ConfigurationError):
        app.start(concurrency=threads)


def test_threads_that_run_are_not_started_again(app: Windlass) -> None:
    """A second StartThreads is an error."""
    app.start(concurrency=1)
    with pytest.raises(WorkerStateError):
        app.start(concurrency=1)
    app.stop()


def test_finish_waits_for_the_jobs_that_run(app: Windlass, gate: Gate) -> None:
    """FinishThreads: nothing more is claimed, and what runs is waited for."""

    @app.task
    def work(ctx: Context) -> bool:
        gate.pass_through()
        return ctx.cancelled.wait(0.3)

    first = app.enqueue("work")
    worker = app.start(concurrency=1)
    second = app.enqueue("work")
    gate.wait_for()
    stopper = threading.Thread(target=app.stop)
    stopper.start()
    until(lambda: worker.snapshot().state == "stopping")
    assert stopper.is_alive()
    gate.open()
    stopper.join(20)
    assert (first.refresh().status, first.refresh().result, second.refresh().status) == ("completed", False, "pending")


def test_finish_has_a_deadline(app: Windlass) -> None:
    """FinishThreads waits without end; here `grace`, or `timeout`, bounds it and the job is given back."""
    started = threading.Event()

    @app.task(max_attempts=1)
    def work(ctx: Context) -> None:
        started.set()
        if ctx.cancelled.wait(20):
            raise InterruptedError

    job = work.enqueue()
    app.start()
    assert started.wait(20)
    with pytest.raises(ShutdownTimeoutError) as caught:
        app.stop(timeout=0.05)
    assert caught.value.job_ids == (job.id,)
    assert (job.refresh().status, job.refresh().failures, job.refresh().crashes) == ("pending", 0, 0)


def test_finish_right_after_start_returns(app: Windlass) -> None:
    """FinishThreads right after StartThreads can hang there; here the two may follow each other as they like."""
    app.register("work", lambda: None)
    for _ in range(5):
        app.start(concurrency=4)
        app.stop(timeout=10)
    app.start()
    assert ended(app.enqueue("work")).status == "completed"
    app.stop()


@pytest.mark.slow
def test_a_signal_finishes_the_process(store: str, opened: Open, spawn: Spawn) -> None:
    """Graceful shutdown: the job in flight completes, the next is left, the process ends."""
    app = opened(store)
    first, second = app.enqueue("work"), app.enqueue("work")
    program = spawn("""
        def work(ctx: Context):
            print("started")
            ctx.stopping.wait(20)
            return "finished"

        app.register("work", work)
        app.run(concurrency=1)
    """)
    assert program.stdout is not None
    assert program.stdout.readline() == "started\n"
    program.send_signal(signal.SIGTERM)
    assert program.wait(20) == 0
    assert (first.refresh().result, second.refresh().status) == ("finished", "pending")


# ---------------------------------------------------------------------------------------- contexts


def test_a_time_limit_cancels_the_context(app: Windlass) -> None:
    """JobTimeout, of a task or a call here: the handler is told, the attempt fails and is retried."""
    told: list[int] = []

    @app.task(timeout=0.1, max_attempts=2)
    def work(ctx: Context) -> None:
        if ctx.cancelled.wait(20):
            told.append(ctx.attempt)
            raise InterruptedError("told to stop")

    with app.worker():
        job = ended(work.enqueue())
    assert told == [1, 2]
    assert job.error is not None
    assert (job.status, job.failures, job.error.kind) == ("dead", 2, "timeout")


def test_no_time_limit_is_the_default(app: Windlass) -> None:
    """JobTimeout is 15 minutes for all jobs there; here there is none unless the app, task or call says so."""
    assert app.settings.timeout is None
    assert app.enqueue("x").timeout is None


def test_a_handlers_own_cancellation_is_a_failure(app: Windlass) -> None:
    """A handler that returns context.Canceled is reset and runs without end there; here it fails like any other."""

    @app.task(max_attempts=2)
    async def fetch() -> None:
        raise asyncio.CancelledError("the client gave up")

    with app.worker():
        job = ended(fetch.enqueue())
    assert (job.status, job.failures) == ("dead", 2)


@pytest.mark.slow
def test_a_handler_that_ignores_its_context_is_shown_as_stuck(app: Windlass, gate: Gate) -> None:
    """It keeps its heartbeat for ever there, unseen; here it is counted, and its retry never runs beside it."""
    app.register("deaf", gate.pass_through, timeout=0.05, max_attempts=1)
    with app.worker() as worker:
        job = app.enqueue("deaf")
        gate.wait_for()
        until(lambda: worker.snapshot().stuck == 1)
        assert job.refresh().status == "running"
        gate.open()
        assert ended(job).status == "dead"


def test_everything_can_be_awaited(app: Windlass) -> None:
    """A context goes with every call there; here every call has an awaitable twin, which can be cancelled."""

    async def program() -> tuple[Any, ...]:
        job = await app.aenqueue("x", origin="upload")
        claim = await app.aclaim()
        assert claim is not None
        found = await app.ajobs(origin="upload")
        stats, number = await app.astats(), await app.acount()
        return job.id, [one.id for one in found], (await app.aget(job.id)).status, stats.running, number

    job_id, found, status, running, number = asyncio.run(program())
    assert (found, status, running, number) == ([job_id], "running", 1, 1)


# ---------------------------------------------------------------------------------------- listeners


def test_a_listener_hears_that_a_job_stopped(app: Windlass) -> None:
    """OnJobStopped: id, type and origin; here there is an event for each way to stop."""
    heard: list[tuple[str, int, str, str | None]] = []

    @app.on(JobCompleted)
    def completed(event: JobCompleted) -> None:
        heard.append(("completed", event.job.id, event.job.task, event.job.origin))

    @app.on(JobDead)
    def dead(event: JobDead) -> None:
        heard.append(("dead", event.job.id, event.job.task, event.job.origin))

    app.register("good", lambda: None)
    app.register("bad", lambda: 1 / 0, max_attempts=1)
    with app.worker():
        good = ended(app.enqueue("good", origin="upload"))
        until(lambda: len(heard) == 1)
        bad = ended(app.enqueue("bad", origin="upload"))
        until(lambda: len(heard) == 2)
    assert heard == [("completed", good.id, "good", "upload"), ("dead", bad.id, "bad", "upload")]


def test_a_listener_is_told_whether_the_job_will_be_retried(app: Windlass) -> None:
    """`willRetry` is never true there; here it is when it is."""
    heard: list[tuple[int, bool]] = []

    @app.on(JobFailed)
    def failed(event: JobFailed) -> None:
        heard.append((event.job.failures, event.will_retry))

    app.register("bad", lambda: 1 / 0, max_attempts=3)
    with app.worker():
        ended(app.enqueue("bad"))
        until(lambda: len(heard) == 3)
    assert heard == [(1, True), (2, True), (3, False)]


def test_several_listeners_hear_the_same(app: Windlass) -> None:
    """AddListener more than once; one that panics takes nothing from the others."""
    heard: list[str] = []
    app.on(JobEnqueued)(lambda event: 1 / 0)
    app.on(JobEnqueued)(lambda event: heard.append("first"))
    app.on(JobEnqueued)(lambda event: heard.append("second"))
    app.enqueue("x")
    assert heard == ["first", "second"]


def test_a_listener_hears_its_own_application_only(store: str, opened: Open) -> None:
    """The database tells every process there; `app.on` hears its own, the fleet's events come later."""
    app, other = opened(store), opened(store)
    heard: list[int] = []
    other.on(JobEnqueued)(lambda event: heard.append(event.job.id))
    app.enqueue("x")
    own = other.enqueue("x")
    assert heard == [own.id]


# ---------------------------------------------------------------------------------------- wake-up and polling


def test_a_new_job_wakes_an_idle_worker(store: str, opened: Open) -> None:
    """NOTIFY on insert: an idle worker starts the job although it would not look for ten minutes."""
    app = opened(store, poll=600)
    app.register("work", lambda: None)
    with app.worker():
        ended(app.enqueue("work"))
        assert ended(app.enqueue("work")).status == "completed"


def test_a_new_job_wakes_a_worker_of_another_process(store: str, opened: Open, spawn: Spawn) -> None:
    """NOTIFY reaches every process that listens."""
    app = opened(store)
    program = spawn(
        """
        app.close()
        app = Windlass(URL, poll=600, beat=0.2, lost_after=1)
        app.register("work", os.getpid)
        with app.worker():
            print("ready")
            sys.stdin.readline()
    """.replace("URL", repr(store))
    )
    assert program.stdin is not None
    assert program.stdout is not None
    assert program.stdout.readline() == "ready\n"
    for _ in range(2):
        assert ended(app.enqueue("work")).result == program.pid
    program.communicate("done\n", timeout=20)


def test_a_reset_job_wakes_an_idle_worker(store: str, opened: Open) -> None:
    """A job that is reset is announced like a new one."""
    app = opened(store, poll=600)
    dead = died(app, "work")
    app.register("work", lambda: "fine")
    app.register("other", lambda: None)
    with app.worker():
        ended(app.enqueue("other"))
        app.retry(dead.id)
        assert ended(dead).result == "fine"


def test_polling_finds_what_nobody_announced(store: str, opened: Open, connect: Connect) -> None:
    """StartPollingAvailableJobs(5 s) is `poll`: a row that appears without a word is found."""
    app = opened(store, poll=0.05)
    app.register("work", lambda: "found")
    app.register("other", lambda: None)
    with app.worker():
        ended(app.enqueue("other"))
        connection = connect()
        job = app.enqueue("work", connection=connection)
        connection.commit()
        assert ended(app.get(job.id)).result == "found"


@pytest.mark.parametrize("poll", [0, -1])
def test_an_impossible_poll_is_an_error(poll: float) -> None:
    """StartPollingAvailableJobs refuses what is not more than zero."""
    with pytest.raises(ConfigurationError):
        Windlass("memory://", poll=poll)


# ---------------------------------------------------------------------------------------- several processes


@pytest.mark.slow
def test_processes_compete_and_never_share_a_job(store: str, opened: Open, spawn: Spawn) -> None:
    """Each process starts its threads; a claim is one atomic step, so that every job runs once."""
    app = opened(store)
    app.stats()
    programs = [
        spawn("""
            lock = threading.Lock()

            def work():
                with lock:
                    print("ran", flush=True)
                return os.getpid()

            app.register("work", work)
            with app.worker(concurrency=4):
                print("ready", flush=True)
                sys.stdin.readline()
        """)
        for _ in range(3)
    ]
    for program in programs:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
    jobs = [app.enqueue("work") for _ in range(150)]
    until(lambda: app.stats().completed == 150, timeout=60)
    ran = sum(program.communicate("done\n", timeout=20)[0].count("ran") for program in programs)
    assert ran == 150
    done = [job.refresh() for job in jobs]
    assert {job.result for job in done} <= {program.pid for program in programs}
    assert {(job.attempt, job.crashes) for job in done} == {(1, 0)}


def test_simultaneous_claims_get_different_jobs(store: str, opened: Open) -> None:
    """SKIP LOCKED: claims at the same moment do not wait for each other's job, and do not share it."""
    apps = [opened(store) for _ in range(4)]
    expected = [apps[0].enqueue("x", priority=-n).id for n in range(40)]
    start = threading.Barrier(8)

    def claim(app: Windlass) -> list[int]:
        start.wait(20)
        return [claimed(app).job.id for _ in range(5)]

    with ThreadPoolExecutor(8) as pool:
        found = [job_id for ids in pool.map(claim, apps * 2) for job_id in ids]
    assert sorted(found) == expected
    assert apps[0].claim() is None


def test_a_claim_in_hand_holds_nobody_up(app: Windlass) -> None:
    """A job that is being worked on is skipped, not waited for; the next in order is given."""
    first, second = app.enqueue("x", priority=5), app.enqueue("x")
    assert claimed(app).job.id == first.id
    assert claimed(app, wait=0).job.id == second.id


# ---------------------------------------------------------------------------------------- crash recovery


@pytest.mark.slow
def test_a_crashed_workers_job_is_reclaimed(store: str, opened: Open, spawn: Spawn) -> None:
    """A killed process's job comes back, to whoever is there, without a restart; a crash is not a retry."""
    app = opened(store)
    app.register("work", lambda: "by another")
    job = app.enqueue("work", max_attempts=1)
    program = spawn("""
        def work():
            print("started")
            sys.stdin.readline()

        app.register("work", work)
        app.run()
    """)
    assert program.stdout is not None
    assert program.stdout.readline() == "started\n"
    with app.worker():
        program.kill()
        program.wait()
        done = ended(job)
    assert (done.status, done.result, done.attempt) == ("completed", "by another", 2)
    assert (done.failures, done.crashes) == (0, 1)
    assert [row.outcome for row in done.history()] == ["lost", "completed"]


@pytest.mark.slow
def test_a_job_that_crashes_its_process_again_and_again_is_dead(store: str, opened: Open, spawn: Spawn) -> None:
    """A crash is never an attempt there, so such a job crashes for ever; here `max_crashes` ends it."""
    app = opened(store, max_crashes=2)
    job = app.enqueue("poison")
    for crash in (1, 2):
        assert spawn("app.register('poison', lambda: os._exit(3)); app.run()").wait(20) == 3
        until(app.rescue)
        assert job.refresh().crashes == crash
    dead = job.refresh()
    assert dead.error is not None
    assert (dead.status, dead.failures, dead.error.kind) == ("dead", 0, "crash")


def test_a_heartbeat_advances_while_a_job_runs(app: Windlass, gate: Gate) -> None:
    """`worker_alive_at` of a job is the heartbeat of its worker here, written as long as it lives."""
    app.register("work", gate.pass_through)
    with app.worker() as worker:
        app.enqueue("work")
        gate.wait_for()
        [first] = [w for w in app.workers() if w.id == worker.id]
        until(lambda: [w for w in app.workers() if w.id == worker.id and w.beat_at > first.beat_at])
        gate.open()
    [last] = [w for w in app.workers() if w.id == worker.id]
    assert last.status == "stopped"


@pytest.mark.slow
def test_a_live_workers_job_is_never_reset(app: Windlass, gate: Gate) -> None:
    """The reaper touches no job of a living worker, however long it runs and whoever looks."""
    app.register("long", gate.pass_through)
    app.register("other", lambda: None)
    job = app.enqueue("long")
    with app.worker(concurrency=1), app.worker(concurrency=1):
        gate.wait_for()
        busy(app, "other", seconds=1.5)
        assert app.rescue() == 0
        gate.open()
        done = ended(job)
    assert (done.attempt, done.crashes) == (1, 0)


@pytest.mark.slow
def test_a_slow_schedule_of_retries_keeps_the_heartbeat(store: str, opened: Open, gate: Gate) -> None:
    """A job is still owned while its retry scheduler runs: nobody takes it meanwhile."""

    def slow(job: Job, error: BaseException) -> float:
        gate.pass_through()
        return 3600

    app = opened(store)
    app.register("flaky", lambda: 1 / 0, backoff=slow)
    app.register("other", lambda: None)
    job = app.enqueue("flaky")
    with app.worker(concurrency=1), app.worker(concurrency=1):
        gate.wait_for()
        busy(app, "other", seconds=1.5)
        assert job.refresh().status == "running"
        gate.open()
        waiting = becomes(job, "retrying")
    assert (waiting.attempt, waiting.failures, waiting.crashes) == (1, 1, 0)


@pytest.mark.parametrize(("beat", "lost_after"), [(10, 29), (1, 2), (5, 0.1)])
def test_silence_shorter_than_three_heartbeats_proves_nothing(store: str, beat: float, lost_after: float) -> None:
    """`deadFor` of less than 3 × HeartbeatInterval is an error; here at construction."""
    with pytest.raises(ConfigurationError):
        Windlass(store, beat=beat, lost_after=lost_after)


@pytest.mark.parametrize("option", [{"beat": 0}, {"beat": -1}, {"lost_after": 0}], ids=str)
def test_heartbeats_cannot_be_switched_off(store: str, option: dict[str, Any]) -> None:
    """HeartbeatInterval 0 switches crash recovery off there; here there is no such trap."""
    with pytest.raises(ConfigurationError):
        Windlass(store, **option)


def test_the_reaper_resets_crashed_jobs_only(app: Windlass) -> None:
    """Of all jobs only the one whose holder is provably gone comes back, on its last attempt too."""
    crashed = app.enqueue("crashed", max_attempts=1)
    claimed(app, lease=1)
    live = app.enqueue("live")
    claimed(app, lease=3600)
    dead = died(app, "dead")
    failed = app.enqueue("failed")
    claimed(app).nack(delay=3600)
    completed = app.enqueue("completed")
    claimed(app).ack()
    waiting = app.enqueue("waiting")
    app.driver.shift(2)
    assert app.rescue() == 1
    assert (crashed.refresh().status, crashed.refresh().failures, crashed.refresh().crashes) == ("pending", 0, 1)
    others = {job.task: job.refresh().status.value for job in (live, dead, failed, completed, waiting)}
    assert others == {
        "live": "running",
        "dead": "dead",
        "failed": "retrying",
        "completed": "completed",
        "waiting": "pending",
    }


def test_a_late_result_of_a_reclaimed_job_is_refused(app: Windlass) -> None:
    """SetJobResult has no check there, so the last writer wins; here the lease decides."""
    job = app.enqueue("x")
    late = claimed(app, lease=1)
    app.driver.shift(2)
    app.rescue()
    successor = claimed(app)
    for write in (lambda: late.ack("late"), lambda: late.nack(error="late")):
        with pytest.raises(LeaseLostError):
            write()
    successor.ack("in time")
    assert (job.refresh().status, job.refresh().result) == ("completed", "in time")


# ---------------------------------------------------------------------------------------- managing the queue


@pytest.fixture
def shelf(app: Windlass) -> dict[str, Job]:
    """One job of each kind that the queries know."""
    jobs = {"errored": died(app, "errored", origin="upload")}
    jobs["stopped"] = app.enqueue("stopped", origin="upload")
    claimed(app).ack()
    jobs["started"] = app.enqueue("started", origin="mail")
    claimed(app)
    jobs["available"] = app.enqueue("available", origin="mail")
    jobs["deferred"] = app.enqueue("deferred", delay=3600)
    return {name: job.refresh() for name, job in jobs.items()}


def test_the_status_counts_jobs(app: Windlass, shelf: dict[str, Job]) -> None:
    """GetStatus: the number of jobs; here by status, queue and task as well, and without reading them."""
    stats = app.stats()
    assert (stats.pending, stats.scheduled, stats.running, stats.completed, stats.dead) == (1, 1, 1, 1, 1)
    assert stats.tasks["errored"].dead == 1
    assert app.count() == 5


def test_what_is_to_do_can_be_listed(app: Windlass, shelf: dict[str, Job]) -> None:
    """GetAllJobsToDo: what has not stopped, running and deferred included as there; here one says which."""
    to_do = app.jobs(status=["pending", "scheduled", "retrying", "running"])
    assert {job.task for job in to_do} == {"started", "available", "deferred"}
    assert [job.task for job in app.jobs(status="pending")] == ["available"]


def test_what_has_errors_can_be_listed(app: Windlass, shelf: dict[str, Job]) -> None:
    """GetAllJobsWithErrors; by the type of the error too."""
    retrying = app.enqueue("retried")
    claimed(app, tasks=["retried"]).nack(error=ValueError("boom"), delay=60)
    assert {job.id for job in app.jobs(status="failed")} == {shelf["errored"].id, retrying.id}
    assert [job.id for job in app.jobs(error=ValueError)] == [retrying.id]


def test_what_started_long_ago_can_be_listed(app: Windlass, shelf: dict[str, Job]) -> None:
    """GetAllJobsStartedBefore(t): what has been running since before that."""
    started = shelf["started"].started_at
    assert started is not None
    after = started + timedelta(milliseconds=1)
    assert [job.task for job in app.jobs(status="running", started_before=after)] == ["started"]
    assert len(app.jobs(status="running", started_before=started - timedelta(milliseconds=1))) == 0


def test_one_job_can_be_looked_at(app: Windlass, shelf: dict[str, Job]) -> None:
    """GetJob(id)."""
    assert app.get(shelf["errored"].id) == shelf["errored"]
    with pytest.raises(JobNotFoundError):
        app.get(shelf["deferred"].id + 1000)


def test_a_failed_job_can_be_reset(app: Windlass, shelf: dict[str, Job]) -> None:
    """ResetJob: it runs again, with all its retries; the attempts stay in the history."""
    app.retry(shelf["errored"].id)
    again = shelf["errored"].refresh()
    assert (again.status, again.failures, again.finished_at) == ("pending", 0, None)
    assert [row.outcome for row in again.history()] == ["failed"]
    app.register("errored", lambda: "fine")
    with app.worker():
        assert ended(again).result == "fine"


def test_a_running_job_is_reset_only_by_force(app: Windlass, shelf: dict[str, Job]) -> None:
    """ResetJob takes a running job as well there, which then runs twice; here that is refused, or fences the first."""
    job = shelf["started"]
    with pytest.raises(JobStateError):
        app.retry(job.id)
    app.retry(job.id, force=True)
    assert job.refresh().status == "pending"


def test_a_job_reset_by_force_is_done_once(app: Windlass) -> None:
    """Whoever ran it before the reset writes nothing any more."""
    job = app.enqueue("x")
    first = claimed(app)
    app.retry(job.id, force=True)
    second = claimed(app)
    with pytest.raises(LeaseLostError):
        first.ack("the first")
    second.ack("the second")
    assert job.refresh().result == "the second"


def test_many_jobs_can_be_reset(app: Windlass) -> None:
    """ResetJobs(ids), or all of a kind; an unknown id, passed over in silence there, is told."""
    dead = [died(app) for _ in range(3)]
    done = app.retry_many(ids=[dead[0].id, dead[1].id, 424242])
    assert sorted(done.ids) == [dead[0].id, dead[1].id]
    assert isinstance(done.refused[424242], JobNotFoundError)
    assert app.retry_many(status="dead", task="x").ids == [dead[2].id]


def test_finished_jobs_can_be_deleted(app: Windlass, shelf: dict[str, Job]) -> None:
    """DeleteFinishedJobs: what succeeded goes, of any age; what has errors stays."""
    assert app.purge(0, statuses=["completed"]) == 1
    assert {job.task for job in app.jobs()} == set(shelf) - {"stopped"}


def test_finished_jobs_can_be_deleted_by_age(app: Windlass, shelf: dict[str, Job]) -> None:
    """There is no age there; here a purge spares what is recent."""
    assert app.purge(timedelta(hours=1)) == 0
    app.driver.shift(3600)
    assert app.purge(timedelta(hours=1)) == 1
    assert app.purge(timedelta(hours=1), statuses=["dead"]) == 1


def test_finished_jobs_delete_themselves(store: str, opened: Open) -> None:
    """Cleaning up periodically is a best practice there; here workers do it: `retention`."""
    app = opened(store, retention={"completed": 0})
    app.register("work", lambda: None)
    app.enqueue("work")
    with app.worker():
        until(lambda: app.stats().totals.processed == 1 and app.count() == 0)


def test_one_job_can_be_deleted(app: Windlass, shelf: dict[str, Job]) -> None:
    """DeleteJob(id): gone, with its history; not while it runs."""
    app.delete(shelf["available"].id)
    with pytest.raises(JobNotFoundError):
        shelf["available"].refresh()
    with pytest.raises(JobStateError):
        app.delete(shelf["started"].id)


def test_jobs_can_be_deleted_by_origin_or_type(app: Windlass, shelf: dict[str, Job]) -> None:
    """DeleteJobsFromOrigin and DeleteJobsOfType are filters; what runs is refused and told."""
    assert len(app.delete_many(origin="upload")) == 2
    assert len(app.delete_many(task="deferred")) == 1
    done = app.delete_many(origin="mail")
    assert (done.ids, list(done.refused)) == ([shelf["available"].id], [shelf["started"].id])


def test_the_depth_of_a_queue_can_be_watched(app: Windlass) -> None:
    """Monitoring queue depth: how many wait, and for how long the first has waited."""
    for _ in range(3):
        app.enqueue("x", queue="slow")
    app.driver.shift(60)
    [slow] = app.queues()
    assert (slow.name, slow.pending) == ("slow", 3)
    assert slow.oldest == pytest.approx(60, abs=10)


def test_a_closed_application_refuses_everything(store: str) -> None:
    """After Close every method of the service returns ErrClosed."""
    app = Windlass(store)
    job = app.enqueue("x")
    app.close()
    calls: list[Callable[[], Any]] = [
        lambda: app.enqueue("x"),
        app.claim,
        lambda: app.get(job.id),
        app.jobs,
        app.count,
        app.stats,
        app.queues,
        app.workers,
        app.throughput,
        lambda: app.why(job.id),
        lambda: app.retry(job.id),
        lambda: app.cancel(job.id),
        lambda: app.delete(job.id),
        lambda: app.run_now(job.id),
        lambda: app.reschedule(job.id, datetime.now(UTC)),
        lambda: app.retry_many(status="dead"),
        lambda: app.cancel_many(ids=[job.id]),
        lambda: app.delete_many(ids=[job.id]),
        lambda: app.purge(0),
        lambda: app.pause(queue="default"),
        lambda: app.resume(queue="default"),
        app.rescue,
        app.migrate,
        app.worker,
        app.start,
        job.refresh,
        job.history,
    ]
    for call in calls:
        with pytest.raises(ClosedError):
            call()
    app.close()


# ---------------------------------------------------------------------------------------- results and errors


@pytest.mark.parametrize("result", [{"sent": 3}, [1, 2], "ok", 0, False, 1.5], ids=repr)
def test_a_result_is_kept_as_json(app: Windlass, result: Any) -> None:
    """What a worker returns is stored with the job."""
    app.register("work", lambda: result)
    with app.worker():
        assert ended(app.enqueue("work")).result == result


def test_no_result_is_none(app: Windlass) -> None:
    """No result is `{}` there and `None` here."""
    app.register("work", lambda: None)
    with app.worker():
        assert ended(app.enqueue("work")).result is None


def test_a_result_that_is_not_json_fails_the_attempt(app: Windlass) -> None:
    """A result that cannot be stored is an error of the job, not a silent loss."""
    app.register("work", object, max_attempts=1)
    with app.worker():
        job = ended(app.enqueue("work"))
    assert job.error is not None
    assert (job.status, job.error.kind) == ("dead", "payload")


class Declined(Exception):
    """An error with something to add."""

    def __init__(self, code: int) -> None:
        super().__init__(f"declined with {code}")
        self.data = {"code": code}


def test_an_error_is_kept_with_message_trace_and_data(app: Windlass) -> None:
    """`error_msg` with its stack trace, and `error_data`, which is the exception's `data` here."""

    def charge() -> None:
        raise Declined(51)

    app.register("charge", charge, max_attempts=1)
    with app.worker():
        job = ended(app.enqueue("charge"))
    assert job.error is not None
    assert (job.error.message, job.error.data) == ("declined with 51", {"code": 51})
    assert job.error.type.endswith("Declined")
    assert "in charge" in job.error.traceback
    assert job.history()[0].error == job.error


def test_the_cause_of_an_error_is_in_its_trace(app: Windlass) -> None:
    """Wrapped errors keep their chain."""

    def charge() -> None:
        try:
            raise KeyError("card")
        except KeyError as error:
            raise Declined(14) from error

    app.register("charge", charge, max_attempts=1)
    with app.worker():
        job = ended(app.enqueue("charge"))
    assert job.error is not None
    assert "KeyError: 'card'" in job.error.traceback


def test_errors_are_logged_as_loud_as_they_are(store: str, opened: Open, caplog: pytest.LogCaptureFixture) -> None:
    """WARN while retries remain, ERROR for the last, each with the job's id and type, none with its payload."""
    app = opened(store, backoff=0, max_attempts=2)

    def bad(card: str) -> None:
        raise ValueError("boom")

    app.register("bad", bad)
    with caplog.at_level(logging.DEBUG, logger="windlass"), app.worker():
        job = ended(app.enqueue("bad", {"card": "4111"}))
        until(lambda: "is dead" in caplog.text)
    lines = [(r.levelname, r.getMessage()) for r in caplog.records if "boom" in r.getMessage() and r.name == "windlass"]
    assert [level for level, _ in lines] == ["WARNING", "ERROR"]
    assert all(f"job {job.id} bad" in line for _, line in lines)
    assert "4111" not in caplog.text


def test_a_panic_is_an_error_like_any_other(app: Windlass) -> None:
    """A worker that panics fails its job, and its thread goes on."""

    def panic() -> None:
        raise SystemExit("panic")

    app.register("panic", panic, max_attempts=1)
    app.register("next", lambda: None)
    with app.worker(concurrency=1):
        job = ended(app.enqueue("panic"))
        assert ended(app.enqueue("next")).status == "completed"
    assert job.error is not None
    assert (job.status, job.error.type) == ("dead", "SystemExit")


def test_a_job_tells_its_life(app: Windlass, gate: Gate) -> None:
    """Created, available, started, completed: each step is stamped by the store's clock."""
    app.register("work", gate.pass_through)
    job = app.enqueue("work")
    assert (job.status, job.started_at, job.finished_at) == ("pending", None, None)
    with app.worker() as worker:
        gate.wait_for()
        running = job.refresh()
        assert (running.status, running.worker, running.finished_at) == ("running", worker.id, None)
        gate.open()
        done = ended(job)
    assert done.started_at is not None
    assert done.finished_at is not None
    assert done.created_at <= done.run_at <= done.started_at <= done.finished_at
    assert done.lease == 0


# ---------------------------------------------------------------------------------------- transactions


@pytest.fixture
def shop(app: Windlass, connect: Connect) -> Any:
    """A connection of the caller's own to the database of the jobs, with a table of the caller's own."""
    app.stats()
    connection = connect()
    connection.execute("CREATE TABLE orders (item TEXT)")
    connection.commit()
    return connection


def test_a_job_appears_with_the_callers_commit(app: Windlass, shop: Any) -> None:
    """Add inside a transaction is part of it: nobody sees the job before the commit."""
    shop.execute("INSERT INTO orders VALUES ('rope')")
    job = app.enqueue("ship", {"item": "rope"}, connection=shop)
    assert app.count() == 0
    shop.commit()
    assert claimed(app).job.id == job.id
    assert shop.execute("SELECT item FROM orders").fetchall() == [("rope",)]


def test_a_job_is_gone_with_the_callers_rollback(app: Windlass, shop: Any) -> None:
    """A transaction that is rolled back takes its jobs with it."""
    shop.execute("INSERT INTO orders VALUES ('rope')")
    app.enqueue("ship", connection=shop)
    shop.rollback()
    assert (app.count(), app.stats().totals.enqueued) == (0, 0)
    assert app.claim() is None


def test_several_jobs_appear_together(app: Windlass) -> None:
    """Several jobs at once are all there or none: one that cannot be stored keeps out the others."""
    app.register("ship", lambda item: None)
    task = app.tasks["ship"]
    with pytest.raises(PayloadError):
        app.enqueue_many([task.job("rope"), task.job(object())])
    assert app.count() == 0
    assert len(app.enqueue_many([task.job("rope"), task.job("sail")])) == 2


def test_a_handlers_writes_and_its_completion_are_one_commit(app: Windlass, shop: Any) -> None:
    """The result is written apart from the worker's own writes there; here they can be one transaction."""

    @app.task
    def pack(ctx: Context) -> None:
        with ctx.transaction() as tx:
            tx.execute("INSERT INTO orders VALUES ('rope')")
            tx.result("packed")
            if ctx.attempt == 1:
                raise ConnectionError("the first try writes nothing")

    with app.worker():
        job = ended(pack.enqueue())
    assert (job.attempt, job.result) == (2, "packed")
    assert shop.execute("SELECT item FROM orders").fetchall() == [("rope",)]


# ---------------------------------------------------------------------------------------- modes for tests


def test_jobs_can_run_where_they_are_enqueued(app: Windlass) -> None:
    """ContextWithSynchronousJobs: run at once, in the same thread, and nothing reaches the database."""
    ran: list[threading.Thread] = []

    @app.task
    def work(number: int) -> int:
        ran.append(threading.current_thread())
        return number * 2

    with testing(app, inline=True) as t:
        job = work.enqueue(21)
        assert (job.status, job.result) == ("completed", 42)
        assert [one.id for one in t.jobs] == [job.id]
    assert ran == [threading.current_thread()]
    assert app.count() == 0


def test_a_synchronous_job_that_fails_shows_its_error(app: Windlass) -> None:
    """Add returns the error there; here the job has it, and no retry is awaited."""
    app.register("bad", lambda: 1 / 0)
    with testing(app, inline=True):
        job = app.enqueue("bad", max_attempts=1)
    assert job.error is not None
    assert (job.status, job.error.type) == ("dead", "ZeroDivisionError")


def test_a_synchronous_job_keeps_its_start(app: Windlass) -> None:
    """StartAt is ignored in that mode there; here a deferred job waits for the test's own clock."""
    app.register("later", lambda: "done")
    with testing(app, inline=True) as t:
        job = app.enqueue("later", delay=3600)
        assert job.status == "scheduled"
        t.advance(3600)
        t.drain()
        assert job.refresh().result == "done"


def test_all_jobs_can_be_ignored(app: Windlass) -> None:
    """IgnoreAllJobs: enqueued jobs are dropped, and remembered."""
    with testing(app, ignore=True) as t:
        app.enqueue("x")
        app.enqueue("y")
        assert t.jobs == []
        assert [job.task for job in t.ignored] == ["x", "y"]
    assert app.count() == 0


def test_jobs_of_a_type_can_be_ignored(app: Windlass) -> None:
    """ContextWithIgnoreJobType: only jobs of that type are dropped; here of several, too."""
    with testing(app, ignore="my-job-type") as t:
        app.enqueue("my-job-type")
        app.enqueue("other")
        assert [job.task for job in t.jobs] == ["other"]
    with testing(app, ignore=["one", "two"]) as t:
        for name in ("one", "two", "three"):
            app.enqueue(name)
        assert [job.task for job in t.jobs] == ["three"]


def test_jobs_can_be_ignored_by_a_predicate(app: Windlass) -> None:
    """ContextWithIgnoreJob(predicate)."""

    def from_upload(job: NewJob) -> bool:
        return job.origin == "upload"

    with testing(app, ignore=from_upload) as t:
        app.enqueue("x", origin="upload")
        app.enqueue("x", origin="mail")
        assert [job.origin for job in t.jobs] == ["mail"]


def test_nothing_is_ignored_unless_asked_for(app: Windlass) -> None:
    """Without a filter every job is kept."""
    with testing(app) as t:
        app.enqueue("x")
        assert (len(t.jobs), t.ignored) == (1, [])


def test_ignoring_comes_before_running(app: Windlass) -> None:
    """A job that is ignored is not run synchronously either."""
    ran: list[int] = []
    app.register("work", lambda: ran.append(1))
    with testing(app, inline=True, ignore="work") as t:
        app.enqueue("work")
        assert len(t.ignored) == 1
    assert ran == []
