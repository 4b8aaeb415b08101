"""What the database queue of gofastr's battery/queue promises, in Windlass's words; schedules have tests of their own.

It is promised on Redis too, where there is only part of it; see also `test_gofastr_redis`.

Each docstring names the feature or behaviour of gofastr; where Windlass decides otherwise it says so.
"""

import json
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.seeds.bench import Gate, Open, Spawn, busy, ended
from tests.seeds.conftest import DATABASES
from tests.waiting import until
from windlass import (
    Claim,
    ClosedError,
    ConfigurationError,
    Context,
    Exponential,
    Job,
    JobNotFoundError,
    JobStateError,
    LeaseLostError,
    Windlass,
    WorkerStateError,
)

Connect = Callable[[], Any]


@pytest.fixture(params=["sqlite", *(pytest.param(name, marks=pytest.mark.slow) for name in ("postgres", "redis"))])
def store(request: pytest.FixtureRequest) -> str:
    """DBQueue lives in a database, so these tests do, and Redis is to be no less."""
    return str(request.getfixturevalue({**DATABASES, "redis": "redis_url"}[request.param]))


@pytest.fixture
def shared(store: str) -> str:
    return store


def claimed(app: Windlass, **options: Any) -> Claim:
    """Claim the job that must be there."""
    claim = app.claim(**options)
    assert claim is not None
    return claim


def died(app: Windlass, task: str = "x", **options: Any) -> Job:
    """Enqueue a job and let it die."""
    job = app.enqueue(task, max_attempts=1, **options)
    claimed(app, tasks=[task]).nack(error="boom")
    return job.refresh()


def waits(app: Windlass, times: int) -> list[int]:
    """Let the one job fail so many times; return the whole seconds it waits after each."""
    found = []
    for _ in range(times):
        claim = claimed(app)
        claim.nack()
        failed = claim.job.history()[-1].finished_at
        assert failed is not None
        found.append(round((claim.job.refresh().run_at - failed).total_seconds()))
        app.driver.shift(found[-1])
    return found


# ---------------------------------------------------------------------------------------- backends


def test_jobs_outlive_a_restart(store: str, opened: Open) -> None:
    """Durable across restart: DBQueue is, MemoryQueue is not; each store says so itself."""
    first = opened(store)
    job = first.enqueue("process-upload", {"path": "ada.png"})
    first.close()
    second = opened(store)
    assert second.get(job.id).payload == {"path": "ada.png"}
    assert (second.capabilities.durable, second.capabilities.shared) == (True, True)
    assert not opened("memory://").capabilities.durable


def test_the_store_is_chosen_by_its_url(database: str, opened: Open) -> None:
    """NewMemoryQueue and NewDBQueue are one constructor; the code that uses them does not change."""

    def program(app: Windlass) -> Any:
        app.register("double", lambda number: 2 * number)
        with app.worker():
            return ended(app.enqueue("double", {"number": 21})).result

    assert [program(opened(url)) for url in (database, "memory://", "sqlite://")] == [42, 42, 42]


@pytest.mark.parametrize("url", ["cockroachdb://host/db", "sqlserver://host/db", "host=localhost dbname=jobs"])
def test_a_database_that_is_not_known_is_refused(url: str) -> None:
    """An unknown database is taken for SQLite there; here it is an error."""
    with pytest.raises(ConfigurationError):
        Windlass(url)


def test_tables_are_made_at_first_use(database: str, opened: Open, connect: Connect) -> None:
    """NewDBQueue creates table and index if they do not exist, and leaves what does."""
    job = opened(database).enqueue("x")
    assert opened(database).get(job.id) == job
    [(count,)] = connect().execute("SELECT count(*) FROM windlass_job").fetchall()
    assert count == 1


def test_tables_can_have_a_name_of_their_own(database: str, opened: Open, connect: Connect) -> None:
    """WithTable("my_jobs") is `prefix`: two of them are two queues in one database."""
    opened(database, prefix="mine").enqueue("x")
    assert opened(database, prefix="yours").count() == 0
    [(count,)] = connect().execute("SELECT count(*) FROM mine_job").fetchall()
    assert count == 1


@pytest.mark.parametrize("prefix", ["jobs; DROP TABLE users", "my-jobs", "", "1jobs", 'my"jobs', "j" * 41, "Jobs"])
def test_an_unsafe_table_name_is_refused(store: str, prefix: str) -> None:
    """WithTable panics for a name that is not safe in SQL."""
    with pytest.raises(ConfigurationError):
        Windlass(store, prefix=prefix)


def test_opening_a_store_changes_no_job(store: str, opened: Open) -> None:
    """NewDBQueue reads and rewrites every row there; here nobody's job is touched by another process's start."""
    first = opened(store)
    jobs = [first.enqueue("x", delay=3600), first.enqueue("x")]
    claimed(first, lease=900)
    before = [job.refresh() for job in jobs]
    opened(store).stats()
    assert [job.refresh() for job in jobs] == before


# ---------------------------------------------------------------------------------------- the job


def test_an_enqueued_job_is_filled_in(app: Windlass) -> None:
    """ID, MaxAttempts, CreatedAt and ScheduledAt are filled in by Enqueue; three attempts is the default."""
    before = datetime.fromtimestamp(app.driver.now(), UTC) - timedelta(milliseconds=1)
    job = app.enqueue("send-email").refresh()
    assert (job.id > 0, job.max_attempts, job.attempt, job.priority) == (True, 3, 0, 0)
    assert before <= job.created_at == job.run_at


def test_two_jobs_never_share_an_id(app: Windlass) -> None:
    """An id given twice is a driver's error there; here the store numbers the jobs, and never a number twice."""
    first = app.enqueue("x")
    app.delete(first.id)
    second = app.enqueue("x")
    assert second.id > first.id


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 201, None, 7])
def test_a_type_is_required(app: Windlass, name: Any) -> None:
    """Type is called required there and never checked; here it is."""
    with pytest.raises(ConfigurationError):
        app.enqueue(name)


def test_the_payload_is_arbitrary_json(app: Windlass) -> None:
    """Payload is raw JSON for the handler."""
    given = json.loads(
        '{"to": "user@example.com", "list": [1, 2.5, null, {"\\u00fc": "\\u2713"}], "big": 9007199254740993}'
    )
    app.enqueue("send-email", given)
    assert claimed(app).job.payload == given


def test_zero_attempts_are_refused(app: Windlass) -> None:
    """MaxAttempts 0 means 3 there; here leaving it out does, and 0 is an error."""
    with pytest.raises(ConfigurationError):
        app.enqueue("x", max_attempts=0)


def test_each_claim_counts_an_attempt(app: Windlass) -> None:
    """Attempts goes up with each claim, on every store; failures are counted apart."""
    job = app.enqueue("x")
    for attempt in (1, 2):
        claim = claimed(app)
        assert (claim.job.attempt, claim.job.failures) == (attempt, attempt - 1)
        claim.nack()
    assert (job.refresh().attempt, job.refresh().failures) == (2, 2)


def test_higher_priorities_are_dequeued_first(app: Windlass) -> None:
    """Priority: higher first, then first come, first served."""
    low, high, also_low, urgent = (app.enqueue("x", priority=p).id for p in (0, 5, 0, 9))
    assert [claimed(app).job.id for _ in range(4)] == [urgent, high, low, also_low]


def test_a_filtered_dequeue_keeps_the_order_of_the_rest(app: Windlass) -> None:
    """Dequeue(types…) takes those types only; what it passes over keeps its place."""
    ids = [app.enqueue(task).id for task in ("a", "b", "a", "c")]
    assert claimed(app, tasks=["c"]).job.id == ids[3]
    assert app.claim(tasks=["c"]) is None
    assert [claimed(app).job.id for _ in range(3)] == ids[:3]


def test_a_scheduled_job_is_invisible_until_its_moment(app: Windlass) -> None:
    """ScheduledAt in the future: not dequeued, then dequeued; no scheduler is needed."""
    at = datetime.fromtimestamp(app.driver.now(), UTC) + timedelta(hours=1)
    job = app.enqueue("x", run_at=at)
    assert (job.status, app.claim()) == ("scheduled", None)
    app.driver.shift(3599)
    assert app.claim() is None
    app.driver.shift(1.5)
    assert claimed(app).job.id == job.id


def test_a_scheduled_job_runs_when_it_is_due(app: Windlass) -> None:
    """The worker loop takes it by itself."""
    app.register("x", lambda: "done")
    with app.worker():
        job = ended(app.enqueue("x", delay=0.2))
    assert job.started_at is not None
    assert (job.result, job.started_at >= job.run_at) == ("done", True)


def test_an_instant_is_the_same_in_every_zone(app: Windlass) -> None:
    """Times are compared as text there, in six layouts; here an instant is an instant."""
    at = datetime(2040, 6, 1, 12, tzinfo=UTC)
    there = at.astimezone(timezone(timedelta(hours=-9, minutes=-30)))
    jobs = [app.enqueue("x", run_at=moment) for moment in (at, there)]
    assert {job.refresh().run_at for job in jobs} == {at}


@pytest.mark.parametrize(
    ("moment", "error"), [(datetime(2040, 6, 1), ConfigurationError), ("2040-06-01T12:00:00Z", TypeError)], ids=str
)
def test_a_time_that_is_no_instant_is_refused(app: Windlass, moment: Any, error: type[Exception]) -> None:
    """Malformed times are errors, never a zero time."""
    with pytest.raises(error):
        app.enqueue("x", run_at=moment)


# ---------------------------------------------------------------------------------------- the queue by hand


def test_an_empty_queue_has_no_job(app: Windlass) -> None:
    """ErrNoJob is `None`: nothing is ready right now."""
    assert app.claim() is None


def test_an_acknowledged_job_is_completed(app: Windlass) -> None:
    """Ack deletes the row there; here the job is completed, and kept for as long as `retention` says."""
    job = app.enqueue("x")
    claimed(app).ack()
    assert (job.refresh().status, app.claim()) == ("completed", None)


def test_success_can_leave_nothing_behind(store: str, opened: Open) -> None:
    """Five jobs run and no row is left, as there: `retention={"completed": 0}`."""
    app = opened(store, retention={"completed": 0})
    app.register("x", lambda: None)
    for _ in range(5):
        app.enqueue("x")
    with app.worker():
        until(lambda: app.stats().totals.processed == 5 and app.count() == 0)


def test_a_nacked_job_is_eligible_at_once(app: Windlass) -> None:
    """Nack with attempts left and no back-off: the next Dequeue has it again."""
    job = app.enqueue("x")
    claimed(app).nack()
    assert job.refresh().status == "pending"
    again = claimed(app)
    assert (again.job.id, again.job.attempt) == (job.id, 2)


def test_a_job_nacked_on_its_last_attempt_is_failed(app: Windlass) -> None:
    """Nack at MaxAttempts: never eligible again, and retained."""
    job = app.enqueue("x", max_attempts=2)
    for _ in range(2):
        claimed(app).nack(error="boom")
    assert (job.refresh().status, app.claim()) == ("dead", None)


def test_an_old_claim_can_neither_ack_nor_nack(app: Windlass) -> None:
    """Ack and Nack go by the job there and hit its next claimant; here they need the live lease."""
    job = app.enqueue("x")
    stale = claimed(app, lease=1)
    app.driver.shift(2)
    app.rescue()
    fresh = claimed(app)
    for late in (stale.nack, stale.ack, stale.release):
        with pytest.raises(LeaseLostError):
            late()
    assert (job.refresh().status, app.claim()) == ("running", None)
    fresh.ack()
    assert job.refresh().status == "completed"


def test_a_late_ack_leaves_the_dead_letter(store: str, opened: Open) -> None:
    """A late Ack cannot erase a dead letter, and is told that it came too late."""
    app = opened(store, max_crashes=1)
    job = app.enqueue("x")
    late = claimed(app, lease=1)
    app.driver.shift(2)
    app.rescue()
    assert job.refresh().status == "dead"
    with pytest.raises(LeaseLostError):
        late.ack()
    assert job.refresh().status == "dead"


def test_a_second_ack_changes_nothing(app: Windlass) -> None:
    """A double Ack is refused and does no harm."""
    job = app.enqueue("x")
    claim = claimed(app)
    claim.ack("first")
    with pytest.raises(LeaseLostError):
        claim.ack("second")
    assert job.refresh().result == "first"


def test_several_workers_never_dequeue_the_same_job(store: str, opened: Open) -> None:
    """FOR UPDATE SKIP LOCKED: concurrent claims over several connections share nothing and lose nothing."""
    apps = [opened(store) for _ in range(4)]
    expected = [apps[0].enqueue("x").id for _ in range(60)]
    start = threading.Barrier(8)

    def dequeue(app: Windlass) -> list[int]:
        start.wait(20)
        found = []
        while (claim := app.claim()) is not None:
            claim.ack()
            found.append(claim.job.id)
        return found

    with ThreadPoolExecutor(8) as pool:
        found = [job_id for ids in pool.map(dequeue, apps * 2) for job_id in ids]
    assert sorted(found) == expected


def test_filtered_claims_under_load_lose_nothing(store: str, opened: Open) -> None:
    """Each of several claimants filters by its own type: all jobs are found, each by its own."""
    app = opened(store)
    expected = {name: [app.enqueue(name).id for _ in range(15)] for name in ("a", "b", "c", "d")}
    start = threading.Barrier(4)

    def dequeue(name: str) -> list[int]:
        start.wait(20)
        found = []
        while (claim := app.claim(tasks=[name])) is not None:
            claim.ack()
            found.append(claim.job.id)
        return found

    with ThreadPoolExecutor(4) as pool:
        assert dict(zip(expected, pool.map(dequeue, expected), strict=True)) == expected


@pytest.mark.slow
def test_replicas_share_the_work(store: str, opened: Open, spawn: Spawn) -> None:
    """Multi-replica safety: worker processes on one database run every job once."""
    app = opened(store)
    app.stats()
    replicas = [
        spawn("""
            app.register("x", os.getpid)
            with app.worker(concurrency=2):
                print("ready")
                sys.stdin.readline()
        """)
        for _ in range(2)
    ]
    for replica in replicas:
        assert replica.stdout is not None
        assert replica.stdout.readline() == "ready\n"
    jobs = [app.enqueue("x") for _ in range(100)]
    until(lambda: app.stats().completed == 100, timeout=60)
    for replica in replicas:
        replica.communicate("done\n", timeout=20)
    done = [job.refresh() for job in jobs]
    assert {job.attempt for job in done} == {1}
    assert {job.result for job in done} <= {replica.pid for replica in replicas}
    assert app.stats().totals.processed == 100


# ---------------------------------------------------------------------------------------- retry and back-off


def test_the_delay_doubles_from_base_to_max(store: str, opened: Open) -> None:
    """WithBackoff(5 s, 5 min): 5, 10, 20 s and so on, up to 5 min."""
    app = opened(store, backoff=Exponential(base=5, cap=300, jitter=0), max_attempts=9)
    app.enqueue("x")
    assert waits(app, 8) == [5, 10, 20, 40, 80, 160, 300, 300]


@pytest.mark.parametrize(
    ("base", "cap", "expected"),
    [
        (10, 100, [10, 20, 40, 80, 100, 100]),
        (10, 4, [4, 4, 4, 4, 4, 4]),
        (0, 100, [0, 0, 0, 0, 0, 0]),
    ],
)
def test_the_formula_of_the_delay_is_known(base: float, cap: float, expected: list[float]) -> None:
    """base × 2ⁿ⁻¹, capped; a cap below the base wins, a base of zero is no delay."""
    policy = Exponential(base=base, cap=cap, jitter=0)
    jobs = [cast("Job", SimpleNamespace(failures=failures)) for failures in range(1, 7)]
    assert [policy(job, ValueError()) for job in jobs] == expected


def test_the_delay_never_overflows() -> None:
    """Thousands of doublings are the cap, not an error."""
    policy = Exponential(base=5, cap=timedelta(days=365), jitter=0)
    delays = [policy(cast("Job", SimpleNamespace(failures=n)), ValueError()) for n in (0, 1, 30, 1000, 100_000)]
    assert delays == [5, 5, 365 * 86400, 365 * 86400, 365 * 86400]


def test_a_nacked_job_waits_for_its_delay(store: str, opened: Open) -> None:
    """With back-off on, a nacked job is not eligible before its time."""
    app = opened(store, backoff=Exponential(base=5, jitter=0))
    job = app.enqueue("x")
    claimed(app).nack()
    assert (job.refresh().status, app.claim()) == ("retrying", None)
    app.driver.shift(5)
    assert claimed(app).job.id == job.id


def test_back_off_is_on_unless_switched_off(store: str, opened: Open) -> None:
    """Off by default there; here `backoff=0` switches it off."""
    assert opened(store).settings.backoff == Exponential(base=5, factor=2, cap=300, jitter=0.1)
    app = opened(store, backoff=0, max_attempts=4)
    app.enqueue("x")
    assert waits(app, 3) == [0, 0, 0]


def test_a_job_may_succeed_on_its_third_attempt(app: Windlass) -> None:
    """Failures below the limit are tried again by the worker loop."""

    @app.task
    def flaky(ctx: Context) -> None:
        if ctx.attempt < 3:
            raise ConnectionError("not yet")

    with app.worker():
        job = ended(flaky.enqueue())
    assert (job.status, job.attempt) == ("completed", 3)


def test_a_job_is_never_tried_more_often_than_allowed(app: Windlass) -> None:
    """Three attempts, then failed; never a fourth."""
    runs: list[int] = []

    @app.task
    def broken(ctx: Context) -> None:
        runs.append(ctx.attempt)
        raise ValueError("boom")

    app.register("next", lambda: None)
    with app.worker():
        job = ended(broken.enqueue())
        ended(app.enqueue("next"))
    assert (runs, job.status) == ([1, 2, 3], "dead")


# ---------------------------------------------------------------------------------------- dead letters and replay


def test_an_exhausted_job_is_kept_with_its_error(app: Windlass) -> None:
    """Never silently dropped; there without a reason, here with payload, error and attempts."""
    job = died(app, "resize", payload={"path": "ada.png"})
    assert job.error is not None
    assert (job.status, job.payload, job.error.message) == ("dead", {"path": "ada.png"}, "boom")
    assert [row.outcome for row in job.history()] == ["failed"]


@pytest.mark.slow
def test_more_than_a_thousand_dead_letters_are_kept(opened: Open) -> None:
    """MemoryQueue keeps 1,000 and evicts the oldest; no store does so here."""
    app = opened("memory://", backoff=0)
    app.register("x", lambda: None, max_attempts=1)
    task = app.tasks["x"]
    app.enqueue_many([task.job() for _ in range(1001)])
    while (claim := app.claim(tasks=["x"])) is not None:
        claim.nack(error="boom")
    assert app.count(status="dead") == 1001


def test_replay_starts_a_dead_job_afresh(app: Windlass) -> None:
    """Replay: pending again with all its attempts; the count of claims goes on, the failures are 0."""
    job = died(app)
    app.retry(job.id)
    assert (job.refresh().status, job.refresh().failures) == ("pending", 0)
    app.register("x", lambda: "fine")
    with app.worker():
        assert ended(job).result == "fine"


def test_a_replayed_job_has_all_its_attempts(app: Windlass) -> None:
    """Attempts are reset to 0, so that it may fail as often as before."""
    job = app.enqueue("x", max_attempts=2)
    for _ in range(2):
        claimed(app).nack(error="boom")
    app.retry(job.id)
    claimed(app).nack(error="boom")
    assert job.refresh().status == "pending"
    claimed(app).nack(error="boom")
    assert job.refresh().status == "dead"


def test_replay_can_be_repeated_without_harm(app: Windlass) -> None:
    """Replay is idempotent: twice is once."""
    job = died(app)
    for _ in range(2):
        app.retry(job.id, missing_ok=True, state_ok=True)
    claimed(app)
    assert app.claim() is None


def test_replaying_an_unknown_job_does_nothing(app: Windlass) -> None:
    """A no-op there; here an error, unless `missing_ok` is said."""
    assert app.retry(4242, missing_ok=True) is None
    with pytest.raises(JobNotFoundError):
        app.retry(4242)


@pytest.mark.parametrize("status", ["pending", "scheduled", "running", "completed"])
def test_replaying_a_job_that_has_not_failed_does_nothing(app: Windlass, status: str) -> None:
    """A no-op there; here an error, unless `state_ok` is said, and then nothing changes."""
    job = app.enqueue("x", delay=60 if status == "scheduled" else 0)
    if status in ("running", "completed"):
        claim = claimed(app)
        if status == "completed":
            claim.ack("done")
    before = job.refresh()
    assert before.status == status
    assert app.retry(job.id, state_ok=True) == before
    with pytest.raises(JobStateError):
        app.retry(job.id)
    assert job.refresh() == before


# ---------------------------------------------------------------------------------------- inspecting


@pytest.fixture
def mixed(app: Windlass) -> list[Job]:
    """Two failed jobs, one claimed, one pending, in the order of their making."""
    jobs = [died(app, "old"), died(app, "new"), app.enqueue("claimed")]
    claimed(app)
    return [*jobs, app.enqueue("waiting")]


def test_jobs_are_listed_by_status_newest_first(app: Windlass, mixed: list[Job]) -> None:
    """ListJobs(status, limit): newest first; without a status all of them; every status can be asked for."""
    assert [job.task for job in app.jobs(status="dead", limit=50)] == ["new", "old"]
    assert [job.task for job in app.jobs(limit=50)] == ["waiting", "claimed", "new", "old"]
    assert [job.task for job in app.jobs(status="pending")] == ["waiting"]
    assert [job.task for job in app.jobs(status="running")] == ["claimed"]


def test_a_list_is_limited_and_goes_on(app: Windlass, mixed: list[Job]) -> None:
    """A limit without an offset is all there is there; here a page knows where the next begins."""
    first = app.jobs(limit=3)
    rest = app.jobs(limit=3, after=first.next)
    assert [job.id for job in (*first, *rest)] == [job.id for job in reversed(mixed)]
    assert (len(first), rest.next) == (3, None)


@pytest.mark.parametrize("limit", [0, -1, 1001])
def test_an_impossible_limit_is_refused(app: Windlass, limit: int) -> None:
    """A limit of none means 100 there; here leaving it out means 50, and the impossible is refused."""
    with pytest.raises(ConfigurationError):
        app.jobs(limit=limit)


def test_stats_count_jobs_by_status(app: Windlass, mixed: list[Job]) -> None:
    """Stats: a number for each status; `failed` is retrying and dead together."""
    stats = app.stats()
    assert (stats.pending, stats.running, stats.failed, stats.dead, stats.completed) == (1, 1, 2, 2, 0)


def test_the_metrics_count_what_they_say(app: Windlass, mixed: list[Job]) -> None:
    """`queue_depth` and `queue_dead_letter_total` by lane; the second is always 0 there and never falls here."""
    app.delete_many(status="dead")
    app.enqueue("x", queue="bulk")
    stats = app.stats()
    assert (stats.queues["default"].pending, stats.queues["bulk"].pending) == (1, 1)
    assert (stats.queues["default"].dead, stats.queue_totals["default"].dead) == (0, 2)


# ---------------------------------------------------------------------------------------- crash safety


def test_a_claim_is_for_five_minutes_unless_told_otherwise(app: Windlass) -> None:
    """The lease timeout is 5 min by default."""
    job = app.enqueue("x")
    claimed(app)
    app.driver.shift(299)
    assert (app.rescue(), app.claim()) == (0, None)
    app.driver.shift(2)
    assert app.rescue() == 1
    assert claimed(app).job.id == job.id


def test_a_stale_claim_is_reclaimed_by_a_worker(app: Windlass) -> None:
    """WithLeaseTimeout(2 min), reclaimed without configuration: a running worker takes it back by itself."""
    app.register("x", lambda: "reclaimed")
    job = app.enqueue("x")
    claimed(app, lease=120)
    with app.worker():
        app.driver.shift(121)
        done = ended(job)
    assert (done.result, done.attempt, done.crashes) == ("reclaimed", 2, 1)


def test_a_lease_that_expires_on_the_last_attempt_is_no_failure(app: Windlass) -> None:
    """Expiry uses attempts up there; here crashes have a limit of their own, and a slow job is no failed one."""
    job = app.enqueue("x", max_attempts=1)
    claimed(app, lease=1)
    app.driver.shift(2)
    assert app.rescue() == 1
    assert (job.refresh().status, job.refresh().failures) == ("pending", 0)


def test_a_claim_that_crashes_again_and_again_is_a_dead_letter(store: str, opened: Open) -> None:
    """Expired as often as allowed: dead, with the reason, and replayable."""
    app = opened(store, max_crashes=2)
    job = app.enqueue("x")
    for _ in range(2):
        claimed(app, lease=1)
        app.driver.shift(2)
        app.rescue()
    dead = job.refresh()
    assert dead.error is not None
    assert (dead.status, dead.error.kind) == ("dead", "crash")
    app.retry(job.id)
    assert claimed(app).job.crashes == 0


def test_a_claim_can_be_renewed(app: Windlass) -> None:
    """A lease cannot be renewed there; here it can, and then it holds."""
    app.enqueue("x")
    claim = claimed(app, lease=60)
    app.driver.shift(50)
    claim.extend(60)
    app.driver.shift(50)
    assert app.rescue() == 0
    claim.ack()


@pytest.mark.slow
def test_a_handler_may_run_longer_than_a_lease(app: Windlass, gate: Gate) -> None:
    """A handler that outlives the lease runs twice there; a worker's heartbeat keeps its jobs."""
    app.register("long", gate.pass_through)
    app.register("other", lambda: None)
    job = app.enqueue("long", max_attempts=1)
    with app.worker(concurrency=1), app.worker(concurrency=1):
        gate.wait_for()
        busy(app, "other", seconds=1.5)
        gate.open()
        done = ended(job)
    assert (done.status, done.attempt, done.crashes) == ("completed", 1, 0)


def test_a_job_of_a_killed_process_runs_again(store: str, opened: Open, spawn: Spawn) -> None:
    """A crashed worker's claims are somebody else's, without waiting for five minutes."""
    app = opened(store)
    app.register("x", lambda: "by another")
    job = app.enqueue("x")
    program = spawn("""
        def x():
            print("started")
            sys.stdin.readline()

        app.register("x", x)
        app.run()
    """)
    assert program.stdout is not None
    assert program.stdout.readline() == "started\n"
    program.kill()
    program.wait()
    with app.worker():
        done = ended(job)
    assert (done.result, done.crashes) == ("by another", 1)


# ---------------------------------------------------------------------------------------- handlers


def test_a_handler_is_found_by_the_jobs_type(app: Windlass) -> None:
    """RegisterHandler("resize-image", fn): called with the payload of its own jobs only."""
    seen: list[Any] = []
    app.register("resize-image", lambda path: seen.append(("resize", path)))
    app.register("send-email", lambda to: seen.append(("send", to)))
    with app.worker(concurrency=1):
        ended(app.enqueue("resize-image", {"path": "ada.png"}))
        ended(app.enqueue("send-email", {"to": "ada"}))
    assert seen == [("resize", "ada.png"), ("send", "ada")]


def test_an_unregistered_type_is_kept(app: Windlass) -> None:
    """Acknowledged and gone, says the page there; here it waits, untouched, and says why."""
    app.register("known", lambda: None)
    with app.worker():
        job = app.enqueue("unknown")
        ended(app.enqueue("known"))
        assert app.why(job.id).code == "unknown-task"
    assert (job.refresh().status, job.refresh().attempt) == ("pending", 0)


def test_a_handler_can_be_registered_while_the_loop_runs(app: Windlass) -> None:
    """Registration is safe beside a running worker loop, from any thread."""
    with app.worker():
        jobs = [app.enqueue(f"task-{n}") for n in range(20)]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda n: app.register(f"task-{n}", lambda: "run"), range(20)))
        assert {ended(job).result for job in jobs} == {"run"}


def test_panics_do_not_drain_the_pool(app: Windlass) -> None:
    """A panic is an error and its worker lives on: more panics than workers leave all workers."""

    @app.task(max_attempts=3)
    def poison() -> None:
        raise SystemExit("panic")

    app.register("next", lambda: threading.current_thread().name)
    with app.worker(concurrency=2) as worker:
        dead = [ended(job) for job in [poison.enqueue() for _ in range(4)]]
        assert ended(app.enqueue("next")).status == "completed"
        assert worker.snapshot().healthy
    assert {(job.status, job.failures) for job in dead} == {("dead", 3)}


def test_a_hundred_jobs_run_on_four_workers(app: Windlass) -> None:
    """WithWorkers(4): 100 jobs, every one once."""
    ran: list[int] = []

    @app.task
    def work(number: int) -> None:
        ran.append(number)

    app.enqueue_many([work.job(number) for number in range(100)])
    with app.worker(concurrency=4):
        until(lambda: app.stats().completed == 100)
    assert sorted(ran) == list(range(100))


def test_handlers_have_no_time_limit_unless_given(store: str, opened: Open) -> None:
    """WithDBHandlerTimeout is 0, none, by default; one that is given cancels the handler and fails the attempt."""
    app = opened(store, max_attempts=1)
    assert app.settings.timeout is None

    def wait(ctx: Context) -> str:
        return "told" if ctx.cancelled.wait(20) else "never told"

    app.register("x", wait)
    with app.worker():
        job = ended(app.enqueue("x", timeout=0.1))
    assert job.error is not None
    assert (job.status, job.error.kind) == ("dead", "timeout")


def test_failures_are_logged(store: str, opened: Open, caplog: pytest.LogCaptureFixture) -> None:
    """WARN for an attempt that failed, ERROR for a dead letter: id, type, which attempt, of how many, why."""
    app = opened(store, backoff=0, max_attempts=2)
    app.register("bad", lambda: 1 / 0)
    with caplog.at_level(logging.INFO, logger="windlass"), app.worker():
        job = ended(app.enqueue("bad"))
        until(lambda: "is dead" in caplog.text)
    lines = {r.levelname: r.getMessage() for r in caplog.records if f"job {job.id} " in r.getMessage()}
    assert lines["WARNING"] == f"job {job.id} bad failed (1 of 2), will retry: ZeroDivisionError: division by zero"
    assert lines["ERROR"] == f"job {job.id} bad is dead: ZeroDivisionError: division by zero"


# ---------------------------------------------------------------------------------------- gates and lanes


def test_a_gated_type_is_not_claimed(app: Windlass) -> None:
    """SetGate: a type that is switched off waits, and no attempt is used up; then it runs."""
    app.register("gated", lambda: "run")
    app.register("open", lambda: None)
    app.pause(task="gated")
    with app.worker():
        job = app.enqueue("gated", max_attempts=1)
        ended(app.enqueue("open"))
        assert (job.refresh().status, job.refresh().attempt) == ("pending", 0)
        assert app.why(job.id).code == "task-paused"
        app.resume(task="gated")
        assert ended(job).result == "run"


def test_a_gated_backlog_strands_nobody(app: Windlass) -> None:
    """Other types are not held up behind a gated backlog, nor by its priority."""
    app.register("gated", lambda: None)
    app.register("open", lambda: None)
    app.pause(task="gated")
    backlog = [app.enqueue("gated", priority=9) for _ in range(50)]
    with app.worker(concurrency=1):
        assert ended(app.enqueue("open")).status == "completed"
    assert {job.refresh().attempt for job in backlog} == {0}


def test_a_gate_holds_for_every_process(store: str, opened: Open) -> None:
    """A gate is one process's function there; a pause is stored and holds for all, also after a restart."""
    first = opened(store)
    first.enqueue("x")
    first.pause(task="x")
    first.close()
    second = opened(store)
    assert second.claim() is None
    second.resume(task="x")
    assert second.claim() is not None


def test_a_lane_has_workers_of_its_own(app: Windlass, gate: Gate) -> None:
    """WithDBLaneWorkers: a job of the lane finishes although the bulk workers are all busy."""
    app.register("bulk", gate.pass_through)
    app.register("urgent", lambda: "at once")
    with app.worker(concurrency=2, queues="bulk"), app.worker(concurrency=1, queues="interactive"):
        slow = [app.enqueue("bulk", queue="bulk") for _ in range(9)]
        gate.wait_for(2)
        assert ended(app.enqueue("urgent", queue="interactive")).result == "at once"
        gate.open()
        assert {ended(job).status for job in slow} == {"completed"}


def test_a_lanes_workers_take_only_its_jobs(app: Windlass) -> None:
    """A dedicated worker leaves the other lanes alone, idle or not."""
    app.register("x", lambda: None)
    other = app.enqueue("x", queue="bulk", priority=9)
    with app.worker(queues="interactive"):
        ended(app.enqueue("x", queue="interactive"))
    assert (other.refresh().status, other.refresh().queue) == ("pending", "bulk")


def test_the_shared_pool_takes_any_lane(app: Windlass) -> None:
    """A worker that is not kept to a lane takes from all."""
    app.register("x", lambda: None)
    jobs = [app.enqueue("x", queue=name) for name in ("bulk", "interactive", "default")]
    with app.worker():
        assert {ended(job).status for job in jobs} == {"completed"}


@pytest.mark.parametrize("options", [{"concurrency": 0}, {"queues": ""}, {"queues": []}], ids=str)
def test_an_impossible_lane_is_refused(app: Windlass, options: dict[str, Any]) -> None:
    """No workers, or a lane without a name, panic there."""
    with pytest.raises(ConfigurationError):
        app.worker(**options)


# ---------------------------------------------------------------------------------------- closing


def test_close_waits_for_handlers(app: Windlass, gate: Gate) -> None:
    """Close after Start waits for the handlers in flight and writes their ends; what is pending stays."""
    app.register("x", gate.pass_through)
    job = app.enqueue("x")
    worker = app.start(concurrency=1)
    gate.wait_for()
    waiting = app.enqueue("x")
    closer = threading.Thread(target=app.stop)
    closer.start()
    until(lambda: worker.snapshot().state == "stopping")
    assert closer.is_alive()
    gate.open()
    closer.join(20)
    assert (job.refresh().status, waiting.refresh().status) == ("completed", "pending")


def test_a_job_that_ends_during_the_stop_runs_once(app: Windlass) -> None:
    """Its Ack uses the cancelled context there and is lost, so it runs again; here it is written."""
    started = threading.Event()

    @app.task
    def x(ctx: Context) -> str:
        started.set()
        assert ctx.stopping.wait(20)
        return "finished while stopping"

    job = x.enqueue()
    with app.worker():
        assert started.wait(20)
    with app.worker():
        assert app.claim() is None
    done = job.refresh()
    assert (done.status, done.attempt, done.result) == ("completed", 1, "finished while stopping")


def test_close_works_without_start_and_twice(store: str) -> None:
    """Close without Start returns, and may be called again."""
    app = Windlass(store)
    app.stats()
    app.close()
    app.close()


def test_a_closed_queue_refuses_jobs(store: str) -> None:
    """ErrQueueClosed: Enqueue after Close."""
    app = Windlass(store)
    app.enqueue("x")
    app.close()
    for call in (lambda: app.enqueue("x"), app.claim):
        with pytest.raises(ClosedError):
            call()


def test_closing_ends_the_worker(store: str, opened: Open) -> None:
    """Close joins the workers: none of their threads is left."""
    before = set(threading.enumerate())
    app = opened(store)
    app.register("x", lambda: None)
    worker = app.start()
    ended(app.enqueue("x"))
    app.close()
    assert not worker.alive
    until(lambda: set(threading.enumerate()) <= before)


def test_a_worker_starts_once(app: Windlass) -> None:
    """A second Start is ignored there and an error here; jobs still run once."""
    app.start()
    with pytest.raises(WorkerStateError):
        app.start()
    app.register("x", lambda: None)
    assert ended(app.enqueue("x")).attempt == 1
    app.stop()


# ---------------------------------------------------------------------------------------- transactions


@dataclass
class Upload:
    path: str


def test_a_job_belongs_to_the_callers_transaction(database: str, opened: Open, connect: Connect) -> None:
    """Only the scheduler enqueues in a transaction there; here every caller can, and typed jobs too."""
    app = opened(database)
    app.stats()
    connection = connect()
    app.dispatch(Upload("lost.png"), connection=connection)
    connection.rollback()
    app.dispatch(Upload("kept.png"), connection=connection)
    assert app.count() == 0
    connection.commit()
    assert [job.payload for job in app.jobs()] == [{"path": "kept.png"}]
