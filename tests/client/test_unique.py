"""``unique=`` and ``idempotency_key=``, as users say it."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from tests.client.work import end, run_all, take
from windlass import ConfigurationError, Status, Unique, UniqueConflictError

if TYPE_CHECKING:
    from windlass import Windlass


def test_the_same_arguments_are_the_same_job(app: Windlass) -> None:
    @app.task(unique=True)
    def send(to: str, subject: str = "hello") -> None: ...

    first = send.enqueue("ada")
    assert first.created
    for again in (send.enqueue(to="ada"), send.enqueue("ada", "hello"), asyncio.run(send.aenqueue("ada"))):
        assert not again.created
        assert again.id == first.id
    assert send.enqueue("bob").created
    assert app.count() == 2
    run_all(app)
    assert send.enqueue("ada").created


def test_tasks_do_not_meet(app: Windlass) -> None:
    @app.task(unique=True)
    def one(x: int) -> None: ...

    @app.task(unique=Unique(key="{x}"))
    def two(x: int) -> None: ...

    assert one.enqueue(1).created
    assert two.enqueue(1).created
    assert not two.enqueue(1).created


def test_a_call_decides_before_the_task(app: Windlass) -> None:
    @app.task(unique=True)
    def send(to: str) -> None: ...

    @app.task
    def plain(to: str) -> None: ...

    send.enqueue("ada")
    assert send.using(unique=False).enqueue("ada").created
    plain.using(unique=True).enqueue("ada")
    assert not plain.using(unique=True).enqueue("ada").created
    assert plain.enqueue("ada").created
    assert not app.enqueue("plain", {"to": "ada"}, unique=True).created
    assert app.enqueue("elsewhere", {"a": 1, "b": 2}, unique=True).created
    assert not app.enqueue("elsewhere", {"b": 2, "a": 1}, unique=True).created


def test_by_some_arguments_or_a_key(app: Windlass) -> None:
    @app.task(unique=Unique(by="user"))
    def greet(user: int, text: str) -> None: ...

    @app.task(unique=Unique(key=lambda user, text: f"{user % 2}"))
    def parity(user: int, text: str) -> None: ...

    @app.task(unique=Unique(by=("user", "queue")))
    def queued(user: int) -> None: ...

    greet.enqueue(1, "a")
    assert not greet.enqueue(1, "b").created
    parity.enqueue(1, "a")
    assert not parity.enqueue(3, "b").created
    assert parity.enqueue(2, "c").created
    queued.enqueue(1)
    assert queued.using(queue="other").enqueue(1).created
    assert not queued.using(queue="other").enqueue(1).created


def test_raise_shows_the_job_that_is_there(app: Windlass) -> None:
    @app.task(unique=Unique(on_conflict="raise"))
    def send(to: str) -> None: ...

    first = send.enqueue("ada")
    with pytest.raises(UniqueConflictError) as raised:
        send.enqueue("ada")
    assert raised.value.existing == first
    with pytest.raises(UniqueConflictError):
        asyncio.run(send.aenqueue("ada"))
    if app.capabilities.atomic_bulk:
        with pytest.raises(UniqueConflictError):
            app.enqueue_many([send.job("bob"), send.job("ada")])
        assert app.count() == 1


def test_replace_debounces(app: Windlass) -> None:
    @app.task(unique=Unique(by="doc", on_conflict="replace"))
    def index(doc: int, version: int) -> None: ...

    first = index.using(delay=10).enqueue(1, 1)
    again = index.using(delay=30, meta={"by": "ada"}).enqueue(1, 2)
    assert not again.created
    assert again.id == first.id
    assert again.payload == {"doc": 1, "version": 2}
    assert again.meta == {"by": "ada"}
    assert again.run_at - first.run_at > timedelta(seconds=15)
    app.driver.shift(31)
    [running] = take(app)
    late = index.enqueue(1, 3)
    assert late.status is Status.RUNNING
    assert late.payload == {"doc": 1, "version": 2}
    end(app, running)


def test_reschedule_moves_only_the_time(app: Windlass) -> None:
    @app.task(unique=Unique(by="doc", on_conflict="reschedule"))
    def index(doc: int, version: int) -> None: ...

    first = index.using(delay=10).enqueue(1, 1)
    again = index.using(delay=0).enqueue(1, 2)
    assert (again.id, again.status, again.payload) == (first.id, Status.PENDING, {"doc": 1, "version": 1})


def test_for_throttles(app: Windlass) -> None:
    @app.task(unique=Unique(by="user", for_=timedelta(minutes=1)))
    def greet(user: int) -> None: ...

    first = greet.enqueue(1)
    run_all(app)
    again = greet.enqueue(1)
    assert (again.id, again.created, again.status) == (first.id, False, Status.COMPLETED)
    app.driver.shift(61)
    assert greet.enqueue(1).created


def test_a_retry_does_not_stand_beside_a_newer_job(app: Windlass) -> None:
    @app.task(unique=True, max_attempts=1)
    def send(to: str) -> None: ...

    first = send.enqueue("ada")
    run_all(app, dies=("test_a_retry_does_not_stand_beside_a_newer_job.<locals>.send", "send"))
    second = send.enqueue("ada")
    with pytest.raises(UniqueConflictError) as raised:
        app.retry(first.id)
    assert raised.value.existing.id == second.id
    refused = app.retry_many(ids=[first.id]).refused
    assert isinstance(refused[first.id], UniqueConflictError)
    app.cancel(second.id)
    assert app.retry(first.id) is not None


def test_of_many_at_once_one_is_stored(app: Windlass) -> None:
    """Threads meet at a barrier, each with a connection of its own."""

    @app.task(unique=True)
    def send(to: str) -> None: ...

    app.stats()
    barrier, created = threading.Barrier(8), []

    def enqueue() -> None:
        barrier.wait()
        created.extend(send.enqueue(f"user-{n}").created for n in range(10))

    threads = [threading.Thread(target=enqueue) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert created.count(True) == 10
    assert app.count() == 10


def test_an_idempotency_key_finds_its_job(app: Windlass) -> None:
    @app.task
    def charge(order: int) -> None: ...

    first = charge.using(idempotency_key="order-1").enqueue(1)
    run_all(app)
    again = charge.using(idempotency_key="order-1").enqueue(2)
    assert (again.id, again.created, again.payload) == (first.id, False, {"order": 1})
    assert app.get(key="order-1").id == first.id
    app.delete(first.id)
    assert charge.using(idempotency_key="order-1").enqueue(2).created


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"by": "nothing"}, "no argument 'nothing'"),
        ({"key": "{nothing}"}, "does not fit"),
        ({"key": lambda **_: ""}, "printable text"),
        ({"key": lambda **_: 5}, "printable text"),
    ],
)
def test_a_key_that_cannot_be_made_is_refused(app: Windlass, options: dict[str, object], words: str) -> None:
    @app.task(unique=Unique(**options))  # type: ignore[arg-type]
    def send(to: str) -> None: ...

    with pytest.raises(ConfigurationError, match=words):
        send.enqueue("ada")


@pytest.mark.parametrize(
    "options",
    [
        {"by": ()},
        {"by": (1,)},
        {"key": ""},
        {"while_": ("running",)},
        {"while_": ("nowhere",)},
        {"on_conflict": "x"},
        {"for_": -1},
    ],
)
def test_bad_options_are_refused_at_once(options: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        Unique(**options)  # type: ignore[arg-type]
