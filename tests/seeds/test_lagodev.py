"""What lagodev's queue promises, in Windlass's words.

Each docstring names the feature or behaviour of lagodev; where Windlass decides otherwise it says so.
"""

import logging
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.seeds.bench import Gate, Open, Spawn, busy, ended
from tests.waiting import until
from windlass import (
    Claim,
    ConfigurationError,
    Context,
    Exponential,
    Job,
    JobCompleted,
    JobDead,
    JobFailed,
    JobNotFoundError,
    JobStateError,
    LeaseLostError,
    SchemaError,
    SignatureError,
    Windlass,
)


@dataclass
class SendWelcomeEmail:
    user_id: int


@dataclass
class ResizeImage:
    path: str
    width: int = 800


def claimed(app: Windlass, **options: Any) -> Claim:
    """Claim the job that must be there."""
    claim = app.claim(**options)
    assert claim is not None
    return claim


# ---------------------------------------------------------------------------------------- typed dispatch


def test_a_dispatched_struct_reaches_the_handler_of_its_type(app: Windlass) -> None:
    """Handle[T] and Dispatch[T]: the handler is given a value of the type that was dispatched."""
    welcomed: list[SendWelcomeEmail] = []

    @app.handler(SendWelcomeEmail)
    def welcome(email: SendWelcomeEmail) -> None:
        welcomed.append(email)

    with app.worker():
        job = ended(app.dispatch(SendWelcomeEmail(user_id=42)))
    assert welcomed == [SendWelcomeEmail(user_id=42)]
    assert job.payload == {"user_id": 42}


def test_the_routing_key_is_the_name_of_the_type(app: Windlass) -> None:
    """The document says type name, the source adds the package; here it is the name, so that a type can be moved."""
    assert app.dispatch(SendWelcomeEmail(user_id=1)).task == "SendWelcomeEmail"


def test_a_renamed_type_is_still_given_its_old_jobs(app: Windlass) -> None:
    """A renamed type orphans its queued jobs, which are then dropped; here the old name is an alias."""
    old = app.enqueue("ScaleImage", {"path": "ada.png"})
    app.handler(ResizeImage, aliases=["ScaleImage"])(lambda image: image.path)
    with app.worker():
        assert ended(old).result == "ada.png"


def test_old_jobs_of_a_renamed_type_can_be_counted(app: Windlass) -> None:
    """Before the alias is dropped one must be able to see whether any job of the old name is left."""
    app.enqueue("ScaleImage", {"path": "ada.png"})
    app.handler(ResizeImage, aliases=["ScaleImage"])(lambda image: image.path)
    assert app.count(task="ScaleImage") == 1


def test_a_handler_receives_only_its_own_type(app: Windlass) -> None:
    """A handler of one type never sees jobs of another."""
    seen: list[object] = []

    @app.handler(SendWelcomeEmail)
    def welcome(email: SendWelcomeEmail) -> None:
        seen.append(email)

    @app.handler(ResizeImage)
    def resize(image: ResizeImage) -> None:
        seen.append(image)

    with app.worker(concurrency=1):
        first = app.dispatch(SendWelcomeEmail(user_id=1))
        second = app.dispatch(ResizeImage("ada.png"))
        ended(first)
        ended(second)
    assert seen == [SendWelcomeEmail(1), ResizeImage("ada.png", 800)]


def test_a_dispatch_finds_the_handler_whatever_its_name(app: Windlass) -> None:
    """The routing key can be changed neither there nor, yet, here: `handler(..., name=)` and dispatch disagree."""
    app.handler(SendWelcomeEmail, name="mail.welcome")(lambda email: email.user_id)
    assert app.dispatch(SendWelcomeEmail(user_id=1)).task == "mail.welcome"


def test_what_cannot_be_a_payload_is_refused(app: Windlass) -> None:
    """Any struct that encodes as JSON is a job in lagodev; here a dataclass, msgspec.Struct or pydantic model is."""
    with pytest.raises(SignatureError):
        app.dispatch({"user_id": 42})
    with pytest.raises(SignatureError):
        app.handler(int)


def test_dispatch_after_delivers_later(app: Windlass) -> None:
    """DispatchAfter: invisible before its time, delivered afterwards."""
    job = app.dispatch(SendWelcomeEmail(user_id=42), delay=timedelta(minutes=10))
    assert job.status == "scheduled"
    app.driver.shift(599)
    assert app.claim() is None
    app.driver.shift(1)
    assert claimed(app).job.id == job.id


# ---------------------------------------------------------------------------------------- the job


def test_a_job_knows_what_it_is(app: Windlass) -> None:
    """The fields ID, Name, Payload and AvailableAt are `id`, `task`, `payload` and `run_at`."""
    job = app.dispatch(SendWelcomeEmail(user_id=42))
    assert isinstance(job.id, int)
    assert (job.task, job.payload) == ("SendWelcomeEmail", {"user_id": 42})
    assert isinstance(job.run_at, datetime)


@pytest.mark.slow
def test_ids_are_unique_across_processes(file_url: str, opened: Open, spawn: Spawn) -> None:
    """Lagodev's ids are unique within one process; here the store gives them, so they are unique and grow."""
    app = opened(file_url)
    app.stats()
    programs = [spawn("print(*[app.enqueue('x').id for _ in range(20)])") for _ in range(2)]
    ours = [app.enqueue("x").id for _ in range(20)]
    theirs = [int(word) for program in programs for word in program.communicate(timeout=20)[0].split()]
    assert len({*ours, *theirs}) == 60
    assert ours == sorted(ours)


def test_the_attempt_is_counted_at_each_delivery(app: Windlass) -> None:
    """The document counts deliveries, the source starts at 0 and counts Nacks; here deliveries are counted from 1."""
    app.enqueue("x")
    first = claimed(app)
    assert (first.job.attempt, first.job.failures) == (1, 0)
    first.nack(delay=0)
    second = claimed(app)
    assert (second.job.attempt, second.job.failures) == (2, 1)


# ---------------------------------------------------------------------------------------- push, pop, ack, nack


def test_a_popped_job_is_what_was_pushed(app: Windlass) -> None:
    """Push and Pop: name and payload come back; Pop is `app.claim()`."""
    app.enqueue("resize", {"path": "ada.png"})
    job = claimed(app).job
    assert (job.task, job.payload) == ("resize", {"path": "ada.png"})


def test_an_empty_queue_gives_nothing_after_the_wait(app: Windlass) -> None:
    """Pop returns ErrEmpty when nothing came within its wait; a claim is `None`."""
    assert app.claim() is None
    assert app.claim(wait=0.05) is None


def test_a_waiting_pop_is_given_a_job_that_comes_meanwhile(app: Windlass) -> None:
    """Pop blocks for up to its wait and returns as soon as there is a job."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(app.claim, wait=20)
        job = app.enqueue("x")
        claim = waiting.result(timeout=15)
    assert claim is not None
    assert claim.job.id == job.id


def test_jobs_are_popped_first_in_first_out(app: Windlass) -> None:
    """FIFO among jobs of one priority; a higher priority, which lagodev does not know, goes first."""
    ids = [app.enqueue("x").id for _ in range(5)]
    urgent = app.enqueue("x", priority=1).id
    assert [claimed(app).job.id for _ in range(6)] == [urgent, *ids]


def test_an_acknowledged_job_is_done(app: Windlass) -> None:
    """Ack removes the job in lagodev; here it is kept as completed, and `retention` removes it."""
    job = app.enqueue("x")
    claimed(app).ack()
    assert job.refresh().status == "completed"
    assert app.claim() is None


def test_an_acknowledged_job_can_be_deleted_at_once(app: Windlass) -> None:
    """Removal on success, as in lagodev, is a purge of age zero (workers do it with `retention={"completed": 0}`)."""
    app.enqueue("x")
    claimed(app).ack()
    assert app.purge(0) == 1
    assert app.count() == 0


def test_a_nack_without_delay_makes_the_job_visible_at_once(app: Windlass) -> None:
    """Nack(id, 0): immediately available again, one attempt counted."""
    job = app.enqueue("x")
    claimed(app).nack(delay=0)
    assert job.refresh().failures == 1
    assert claimed(app).job.id == job.id


def test_a_nack_with_a_delay_hides_the_job(app: Windlass) -> None:
    """Nack(id, retryAfter): hidden, then visible."""
    job = app.enqueue("x")
    claimed(app).nack(delay=0.1)
    assert job.refresh().status == "retrying"
    app.driver.shift(0.1)
    assert claimed(app).job.id == job.id


def test_nacks_are_bounded_by_the_attempts(app: Windlass) -> None:
    """In lagodev only the Worker counts; here a job claimed by hand is dead after its attempts as well."""
    job = app.enqueue("x", max_attempts=2)
    for _ in range(2):
        claimed(app).nack(delay=0, error="boom")
    assert job.refresh().status == "dead"


def test_len_counts_what_is_not_done(app: Windlass) -> None:
    """Len is ready, delayed and reserved together: a count of those statuses."""
    app.enqueue("x")
    app.enqueue("x", delay=60)
    claimed(app)
    assert app.count(status=["pending", "scheduled", "retrying", "running"]) == 2
    assert app.count(status="pending") == 0


def test_a_hundred_producers_lose_nothing(app: Windlass) -> None:
    """100 concurrent pushes are 100 pops, each of another job."""
    with ThreadPoolExecutor(100) as pool:
        pushed = set(pool.map(lambda _: app.enqueue("x").id, range(100)))
    popped = {claimed(app).job.id for _ in range(100)}
    assert popped == pushed
    assert app.claim() is None


# ---------------------------------------------------------------------------------------- drivers


def test_jobs_in_memory_are_gone_with_their_app() -> None:
    """The memory driver keeps jobs in RAM only: what is pending is lost with the process."""
    with Windlass("memory://") as first:
        first.enqueue("x")
    with Windlass("memory://") as second:
        assert second.count() == 0
        assert not second.capabilities.durable


def test_jobs_in_a_database_survive_a_restart(file_url: str, opened: Open) -> None:
    """The SQL driver is durable: an unfinished dispatch is delivered after a restart."""
    first = opened(file_url)
    first.dispatch(SendWelcomeEmail(user_id=42))
    first.close()
    assert claimed(opened(file_url)).job.payload == {"user_id": 42}


def test_the_schema_is_made_at_first_use_and_only_once(file_url: str, opened: Open) -> None:
    """Setup(ctx) is idempotent and must be called in lagodev; here the first use does it, `migrate()` by hand."""
    app = opened(file_url)
    app.enqueue("x")
    app.migrate()
    app.migrate()
    assert app.count() == 1


def test_a_missing_schema_is_an_error_when_it_is_not_to_be_made(file_url: str, opened: Open) -> None:
    """Without Setup lagodev fails with the database's own error; `migrate="check"` says what is missing."""
    with pytest.raises(SchemaError):
        opened(file_url, migrate="check").count()


def test_two_prefixes_are_two_queues_in_one_file(file_url: str, opened: Open) -> None:
    """WithTable names the table; `prefix` names the tables."""
    opened(file_url, prefix="shop").enqueue("x")
    assert opened(file_url, prefix="blog").count() == 0
    assert opened(file_url, prefix="shop").count() == 1


@pytest.mark.parametrize("prefix", ["jobs; DROP TABLE users", "a b", "", "9jobs", 'x"'])
def test_a_prefix_that_is_no_name_is_refused(prefix: str) -> None:
    """WithTable is pasted into SQL unchecked; a prefix is checked."""
    with pytest.raises(ConfigurationError):
        Windlass("memory://", prefix=prefix)


@pytest.mark.parametrize("url", ["jobs.db", "oracle://x", "sqlite://jobs.db"])
def test_a_store_that_cannot_be_is_refused(url: str) -> None:
    """sqlqueue.New(nil) is an error; so is a URL of no store."""
    with pytest.raises(ConfigurationError):
        Windlass(url)


def test_a_reserved_job_is_hidden_while_its_lease_lasts(app: Windlass) -> None:
    """Visibility timeout: no second claim inside the window, exactly one after it, and the loss is counted."""
    job = app.enqueue("x")
    claimed(app, lease=900)
    app.driver.shift(899)
    app.rescue()
    assert app.claim() is None
    app.driver.shift(2)
    assert app.rescue() == 1
    again = claimed(app)
    assert (again.job.id, again.job.attempt, again.job.crashes) == (job.id, 2, 1)
    assert app.claim() is None


def test_a_claim_that_needs_longer_is_extended(app: Windlass) -> None:
    """Lagodev cannot renew a reservation, so long handlers run twice; a claim can be extended."""
    app.enqueue("x")
    claim = claimed(app, lease=60)
    app.driver.shift(50)
    claim.extend(60)
    app.driver.shift(50)
    assert app.rescue() == 0
    claim.ack()


@pytest.mark.slow
def test_a_long_handler_keeps_its_job(opened: Open, store: str, gate: Gate) -> None:
    """A handler that outlives the visibility timeout runs twice in lagodev; here the worker's heartbeat keeps it."""
    app = opened(store)
    app.register("long", gate.pass_through)
    app.register("other", lambda: None)
    job = app.enqueue("long")
    with app.worker(concurrency=2), app.worker(concurrency=1):
        gate.wait_for()
        busy(app, "other", seconds=1.5)
        assert job.refresh().attempt == 1
        gate.open()
        done = ended(job)
    assert (done.status, done.attempt, done.crashes) == ("completed", 1, 0)


def test_a_late_ack_of_an_expired_claim_is_refused(app: Windlass) -> None:
    """Ack and Nack go by job id in lagodev and hit the job in its next owner's hands; here the lease must be live."""
    job = app.enqueue("x")
    slow = claimed(app, lease=1)
    app.driver.shift(2)
    app.rescue()
    successor = claimed(app)
    assert successor.lease > slow.lease
    for late in (slow.ack, slow.nack, slow.release, lambda: slow.extend(60)):
        with pytest.raises(LeaseLostError):
            late()
    assert (job.refresh().status, job.refresh().lease) == ("running", successor.lease)
    successor.ack()
    assert job.refresh().status == "completed"


def test_claims_that_expire_again_and_again_end_dead(opened: Open, store: str) -> None:
    """A job whose process dies each time is redelivered for ever in lagodev; here `max_crashes` bounds it."""
    app = opened(store, max_crashes=2)
    job = app.enqueue("x")
    for _ in range(2):
        claimed(app, lease=1)
        app.driver.shift(2)
        assert app.rescue() == 1
    dead = job.refresh()
    assert (dead.status, dead.failures, dead.crashes) == ("dead", 0, 2)


def test_eight_reservers_never_claim_the_same_job(app: Windlass) -> None:
    """8 concurrent reservers over 60 jobs: no error, no double claim, none left."""
    expected = {app.enqueue("x").id for _ in range(60)}
    start = threading.Barrier(8)

    def reserve(_: int) -> list[int]:
        start.wait(20)
        found = []
        while (claim := app.claim()) is not None:
            claim.ack()
            found.append(claim.job.id)
        return found

    with ThreadPoolExecutor(8) as pool:
        found = [job_id for ids in pool.map(reserve, range(8)) for job_id in ids]
    assert sorted(found) == sorted(expected)


@pytest.mark.slow
def test_two_processes_never_claim_the_same_job(file_url: str, opened: Open, spawn: Spawn) -> None:
    """Reservation happens in the database: separate processes share the work and each job runs once."""
    app = opened(file_url)
    app.stats()
    programs = [
        spawn("""
            print("ready")
            sys.stdin.readline()
            while (claim := app.claim()) is not None:
                claim.ack()
                print(claim.job.id)
        """)
        for _ in range(2)
    ]
    expected = [app.enqueue("x").id for _ in range(100)]
    for program in programs:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
    for program in programs:
        assert program.stdin is not None
        program.stdin.write("go\n")
        program.stdin.flush()
    found = [int(word) for program in programs for word in program.communicate(timeout=20)[0].split()]
    assert sorted(found) == expected


def test_a_process_that_dies_between_pop_and_ack_loses_nothing(file_url: str, opened: Open, spawn: Spawn) -> None:
    """At least once: a claim whose process is gone is delivered again when its lease ends."""
    app = opened(file_url)
    job = app.enqueue("x")
    program = spawn("app.claim(lease=60); print('claimed'); os._exit(1)")
    assert program.communicate(timeout=20)[0] == "claimed\n"
    assert app.claim() is None
    app.driver.shift(61)
    app.rescue()
    assert claimed(app).job.id == job.id


# ---------------------------------------------------------------------------------------- the worker


def test_a_worker_handles_and_acknowledges(app: Windlass) -> None:
    """End to end: one delivery, one run, acknowledged once, nothing left."""
    runs: list[int] = []

    @app.task
    def work(number: int) -> None:
        runs.append(number)

    with app.worker():
        job = ended(work.enqueue(1))
    assert runs == [1]
    assert [row.outcome for row in job.history()] == ["completed"]
    assert app.count(status=["pending", "scheduled", "retrying", "running"]) == 0


def test_a_job_may_succeed_at_its_third_attempt(app: Windlass) -> None:
    """Failures before MaxRetry are tried again."""

    @app.task
    def flaky(ctx: Context) -> None:
        if ctx.attempt < 3:
            raise ConnectionError("not yet")

    with app.worker():
        job = ended(flaky.enqueue())
    assert (job.status, job.attempt) == ("completed", 3)


def test_a_job_is_tried_as_often_as_max_retry_says(app: Windlass) -> None:
    """MaxRetry(3) is total attempts, three by default, spelt `max_attempts`; the job is kept as dead, not deleted."""
    runs: list[int] = []

    @app.task
    def broken(ctx: Context) -> None:
        runs.append(ctx.attempt)
        raise ValueError("boom")

    with app.worker():
        job = ended(broken.enqueue())
    assert runs == [1, 2, 3]
    assert (job.status, job.failures) == ("dead", 3)
    assert app.stats().totals.retried == 2


def test_on_failed_is_told_once_with_the_original_error(app: Windlass) -> None:
    """OnFailed(job, err) is a listener of JobDead, called once; the exception itself is there to look at."""
    dead: list[JobDead] = []
    original = ValueError("boom")
    app.on(JobDead)(dead.append)

    @app.task(max_attempts=2)
    def broken() -> None:
        raise original

    with app.worker():
        job = ended(broken.enqueue())
    [event] = dead
    assert event.job.id == job.id
    assert event.exception is original
    assert str(event.error) == "ValueError: boom"


def test_on_failed_is_told_of_a_job_that_dies_with_its_worker(opened: Open, store: str) -> None:
    """OnFailed is told of every job that is given up; here crashes are a way to die as well."""
    app = opened(store, max_crashes=1)
    dead: list[JobDead] = []
    app.on(JobDead)(dead.append)
    job = app.enqueue("x")
    claimed(app, lease=1)
    app.driver.shift(2)
    with app.worker():
        ended(job)
        until(lambda: dead)
    assert [event.job.id for event in dead] == [job.id]


def test_on_failed_is_told_of_a_job_that_is_given_up_by_hand(app: Windlass) -> None:
    """The counterpart of OnFailed for whoever uses Pop and Nack without a Worker."""
    dead: list[JobDead] = []
    app.on(JobDead)(dead.append)
    job = app.enqueue("x", max_attempts=1)
    claimed(app).nack(error="boom")
    assert [event.job.id for event in dead] == [job.id]


def test_a_failing_listener_hurts_nobody(app: Windlass) -> None:
    """A panic in OnFailed kills lagodev's worker; here it is logged and the job is dead all the same."""

    @app.on(JobDead)
    def listen(event: JobDead) -> None:
        raise RuntimeError("the listener is broken")

    @app.task(max_attempts=1)
    def broken() -> None:
        raise ValueError("boom")

    app.register("next", lambda: None)
    with app.worker(concurrency=1):
        assert ended(broken.enqueue()).status == "dead"
        assert ended(app.enqueue("next")).status == "completed"


def test_a_panic_counts_as_an_attempt_and_the_worker_goes_on(app: Windlass) -> None:
    """A panicking handler fails its attempt, and another job still runs."""

    @app.task(max_attempts=2)
    def panic() -> None:
        raise KeyboardInterrupt("panic")

    app.register("next", lambda: "fine")
    with app.worker(concurrency=1):
        job = ended(panic.enqueue())
        assert ended(app.enqueue("next")).result == "fine"
    assert (job.status, job.failures) == ("dead", 2)


def test_an_unknown_name_is_kept(app: Windlass) -> None:
    """Lagodev drops a job that no handler is registered for; here it waits for a worker that knows it."""
    app.handler(SendWelcomeEmail)(lambda email: email.user_id)
    unknown = app.dispatch(ResizeImage("ada.png"))
    with app.worker():
        ended(app.dispatch(SendWelcomeEmail(1)))
        assert unknown.refresh().status == "pending"
        app.handler(ResizeImage)(lambda image: image.width)
        assert ended(unknown).result == 800


def test_the_default_back_off_doubles(opened: Open, store: str) -> None:
    """Lagodev documents a constant delay and doubles it from 5 s; Windlass doubles from 5 s, capped, with jitter."""
    app = opened(store, backoff=Exponential(base=5, jitter=0), max_attempts=9)
    job = app.enqueue("x")
    waits = []
    for _ in range(8):
        claimed(app).nack()
        failed = job.history()[-1].finished_at
        assert failed is not None
        waits.append(round((job.refresh().run_at - failed).total_seconds()))
        app.driver.shift(waits[-1])
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300]


def test_a_duration_as_back_off_is_constant(opened: Open, store: str) -> None:
    """Backoff(30s) as it is documented, the same wait each time, is `backoff=30`."""
    app = opened(store, backoff=timedelta(seconds=30), max_attempts=9)
    job = app.enqueue("x")
    for _ in range(3):
        claimed(app).nack()
        failed = job.history()[-1].finished_at
        assert failed is not None
        assert (job.refresh().run_at - failed).total_seconds() == pytest.approx(30, abs=1)
        app.driver.shift(30)


@pytest.mark.parametrize(("failures", "seconds"), [(1, 5), (4, 40), (201, 300), (10_000, 300)])
def test_the_back_off_never_overflows(failures: int, seconds: float) -> None:
    """The multiplier is 1, then 8 after three more, and never overflows; unlike lagodev's it has a cap."""
    job = cast("Job", SimpleNamespace(failures=failures))
    assert Exponential(base=5, jitter=0)(job, ValueError()) == seconds


def test_a_logger_can_be_given(store: str, opened: Open, caplog: pytest.LogCaptureFixture) -> None:
    """Logger(fn) is a `logging.Logger`; its records also carry the job's id."""
    app = opened(store, logger=logging.getLogger("shop.queue"))

    @app.task
    def talk() -> None:
        logging.getLogger("shop.mail").warning("sent")

    with caplog.at_level(logging.INFO), app.worker():
        job = ended(talk.enqueue())
    assert any(record.name == "shop.queue" for record in caplog.records)
    [line] = [record for record in caplog.records if record.name == "shop.mail"]
    assert getattr(line, "job_id", None) == job.id


def test_parallel_workers_run_each_job_once(app: Windlass) -> None:
    """Several workers on one queue, 6 × 200 jobs there: every job exactly once."""
    ran: list[int] = []

    @app.task
    def work(number: int) -> None:
        ran.append(number)

    workers = [app.worker(concurrency=1) for _ in range(6)]
    for worker in workers:
        worker.start()
    app.enqueue_many([work.job(number) for number in range(200)])
    until(lambda: app.stats().completed == 200)
    for worker in workers:
        worker.stop()
    assert sorted(ran) == list(range(200))


def test_one_worker_runs_several_jobs_at_a_time(app: Windlass, gate: Gate) -> None:
    """A Worker of lagodev runs one job at a time and parallelism takes more of them; here it is `concurrency`."""
    app.register("work", gate.pass_through)
    jobs = [app.enqueue("work") for _ in range(3)]
    with app.worker(concurrency=3):
        gate.wait_for(3)
        gate.open()
        assert {ended(job).status for job in jobs} == {"completed"}


def test_stop_blocks_while_a_handler_runs_and_leaves_no_thread(app: Windlass, gate: Gate) -> None:
    """Stop waits for the current job, then returns, and nothing of the worker is left."""
    app.register("work", gate.pass_through)
    app.stats()
    before = set(threading.enumerate())
    worker = app.worker()
    worker.start()
    job = app.enqueue("work")
    gate.wait_for()
    stopper = threading.Thread(target=worker.stop)
    stopper.start()
    until(lambda: worker.snapshot().state == "stopping")
    assert stopper.is_alive()
    gate.open()
    stopper.join(20)
    assert job.refresh().status == "completed"
    until(lambda: set(threading.enumerate()) <= before)


def test_stop_without_run_returns(app: Windlass) -> None:
    """Stop of a worker that never ran returns at once."""
    app.worker().stop()


def test_a_worker_can_run_again_after_stop(app: Windlass) -> None:
    """A worker is restartable after Stop."""
    app.register("work", lambda: None)
    worker = app.worker()
    for _ in range(2):
        with worker:
            assert ended(app.enqueue("work")).status == "completed"


@pytest.mark.slow
def test_sigterm_lets_the_current_job_finish(file_url: str, opened: Open, spawn: Spawn) -> None:
    """Run ends with SIGTERM after the current job; its completion is written, which in lagodev it is not."""
    app = opened(file_url)
    first, second = app.enqueue("work"), app.enqueue("work")
    program = spawn("""
        def work(ctx: Context):
            print("started")
            ctx.stopping.wait(20)
            return "finished"

        app.register("work", work)
        app.run(concurrency=1)
        print("bye")
    """)
    assert program.stdout is not None
    assert program.stdout.readline() == "started\n"
    program.send_signal(signal.SIGTERM)
    assert program.wait(20) == 0
    assert program.stdout.read() == "bye\n"
    assert (first.refresh().result, first.refresh().attempt) == ("finished", 1)
    assert second.refresh().status == "pending"


@pytest.mark.slow
def test_a_second_signal_gives_the_jobs_back_at_once(file_url: str, opened: Open, spawn: Spawn) -> None:
    """An interrupted job is delivered again; it costs no attempt of those it is allowed."""
    app = opened(file_url)
    job = app.enqueue("work", max_attempts=1)
    program = spawn("""
        def work(ctx: Context):
            print("started")
            ctx.stopping.wait(20)
            print("stopping")
            ctx.cancelled.wait(20)
            raise InterruptedError

        app.register("work", work)
        app.run()
    """)
    assert program.stdout is not None
    assert program.stdout.readline() == "started\n"
    program.send_signal(signal.SIGTERM)
    assert program.stdout.readline() == "stopping\n"
    program.send_signal(signal.SIGTERM)
    assert program.wait(20) == 0
    given = job.refresh()
    assert (given.status, given.failures, given.crashes) == ("pending", 0, 0)


# ---------------------------------------------------------------------------------------- counters and dead letters


def test_counters_are_kept_per_queue(app: Windlass) -> None:
    """Stats labels are fed by hand in lagodev; here they are the queues, and the store counts by itself."""
    app.enqueue("x", queue="emails", max_attempts=2)
    app.enqueue("x", queue="images")
    claimed(app, queue="emails").nack(delay=0)
    claimed(app, queue="emails").nack(delay=0)
    claimed(app, queue="images").ack()
    app.enqueue("x", queue="images")
    stats = app.stats()
    emails, images = stats.queue_totals["emails"], stats.queue_totals["images"]
    assert (emails.enqueued, emails.processed, emails.failed, emails.retried, emails.dead) == (1, 0, 2, 1, 1)
    assert (images.enqueued, images.processed) == (2, 1)
    assert (stats.queues["images"].pending, stats.queues["emails"].dead) == (1, 1)
    assert stats.totals.enqueued == 3
    assert list(stats.queues) == ["emails", "images"]


def test_counters_survive_a_restart(file_url: str, opened: Open) -> None:
    """Lagodev's counters live in one process and start from zero with it; these are stored."""
    first = opened(file_url)
    first.enqueue("x")
    first.close()
    assert opened(file_url).stats().totals.enqueued == 1


def test_throughput_is_measured_over_a_window(app: Windlass) -> None:
    """Sampler: five jobs in the window are 5 a minute, from the first to the last; no goroutine to stop."""
    for _ in range(5):
        app.enqueue("x", queue="emails")
        claimed(app, queue="emails").ack()
    seen = app.throughput("emails", window=60)
    assert (seen.processed, seen.per_minute) == (5, 5)
    assert seen.per_second == pytest.approx(5 / 60)
    assert sum(sample.processed for sample in seen.samples) == 5
    assert app.throughput("images").processed == 0
    app.driver.shift(120)
    assert app.throughput("emails").per_minute == 0


def test_throughput_looks_at_a_minute_unless_told_otherwise(app: Windlass) -> None:
    """The Sampler's window defaults to a minute; one of zero is refused instead of replaced."""
    assert app.throughput().window == 60
    with pytest.raises(ConfigurationError):
        app.throughput(window=0)


@pytest.fixture
def graves(app: Windlass) -> list[Job]:
    """Three dead jobs, oldest first."""
    jobs = [app.enqueue("x", {"number": number}, queue="emails", max_attempts=1) for number in range(3)]
    for job in jobs:
        claimed(app, queue="emails").nack(error=f"boom {job.payload['number']}")
    return jobs


def test_dead_letters_are_kept_with_what_is_needed_to_understand_them(app: Windlass, graves: list[Job]) -> None:
    """FailedJob: id, queue, the payload as it was, the error and when; stored, not in memory, with no wiring."""
    dead = app.get(graves[1].id)
    assert (dead.queue, dead.payload, dead.status) == ("emails", {"number": 1}, "dead")
    assert dead.error is not None
    assert dead.error.message == "boom 1"
    assert dead.finished_at is not None


def test_dead_letters_survive_a_restart(file_url: str, opened: Open) -> None:
    """MemoryFailedJobs is gone with its process; dead jobs are rows."""
    first = opened(file_url)
    first.enqueue("x", max_attempts=1)
    claimed(first).nack(error="boom")
    first.close()
    [dead] = opened(file_url).jobs(status="dead")
    assert dead.error is not None
    assert dead.error.message == "boom"


def test_dead_letters_are_listed_newest_first_in_pages(app: Windlass, graves: list[Job]) -> None:
    """List is newest first, 50 a page; a page past the end is empty."""
    newest_first = [job.id for job in reversed(graves)]
    assert [job.id for job in app.jobs(status="dead")] == newest_first
    assert [job.id for job in app.jobs(status="dead", limit=2, offset=2)] == newest_first[2:]
    assert len(app.jobs(status="dead", offset=50)) == 0
    assert app.count(status="dead") == 3


def test_the_next_page_is_offered_only_when_there_is_one(app: Windlass, graves: list[Job]) -> None:
    """HasNext of lagodev leads to an empty page at multiples of the page size; the cursor does not."""
    assert app.jobs(status="dead", limit=3).next is None
    assert app.jobs(status="dead", limit=2).next is not None


def test_pending_jobs_can_be_listed(app: Windlass) -> None:
    """Inspector.Pending(queue, page) returns nothing in lagodev; here it is a filter."""
    job = app.enqueue("x", queue="emails")
    assert [found.id for found in app.jobs(queue="emails", status="pending")] == [job.id]


def test_a_retried_dead_letter_runs_again_with_its_payload(app: Windlass, graves: list[Job]) -> None:
    """Retry re-enqueues the original payload and takes it off the list; all attempts are granted, not one."""
    app.retry(graves[0].id)
    assert app.count(status="dead") == 2
    again = claimed(app, queue="emails")
    assert (again.job.id, again.job.payload, again.job.failures) == (graves[0].id, {"number": 0}, 0)


def test_a_dead_letter_is_retried_once_however_often_it_is_asked_for(app: Windlass, graves: list[Job]) -> None:
    """Two concurrent Retry calls of lagodev both enqueue; here the second is refused and one job runs."""
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(app.retry, graves[0].id) for _ in range(8)]
    refused = [future.exception() for future in asked if future.exception() is not None]
    assert len(refused) == 7
    assert all(isinstance(error, JobStateError) for error in refused)
    assert app.count(status="pending") == 1


def test_a_forgotten_dead_letter_is_gone(app: Windlass, graves: list[Job]) -> None:
    """Forget drops the record without running it again."""
    app.delete(graves[0].id)
    assert app.count(status="dead") == 2
    assert app.claim("emails") is None


def test_all_dead_letters_can_be_flushed(app: Windlass, graves: list[Job]) -> None:
    """FlushFailed drops every dead job; an empty list is fine."""
    assert len(app.delete_many(status="dead")) == 3
    assert app.count(status="dead") == 0
    assert len(app.delete_many(status="dead")) == 0


def test_an_unknown_dead_letter_is_not_found(app: Windlass) -> None:
    """Retry and Forget of an unknown id are ErrNotFound."""
    for operation in (app.retry, app.delete):
        with pytest.raises(JobNotFoundError):
            operation(42)


def test_hooks_see_each_retry_and_each_success(app: Windlass) -> None:
    """OnProcessed and OnRetried are fed by hand in lagodev; here they are events."""
    told: list[str] = []

    @app.on(JobCompleted)
    def completed(event: JobCompleted) -> None:
        told.append("processed")

    @app.on(JobFailed)
    def failed(event: JobFailed) -> None:
        told.append("retried" if event.will_retry else "failed")

    @app.task
    def flaky(ctx: Context) -> None:
        if ctx.attempt == 1:
            raise ConnectionError("not yet")

    with app.worker():
        ended(flaky.enqueue())
        until(lambda: len(told) == 2)
    assert told == ["retried", "processed"]
