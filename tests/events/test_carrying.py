"""Context variables and the correlation id travel with jobs."""

from __future__ import annotations

import logging
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import pytest

from tests.events import carriers
from tests.waiting import until
from windlass import PREVIOUS, ConfigurationError, Context, Job, PayloadError, Windlass, chain
from windlass.testing import testing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

user: ContextVar[Any] = ContextVar("user")


@pytest.fixture(params=["memory", "sqlite"])
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Windlass]:
    """An application that carries the user."""
    url = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/jobs.db"
    with Windlass(url, durability="relaxed", poll=0.05, backoff=0) as app:
        app.carry(user)
        yield app


def with_user(name: Any, call: Any) -> Any:
    """Call with a user."""
    token = user.set(name)
    try:
        return call()
    finally:
        user.reset(token)


def ended(job: Job) -> Job:
    return until(lambda: job.refresh() if job.refresh().finished else None)


@pytest.mark.parametrize("colour", ["thread", "async"])
def test_a_handler_sees_the_value_its_job_was_enqueued_with(app: Windlass, colour: str) -> None:
    """And no other job does; the value is in ``meta``."""

    def work() -> str:
        return str(user.get("nobody"))

    async def awork() -> str:
        return str(user.get("nobody"))

    app.register("work", work if colour == "thread" else awork)
    with app.worker(concurrency=1):
        first = with_user("ada", lambda: app.enqueue("work", meta={"a": 1}))
        second = app.enqueue("work")
        assert (ended(first).result, ended(second).result) == ("ada", "nobody")
    assert first.meta == {"context": {"user": "ada"}, "a": 1}
    assert second.meta == {}


def test_the_steps_of_a_chain_belong_together(app: Windlass) -> None:
    """And carry what was there when the chain was made."""
    app.register("first", lambda: 1)
    app.register("second", lambda number: [number, user.get("nobody")])
    app.register("third", lambda: user.get("nobody"))
    steps = [app.tasks["first"].job(), app.tasks["second"].using(meta={"a": 1}).job(PREVIOUS), app.tasks["third"].job()]
    with app.worker():
        root = with_user("ada", lambda: chain(*steps).enqueue())
        until(lambda: app.count(status="completed") == 3)
    third, second, first = app.jobs()
    assert (second.result, third.result) == ([1, "ada"], "ada")
    assert [job.correlation_id for job in (first, second, third)] == [str(root.id)] * 3
    assert second.meta == {"context": {"user": "ada"}, "a": 1, "correlation_id": str(root.id)}


@pytest.mark.parametrize("colour", ["thread", "async"])
def test_children_carry_on(app: Windlass, colour: str) -> None:
    """The variable as the parent has set it, and the correlation id of the first of them all."""

    def grandparent() -> None:
        app.enqueue("parent")

    def parent(ctx: Context) -> None:
        user.set("grace")
        ctx.enqueue(app.tasks["child"].job())

    async def aparent(ctx: Context) -> None:
        user.set("grace")
        await app.aenqueue("child")

    app.register("grandparent", grandparent)
    app.register("parent", parent if colour == "thread" else aparent)
    app.register("child", lambda: user.get("nobody"))
    with app.worker():
        root = with_user("ada", lambda: app.enqueue("grandparent"))
        until(lambda: app.count(status="completed") == 3)
    child, middle, first = app.jobs()
    assert (first, child.task, child.result) == (root.refresh(), "child", "grace")
    assert [job.correlation_id for job in (first, middle, child)] == [str(root.id)] * 3


def test_the_process_lane_carries_too() -> None:
    app = carriers.app
    with app.worker(concurrency=1):
        token = carriers.tenant.set("acme")
        first = carriers.in_process.using(correlation_id="req-1").enqueue()
        carriers.tenant.reset(token)
        second = carriers.in_process.enqueue()
        assert ended(first).result == {"tenant": "acme", "correlation_id": "req-1", "logged": [first.id, "req-1"]}
        own = str(second.id)
        assert ended(second).result == {"tenant": "none", "correlation_id": own, "logged": [second.id, own]}


def test_a_block_gives_its_jobs_a_correlation_id(app: Windlass) -> None:
    """So does an option; the innermost counts, and what is in ``meta`` by hand counts most."""
    with app.correlation("outer"):
        one = app.enqueue("x")
        with app.correlation("inner"):
            two = app.enqueue("x")
            three = app.enqueue("x", correlation_id="own")
            four = app.enqueue("x", correlation_id="own", meta={"correlation_id": "by hand"})
    five = app.enqueue("x")
    assert [job.correlation_id for job in (one, two, three, four, five)] == [
        "outer", "inner", "own", "by hand", str(five.id),
    ]  # fmt: skip
    assert five.record.meta is None


def test_a_block_around_an_inline_job_is_not_its_own(app: Windlass) -> None:
    """What a handler enqueues belongs with its job, a block inside it wins."""

    def parent() -> None:
        app.enqueue("child")
        with app.correlation("inside"):
            app.enqueue("child")

    app.register("parent", parent)
    app.register("child", lambda: None)
    with testing(app, inline=True) as t, app.correlation("outside"):
        app.enqueue("parent", correlation_id="mine")
        assert [job.correlation_id for job in t.jobs] == ["mine", "mine", "inside"]


def test_log_records_of_a_job_have_its_correlation_id(app: Windlass, caplog: pytest.LogCaptureFixture) -> None:
    """Beside its own."""

    def work() -> None:
        logging.getLogger("shop").warning("here")

    app.register("work", work)
    with app.worker():
        logging.getLogger("shop").warning("outside")
        first = ended(app.enqueue("work", correlation_id="req-7"))
        second = ended(app.enqueue("work"))
    said = [
        (record.job_id, record.correlation_id)  # type: ignore[attr-defined]
        for record in caplog.records
        if record.name == "shop"
    ]
    assert said == [(None, None), (first.id, "req-7"), (second.id, str(second.id))]


def test_two_variables_cannot_share_a_name(app: Windlass) -> None:
    other: ContextVar[int] = ContextVar("user")
    app.carry(user)
    with pytest.raises(ConfigurationError, match="another context variable"):
        app.carry(other)
    app.carry(other, name="number")
    token = other.set(5)
    assert app.enqueue("x").meta == {"context": {"number": 5}}
    other.reset(token)


def test_a_value_that_is_no_json_is_refused_where_it_is_enqueued(app: Windlass) -> None:
    with pytest.raises(PayloadError, match="meta"):
        with_user(object(), lambda: app.enqueue("x"))


@pytest.mark.parametrize("meta", [{"context": 5}, {"context": {"user": None}}, {"correlation_id": 5}])
def test_meta_of_somebody_elses_making_hurts_nobody(app: Windlass, meta: dict[str, Any]) -> None:
    app.register("work", lambda: user.get("nobody"))
    with app.worker():
        job = ended(app.enqueue("work", meta=meta))
    assert (job.status, job.meta) == ("completed", meta)
    assert job.correlation_id == str(job.id)
