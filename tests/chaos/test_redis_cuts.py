"""The connection to Redis breaks in the middle of every command: the caller is told, and the next call works."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.silence import ask_nobody
from windlass import ConnectionLostError, Windlass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.servers.proxy import Proxy
    from tests.servers.redis import Redis

COMMAND = b"\r\n$"
"""What every command has after its first few bytes."""

CALLS: dict[str, Callable[[Windlass, int], object]] = {
    "enqueue": lambda app, _: app.enqueue("t"),
    "enqueue_many": lambda app, _: app.enqueue_many([app.tasks["t"].job()] * 3),
    "get": lambda app, job: app.get(job),
    "jobs": lambda app, _: app.jobs(),
    "jobs by task": lambda app, _: app.jobs(task="t", status="pending"),
    "count": lambda app, _: app.count(),
    "count by tag": lambda app, _: app.count(tag="x"),
    "stats": lambda app, _: app.stats(),
    "throughput": lambda app, _: app.throughput(),
    "history": lambda app, job: app.history(job),
    "cancel": lambda app, job: app.cancel(job, state_ok=True),
    "retry": lambda app, job: app.retry(job, state_ok=True),
    "run_now": lambda app, job: app.run_now(job),
    "delete_many": lambda app, _: app.delete_many(task="t"),
    "cancel_many": lambda app, job: app.cancel_many(task="t"),
    "purge": lambda app, _: app.purge(0),
    "pause": lambda app, _: app.pause(queue="q"),
    "resume": lambda app, _: app.resume(queue="q"),
    "queues": lambda app, _: app.queues(),
    "workers": lambda app, _: app.workers(),
    "why": lambda app, job: app.why(job),
    "rescue": lambda app, _: app.rescue(),
    "claim": lambda app, _: app.claim(),
}


@pytest.fixture
def proxy(redis_server: Redis, new_proxy: Callable[[int], Proxy]) -> Proxy:
    return new_proxy(redis_server.port)


@pytest.fixture
def app(proxy: Proxy, redis_url: str) -> Iterator[Windlass]:
    app = Windlass(proxy.through(redis_url))
    app.register("t", lambda: None)
    ask_nobody(app)
    yield app
    app.close()


@pytest.mark.parametrize("fault", ["half a command", "no reply", "half a reply"])
@pytest.mark.parametrize("name", CALLS)
def test_a_broken_call_is_told_and_the_next_one_works(name: str, fault: str, app: Windlass, proxy: Proxy) -> None:
    call = CALLS[name]
    job = app.enqueue("t").id
    match fault:
        case "half a command":
            proxy.cut_requests(after=COMMAND)
        case "no reply":
            proxy.drop_replies()
        case "half a reply":
            proxy.drop_replies(keep=1)
    with pytest.raises(ConnectionLostError):
        call(app, job)
    assert proxy.counts.resets == 1
    call(app, job)


def test_of_half_an_enqueue_nothing_is_stored_and_of_a_whole_one_all(app: Windlass, proxy: Proxy) -> None:
    jobs = [app.tasks["t"].job()] * 7
    app.enqueue_many(jobs)
    for fault, stored in (
        (lambda: proxy.cut_requests(after=b"EVALSHA"), 7),
        (lambda: proxy.drop_replies(after=b"EVALSHA"), 14),
    ):
        fault()
        with pytest.raises(ConnectionLostError):
            app.enqueue_many(jobs)
        assert app.count(status="pending") == app.count() == stored
