"""Middleware sees every job on its way to the store and every attempt at it."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from tests.waiting import until
from windlass import ConfigurationError, ConnectionLostError, Context, Job, Outgoing, Windlass
from windlass.drivers.memory import MemoryDriver

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path


class Mail(msgspec.Struct):
    to: str


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Windlass]:
    with Windlass(f"sqlite:///{tmp_path}/jobs.db", durability="relaxed", poll=0.05) as app:
        app.register("work", lambda number=0: number, tags=["own"], queue="low", max_attempts=7)
        yield app


def test_a_hook_sees_what_applies_and_changes_it(app: Windlass) -> None:
    seen: list[Any] = []

    @app.around_enqueue
    def change(outgoing: Outgoing) -> Iterator[None]:
        seen.append((outgoing.task, outgoing.queue, outgoing.priority, outgoing.max_attempts, tuple(outgoing.tags)))
        seen.append((outgoing.arguments, dict(outgoing.meta), outgoing.origin, outgoing.delay, outgoing.job))
        outgoing.queue = "high"
        outgoing.priority = 5
        outgoing.tags.append("more")
        outgoing.meta["trace"] = "t1"
        outgoing.origin = "hook"
        outgoing.delay = 60
        outgoing.timeout = 9
        outgoing.max_attempts = 2
        outgoing.correlation_id = "c"
        yield
        seen.append(outgoing.job)

    job = app.tasks["work"].using(meta={"a": 1}).enqueue(number=3)
    assert seen == [("work", "low", 0, 7, ("own",)), ({"number": 3}, {"a": 1}, None, None, None), job]
    assert (job.queue, job.priority, job.tags, job.origin) == ("high", 5, ("own", "more"), "hook")
    assert (job.status, job.timeout, job.max_attempts, job.correlation_id) == ("scheduled", 9, 2, "c")
    assert job.meta == {"a": 1, "trace": "t1", "correlation_id": "c"}
    assert job.payload == {"number": 3}


def test_a_time_that_is_set_replaces_the_other_kind(app: Windlass) -> None:
    """A delay that is taken away makes the job available at once."""

    @app.around_enqueue
    def at_once(outgoing: Outgoing) -> Iterator[None]:
        outgoing.delay = None
        outgoing.run_at = None
        yield

    assert app.enqueue("work", delay=60).status == "pending"


def test_what_a_hook_sets_is_checked(app: Windlass) -> None:
    @app.around_enqueue
    def wrong(outgoing: Outgoing) -> Iterator[None]:
        outgoing.priority = "high"  # type: ignore[assignment]
        yield

    with pytest.raises(ConfigurationError, match="priority"):
        app.enqueue("work")
    assert app.count() == 0


def test_the_first_hook_is_the_outermost(app: Windlass) -> None:
    """Functions and context managers alike; around attempts too, in every lane."""
    order: list[str] = []

    def hook(name: str) -> Any:
        @contextmanager
        def around(_: Outgoing | Context) -> Iterator[None]:
            order.append(f"+{name}")
            yield
            order.append(f"-{name}")

        return around

    for name in ("a", "b"):
        app.around_enqueue(hook(name))
        app.around_attempt(hook(name.upper()))

    async def awork() -> None:
        order.append("awork")

    app.register("awork", awork)
    with app.worker(concurrency=1):
        for task in ("work", "awork"):
            job = app.enqueue(task)
            until(lambda job=job: job.refresh().finished)
            assert order[:4] == ["+a", "+b", "-b", "-a"]
            assert [each for each in order[4:] if each != "awork"] == ["+A", "+B", "-B", "-A"]
            order.clear()


def test_a_hook_can_refuse(app: Windlass) -> None:
    """Its error reaches the caller, the hooks outside of it learn of it, and nothing is stored."""
    seen: list[str] = []

    @app.around_enqueue
    def outer(outgoing: Outgoing) -> Iterator[None]:
        try:
            yield
        except PermissionError as error:
            seen.append(str(error))
            raise

    @app.around_enqueue
    def refuse(outgoing: Outgoing) -> Iterator[None]:
        if outgoing.arguments.get("number") == 2:
            raise PermissionError("not this one")
        yield

    with pytest.raises(PermissionError):
        app.enqueue_many([app.tasks["work"].job(number) for number in (1, 2, 3)])
    assert seen == ["not this one"] * 2  # of the first job, and of the one that is refused
    assert app.count() == 0


def test_an_error_of_the_store_passes_whatever_hooks_do() -> None:
    """A hook cannot make believe that a job was stored."""

    class Away(MemoryDriver):
        def insert(self, jobs: Any) -> Any:
            raise ConnectionLostError

    with Windlass("memory://") as app:

        @app.around_enqueue
        def swallow(outgoing: Outgoing) -> Iterator[None]:
            with suppress(ConnectionLostError):
                yield

        away = Away()
        away.open()
        with app.swapped(away), pytest.raises(ConnectionLostError):
            app.enqueue("x")


def test_every_way_to_enqueue_goes_through_the_hooks(app: Windlass, tmp_path: Path) -> None:
    seen: list[str] = []

    @app.around_enqueue
    def note(outgoing: Outgoing) -> Iterator[None]:
        outgoing.tags.append("seen")
        yield
        assert outgoing.job is not None
        seen.append(outgoing.task)

    @app.handler(Mail)
    def send(mail: Mail) -> None: ...

    def parent(ctx: Context) -> None:
        ctx.enqueue(app.tasks["work"].job())
        with ctx.transaction() as tx:
            tx.enqueue(app.tasks["work"].job())

    app.register("parent", parent)

    async def twins() -> list[Job]:
        return [
            await app.aenqueue("work"),
            await app.tasks["work"].aenqueue(),
            *await app.aenqueue_many([app.tasks["work"].job()]),
            await app.adispatch(Mail(to="a")),
        ]

    jobs = [
        app.enqueue("work"),
        app.tasks["work"].enqueue(),
        app.tasks["work"].using(priority=1).enqueue(),
        app.tasks["work"].job().enqueue(),
        app.dispatch(Mail(to="a")),
        *app.enqueue_many([app.tasks["work"].job(), app.tasks["work"].job()]),
        *asyncio.run(twins()),
    ]
    with closing(sqlite3.connect(tmp_path / "jobs.db")) as connection:
        jobs.append(app.enqueue("work", connection=connection))
        connection.commit()
    with app.worker():
        app.enqueue("parent")
        until(lambda: app.count(status="completed") == len(jobs) + 3)
    assert len(seen) == len(jobs) + 3
    assert app.count(tag="seen") == len(jobs) + 3


def test_a_hook_of_an_awaited_enqueue_runs_on_its_loop(app: Windlass) -> None:
    loops: list[Any] = []

    @app.around_enqueue
    def note(outgoing: Outgoing) -> Iterator[None]:
        loops.append(asyncio.get_running_loop())
        yield

    async def main() -> Any:
        await app.aenqueue("work")
        return asyncio.get_running_loop()

    assert asyncio.run(main()) is loops[0]


def test_an_async_generator_is_no_hook(app: Windlass) -> None:
    """It would be entered nowhere; that is said where it is registered."""

    async def hook(outgoing: Outgoing) -> AsyncIterator[None]:
        yield

    for register in (app.around_enqueue, app.around_attempt):
        with pytest.raises(ConfigurationError, match="async"):
            register(hook)
