"""``limit=`` and limits at run time, as users say it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.client.work import end, run_all, take
from windlass import ConfigurationError, Limit, Rate
from windlass.drivers.base import Worker

if TYPE_CHECKING:
    from windlass import Windlass


def test_a_key_limits_across_tasks(app: Windlass) -> None:
    @app.task(limit=Limit(2, key="tenant:{tenant}"))
    def load(tenant: int) -> None: ...

    @app.task(limit=Limit(2, key="tenant:{tenant}"))
    def store(tenant: int) -> None: ...

    for _ in range(2):
        load.enqueue(1)
        store.enqueue(1)
    load.enqueue(2)
    assert sorted(record.task.rpartition(".")[2] for record in take(app, 10)) == ["load", "load", "store"]
    [state] = app.limits(["tenant:1"])
    assert (state.kind, state.most, state.used, state.waiting, state.pinned) == ("limit", 2, 2, 2, False)


def test_why_names_the_holders(app: Windlass) -> None:
    @app.task(limit=Limit(1, key="tenant:{tenant}"))
    def load(tenant: int) -> None: ...

    first, second = load.enqueue(1), load.enqueue(1)
    [running] = take(app, 10)
    why = app.why(second.id)
    assert why.code == "limited"
    assert f"#{first.id}" in str(why)
    assert "tenant:1" in str(why)
    end(app, running)
    assert app.why(second.id).code == "no-worker"


def test_why_says_when_the_next_token_comes(app: Windlass) -> None:
    @app.task(limit=Rate(1, per=60, key="api"))
    def call(n: int) -> None: ...

    for n in range(2):
        call.enqueue(n)
    [_] = take(app, 10)
    why = app.why(2)
    assert why.code == "rate-limited"
    assert "the next may in " in str(why)
    app.driver.shift(61)
    assert app.why(2).code == "no-worker"
    assert len(take(app, 10)) == 1


def test_the_keys_of_a_task_take_turns(app: Windlass) -> None:
    @app.task(fair="tenant:{tenant}")
    def load(tenant: int) -> None: ...

    app.enqueue_many([load.job(tenant) for tenant in (1, 1, 1, 1, 2, 3, 2)])
    order = []
    while records := take(app, 1):
        order.append(app.get(records[0].id).payload["tenant"])
        end(app, records[0])
    assert order == [1, 2, 3, 1, 2, 1, 1]


def test_why_tells_of_turns(app: Windlass) -> None:
    @app.task(fair=lambda tenant: f"tenant:{tenant}")
    def load(tenant: int) -> None: ...

    first, second = load.enqueue(1), load.enqueue(1)
    take(app, 1)
    busy = Worker(id="w", host="here", pid=1, tasks=(load.name,), concurrency=1, running=1, status="running")
    app.driver.beat(busy)
    assert app.why(first.id).code == "running"
    assert [code for code, _ in app.why(second.id).reasons] == ["busy", "takes-turns"]
    assert "tenant:1" in str(app.why(second.id))
    assert app.limits() == []


def test_a_queue_is_limited_at_run_time(app: Windlass) -> None:
    @app.task(queue="mail")
    def send(n: int) -> None: ...

    jobs = app.enqueue_many([send.job(n) for n in range(5)])
    app.limit(2, queue="mail")
    assert len(take(app, 10)) == 2
    why = app.why(jobs[-1].id)
    assert why.code == "limited"
    assert "queue:mail" in str(why)
    app.limit(3, queue="mail")
    assert len(take(app, 10)) == 1
    assert len(app.holders("queue:mail")) == 3
    assert app.unlimit(queue="mail")
    assert not app.unlimit(queue="mail")
    assert len(take(app, 10)) == 2


def test_a_key_is_limited_at_run_time(app: Windlass) -> None:
    @app.task(limit=Limit(1, key="tenant:{tenant}"))
    def load(tenant: int) -> None: ...

    app.enqueue_many([load.job(1) for _ in range(5)])
    assert len(take(app, 10)) == 1
    app.limit(Limit(3, key="tenant:1"))
    assert len(take(app, 10)) == 2
    app.unlimit(key="tenant:1")
    for record in [app.driver.get(job_id) for job_id in app.holders("tenant:1")]:
        assert record is not None
        end(app, record)
    assert len(take(app, 10)) == 1


def test_everything_gets_through(app: Windlass) -> None:
    @app.task(limit=[Limit(1, key="a:{n}"), Limit(2, key="b")])
    def load(n: int) -> None: ...

    app.enqueue_many([load.job(n % 3) for n in range(12)])
    assert len(run_all(app)) == 12


@pytest.mark.parametrize(
    "make",
    [
        lambda: Limit(0),
        lambda: Limit(True),
        lambda: Limit(1.5),  # type: ignore[arg-type]
        lambda: Limit(1, key=""),
        lambda: Limit(1, key="queue:mail"),
        lambda: Rate(0),
        lambda: Rate(1, per=0),
        lambda: Rate(1, per=-1),
        lambda: Rate(1, burst=0),
        lambda: Rate(1, burst=1, weight=2),
    ],
)
def test_bad_limits_are_refused(make: Any) -> None:
    with pytest.raises(ConfigurationError):
        make()


def test_bad_options_are_refused(app: Windlass) -> None:
    for wrong in ("3", [Limit(1), Limit(2)], 0, object()):
        with pytest.raises(ConfigurationError):
            app.register("x", lambda: None, limit=wrong, replace=True)
    for key in ("", 3, "queue:mail"):
        with pytest.raises(ConfigurationError):
            app.register("x", lambda: None, fair=key, replace=True)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="fair"):
        app.register("x", lambda n: None, fair="tenant:{tenant}", replace=True).enqueue(1)
    for given in ({}, {"queue": "a", "task": "b"}):
        with pytest.raises(ConfigurationError):
            app.limit(3, **given)
    with pytest.raises(ConfigurationError):
        app.limit(Limit(3, key=lambda **_: "a"))
