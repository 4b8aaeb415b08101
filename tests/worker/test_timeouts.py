"""Deadlines in the thread and async lanes."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.worker.ending import ended, outcomes
from windlass import Context, Interrupted

if TYPE_CHECKING:
    from windlass import Windlass


def test_a_coroutine_out_of_time_is_cancelled(app: Windlass) -> None:
    """The failure is of kind ``timeout`` and says how long; what the handler then raised is kept."""

    @app.task(timeout=0.1, max_attempts=1)
    async def slow() -> None:
        await asyncio.sleep(30)

    @app.task(timeout=0.1, max_attempts=1)
    async def sore() -> None:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            raise RuntimeError("cleaning up went wrong") from None

    @app.task(timeout=0.1, max_attempts=1)
    async def proud() -> str:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(30)
        return "all the same"

    with app.worker():
        jobs = [ended(task.enqueue()) for task in (slow, sore, proud)]
    for job in jobs:
        assert job.error is not None
        assert (job.status, job.error.kind.value, job.failures, job.result) == ("dead", "timeout", 1, None)
        assert job.error.message.startswith("timed out after 0.1 s")
    assert "RuntimeError: cleaning up went wrong" in jobs[1].error.message  # type: ignore[union-attr]
    assert "cleaning up went wrong" in jobs[1].error.traceback  # type: ignore[union-attr]


def test_a_thread_out_of_time_is_told(app: Windlass) -> None:
    """``ctx.cancelled`` is set; whatever it then returns or raises, the attempt has timed out."""

    @app.task(timeout=0.1, max_attempts=2)
    def polite(ctx: Context) -> str:
        assert ctx.cancelled.wait(20)
        if ctx.attempt == 1:
            raise RuntimeError("gave up")
        return "finished after all"

    with app.worker():
        job = ended(polite.enqueue())
    assert (job.status, job.failures, job.result) == ("dead", 2, None)
    assert [a.error and a.error.kind.value for a in job.history()] == ["timeout", "timeout"]
    assert "gave up" in job.history()[0].error.message  # type: ignore[union-attr]


@pytest.mark.slow
def test_a_deaf_thread_has_an_exception_injected(app: Windlass) -> None:
    """Two seconds later ``Interrupted`` is raised in it; the thread goes on with the next job."""
    seen: list[type] = []

    @app.task(timeout=0.05, max_attempts=1)
    def deaf() -> None:
        try:
            while True:
                time.sleep(0.01)
        except BaseException as error:
            seen.append(type(error))
            raise

    with app.worker(concurrency=1):
        job = ended(deaf.enqueue())
        assert job.error is not None
        assert (job.error.kind.value, job.error.message) == ("timeout", "timed out after 0.05 s")
        app.register("next", lambda: threading.current_thread().name)
        assert ended(app.enqueue("next")).result == "windlass-thread-1"
    assert seen == [Interrupted]


@pytest.mark.parametrize("colour", ["thread", "async"])
def test_a_handler_s_own_timeout_error_is_an_error(app: Windlass, colour: str) -> None:
    """``TimeoutError`` from a socket says nothing about the job's deadline."""

    def own() -> None:
        raise TimeoutError("the printer does not answer")

    async def aown() -> None:
        async with asyncio.timeout(0.01):
            await asyncio.sleep(20)

    app.register("own", aown if colour == "async" else own, timeout=30, max_attempts=1)
    with app.worker():
        job = ended(app.enqueue("own"))
    assert job.error is not None
    assert (job.error.kind.value, job.error.type) == ("error", "TimeoutError")


def test_the_call_comes_before_the_task_and_the_task_before_the_application(app: Windlass) -> None:
    """``timeout=0`` at the call means explicitly none."""

    @app.task(timeout=0.05, max_attempts=1)
    async def work() -> str:
        await asyncio.sleep(0.3)
        return "in time"

    with app.worker():
        of_task, none, more = ended(work.enqueue()), work.using(timeout=0).enqueue(), work.using(timeout=60).enqueue()
        assert of_task.status == "dead"
        assert [ended(job).result for job in (none, more)] == ["in time"] * 2


def test_a_timed_out_job_is_tried_again(app: Windlass) -> None:
    """It counts as a failure like any other."""

    @app.task(timeout=0.05, max_attempts=3)
    async def work(ctx: Context) -> int:
        if ctx.attempt < 3:
            await asyncio.sleep(20)
        return ctx.attempt

    with app.worker():
        job = ended(work.enqueue())
    assert (job.result, job.failures, outcomes(job)) == (3, 2, ["failed", "failed", "completed"])
