"""What happens to jobs in Redis when the server, the network or the memory fails."""

from __future__ import annotations

import os
import threading
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import pytest

from tests.servers.redis import client_of
from tests.servers.redis_databases import MANY
from tests.waiting import until
from windlass import (
    ClosedError,
    ConfigurationError,
    ConnectionLostError,
    StoreError,
    StoreFullError,
    Windlass,
    lifecycle,
)
from windlass.drivers.base import Filter, Turn, Worker
from windlass.drivers.redis import RedisDriver
from windlass.drivers.redis.pool import Pool
from windlass.errors import NotReplicatedError, SchemaError
from windlass.job import NewJob, Status
from windlass.lifecycle import Settlement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.servers.proxy import Proxy
    from tests.servers.redis import Redis
    from windlass.job import Record


@pytest.fixture
def opened() -> Iterator[Callable[..., RedisDriver]]:
    """Open drivers that are closed at the end."""
    drivers: list[RedisDriver] = []

    def open_one(url: str, **options: Any) -> RedisDriver:
        drivers.append(RedisDriver(url, **options))
        drivers[-1].open()
        return drivers[-1]

    yield open_one
    for driver in drivers:
        driver.close()


def job(size: int = 2) -> NewJob:
    return NewJob(task="t", queue="default", payload=b"1" * size)


def claimed(driver: RedisDriver, number: int = 1) -> list[Record]:
    driver.beat(Worker(id="w", host="h", pid=1))
    return driver.exchange(Turn(worker="w", limit=number, start=number, tasks=("t",))).claims


def ends(driver: RedisDriver, number: int) -> list[Settlement]:
    """Claim so many new jobs and return their ends."""
    driver.insert([job() for _ in range(number)])
    return [Settlement(record, lifecycle.succeed(record), driver.now()) for record in claimed(driver, number)]


def refused(driver: RedisDriver, *settlements: Settlement) -> list[tuple[int, int]]:
    return driver.exchange(Turn(worker="w", settlements=settlements)).refused


# ------------------------------------------------------------------ lost answers


@pytest.fixture
def proxied(
    redis_server: Redis, redis_url: str, new_proxy: Callable[[int], Proxy], opened: Callable[..., RedisDriver]
) -> tuple[RedisDriver, Proxy]:
    proxy = new_proxy(redis_server.port)
    return opened(proxy.through(redis_url)), proxy


def test_an_enqueue_whose_answer_is_lost_raises_and_is_kept_whole(proxied: tuple[RedisDriver, Proxy]) -> None:
    driver, proxy = proxied
    driver.insert([job()])
    driver.insert([job()])  # now the stream is known
    for number in (1, 7):
        proxy.drop_replies(after=b"EVALSHA")
        with pytest.raises(ConnectionLostError):
            driver.insert([job() for _ in range(number)])
    assert driver.count(Filter(statuses=(Status.PENDING,)), most=0) == 10


def test_a_settlement_whose_answer_was_lost_is_not_refused(proxied: tuple[RedisDriver, Proxy]) -> None:
    driver, proxy = proxied
    settlements = ends(driver, 3)
    proxy.drop_replies()
    with pytest.raises(ConnectionLostError):
        refused(driver, *settlements)
    assert refused(driver, *settlements) == []
    pairs = [(s.record.id, s.record.lease) for s in settlements]
    assert refused(driver, *settlements) == pairs, "only the turn after a lost answer is doubtful"


def test_an_end_that_somebody_else_has_written_is_refused_after_a_lost_answer(
    proxied: tuple[RedisDriver, Proxy],
) -> None:
    driver, proxy = proxied
    [settlement] = ends(driver, 1)
    record = settlement.record
    lost = Settlement(record, lifecycle.lose(record, b'{"type":"X","message":""}', max_crashes=3), driver.now())
    assert driver.exchange(Turn(worker="rescuer", settlements=[lost])).refused == []
    proxy.drop_replies()
    with pytest.raises(ConnectionLostError):
        refused(driver, settlement)
    assert refused(driver, settlement) == [(record.id, record.lease)]


def test_failures_and_releases_are_recognised_too(proxied: tuple[RedisDriver, Proxy]) -> None:
    driver, proxy = proxied
    driver.insert([job(), job(), job()])
    failed, released, kept = claimed(driver, 3)
    now = driver.now()
    settlements = [
        Settlement(failed, lifecycle.fail(failed, b'{"type":"X","message":""}', max_attempts=3, delay=9, now=now), now),
        Settlement(released, lifecycle.release(released), now),
        Settlement(kept, lifecycle.snooze(kept, 5, now=now), now),
    ]
    proxy.drop_replies()
    with pytest.raises(ConnectionLostError):
        refused(driver, *settlements)
    assert refused(driver, *settlements) == []


@pytest.mark.parametrize(
    "act",
    [
        lambda d: d.get(1),
        lambda d: d.tallies(),
        lambda d: d.workers(),
        lambda d: d.beat(Worker(id="w", host="h", pid=1)),
        lambda d: d.find(Filter(), limit=5),
        lambda d: d.bury(),
        lambda d: d.orphans(5),
        lambda d: d.purge({Status.COMPLETED: 0.0}, 5),
        lambda d: d.change([1], lambda record, _: lifecycle.cancel(record)),
        lambda d: d.pause("queue", "q", True),
        lambda d: d.tidy(),
        lambda d: d.history(1),
    ],
)
def test_every_call_whose_answer_is_lost_says_so_and_works_the_next_time(
    proxied: tuple[RedisDriver, Proxy], act: Callable[[RedisDriver], object]
) -> None:
    driver, proxy = proxied
    driver.insert([job()])
    proxy.drop_replies()
    with pytest.raises(ConnectionLostError):
        act(driver)
    act(driver)


# ------------------------------------------------------------------ the server


def test_scripts_that_were_flushed_are_loaded_again(redis_server: Redis, redis_url: str, opened: Any) -> None:
    driver = opened(redis_url)
    [settlement] = ends(driver, 1)
    assert redis_server.execute("SCRIPT", "FLUSH")
    assert refused(driver, settlement) == []
    assert redis_server.execute("SCRIPT", "FLUSH")
    assert len(driver.insert([job()])) == 1


@pytest.mark.parametrize("flavour", ["redis", "redis7"])
def test_what_was_acknowledged_outlives_sigkill(flavour: str, new_redis: Any, opened: Any) -> None:
    server = new_redis(flavour, appendonly="yes", appendfsync="always")
    driver = opened(server.url())
    [settlement] = ends(driver, 1)
    made = driver.insert([job() for _ in range(50)])
    assert refused(driver, settlement) == []
    server.kill()
    with pytest.raises(ConnectionLostError):
        driver.insert([job()])
    server.start()
    assert [r.id for r in driver.find(Filter(statuses=(Status.PENDING,)), limit=100)] == [r.id for r in made][::-1]
    assert driver.get(settlement.record.id).status is Status.COMPLETED


def test_leases_are_not_used_again_after_a_restart_without_a_disk(new_redis: Any, opened: Any) -> None:
    server = new_redis()
    driver = opened(server.url())
    [before] = ends(driver, 1)
    server.restart()
    [after] = ends(driver, 1)
    assert after.record.id == before.record.id, "all is forgotten, the ids too"
    assert after.record.lease > before.record.lease
    assert refused(driver, before) == [(before.record.id, before.record.lease)]
    assert refused(driver, after) == []


def test_streams_are_learnt_anew_when_all_is_forgotten(redis_server: Redis, redis_url: str, opened: Any) -> None:
    driver, other = opened(redis_url), opened(redis_url)
    driver.insert([NewJob(task="t", queue="a", payload=b"1"), NewJob(task="t", queue="b", payload=b"1")])
    assert len(claimed(driver, 5)) == 2
    redis_server.execute("FLUSHALL")
    other.insert([NewJob(task="u", queue="b", payload=b"1"), NewJob(task="t", queue="c", payload=b"1")])
    assert [(r.task, r.queue) for r in claimed(driver, 5)] == [("t", "c")]
    assert {(r.task, r.queue) for r in driver.find(Filter(), limit=5)} == {("u", "b"), ("t", "c")}


def test_a_worker_goes_on_when_the_server_is_back(new_redis: Any) -> None:
    server = new_redis(appendonly="yes")
    ran: list[int] = []
    with Windlass(server.url()) as app:

        @app.task
        def note(number: int) -> None:
            ran.append(number)

        with app.worker(concurrency=2):
            note.enqueue(1)
            until(lambda: ran == [1])
            server.kill()
            with pytest.raises(ConnectionLostError):
                note.enqueue(2)
            server.start()
            note.enqueue(3)
            until(lambda: ran == [1, 3])


def test_a_server_that_does_not_answer_is_given_up(new_redis: Any, opened: Any) -> None:
    server = new_redis()
    driver = opened(server.url())
    driver.insert([job()])
    driver.pump = Pool(driver.connector, size=2, patience=0.3)
    assert len(claimed(driver)) == 1
    server.pause()
    with pytest.raises(ConnectionLostError, match="not answered"):
        claimed(driver)
    server.resume()
    assert claimed(driver) == []


def test_a_replica_refuses_and_is_not_written_to(new_redis: Any, opened: Any) -> None:
    master = new_redis()
    replica = new_redis(replicaof=f"127.0.0.1 {master.port}")
    opened(master.url()).insert([job()])
    until(lambda: replica.info("replication")["master_link_status"] == "up")
    driver = opened(replica.url())
    with pytest.raises(ConnectionLostError, match="read-only"):
        driver.insert([job()])


# ------------------------------------------------------------------ memory


@pytest.mark.parametrize("flavour", ["redis", "redis7"])
def test_a_full_memory_refuses_new_jobs_and_lets_the_others_end(flavour: str, new_redis: Any, opened: Any) -> None:
    server = new_redis(flavour, maxmemory="6mb", maxmemory_policy="noeviction")
    driver = opened(server.url())
    stored = fill(driver)
    before = driver.count(Filter(), most=0)
    assert before == stored == len(driver.find(Filter(), limit=10_000)), "no half of an insert"
    with pytest.raises(StoreFullError):
        driver.insert([job(100_000)])
    claims = claimed(driver, 20)
    assert len(claims) == 20
    driver.pause("task", "t", paused=True)
    assert claimed(driver, 1) == []
    driver.pause("task", "t", paused=False)
    assert refused(driver, *(Settlement(r, lifecycle.succeed(r), driver.now()) for r in claims)) == []
    assert driver.purge({Status.COMPLETED: 0.0}, 100) == 20
    [changed] = driver.change([driver.find(Filter(), limit=1)[0].id], lambda r, _: lifecycle.delete(r))
    assert changed.transition is not None
    assert driver.count(Filter(), most=0) == stored - 21


def test_a_disk_that_takes_no_snapshot_is_said(new_redis: Any, opened: Any) -> None:
    server = new_redis(save="3600 1")
    driver = opened(server.url())
    driver.insert([job()])
    server.folder.chmod(0o500)
    server.execute("BGSAVE")
    until(lambda: server.info("persistence")["rdb_last_bgsave_status"] == "err")
    with pytest.raises(StoreFullError, match="disk"):
        driver.insert([job()])
    with pytest.raises(StoreFullError, match="disk"):
        claimed(driver)
    server.folder.chmod(0o700)
    server.execute("BGSAVE")
    until(lambda: server.info("persistence")["rdb_last_bgsave_status"] == "ok")
    assert len(claimed(driver)) == 1


def fill(driver: RedisDriver) -> int:
    """Store jobs until there is no room; return how many."""
    stored = 0
    with suppress(StoreFullError):
        while True:
            stored += len(driver.insert([job(2000) for _ in range(50)]))
    return stored


# ------------------------------------------------------------------ the process


def test_a_forked_child_has_connections_of_its_own(redis_url: str, opened: Any) -> None:
    driver = opened(redis_url)
    driver.insert([job()])
    pid = os.fork()
    if pid == 0:
        made = driver.insert([job(), job()])
        os._exit(0 if len(made) == 2 and len(driver.find(Filter(), limit=10)) == 3 else 1)
    assert driver.get(1) is not None
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert len(driver.find(Filter(), limit=10)) == 3


def test_a_closed_driver_says_so_and_can_be_opened_again(redis_url: str, opened: Any) -> None:
    driver = opened(redis_url)
    driver.close()
    with pytest.raises(ClosedError):
        driver.insert([job()])
    driver.open()
    assert len(driver.insert([job()])) == 1


def test_a_job_claimed_by_hand_waits_for_work(redis_url: str) -> None:
    with Windlass(redis_url) as app, Windlass(redis_url) as other:
        other.enqueue("t", {})
        first = app.claim(tasks=["t"])
        assert first is not None
        first.ack(None)
        threading.Timer(0.3, other.enqueue, ("t", {})).start()
        second = app.claim(wait=20, tasks=["t"])
        assert second is not None
        second.ack(None)
        assert app.stats().completed == 2


# ------------------------------------------------------------------ the door


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis://localhost/name", "number"),
        ("redis://localhost:port/0", "not a Redis URL"),
        ("redis://localhost/0?nonsense=1", "nonsense"),
    ],
)
def test_a_url_that_cannot_be_right_is_said(url: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        RedisDriver(url).open()


def test_a_wrong_password_is_said_and_not_shown(new_redis: Any) -> None:
    server = new_redis(requirepass="right")
    for credentials in ("", ":secret@"):
        driver = RedisDriver(server.url().replace("127", f"{credentials}127"))
        with pytest.raises(StoreError, match="user and password") as caught:
            driver.open()
        assert "secret" not in str(caught.value)
    with closing(RedisDriver(server.url().replace("127", ":right@127"))) as driver:
        driver.open()


def test_a_user_with_the_rights_of_the_page_can_do_everything(new_redis: Any) -> None:
    server = new_redis()
    rights = ("~{windlass}:*", "resetchannels", "&{windlass}:*", "+@all", "-@dangerous", "-@admin", "+info", "+wait")
    assert server.execute("ACL", "SETUSER", "shop", "on", ">pw", *rights)
    with closing(RedisDriver(server.url().replace("127", "shop:pw@127"))) as driver:
        driver.open()
        [settlement] = ends(driver, 1)
        assert refused(driver, settlement) == []
        driver.tidy()
        assert [f for f in driver.diagnose() if f.level == "error"] == []
        assert driver.passages() == []
        assert driver.holders("limit:x", 1) == []
        ear = driver.subscribe()
        driver.publish([b"here"])
        assert ear.get(10) == [b"here"]
    other = RedisDriver(server.url().replace("127", "shop:pw@127"), prefix="other")
    with closing(other), pytest.raises(StoreError, match="may not"):
        other.open()


def test_databases_prefixes_and_the_unix_socket_are_told_apart(
    redis_server: Redis, redis_url: str, opened: Any
) -> None:
    here, number = opened(redis_url), int(redis_url.rpartition("/")[2])
    here.insert([job()])
    assert len(opened(redis_server.url(number, socket=True)).find(Filter(), limit=5)) == 1
    for other in (
        opened(redis_server.url(MANY - 1)),
        opened(redis_server.url(MANY - 1, socket=True)),
        opened(redis_url, prefix="other"),
    ):
        assert other.find(Filter(), limit=5) == []


def test_valkey_is_a_synonym(redis_url: str) -> None:
    with Windlass(redis_url.replace("redis://", "valkey://")) as app:
        assert app.stats().pending == 0


def test_check_refuses_a_store_that_was_not_prepared(redis_url: str, opened: Any) -> None:
    with pytest.raises(SchemaError, match="windlass migrate"):
        RedisDriver(redis_url, migrate="check").open()
    opened(redis_url)
    opened(redis_url, migrate="check")
    with client_of(redis_url) as client:
        client.hset("{windlass}:meta", "version", 99)
    with pytest.raises(SchemaError, match="newer"):
        RedisDriver(redis_url).open()


# ------------------------------------------------------------------ durability


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"appendonly": "no"}, "persistence"),
        ({"appendonly": "yes", "maxmemory_policy": "allkeys-lru"}, "maxmemory-policy"),
        ({"appendonly": "yes"}, None),
        ({"save": "60 1000"}, None),
    ],
)
def test_strict_refuses_a_server_that_forgets(
    settings: dict[str, str], says: str | None, new_redis: Any, opened: Any
) -> None:
    server = new_redis(**settings)
    opened(server.url())
    if says is None:
        opened(server.url(), strict=True)
        return
    with pytest.raises(ConfigurationError, match=says):
        opened(server.url(), strict=True)
    assert says in [f.name for f in opened(server.url()).diagnose() if f.level == "warning"]


def test_a_server_that_may_throw_signals_away_is_noted(new_redis: Any, opened: Any) -> None:
    server = new_redis(appendonly="yes", maxmemory_policy="volatile-lru")
    [found] = [f for f in opened(server.url(), strict=True).diagnose() if f.name == "maxmemory-policy"]
    assert (found.level, found.value) == ("note", "volatile-lru")
    assert "cancellations" in found.advice


def test_any_number_of_workers_is_buried_at_once(redis_url: str, opened: Any) -> None:
    driver = opened(redis_url)
    driver.beat(Worker(id="w8999", host="h", pid=1))
    assert driver.bury([f"w{number}" for number in range(9000)]) == ["w8999"]


def test_an_enqueue_waits_for_its_replicas(new_redis: Any, opened: Any) -> None:
    master = new_redis()
    replica = new_redis(replicaof=f"127.0.0.1 {master.port}")
    until(lambda: replica.info("replication")["master_link_status"] == "up")
    driver = opened(master.url(), replicas=1)
    until(lambda: master.info("replication")["slave0"]["state"] == "online")
    [record] = driver.insert([job()])
    assert replica.execute("HEXISTS", "{windlass}:job", record.id)
    replica.kill()
    with pytest.raises(NotReplicatedError) as caught:
        driver.insert([job()])
    assert (caught.value.wanted, caught.value.confirmed) == (1, 0)
    assert driver.count(Filter(), most=0) == 2
