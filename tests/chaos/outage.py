"""What is the same in every outage: workers that are ready before it, take up their work after it, and are judged."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from tests.chaos.ledger import assert_calm, assert_histories
from tests.waiting import until
from windlass import ConnectionLostError, Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.chaos.fleet import Fleet
    from tests.chaos.traffic import Traffic
    from windlass import Outcome, Windlass

RESUMED = 40.0
"""Seconds within which workers take up their work when the server is back, on however busy a machine."""


def resumes(app: Windlass) -> None:
    """Wait until a job that is enqueued now is done; what waits before it does not count."""

    def enqueued() -> int:
        with suppress(ConnectionLostError):  # by a connection that has broken without our knowing
            return app.enqueue("in_thread", {"length": 0}, priority=100).id
        return 0

    def done() -> bool:
        with suppress(ConnectionLostError):
            return app.get(job).status is Status.COMPLETED
        return False

    job = until(enqueued, timeout=RESUMED)
    until(done, timeout=RESUMED)


def ready(app: Windlass, fleet: Fleet) -> None:
    """Wait until all workers are at work."""
    until(lambda: sum(worker.status == "running" for worker in app.driver.workers()) == fleet.size)
    resumes(app)


def stops(jobs: Traffic) -> None:
    """Wait until no job can be enqueued any more."""
    lost = jobs.lost
    until(lambda: jobs.lost > lost + 5)


def drained(app: Windlass) -> None:
    """Wait until nothing is left to do."""
    until(lambda: (s := app.stats()).pending + s.running + s.scheduled + s.retrying == 0, timeout=60, every=0.1)


def finish(
    app: Windlass, fleet: Fleet, traffic: Traffic, *, stored: Callable[[], set[int]], once: bool = True
) -> dict[Outcome, int]:
    """Check all that must be true in the end, of workers that were never replaced; *stored* looks into the store."""
    acknowledged = traffic.stop()
    drained(app)
    assert fleet.all_alive
    outcomes = assert_histories(app, stored(), acknowledged, fleet.notes(), once=once)
    assert_calm(fleet.said)
    print(f"{len(acknowledged)} acknowledged, {traffic.lost} enqueues lost, {outcomes}")  # noqa: T201
    return outcomes
