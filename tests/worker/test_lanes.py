"""Threads, an event loop, and what they must not do to each other or to the store."""

from __future__ import annotations

import asyncio
import ctypes
import os
import sqlite3
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Self

import pytest

from tests.waiting import until
from tests.worker.ending import ended, outcomes, reaches
from windlass import Context, JobStarted, Windlass
from windlass.errors import NotSupportedError, WindlassError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

QUICK = {"beat": 0.2, "lost_after": 0.8}

# A second worker, in a process of its own, which runs whatever it can get.
RIVAL = """
import sys, threading
from windlass import Windlass
app = Windlass(sys.argv[1], durability="relaxed", poll=0.05, beat=0.2, lost_after=0.8)
app.register("work", lambda **_: "rival", raw=False)
with app.worker():
    print("ready", flush=True)
    sys.stdin.read()
"""


class Rival:
    """A worker in another process, over the same file."""

    def __init__(self, app: Windlass) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", RIVAL, app.settings.url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.communicate(timeout=20)


def _trusts(app: Windlass, seconds: float = 1.0) -> None:
    """Let a rival live long enough to judge others."""
    begun = time.monotonic()
    until(lambda: time.monotonic() - begun > seconds)


def test_sync_and_async_handlers_run_side_by_side(app: Windlass) -> None:
    """A blocked thread does not hold up the loop, nor an awaiting coroutine the threads."""
    sync_in, async_in = threading.Event(), threading.Event()

    @app.task
    def sync() -> str:
        sync_in.set()
        assert async_in.wait(20)
        return threading.current_thread().name

    @app.task
    async def loop() -> str:
        async_in.set()
        while not sync_in.is_set():  # noqa: ASYNC110 - another thread sets it
            await asyncio.sleep(0)
        return threading.current_thread().name

    with app.worker(concurrency=2):
        jobs = sync.enqueue(), loop.enqueue()
        assert [ended(job).result for job in jobs] == ["windlass-thread-1", "windlass-loop"]


def test_concurrency_is_over_all_lanes(app: Windlass) -> None:
    """Three slots, six jobs of two lanes: never more than three at once."""
    lock, running, most = threading.Lock(), [0], [0]
    gate = threading.Barrier(3)

    def enter() -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])

    def leave() -> None:
        with lock:
            running[0] -= 1

    @app.task
    def sync() -> None:
        enter()
        gate.wait(20)
        leave()

    @app.task
    async def loop() -> None:
        enter()
        await asyncio.to_thread(gate.wait, 20)
        leave()

    jobs = [task.enqueue() for task in (sync, loop) for _ in range(3)]
    with app.worker(concurrency=3):
        assert {ended(job).status for job in jobs} == {"completed"}
    assert most == [3]


def test_attempts_do_not_see_each_other_s_context_variables(app: Windlass) -> None:
    """What one handler sets is gone in the next, on the same thread."""
    import contextvars

    seen: contextvars.ContextVar[int] = contextvars.ContextVar("seen", default=0)

    @app.task
    def look() -> int:
        before = seen.get()
        seen.set(before + 1)
        return before

    with app.worker(concurrency=1):
        assert [ended(look.enqueue()).result for _ in range(3)] == [0, 0, 0]


@pytest.mark.parametrize("how", ["cancel", "timeout"])
def test_a_coroutine_told_to_stop_before_its_first_step_ends(app: Windlass, how: str) -> None:
    """Its loop is blocked when it is started and when it is told: it must not be forgotten."""
    blocked, go = threading.Event(), threading.Event()
    started: list[int] = []

    @app.on(JobStarted)
    def note(event: JobStarted) -> None:
        started.append(event.job.id)

    @app.task
    async def block() -> None:
        blocked.set()
        go.wait(20)

    @app.task(max_attempts=1)
    async def victim() -> None: ...

    with app.worker(concurrency=2) as worker:
        blocker = block.enqueue()
        assert blocked.wait(20)
        job = victim.using(timeout=0.05 if how == "timeout" else 0).enqueue()
        until(lambda: job.id in started)
        if how == "cancel":
            app.cancel(job.id)
        until(lambda: [e for e in worker._parts.pump.running.values() if e.record.id == job.id and e.cause])  # type: ignore[union-attr]
        go.set()
        assert ended(blocker).status == "completed"
        assert ended(job).status == ("cancelled" if how == "cancel" else "dead")


@pytest.mark.slow
def test_a_blocked_loop_keeps_its_lease(make: Callable[..., Windlass]) -> None:
    """A handler that blocks the event loop for longer than ``lost_after`` is not run by the second worker."""
    app = make(**QUICK)
    blocked, go = threading.Event(), threading.Event()

    @app.task(name="work")
    async def work() -> str:
        blocked.set()
        go.wait(30)
        return "first"

    with app.worker():
        job = work.enqueue()
        assert blocked.wait(20)
        with Rival(app):
            _trusts(app, 2.5)
            assert job.refresh().status == "running"
            assert {w.status for w in app.workers()} == {"running"}
            go.set()
            assert ended(job).result == "first"
    assert outcomes(job) == ["completed"]
    assert job.refresh().crashes == 0


@pytest.mark.slow
def test_a_thread_that_holds_the_gil_is_fenced(make: Callable[..., Windlass]) -> None:
    """Beyond ``lost_after`` the rival takes the job over; the late end is refused and counted, and overwrites nothing."""
    app = make(**QUICK)
    begun, go = threading.Event(), threading.Event()

    @app.task(name="work")
    def work() -> str:
        begun.set()
        assert go.wait(20)
        ctypes.PyDLL(None).usleep(4_000_000)
        return "too late"

    with app.worker(concurrency=1) as worker:
        job = work.enqueue()
        assert begun.wait(20)
        with Rival(app):
            _trusts(app, 1.2)
            go.set()
            until(lambda: worker.snapshot().refused == 1)
            job = ended(job)
    assert (job.result, job.crashes, outcomes(job)) == ("rival", 1, ["lost", "completed"])


def test_twins_do_not_block_the_caller_s_loop(make: Callable[..., Windlass], tmp_path: Path) -> None:
    """While another connection holds the file's lock, a coroutine goes on ticking beside ``await aenqueue``."""
    app = make()

    @app.task
    def work() -> None: ...

    work.enqueue()
    other = sqlite3.connect(tmp_path / "jobs.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    async def main() -> int:
        ticks = 0
        enqueuing = asyncio.ensure_future(work.aenqueue())
        while ticks < 200:
            await asyncio.sleep(0.001)
            ticks += 1
        assert not enqueuing.done()
        other.execute("COMMIT")
        return (await enqueuing).id

    assert asyncio.run(main()) == 2
    other.close()


def test_async_handlers_take_turns_in_transactions(make: Callable[..., Windlass]) -> None:
    """Two handlers of one loop with ``await`` inside ``async with ctx.transaction()``: both commit, one after the other."""
    app = make()
    inside: list[int] = []

    @app.task
    async def work(ctx: Context, number: int) -> None:
        async with ctx.transaction() as tx:
            inside.append(number)
            for _ in range(20):
                await asyncio.sleep(0.001)
            assert inside[-1] == number
            tx.result(number)

    jobs = [work.enqueue(number) for number in range(6)]
    with app.worker(concurrency=6):
        assert [ended(job).result for job in jobs] == list(range(6))
    assert [outcomes(job) for job in jobs] == [["completed"]] * 6


@pytest.mark.parametrize("url", ["file", "private"])
def test_a_twin_inside_its_own_transaction_is_refused(make: Callable[..., Windlass], url: str) -> None:
    """``await app.aenqueue()`` in the block would wait for the block for ever: a clear error, and the worker lives."""
    app = make(url="sqlite://") if url == "private" else make()

    @app.task
    def child() -> None: ...

    @app.task(max_attempts=1)
    async def parent(ctx: Context) -> None:
        async with ctx.transaction():
            await child.aenqueue()

    @app.task(max_attempts=1)
    async def reader(ctx: Context) -> None:
        async with ctx.transaction() as tx:
            tx.result((await app.aget(ctx.job.id)).status)

    with app.worker():
        job = ended(parent.enqueue())
        assert job.error is not None
        assert "inside ctx.transaction()" in job.error.message
        assert ended(reader.enqueue()).result == "running"
        assert ended(child.enqueue()).status == "completed"
    assert app.count(task="child") == 1


def test_a_blocking_call_beside_an_open_transaction_is_refused(make: Callable[..., Windlass]) -> None:
    """On the loop of a handler that is inside ``async with ctx.transaction()`` it would wait for ever; the twin waits."""
    app = make()
    opened, tried = threading.Event(), threading.Event()

    @app.task
    def child() -> None: ...

    @app.task
    async def holder(ctx: Context) -> None:
        async with ctx.transaction():
            opened.set()
            while not tried.is_set():  # noqa: ASYNC110 - a loop that ticks is what is tested
                await asyncio.sleep(0.001)

    @app.task
    async def other() -> str:
        while not opened.is_set():  # noqa: ASYNC110 - the same
            await asyncio.sleep(0.001)
        try:
            child.enqueue()
        except WindlassError as error:
            said = str(error)
        waiting = asyncio.ensure_future(child.aenqueue())
        await asyncio.sleep(0)
        tried.set()
        await waiting
        return said

    jobs = holder.enqueue(), other.enqueue()  # both before the first is inside, where the store cannot be written
    with app.worker():
        assert ended(jobs[0]).status == "completed"
        assert "aenqueue" in ended(jobs[1]).result


def test_enqueue_inside_a_transaction_block_is_refused(make: Callable[..., Windlass]) -> None:
    """``app.enqueue`` there would wait for itself; ``ctx.enqueue`` and ``tx.enqueue`` belong to the block."""
    app = make()

    @app.task
    def child() -> None: ...

    @app.task(max_attempts=1)
    def parent(ctx: Context, how: str) -> None:
        with ctx.transaction() as tx:
            {"app": child.enqueue, "ctx": lambda: ctx.enqueue(child.job()), "tx": lambda: tx.enqueue(child.job())}[
                how
            ]()

    with app.worker():
        assert ended(parent.enqueue("app")).status == "dead"
        assert app.count(task="child") == 0
        assert ended(parent.enqueue("ctx")).status == "completed"
        assert ended(parent.enqueue("tx")).status == "completed"
    assert app.count(task="child") == 2


def test_a_handler_s_own_database_errors_stay_what_they_are(make: Callable[..., Windlass]) -> None:
    """An ``IntegrityError`` of its own table is that, in the handler and in the job's error; nothing was written."""
    app = make()
    caught: list[type] = []

    @app.task(max_attempts=1, discard_on=sqlite3.IntegrityError)
    def twice(ctx: Context) -> None:
        try:
            with ctx.transaction() as tx:
                tx.execute("CREATE TABLE mine (id INTEGER PRIMARY KEY)")
                tx.execute("INSERT INTO mine VALUES (1)")
                tx.execute("INSERT INTO mine VALUES (1)")
        except sqlite3.Error as error:
            caught.append(type(error))
            raise

    with app.worker():
        job = ended(twice.enqueue())
    assert caught == [sqlite3.IntegrityError]
    assert job.error is not None
    assert (job.error.type, job.error.kind.value) == ("sqlite3.IntegrityError", "discard")


@pytest.mark.parametrize(
    "shape", [sqlite3.Row, lambda cursor, row: {d[0]: v for d, v in zip(cursor.description, row, strict=True)}]
)
def test_a_row_factory_of_the_caller_s_disturbs_nothing(
    make: Callable[..., Windlass], tmp_path: Path, shape: Any
) -> None:
    """Connections that make rows into dictionaries work for ``connection=`` and for ``ctx.transaction()``."""
    app = make()

    @app.task
    def child() -> None: ...

    @app.task(max_attempts=1)
    def parent(ctx: Context, borrowed: bool) -> None:
        if not borrowed:
            with ctx.transaction() as tx:
                tx.connection.row_factory = shape
                tx.enqueue(child.job())
                assert tx.execute("SELECT 1 AS one").fetchone()["one"] == 1
            return
        own = sqlite3.connect(tmp_path / "jobs.db")
        own.row_factory = shape
        with ctx.transaction(connection=own) as tx:
            tx.enqueue(child.job())
            assert tx.execute("SELECT 1 AS one").fetchone()["one"] == 1
        own.close()

    with app.worker():
        assert [ended(parent.enqueue(borrowed)).status for borrowed in (False, True)] == ["completed"] * 2
    connection = sqlite3.connect(tmp_path / "jobs.db")
    connection.row_factory = shape
    job = child.using(connection=connection).enqueue()
    connection.commit()
    connection.close()
    assert job.refresh().status == "pending"
    assert app.count(task="child") == 3


@pytest.mark.parametrize("level", ["DEFERRED", "IMMEDIATE", "EXCLUSIVE", "", None])
@pytest.mark.parametrize("end", ["commit", "rollback"])
@pytest.mark.parametrize("begun", [False, True])
def test_a_job_follows_the_caller_s_sqlite3_transaction(
    make: Callable[..., Windlass], tmp_path: Path, level: Any, end: str, begun: bool
) -> None:
    """In every isolation mode the job is there if and only if the caller's work is."""
    app = make()
    app.stats()
    connection = sqlite3.connect(tmp_path / "jobs.db", isolation_level=level)
    connection.execute("CREATE TABLE mine (x)")
    connection.commit()
    if begun:
        connection.execute("BEGIN")
        connection.execute("INSERT INTO mine VALUES (1)")
    app.enqueue("work", connection=connection)
    assert connection.in_transaction == (begun or level is not None)
    getattr(connection, end)()
    connection.close()
    kept = end == "commit" or (level is None and not begun)
    assert app.count() == int(kept)


def test_a_failed_enqueue_leaves_the_caller_s_transaction_as_it_was(
    make: Callable[..., Windlass], tmp_path: Path
) -> None:
    """Only our savepoint is rolled back; what the caller wrote before commits."""
    app = make()
    app.stats()
    connection = sqlite3.connect(tmp_path / "jobs.db")
    connection.execute("CREATE TABLE mine (x)")
    connection.execute("INSERT INTO mine VALUES (1)")
    connection.execute("CREATE TEMP TRIGGER no BEFORE INSERT ON windlass_job BEGIN SELECT RAISE(ABORT, 'no'); END")
    with pytest.raises(Exception, match="no"):
        app.enqueue("work", connection=connection)
    connection.commit()
    assert connection.execute("SELECT count(*) FROM mine").fetchone() == (1,)
    connection.close()
    assert app.count() == 0


@pytest.mark.parametrize("kind", ["session", "connection", "autocommit"])
def test_a_job_follows_an_sqlalchemy_transaction(make: Callable[..., Windlass], tmp_path: Path, kind: str) -> None:
    """Session and Connection; rolled back nothing is left."""
    sqlalchemy = pytest.importorskip("sqlalchemy")
    from sqlalchemy.orm import Session

    app = make()
    app.stats()
    level = {"isolation_level": "AUTOCOMMIT"} if kind == "autocommit" else {}
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path}/jobs.db", **level)
    for end in ("rollback", "commit"):
        opened = Session(engine) if kind == "session" else engine.connect()
        with opened as connection:
            app.enqueue("work", connection=connection)
            getattr(connection, end)()
    engine.dispose()
    assert app.count() == (2 if kind == "autocommit" else 1)


def test_connection_needs_a_store_that_has_some(make: Callable[..., Windlass]) -> None:
    """Memory says that it has no transactions, for ``connection=`` and ``ctx.transaction()``."""
    app = make(url="memory://")
    with pytest.raises(NotSupportedError, match="SQL"):
        app.enqueue("work", connection=sqlite3.connect(":memory:"))


def test_a_forked_child_uses_the_application_and_leaves_the_worker_alone(make: Callable[..., Windlass]) -> None:
    """It enqueues and even works, through connections of its own; the parent's worker goes on."""
    app = make()
    app.register("where", os.getpid)
    with app.worker(queues="parent") as worker:
        first = ended(app.enqueue("where", queue="parent"))
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                assert not worker.alive
                with app.worker(queues="child"):
                    assert ended(app.enqueue("where", queue="child")).result == os.getpid()
                app.enqueue("where", queue="parent")
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        until(lambda: app.count(status="completed") == 3)
        assert worker.alive
        assert {ended(job).result for job in app.jobs(queue="parent")} == {os.getpid()}
    assert first.result == os.getpid()


@pytest.mark.slow
def test_a_thread_that_does_not_stop_keeps_its_lease(make: Callable[..., Windlass]) -> None:
    """It is shown as stuck, its retry does not run beside it, and it ends as timed out when it ends."""
    app = make(**QUICK)
    running, most, go = [0], [0], threading.Event()

    @app.task(timeout=0.1, max_attempts=2)
    def stubborn() -> None:
        running[0] += 1
        most[0] = max(most[0], running[0])
        while not go.is_set():
            try:
                go.wait(0.05)
            except BaseException:
                continue
        running[0] -= 1

    with app.worker(concurrency=3) as worker:
        job = stubborn.enqueue()
        until(lambda: worker.snapshot().stuck == 1, timeout=20)
        until(lambda: any("stuck" in w.note for w in app.workers()))
        assert job.refresh().status == "running"
        assert job.refresh().attempt == 1
        go.set()
        job = ended(job)
    assert most == [1]
    assert outcomes(job)[0] == "failed"


@pytest.mark.slow
def test_an_injected_exception_leaves_no_lock_behind(make: Callable[..., Windlass]) -> None:
    """Handlers that enqueue without end are stopped by force, many at once: the store can still be written."""
    app = make()

    @app.task
    def child() -> None: ...

    @app.task(timeout=0.05, max_attempts=1)
    def endless() -> None:
        while True:
            child.using(queue="nobody").enqueue()

    with app.worker(concurrency=8, queues="default") as worker:
        jobs = [endless.enqueue() for _ in range(8)]
        assert {ended(job).status for job in jobs} == {"dead"}
        assert worker.snapshot().stuck == 0
        assert ended(child.enqueue()).status == "completed"
    ids = [job.id for job in app.jobs(queue="nobody", limit=1000)]
    assert len(ids) == len(set(ids))


def test_a_job_that_cannot_get_a_thread_is_given_back(make: Callable[..., Windlass], monkeypatch: Any) -> None:
    """A process that can have no more threads does not swallow the job: it waits, and runs when there is room."""
    app = make()

    @app.task
    def work() -> str:
        return "ran"

    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("windlass-thread"):
            raise RuntimeError("can't start new thread")
        start(thread)

    with app.worker():
        monkeypatch.setattr(threading.Thread, "start", refuse)
        job = reaches(work.enqueue(), "scheduled")
        monkeypatch.setattr(threading.Thread, "start", start)
        job = ended(job)
    assert (job.result, job.failures, job.crashes) == ("ran", 0, 0)


def test_a_worker_of_async_tasks_stops_inside_a_running_loop() -> None:
    with Windlass("memory://") as app:

        @app.task
        async def work() -> int:
            return 1

        async def main() -> int:
            with app.worker():
                job = await work.aenqueue()
                return (await asyncio.to_thread(ended, job)).result

        assert asyncio.run(main()) == 1
