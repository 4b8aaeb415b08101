"""Cancelling, from here and from another process."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from tests.worker.ending import ended, outcomes
from windlass import Context, JobCancelled

if TYPE_CHECKING:
    from collections.abc import Callable

    from windlass import Windlass


@pytest.mark.parametrize("colour", ["thread", "async"])
@pytest.mark.parametrize("end", ["raises", "returns"])
def test_a_running_job_that_raises_is_cancelled_and_one_that_returns_completed(
    app: Windlass, colour: str, end: str
) -> None:
    """The signal is a wish; how the handler takes it decides."""
    begun = threading.Event()

    def work(ctx: Context) -> str:
        begun.set()
        assert ctx.cancelled.wait(20)
        if end == "raises":
            raise RuntimeError("as you like")
        return "done already"

    async def awork() -> str:
        begun.set()
        try:
            await asyncio.sleep(20)
        except asyncio.CancelledError:
            if end == "raises":
                raise
        return "done already"

    app.register("work", awork if colour == "async" else work)
    with app.worker():
        job = app.enqueue("work")
        assert begun.wait(20)
        app.cancel(job.id)
        job = ended(job)
    if end == "raises":
        assert (job.status, job.failures, outcomes(job)) == ("cancelled", 0, ["cancelled"])
    else:
        assert (job.status, job.result, outcomes(job)) == ("completed", "done already", ["completed"])


@pytest.mark.slow
@pytest.mark.parametrize("colour", ["thread", "async"])
def test_another_process_can_cancel(make: Callable[..., Windlass], colour: str) -> None:
    """The signal crosses the store."""
    app = make()
    begun = threading.Event()

    def work(ctx: Context) -> None:
        begun.set()
        assert ctx.cancelled.wait(20)
        raise RuntimeError

    async def awork() -> None:
        begun.set()
        await asyncio.sleep(20)

    app.register("work", awork if colour == "async" else work)
    with app.worker():
        job = app.enqueue("work")
        assert begun.wait(20)
        code = "import sys; from windlass import Windlass; Windlass(sys.argv[1]).cancel(int(sys.argv[2]))"
        subprocess.run(
            [sys.executable, "-c", code, app.settings.url, str(job.id)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            check=True,
        )
        job = ended(job, timeout=10)
    assert job.status == "cancelled"


@pytest.mark.parametrize("status", ["pending", "scheduled", "retrying"])
def test_a_waiting_job_is_cancelled_at_once(app: Windlass, status: str) -> None:
    """No worker is needed for it, and it never runs."""
    told: list[int] = []
    app.on(JobCancelled)(lambda event: told.append(event.job.id))

    @app.task(backoff=300)
    def work() -> None:
        raise ValueError

    job = work.using(delay=300 if status == "scheduled" else 0).enqueue()
    if status == "retrying":
        claim = app.claim()
        assert claim is not None
        claim.nack(delay=300)
    assert job.refresh().status == status
    assert app.cancel(job.id).status == "cancelled"  # type: ignore[union-attr]
    with app.worker():
        ended(job)
    assert job.refresh().status == "cancelled"
    assert told == [job.id]


def test_a_job_that_is_retried_by_force_fences_the_running_one(app: Windlass) -> None:
    """The first handler is told to stop, and what it returns is refused and counted."""
    begun, again = threading.Event(), threading.Event()

    @app.task
    def work(ctx: Context) -> str:
        if not begun.is_set():
            begun.set()
            assert ctx.cancelled.wait(20)
            assert again.wait(20)
            return "first"
        again.set()
        return "second"

    with app.worker(concurrency=2) as worker:
        job = work.enqueue()
        assert begun.wait(20)
        app.retry(job.id, force=True)
        job = ended(job)
    assert job.result == "second"
    assert worker.snapshot().refused == 1
    assert job.refresh().result == "second"
