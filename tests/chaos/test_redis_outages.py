"""Redis servers restart, forget, fill up and fail over, and networks break, while jobs flow: workers go on by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import redis

from tests.chaos import outage
from tests.chaos.ledger import assert_calm
from tests.chaos.outage import drained, ready, resumes, stops
from tests.chaos.redis_ledger import stored
from tests.waiting import until
from windlass import ConnectionLostError, Outcome, StoreFullError, Windlass

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from tests.chaos.fleet import Fleet
    from tests.chaos.traffic import Traffic
    from tests.servers.proxy import Proxy
    from tests.servers.redis import Redis
    from tests.servers.redis_cluster import RedisCluster
    from tests.servers.redis_sentinel import RedisSentinel

    NewRedis = Callable[..., Redis]
    NewFleet = Callable[..., Fleet]
    NewApp = Callable[..., Windlass]
    NewTraffic = Callable[[Windlass], Traffic]

KEPT = {"appendonly": "yes", "appendfsync": "always"}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def finish(app: Windlass, fleet: Fleet, traffic: Traffic, *, once: bool = True) -> dict[Outcome, int]:
    return outage.finish(app, fleet, traffic, stored=lambda: stored(app), once=once)


@pytest.mark.parametrize("flavour", ["redis", pytest.param("valkey", marks=pytest.mark.soak)])
def test_a_server_that_logs_all_restarts_in_every_way(
    flavour: str, new_redis: NewRedis, new_fleet: NewFleet, new_app: NewApp, traffic: NewTraffic
) -> None:
    """What it has acknowledged it has after SIGKILL, and nothing runs twice."""
    server = new_redis(flavour, **KEPT)
    app = new_app(server.url())
    fleet = new_fleet(server.url(), 2, CHAOS_LOST_AFTER=15)
    ready(app, fleet)
    jobs = traffic(app)
    for stop in (server.stop, server.kill, server.kill):
        jobs.flows()
        stop()
        stops(jobs)
        server.start()
        resumes(app)
    jobs.flows()
    assert jobs.lost
    finish(app, fleet, jobs)


def test_a_server_that_keeps_nothing_restarts(
    new_redis: NewRedis, new_fleet: NewFleet, new_app: NewApp, traffic: NewTraffic
) -> None:
    """All jobs are gone, and so is every lease: the workers take new ones, and no lease is given twice."""
    server = new_redis()
    app = new_app(server.url())
    fleet = new_fleet(server.url(), 2, CHAOS_LOST_AFTER=15)
    ready(app, fleet)
    jobs = traffic(app)
    for _ in range(3):
        jobs.flows()
        server.kill()
        stops(jobs)
        server.start()
        resumes(app)
    jobs.flows()
    jobs.stop()
    drained(app)
    assert fleet.all_alive
    kept = stored(app)
    assert app.stats().completed == len(kept)
    notes = fleet.notes()
    starts = [(line["lease"], line["job"]) for line in notes if line["what"] == "start"]
    assert len({lease for lease, _ in starts}) == len(starts), "a lease was given twice"
    newest = {job_id: lease for lease, job_id in sorted(starts)}
    for line in notes:
        if line["what"] == "refused" and line["job"] in kept:
            assert line["lease"] < newest[line["job"]], "a write under the last lease was refused"
    for job_id in kept:
        assert [attempt.outcome for attempt in app.history(job_id)] == [Outcome.COMPLETED]
    assert_calm(fleet.said)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param("both", marks=pytest.mark.soak),
        "replies",
        "old",
        pytest.param("drop", marks=pytest.mark.soak),  # half a reply is worse
        "half a reply",
        "half a command",
        "refuse",
    ],
)
def test_the_network_fails(  # noqa: PLR0917 - fixtures
    fault: str,
    new_redis: NewRedis,
    new_proxy: Callable[[int], Proxy],
    new_fleet: NewFleet,
    new_app: NewApp,
    traffic: NewTraffic,
) -> None:
    server = new_redis()
    proxy = new_proxy(server.port)
    app = new_app(server.url())
    fleet = new_fleet(proxy.through(server.url()), 2, CHAOS_LOST_AFTER=45)
    ready(app, fleet)
    jobs = traffic(app)
    jobs.flows()
    before = proxy.counts.resets
    match fault:
        case "both" | "replies":
            proxy.freeze("both" if fault == "both" else "replies")
            until(lambda: fleet.said.count("pump: the store is away") >= 2, timeout=90)
            proxy.thaw()
        case "old":  # as after a failover: what was connected hears nothing any more, and must find out
            proxy.freeze(new="work")
            # Who notices first, pump, heart or bell, gives up all connections of its process that are as old.
            until(lambda: fleet.said.count("the store is away") + fleet.said.count("does not ring") >= 2, timeout=90)
        case "drop":
            proxy.drop_replies(times=12)
            until(lambda: proxy.counts.resets == before + 12, timeout=90)
        case "half a reply":
            proxy.drop_replies(keep=5, times=12)
            until(lambda: proxy.counts.resets == before + 12, timeout=90)
        case "half a command":
            proxy.cut_requests(after=b"\r\n$", times=12)
            until(lambda: proxy.counts.resets == before + 12, timeout=90)
        case "refuse":
            proxy.refuse()
            proxy.reset()
            until(lambda: fleet.said.count("pump: the store is away") >= 2, timeout=90)
            jobs.flows()
            proxy.thaw()
    resumes(app)
    finish(app, fleet, jobs)


def test_scripts_are_flushed_again_and_again(
    new_redis: NewRedis, new_fleet: NewFleet, new_app: NewApp, traffic: NewTraffic, size: float
) -> None:
    """Nobody notices."""
    server = new_redis()
    app = new_app(server.url())
    fleet = new_fleet(server.url(), 2, CHAOS_LOST_AFTER=15)
    ready(app, fleet)
    jobs = traffic(app)
    for _ in range(int(25 * size)):
        jobs.flows(5)
        server.execute("SCRIPT", "FLUSH")
    resumes(app)
    assert jobs.lost == 0
    assert "is away" not in fleet.said
    finish(app, fleet, jobs)


def test_the_server_stands_still_for_longer_than_patience(
    new_redis: NewRedis, new_fleet: NewFleet, new_app: NewApp, traffic: NewTraffic
) -> None:
    """What was asked meanwhile it does afterwards all the same: nothing is doubled by asking again."""
    server = new_redis(**KEPT)
    app = new_app(server.url())
    fleet = new_fleet(server.url(), 2, CHAOS_LOST_AFTER=45)
    ready(app, fleet)
    jobs = traffic(app)
    jobs.flows()
    with redis.Redis.from_url(server.url(), socket_timeout=90) as client:
        client.execute_command("DEBUG", "SLEEP", 9)
    until(lambda: "pump: the store is away" in fleet.said)
    resumes(app)
    finish(app, fleet, jobs)


def test_a_server_that_is_stopped_by_a_signal_goes_on(
    new_redis: NewRedis, new_fleet: NewFleet, new_app: NewApp, traffic: NewTraffic
) -> None:
    server = new_redis()
    app = new_app(server.url())
    fleet = new_fleet(server.url(), 2, CHAOS_LOST_AFTER=45)
    ready(app, fleet)
    jobs = traffic(app)
    jobs.flows()
    server.pause()
    until(lambda: fleet.said.count("pump: the store is away") >= 2, timeout=90)
    server.resume()
    resumes(app)
    finish(app, fleet, jobs)


@pytest.mark.parametrize(
    "flavour", [pytest.param("redis", marks=pytest.mark.soak), pytest.param("redis7", marks=pytest.mark.soak), "valkey"]
)
def test_the_memory_is_full(
    flavour: str, new_redis: NewRedis, new_fleet: NewFleet, new_app: NewApp, traffic: NewTraffic
) -> None:
    """Nobody gets a job in, what runs ends, and all goes on by itself when there is room again."""
    server = new_redis(flavour, maxmemory_policy="noeviction")
    app = new_app(server.url())
    fleet = new_fleet(server.url(), 2, CHAOS_LOST_AFTER=45)
    ready(app, fleet)
    jobs = traffic(app)
    jobs.flows()
    running = [app.enqueue("in_thread", {"length": 2}).id for _ in range(4)]
    until(lambda: {line["job"] for line in fleet.notes()} >= set(running))
    with server.client() as client:
        client.config_set("maxmemory", 1 << 20)
        until(lambda: jobs.full > 5)
        with pytest.raises(StoreFullError):
            app.enqueue("in_thread", {"length": 0})
        until(lambda: all(app.get(job_id).status.value == "completed" for job_id in running))
        client.config_set("maxmemory", 0)
    resumes(app)
    jobs.flows()
    jobs.acknowledged += running
    finish(app, fleet, jobs)


def test_the_copy_takes_over(
    new_redis_sentinel: Callable[..., RedisSentinel], new_fleet: NewFleet, new_app: NewApp, dice: random.Random
) -> None:
    """What a replica has confirmed is done, also what nobody has confirmed that it was done."""
    group = new_redis_sentinel()
    careful = new_app(group.url(), replicas=1)
    fleet = new_fleet(group.url(), 2, CHAOS_LOST_AFTER=15)
    ready(careful, fleet)
    acknowledged = [careful.enqueue("in_thread", {"length": 0.02 * dice.random()}).id for _ in range(300)]
    new = group.fail_over()
    app = new_app(new.url())
    resumes(app)
    drained(app)
    kept = stored(app)
    assert set(acknowledged) <= kept
    assert app.stats().completed == len(kept)
    assert fleet.all_alive
    assert_calm(fleet.said)


def test_a_node_of_a_cluster_is_gone_for_a_while(
    new_redis_cluster: Callable[..., RedisCluster], new_app: NewApp
) -> None:
    """Each application is on one node: the others do not notice, and its own goes on when the node is back."""
    cluster = new_redis_cluster(**KEPT)
    names = _one_on_each(cluster)
    apps = [new_app(cluster.url(), prefix=name, lost_after=15) for name in names]
    for app in apps:
        app.task(name="in_thread")(_in_thread)
        app.start(concurrency=4)
    try:
        for app in apps:
            resumes(app)
        gone = cluster.node_of(f"{{{names[0]}}}")
        gone.kill()
        with pytest.raises(ConnectionLostError):
            apps[0].enqueue("in_thread", {"length": 0})
        for app in apps[1:]:
            for _ in range(20):
                resumes(app)
        gone.start()
        resumes(apps[0])
        for app in apps:
            drained(app)
            kept = stored(app)
            assert app.stats().completed == len(kept)
            assert all(len(app.history(job_id)) == 1 for job_id in kept)
    finally:
        for app in apps:
            app.stop(1)


def _one_on_each(cluster: RedisCluster) -> list[str]:
    """Return a prefix for each node."""
    found: dict[int, str] = {}
    for number in range(100):
        name = f"app_{number}"
        found.setdefault(cluster.node_of(f"{{{name}}}").port, name)
    assert len(found) == len(cluster.nodes)
    return list(found.values())


def _in_thread(length: float) -> None:
    pass
