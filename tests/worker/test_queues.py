"""Workers take from their queues in the order they were told, and keep slots free."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from tests.waiting import until
from tests.worker.ending import ended
from windlass import ConfigurationError, Reserved

if TYPE_CHECKING:
    from windlass import Windlass


def record(app: Windlass) -> list[str]:
    """Register a task that writes down its name; return what it writes to."""
    seen: list[str] = []

    @app.task
    def note(name: str) -> None:
        seen.append(name)

    return seen


def test_a_strict_order_empties_one_queue_after_the_other(app: Windlass) -> None:
    """Whatever came first, and whatever the priority."""
    seen = record(app)
    for queue in ("low", "high", "low", "high"):
        app.enqueue("note", {"name": queue}, queue=queue, priority=9 if queue == "low" else 0)
    with app.worker(concurrency=1, queues=["high", "low"], order="strict"):
        until(lambda: len(seen) == 4)
    assert seen == ["high", "high", "low", "low"]


def test_the_merged_order_goes_by_priority_and_age(app: Windlass) -> None:
    """It is the usual one."""
    seen = record(app)
    for queue in ("low", "high", "low"):
        app.enqueue("note", {"name": queue}, queue=queue, priority=9 if queue == "low" else 0)
    with app.worker(concurrency=1, queues=["high", "low"]):
        until(lambda: len(seen) == 3)
    assert seen == ["low", "low", "high"]


def test_a_weighted_order_starves_nobody(app: Windlass) -> None:
    """The light queue gets its turns before the heavy one is empty."""
    seen = record(app)
    for queue in ("heavy", "light"):
        app.enqueue_many([app.tasks["note"].using(queue=queue).job(queue) for _ in range(100)])
    with app.worker(concurrency=1, queues={"heavy": 3, "light": 1}):
        until(lambda: len(seen) == 200)
    half = seen[:100]
    assert 0 < half.count("light") < half.count("heavy")


@pytest.mark.parametrize("order", ["merged", "strict"])
def test_reserved_slots_are_free_for_their_queue(app: Windlass, order: str) -> None:
    """A flood in another queue leaves them alone; the queue may use the others too."""
    go = threading.Event()

    @app.task
    def block(name: str) -> None:
        go.wait(30)

    def running(queue: str) -> int:
        return app.stats().queues[queue].running if queue in app.stats().queues else 0

    def put(queue: str, number: int) -> list[int]:
        return [job.id for job in app.enqueue_many([block.using(queue=queue).job(queue) for _ in range(number)])]

    flood = put("flood", 9)
    with app.worker(concurrency=5, queues={"flood": Reserved(1), "mail": Reserved(2)}, order=order):  # type: ignore[arg-type]
        until(lambda: running("flood") == 3)
        mail = put("mail", 4)
        until(lambda: running("mail") == 2)
        assert (running("flood"), running("mail")) == (3, 2)
        go.set()
        for job in (*flood, *mail):
            ended(app.get(job))


def test_a_queue_with_reserved_slots_uses_the_others_too(app: Windlass) -> None:
    """All but those that are reserved for somebody else."""
    go = threading.Event()

    @app.task
    def block() -> None:
        go.wait(30)

    app.enqueue_many([block.using(queue="mail").job() for _ in range(9)])
    with app.worker(concurrency=5, queues={"mail": Reserved(2), "other": Reserved(1)}):
        until(lambda: app.stats().queues["mail"].running == 4)
        job = block.using(queue="other").enqueue()
        until(lambda: job.refresh().status == "running")
        assert app.stats().queues["mail"].running == 4
        go.set()
        until(lambda: app.stats().completed == 10)


@pytest.mark.parametrize("order", ["strict", "weighted"])
def test_the_queues_after_an_empty_one_use_what_is_for_all(app: Windlass, order: str) -> None:
    """However many slots are kept for the empty one, the others fill the rest in the same turn."""
    go = threading.Event()

    @app.task
    def block() -> None:
        go.wait(30)

    app.enqueue_many([block.using(queue=queue).job() for queue in ("low", "low", "low", "low")])
    with app.worker(concurrency=4, queues={"mail": Reserved(1), "high": None, "low": None}, order=order):  # type: ignore[arg-type]
        until(lambda: app.stats().running == 3)
        assert app.stats().pending == 1
        go.set()
        until(lambda: app.stats().completed == 4)


def test_what_cannot_be_right_is_refused_before_the_start(app: Windlass) -> None:
    """By the worker's constructor, and so by ``app.start`` and ``app.run``."""
    with pytest.raises(ConfigurationError, match="reserved"):
        app.worker(concurrency=2, queues={"mail": Reserved(3)})
    with pytest.raises(ConfigurationError, match="order"):
        app.start(queues=["mail"], order="upside down")
    with pytest.raises(ConfigurationError, match="weight"):
        app.run(queues={"mail": 0})


def test_a_worker_is_known_by_its_queues(app: Windlass) -> None:
    """Whatever their order."""
    app.register("note", lambda: None)
    with app.worker(queues={"b": 2, "a": 1}):
        [me] = app.workers()
        assert me.queues == ("b", "a")
