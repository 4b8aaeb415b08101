"""What gofastr's RedisQueue promises, and what its page says of it that ours is to do better, in Windlass's words.

All that its queue in a database promises holds on Redis too: `test_gofastr` runs there. Each docstring names the feature
or behaviour of gofastr; where Windlass decides otherwise it says so.
"""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.seeds.bench import Gate, Open, Spawn, becomes, ended
from tests.servers.proxy import Proxy
from tests.servers.redis import Redis, client_of
from tests.silence import ask_nobody
from tests.waiting import until
from windlass import (
    Claim,
    ClosedError,
    ConnectionLostError,
    Job,
    LeaseLostError,
    Windlass,
)

pytestmark = pytest.mark.slow

NewRedis = Callable[..., Redis]


@pytest.fixture
def store(redis_url: str) -> str:
    return redis_url


@pytest.fixture
def shared(redis_url: str) -> str:
    return redis_url


def claimed(app: Windlass, **options: Any) -> Claim:
    """Claim the job that must be there."""
    claim = app.claim(**options)
    assert claim is not None
    return claim


def dead(app: Windlass, task: str = "notify", **options: Any) -> Job:
    """Enqueue a job and let it die."""
    job = app.enqueue(task, max_attempts=1, **options)
    claimed(app, tasks=[task]).nack(error="boom")
    return job.refresh()


# ---------------------------------------------------------------------------------------- backends at a glance


def test_jobs_are_durable_across_a_restart_of_the_server(new_redis: NewRedis, opened: Open) -> None:
    """Durable across restart: yes, if the server keeps a log; the claim that was out is still out."""
    server = new_redis(appendonly="yes", appendfsync="always")
    app = opened(server.url())
    jobs = [app.enqueue("notify", {"to": "ada"}) for _ in range(2)]
    claim = claimed(app, lease=300)
    server.kill()
    server.start()
    until(lambda: _answers(app))
    assert [job.refresh().status for job in jobs] == ["running", "pending"]
    claim.ack()
    assert jobs[0].refresh().status == "completed"


def test_a_server_that_keeps_nothing_is_said(
    new_redis: NewRedis, opened: Open, caplog: pytest.LogCaptureFixture
) -> None:
    """The page calls RedisQueue durable whatever the server is; here the log says when it is not."""
    opened(new_redis().url()).stats()
    assert "all jobs are gone when the server restarts" in caplog.text


def test_several_workers_share_a_queue(store: str, opened: Open, spawn: Spawn) -> None:
    """Multiple workers: "manual" there; here any number of processes."""
    app = opened(store)
    replicas = [
        spawn("""
            app.register("notify", os.getpid)
            with app.worker(concurrency=2):
                print("ready")
                sys.stdin.readline()
        """)
        for _ in range(2)
    ]
    for replica in replicas:
        assert replica.stdout is not None
        assert replica.stdout.readline() == "ready\n"
    jobs = [app.enqueue("notify") for _ in range(60)]
    until(lambda: app.stats().completed == 60, timeout=60)
    assert {job.refresh().attempt for job in jobs} == {1}


def test_a_worker_loop_is_built_in(app: Windlass) -> None:
    """Worker loop built in: no, bring your own, there; here it is the same as on every store."""
    app.register("notify", lambda to: f"told {to}")
    with app.worker():
        assert ended(app.enqueue("notify", {"to": "ada"})).result == "told ada"


def test_jobs_of_a_crashed_worker_are_reclaimed_without_a_ticker(store: str, opened: Open, spawn: Spawn) -> None:
    """Auto-reclaim: there they strand silently unless Start runs; here any worker brings them back."""
    app = opened(store)
    crashing = spawn("""
        app.register("notify", lambda: (print("runs", flush=True), threading.Event().wait()))
        with app.worker():
            threading.Event().wait()
    """)
    job = app.enqueue("notify")
    assert crashing.stdout is not None
    assert crashing.stdout.readline() == "runs\n"
    crashing.kill()
    app.register("notify", lambda: "done")
    with app.worker():
        assert ended(job).result == "done"
    assert [attempt.outcome for attempt in job.history()] == ["lost", "completed"]


def test_dead_letters_are_captured_with_their_error(app: Windlass) -> None:
    """Dead-letter capture: a Redis list of the jobs; here with the reason, which there is kept nowhere."""
    job = dead(app)
    assert (job.status, job.error and job.error.message) == ("dead", "boom")


def test_jobs_of_every_status_can_be_browsed(app: Windlass) -> None:
    """Browsable: dead-letter only there; here whatever their status."""
    gone = dead(app)
    done = app.enqueue("notify")
    claimed(app).ack()
    later = app.enqueue("notify", delay=3600)
    runs = app.enqueue("notify")
    claimed(app)
    waits = app.enqueue("notify")
    found = {job.id: job.status for job in app.jobs(limit=50)}
    assert found == {
        gone.id: "dead",
        done.id: "completed",
        later.id: "scheduled",
        runs.id: "running",
        waits.id: "pending",
    }
    assert [job.id for job in app.jobs(status="pending")] == [waits.id]


def test_jobs_are_listed_newest_first_up_to_a_limit(app: Windlass) -> None:
    """ListJobs("failed", n)."""
    ids = [dead(app).id for _ in range(4)]
    page = app.jobs(status="dead", limit=3)
    assert [job.id for job in page] == ids[:0:-1]
    assert [job.id for job in app.jobs(status="dead", limit=3, after=page.next)] == ids[:1]


def test_stats_count_every_status(app: Windlass) -> None:
    """Stats(): dead letters only there."""
    dead(app)
    app.enqueue("notify")
    app.enqueue("notify", delay=60)
    stats = app.stats()
    assert (stats.pending, stats.scheduled, stats.dead, stats.failed, stats.totals.dead) == (1, 1, 1, 1, 1)


def test_stats_do_not_read_the_dead_letters(store: str, opened: Open) -> None:
    """Stats and Replay read the whole dead list there; here they cost the same however long it is."""
    app = opened(store)

    def work() -> int:
        with client_of(store) as client:
            before = sum(int(c["calls"]) for c in client.info("commandstats").values())
            app.stats()
            after = sum(int(c["calls"]) for c in client.info("commandstats").values())
            return after - before

    dead(app)
    app.stats()
    few = work()
    for _ in range(200):
        dead(app)
    assert work() <= few + 1


def test_replay_starts_afresh_and_can_be_repeated(app: Windlass) -> None:
    """Replayable: failures at 0, back in line; unknown or not failed is a no-op where that is asked for."""
    job = dead(app)
    for _ in range(2):
        app.retry(job.id, missing_ok=True, state_ok=True)
    app.retry(job.id + 1000, missing_ok=True)
    assert (job.refresh().status, job.refresh().failures, app.stats().pending) == ("pending", 0, 1)


# ---------------------------------------------------------------------------------------- the quickstart


def test_the_key_of_the_queue_is_a_prefix(store: str, redis_prefix: str, opened: Open) -> None:
    """NewRedisQueue(client, "myapp:jobs"): two of them on one server are two queues, and write nothing else."""
    names = {f"{redis_prefix}_{name}" for name in ("mine", "yours")}
    with client_of(store) as client:
        before = set(client.scan_iter())
        mine, yours = (opened(store, prefix=name) for name in sorted(names))
        mine.enqueue("notify")
        assert (mine.count(), yours.count()) == (1, 0)
        written = set(client.scan_iter()) - before
    assert {key.partition("}")[0] for key in written} == {f"{{{name}" for name in names}


def test_the_visibility_timeout_is_the_claims(app: Windlass) -> None:
    """SetVisibilityTimeout(30s): here for each claim, and it can be extended."""
    job = app.enqueue("notify")
    claim = claimed(app, lease=30)
    app.driver.shift(20)
    claim.extend(30)
    app.driver.shift(20)
    assert (app.rescue(), job.refresh().status) == (0, "running")
    app.driver.shift(11)
    assert (app.rescue(), job.refresh().status) == (1, "pending")


def test_an_empty_queue_has_no_job(app: Windlass) -> None:
    """ErrNoJob is `None`."""
    assert app.claim() is None


def test_a_server_that_is_away_is_not_an_empty_queue(new_redis: NewRedis, opened: Open) -> None:
    """Backend errors are surfaced, never masked as empty."""
    server = new_redis()
    app = opened(server.url())
    assert app.claim() is None
    server.stop()
    with pytest.raises(ConnectionLostError):
        app.claim()


def test_a_claim_can_wait_instead_of_a_sleeping_loop(app: Windlass) -> None:
    """`time.Sleep(time.Second)` between Dequeues there; here the claim waits."""
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(app.claim, wait=20)
        job = app.enqueue("notify")
        claim = waiting.result(20)
    assert claim is not None
    assert claim.job.id == job.id


# ---------------------------------------------------------------------------------------- the job


def test_priority_counts(app: Windlass) -> None:
    """Priority: DBQueue only there."""
    low, high = app.enqueue("notify").id, app.enqueue("notify", priority=5).id
    assert [claimed(app).job.id, claimed(app).job.id] == [high, low]


def test_a_scheduled_job_is_invisible_until_its_moment(app: Windlass) -> None:
    """ScheduledAt is ignored by RedisQueue there."""
    job = app.enqueue("notify", delay=60)
    assert app.claim() is None
    app.driver.shift(61)
    assert claimed(app).job.id == job.id


def test_a_failed_job_waits_for_its_back_off(store: str, opened: Open) -> None:
    """WithBackoff: DBQueue only there."""
    app = opened(store, backoff=10)
    job = app.enqueue("notify")
    claimed(app).nack()
    assert (job.refresh().status, app.claim()) == ("retrying", None)
    app.driver.shift(11)
    assert claimed(app).job.id == job.id


def test_a_filtered_dequeue_keeps_the_order_of_the_rest(app: Windlass) -> None:
    """A type that is passed over goes to the other end of the list there."""
    ids = [app.enqueue(task).id for task in ("a", "b", "a", "c")]
    assert claimed(app, tasks=["c"]).job.id == ids[3]
    assert [claimed(app).job.id for _ in range(3)] == ids[:3]


def test_a_filtered_dequeue_looks_past_any_number_of_others(app: Windlass) -> None:
    """It gives up after 1,024 there."""
    other = app.register("other", lambda: None)
    app.enqueue_many([other.job()] * 1500)
    wanted = app.enqueue("wanted")
    assert claimed(app, tasks=["wanted"]).job.id == wanted.id


def test_a_payload_that_does_not_fit_is_kept_as_a_failure(store: str, opened: Open) -> None:
    """Malformed entries go to the dead list; here they fail by the usual rules, with what was wrong."""
    job = opened(store).enqueue("resize", {"size": "large"}, max_attempts=1)
    app = opened(store)

    def resize(size: int) -> None: ...

    app.register("resize", resize)
    with app.worker():
        error = ended(job).error
    assert error is not None
    assert (job.refresh().status, error.kind) == ("dead", "payload")


def test_jobs_that_are_alike_share_nothing(app: Windlass) -> None:
    """Two jobs with one id share a slot of the processing hash there; here the store numbers them."""
    first, second = app.enqueue("notify", {"n": 1}), app.enqueue("notify", {"n": 1})
    one, two = claimed(app), claimed(app)
    one.ack()
    two.nack()
    assert (first.refresh().status, second.refresh().status) == ("completed", "pending")


# ---------------------------------------------------------------------------------------- ack, nack, reclaim


def test_a_stale_completion_is_refused_and_told(app: Windlass) -> None:
    """Fenced by ClaimToken: a stale Ack or Nack is a counted no-op there, here an error."""
    job = app.enqueue("notify")
    stale = claimed(app, lease=1)
    app.driver.shift(2)
    assert app.rescue() == 1
    fresh = claimed(app)
    for late in (stale.ack, stale.nack, stale.release):
        with pytest.raises(LeaseLostError):
            late()
    assert job.refresh().status == "running"
    fresh.ack()
    with pytest.raises(LeaseLostError):
        fresh.ack()


def test_reclaim_and_a_new_claim_cannot_lose_the_job(store: str, opened: Open) -> None:
    """A claim between Reclaim's LPUSH and HDEL loses its entry there, and the job is nowhere if that worker dies."""
    apps = [opened(store) for _ in range(4)]
    job = apps[0].enqueue("notify")
    start = threading.Barrier(4)

    def reclaim_and_claim(app: Windlass) -> int:
        start.wait(20)
        app.rescue()
        return app.claim(lease=1) is not None

    for _ in range(10):
        with ThreadPoolExecutor(4) as threads:
            assert sum(threads.map(reclaim_and_claim, apps)) == 1
        assert job.refresh().status == "running"
        apps[0].driver.shift(2)
        job.refresh()
        apps[0].retry(job.id, force=True)


def test_a_handler_may_run_longer_than_the_visibility_timeout(app: Windlass, gate: Gate) -> None:
    """It is run a second time there; a worker's heartbeat keeps its jobs here."""
    runs: list[int] = []

    def notify() -> None:
        runs.append(1)
        gate.pass_through()

    app.register("notify", notify)
    with app.worker(concurrency=2):
        job = app.enqueue("notify")
        gate.wait_for()
        beat = app.driver.workers()[0].beat_at
        until(lambda: app.driver.workers()[0].beat_at > beat + 1)
        gate.open()
        ended(job)
    assert runs == [1]


def test_a_nack_that_fails_leaves_the_job_to_be_reclaimed(new_redis: NewRedis, opened: Open) -> None:
    """Ignoring Nack errors: the job stays in flight, and is reclaimed later."""
    server = new_redis(appendonly="yes", appendfsync="always")
    app = opened(server.url())
    job = app.enqueue("notify")
    claim = claimed(app, lease=60)
    server.stop()
    with pytest.raises(ConnectionLostError):
        claim.nack()
    server.start()
    until(lambda: _answers(app))
    assert job.refresh().status == "running"
    app.driver.shift(61)
    assert app.rescue() == 1
    assert claimed(app).job.id == job.id


@pytest.mark.parametrize("fault", ["before", "after"])
def test_a_nack_leaves_the_job_in_one_place_wherever_the_connection_breaks(
    fault: str, redis_server: Redis, store: str, new_proxy: Callable[[int], Proxy], opened: Open
) -> None:
    """Nack pushes to the next home before it deletes from the last one there, so that a job may be in both."""
    proxy = new_proxy(redis_server.port)
    app, beside = opened(proxy.through(store), backoff=0), opened(store)
    ask_nobody(app)
    job = app.enqueue("notify")
    claim = claimed(app)
    if fault == "before":
        proxy.cut_requests(after=b"EVALSHA")
    else:
        proxy.drop_replies(after=b"EVALSHA")
    with pytest.raises(ConnectionLostError):
        claim.nack()
    assert job.refresh().status == ("running" if fault == "before" else "pending")
    assert (beside.stats().pending + beside.stats().running, len(beside.jobs())) == (1, 1)


def test_a_panic_is_an_error_and_the_worker_goes_on(app: Windlass) -> None:
    """A handler panic follows the normal retry path."""

    def panic() -> None:
        raise SystemExit

    app.register("panic", panic)
    app.register("notify", lambda: "done")
    with app.worker(concurrency=1):
        poison = app.enqueue("panic", max_attempts=2)
        assert ended(app.enqueue("notify")).result == "done"
        becomes(poison, "dead")


# ---------------------------------------------------------------------------------------- client and close


def test_a_url_is_all_it_takes(redis_server: Redis, store: str, opened: Open) -> None:
    """RedisClient: an adapter of nine commands to be written there; here a URL, for Redis or Valkey."""
    app = opened(store)
    app.enqueue("notify")
    number = int(store.rpartition("/")[2])
    for url in (store.replace("redis://", "valkey://"), redis_server.url(number, socket=True)):
        assert opened(url).count() == 1


def test_users_and_encryption_are_in_the_url_too(new_redis: NewRedis, opened: Open) -> None:
    """Left to the adapter there."""
    server = new_redis("redis7", tls=True, users={"jobs": "on >secret ~{windlass}* +@all"})
    app = opened(server.url(user="jobs", password="secret"))
    app.enqueue("notify")
    assert app.count() == 1


def test_a_closed_queue_refuses_jobs(store: str) -> None:
    """Close is a no-op there; ErrQueueClosed is the other queues'."""
    app = Windlass(store)
    app.enqueue("notify")
    app.close()
    with pytest.raises(ClosedError):
        app.enqueue("notify")


def _answers(app: Windlass) -> bool:
    try:
        app.stats()
    except ConnectionLostError:
        return False
    return True
