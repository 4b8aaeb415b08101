"""What a worker does for limits and batches beside running jobs."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from tests.waiting import until
from tests.worker.ending import ended
from windlass import Limit
from windlass.drivers.base import NewBatch
from windlass.worker.batches import Batches

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    import pytest

    from windlass import Windlass


def limited(app: Windlass, name: str, function: Callable[..., Any], most: int) -> None:
    app.register(name, function, limit=Limit(most))


def test_a_worker_declares_the_limits_of_its_tasks(app: Windlass) -> None:
    """Before it claims; those of tasks that are registered later before any of their jobs is claimed."""
    together: list[int] = []
    running, lock, go = set[int](), threading.Lock(), threading.Event()

    def count(number: int) -> None:
        with lock:
            running.add(number)
            together.append(len(running))
        go.wait(0.05)
        with lock:
            running.discard(number)

    limited(app, "first", count, 2)
    jobs = [app.enqueue("first", {"number": n}) for n in range(6)]
    with app.worker(concurrency=8):
        for job in jobs:
            ended(job)
        assert max(together) <= 2
        together.clear()
        jobs = [app.enqueue("second", {"number": n}) for n in range(4)]
        limited(app, "second", count, 1)
        for job in jobs:
            ended(job)
        assert set(together) == {1}
    assert {passage.gate.key for passage in app.driver.passages()} == {"limit:task:first", "limit:task:second"}


def test_a_limit_set_by_hand_is_not_undone_by_a_worker(app: Windlass) -> None:
    """It is pinned."""
    limited(app, "first", lambda: None, 2)
    app.driver.set_gate(Limit(7).gate("first"), pinned=True)
    with app.worker():
        ended(app.enqueue("first"))
    [passage] = app.driver.passages()
    assert passage.gate.most == 7


def member(app: Windlass) -> tuple[int, Any]:
    """Store a job in a batch of its own."""
    batch = app.driver.open_batch(NewBatch(name="b"))
    job = app.new_job(app.tasks["nothing"].job())
    [record] = app.driver.insert([type(job)(task=job.task, queue=job.queue, payload=job.payload, batch_id=batch.id)])
    return batch.id, app.wrap(record)


def test_a_ripe_batch_is_decided_about_at_once(app: Windlass, monkeypatch: pytest.MonkeyPatch) -> None:
    """The turn that ends its last member says so, and the worker has it settled off the pump's thread."""
    settled: list[tuple[int, str]] = []

    def settle(ids: Collection[int]) -> None:
        for batch_id in ids:
            settled.append((batch_id, threading.current_thread().name))
            app.driver.change_batch(batch_id, lambda *_: None)

    monkeypatch.setattr(app, "settle_batches", settle, raising=False)
    app.register("nothing", lambda: None)
    with app.worker():
        batch_id, job = member(app)
        ended(job)
        until(lambda: settled)
    assert set(settled) == {(batch_id, "windlass-batches")}


def test_a_ripe_batch_that_nobody_names_is_found(app: Windlass, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process died before the callbacks were written: the store is asked now and then."""
    monkeypatch.setattr("windlass.worker.batches.LOOK", 0.05)
    app.register("nothing", lambda: None)
    batch_id, _ = member(app)
    claim = app.claim()
    assert claim is not None
    claim.ack()
    settled: list[int] = []

    def settle(ids: Collection[int]) -> None:
        settled.extend(ids)
        for each in ids:
            app.driver.change_batch(each, lambda *_: None)

    batches = Batches(app.driver, settle=settle, resting=lambda: False)
    batches.start()
    try:
        until(lambda: settled)
    finally:
        batches.stop()
    assert settled == [batch_id]


def test_a_batch_that_cannot_be_settled_is_tried_again(app: Windlass) -> None:
    """The service outlives its errors."""
    tries: list[int] = []

    def settle(ids: Collection[int]) -> None:
        tries.extend(ids)
        if len(tries) == 1:
            raise OSError("no")

    batches = Batches(app.driver, settle=settle, resting=lambda: False)
    batches.start()
    try:
        batches.ripen([7])
        until(lambda: tries)
        until(lambda: batches.ripen([7]) or len(tries) > 1)
    finally:
        batches.stop()
    assert set(tries) == {7}
