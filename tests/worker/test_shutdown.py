"""Stopping: gracefully, late, twice, again, and in the middle of everything."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any, Self

import pytest

from tests.waiting import until
from tests.worker.ending import ended, outcomes, reaches
from windlass import Context, Windlass  # noqa: TC001 - handlers' annotations are read
from windlass.errors import ConnectionLostError, ShutdownTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_stop_waits_for_what_runs(app: Windlass) -> None:
    """A handler within its grace completes, and sees ``ctx.stopping`` meanwhile; nothing new is claimed."""
    begun = threading.Event()

    @app.task
    def work(ctx: Context) -> str:
        begun.set()
        assert ctx.stopping.wait(20)
        return "in peace"

    app.start(concurrency=1)
    job, waiting = work.enqueue(), work.enqueue()
    assert begun.wait(20)
    app.stop()
    assert (job.refresh().status, job.refresh().result) == ("completed", "in peace")
    assert (waiting.refresh().status, outcomes(waiting)) == ("pending", [])


@pytest.mark.parametrize("colour", ["thread", "async"])
def test_a_late_handler_is_cancelled_and_its_job_given_back(app: Windlass, colour: str) -> None:
    """Its row of history says ``released``; no failure and no crash is counted, and the next worker has it at once."""
    begun = threading.Event()

    def work(ctx: Context) -> None:
        begun.set()
        assert ctx.cancelled.wait(20)
        raise RuntimeError("told to stop")

    async def awork() -> None:
        begun.set()
        await asyncio.sleep(20)

    app.register("work", awork if colour == "async" else work)
    worker = app.worker()
    worker.start()
    job = app.enqueue("work")
    assert begun.wait(20)
    with pytest.raises(ShutdownTimeoutError) as caught:
        worker.stop(timeout=0)
    assert caught.value.job_ids == (job.id,)
    job = job.refresh()
    assert (job.status, job.failures, job.crashes, outcomes(job)) == ("pending", 0, 0, ["released"])
    app.register("work", lambda: "again", replace=True)
    with worker:
        assert ended(job).result == "again"
    assert outcomes(job) == ["released", "completed"]


@pytest.mark.slow
def test_a_handler_that_never_stops_does_not_hold_up_the_stop(app: Windlass) -> None:
    """Its job is given back, what it says afterwards comes too late, and the worker can start again."""
    begun, go, over = threading.Event(), threading.Event(), threading.Event()

    @app.task
    def deaf() -> str:
        begun.set()
        while not go.is_set():
            try:
                go.wait(0.05)
            except BaseException:
                continue
        over.set()
        return "too late"

    worker = app.worker()
    worker.start()
    job = deaf.enqueue()
    assert begun.wait(20)
    with pytest.raises(ShutdownTimeoutError, match=str(job.id)):
        worker.stop(timeout=0)
    assert outcomes(job) == ["released"]
    app.register("deaf", lambda: "second", replace=True)
    with worker:
        assert ended(job).result == "second"
        go.set()
        assert over.wait(20)
    assert (job.refresh().result, outcomes(job)) == ("second", ["released", "completed"])
    assert worker.snapshot().refused == 0


def test_a_handler_cannot_stop_its_own_worker(app: Windlass) -> None:
    """It would wait for itself: refused, and the application still knows its worker."""

    @app.task(max_attempts=1)
    def suicide() -> None:
        app.stop()

    @app.task(max_attempts=1)
    async def asuicide() -> None:
        await asyncio.to_thread(app.stop)

    worker = app.start()
    for task in (suicide, asuicide):
        job = ended(task.enqueue())
        assert job.error is not None
        assert job.error.type == "windlass.errors.WorkerStateError"
    assert worker.alive
    app.stop()
    assert not worker.alive


def test_closing_late_closes_all_the_same(make: Callable[..., Windlass], tmp_path: Path) -> None:
    """``close`` reports the handlers that were given back, and the store is closed."""
    app = make(grace=0)
    begun = threading.Event()

    @app.task
    async def slow() -> None:
        begun.set()
        await asyncio.sleep(20)

    app.start()
    slow.enqueue()
    assert begun.wait(20)
    with pytest.raises(ShutdownTimeoutError):
        app.close()
    app.close()
    assert not (tmp_path / "jobs.db-wal").exists()


def test_stopping_in_the_middle_of_a_turn_loses_nothing(app: Windlass) -> None:
    """Started and stopped at random moments of work coming in: every job completes once, with no crash and no release."""
    ran: list[int] = []

    @app.task
    def work(number: int) -> None:
        ran.append(number)

    jobs = []
    for round_ in range(60):
        with app.worker(concurrency=4):
            jobs += [work.enqueue(round_ * 3 + place) for place in range(3)]
    with app.worker():
        assert {ended(job).status for job in jobs} == {"completed"}
    assert sorted(ran) == list(range(180))
    totals = app.stats().totals
    assert (totals.lost, totals.released, totals.processed) == (0, 0, 180)


def test_a_stop_while_claims_are_on_their_way_waits_for_them(app: Windlass, monkeypatch: Any) -> None:
    """The exchange that brings the job is slow; the stop must not leave before its handler has run."""
    asked, go = threading.Event(), threading.Event()
    exchange = app.driver.exchange

    @app.task
    def work() -> str:
        return "done"

    def slowly(turn: Any) -> Any:
        turned = exchange(turn)
        if turned.claims:
            asked.set()
            assert go.wait(20)
        return turned

    monkeypatch.setattr(app.driver, "exchange", slowly)
    worker = app.worker()
    worker.start()
    job = work.enqueue()
    assert asked.wait(20)
    stopping = threading.Thread(target=worker.stop)
    stopping.start()
    until(lambda: worker.snapshot().state == "stopping")
    until(lambda: not worker._parts.pump._accepting)  # type: ignore[union-attr]
    go.set()
    stopping.join(20)
    assert not stopping.is_alive()
    assert (job.refresh().status, outcomes(job)) == ("completed", ["completed"])


def test_a_worker_that_cannot_start_leaves_nothing_open(make: Callable[..., Windlass], tmp_path: Path) -> None:
    """The store fails at the first heartbeat: the error passes, and a later start works."""
    app = make()
    app.stats()
    moved = tmp_path / "elsewhere.db"
    (tmp_path / "jobs.db").rename(moved)
    worker = app.worker()
    with pytest.raises(ConnectionLostError, match="moved"):
        worker.start()
    assert not worker.alive
    moved.rename(tmp_path / "jobs.db")
    app.register("work", lambda: 1)
    with worker:
        assert ended(app.enqueue("work")).result == 1


PROGRAM = """
import sys, threading, time
from windlass import Context, Windlass  # noqa: TC001 - handlers' annotations are read
app = Windlass(sys.argv[1], durability="relaxed", poll=0.05, backoff=0, grace=float(sys.argv[2]))

@app.task
def work(ctx: Context) -> str:
    print("begun", flush=True)
    ctx.stopping.wait(60)
    print("stopping", flush=True)
    if sys.argv[3] == "deaf":
        while not ctx.cancelled.wait(0.05):
            pass
        raise RuntimeError
    return "ok"

print(app.worker(concurrency=2).run(), flush=True)
"""


class Running:
    """A worker program."""

    def __init__(self, app: Windlass, grace: float, manner: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, app.settings.url, str(grace), manner],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )

    def says(self, line: str) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == line

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_stops_in_peace(make: Callable[..., Windlass], number: int) -> None:
    """The handler sees ``ctx.stopping``, ends, and the process leaves with nothing behind."""
    app = make()
    job = app.enqueue("work")
    with Running(app, 30, "polite") as program:
        program.says("begun")
        program.process.send_signal(number)
        program.says("stopping")
        program.says("stopped")
        assert program.process.wait(20) == 0
    assert (job.refresh().status, job.refresh().result) == ("completed", "ok")
    assert {w.status for w in app.workers()} == {"stopped"}


@pytest.mark.slow
def test_the_second_signal_does_not_wait(make: Callable[..., Windlass]) -> None:
    """Handlers are cancelled at once although the grace is an hour; the job is released, free of charge."""
    app = make()
    job = app.enqueue("work")
    with Running(app, 3600, "deaf") as program:
        program.says("begun")
        program.process.send_signal(signal.SIGTERM)
        program.says("stopping")
        program.process.send_signal(signal.SIGTERM)
        program.says("stopped")
        assert program.process.wait(20) == 0
    job = job.refresh()
    assert (job.status, job.failures, job.crashes, outcomes(job)) == ("pending", 0, 0, ["released"])


def test_a_killed_worker_s_job_is_a_crash(make: Callable[..., Windlass]) -> None:
    """After ``kill -9`` any worker takes the job back at once: its process does not exist any more."""
    app = make()
    job = app.enqueue("work")
    with Running(app, 30, "polite") as program:
        program.says("begun")
        program.process.kill()
        program.process.wait()
    app.register("work", lambda: "rescued")
    with app.worker():
        job = ended(job)
    assert (job.result, job.crashes, job.failures, outcomes(job)) == ("rescued", 1, 0, ["lost", "completed"])
    assert "lost" in {w.status for w in app.workers()}


@pytest.mark.slow
def test_a_stopped_process_that_wakes_is_fenced(make: Callable[..., Windlass]) -> None:
    """``kill -STOP`` beyond ``lost_after``: its job is taken over; when it wakes it comes back under a new id and works."""
    app = make(beat=0.2, lost_after=0.8)
    program_text = PROGRAM.replace("grace=", "beat=0.2, lost_after=0.8, grace=")
    process = subprocess.Popen(
        [sys.executable, "-c", program_text, app.settings.url, "30", "polite"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    try:
        job = app.enqueue("work")
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGSTOP)
        app.register("work", lambda: "taken over")
        with app.worker():
            job = ended(job, timeout=30)
        assert (job.result, outcomes(job)) == ("taken over", ["lost", "completed"])
        process.send_signal(signal.SIGCONT)
        until(lambda: len({w.id for w in app.workers() if w.pid == process.pid}) == 2)
        second = reaches(app.enqueue("work"), "running")
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGTERM)
        assert ended(second).result == "ok"
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert (job.refresh().result, outcomes(job)) == ("taken over", ["lost", "completed"])


@pytest.mark.slow
def test_a_poison_job_dies_and_its_neighbours_live(make: Callable[..., Windlass]) -> None:
    """It kills worker after worker: dead after ``max_crashes``; jobs that ran beside it complete."""
    app = make(max_crashes=3)
    poison = app.enqueue("poison")
    neighbours = [app.enqueue("harmless") for _ in range(6)]
    program = """
import os, sys, time
from windlass import Windlass
app = Windlass(sys.argv[1], durability="relaxed", poll=0.05, max_crashes=3)
app.register("poison", lambda: (time.sleep(0.1), os._exit(9)))
app.register("harmless", lambda: time.sleep(0.02))
app.worker(concurrency=2).run()
"""
    while not (poison.refresh().status == "dead" and all(n.refresh().status == "completed" for n in neighbours)):
        process = subprocess.Popen(
            [sys.executable, "-c", program, app.settings.url],
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        until(
            lambda process=process: (
                process.poll() is not None  # type: ignore[misc]
                or (poison.refresh().status == "dead" and app.count(status="completed") == 6)
            )
        )
        process.kill()
        process.wait()
    assert (poison.refresh().crashes, poison.refresh().failures, outcomes(poison)) == (3, 0, ["lost"] * 3)
    assert poison.refresh().error.kind == "crash"  # type: ignore[union-attr]
    assert max(n.refresh().crashes for n in neighbours) <= 2
