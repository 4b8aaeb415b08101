"""Many jobs in one call: each ends by the rules as if it had been alone."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from tests.waiting import until
from tests.worker import handlers
from tests.worker.ending import ended, outcomes, reaches
from windlass import (
    Chunk,
    ConfigurationError,
    Context,
    Discard,
    JobStarted,
    NotSupportedError,
    PayloadError,
    SignatureError,
    Snooze,
    current,
)
from windlass.testing import testing

if TYPE_CHECKING:
    from collections.abc import Iterable

    from windlass import Job, Windlass


class Row(msgspec.Struct):
    """What one job carries."""

    name: str
    number: int = 0


def statuses(jobs: Iterable[Job]) -> list[str]:
    return [job.refresh().status.value for job in jobs]


def put(app: Windlass, name: str, *items: Any) -> list[Job]:
    return app.enqueue_many([app.tasks[name].job(item) for item in items])


# ---------------------------------------------------------------------------------------- at the door


@pytest.mark.parametrize("wrong", [0, -1, True, 1.5, "ten", 10_001])
def test_a_chunk_has_a_sensible_size(app: Windlass, wrong: Any) -> None:
    """Anything else is refused."""
    with pytest.raises(ConfigurationError):
        app.register("wrong", lambda items: None, chunk=wrong)


def test_a_chunk_needs_a_handler_that_takes_one_list(app: Windlass) -> None:
    """One parameter besides the Context, and a list by its annotation, if it has one."""

    def two(items: list[int], more: int) -> None: ...
    def number(items: int) -> None: ...
    def default(items: list[int] = []) -> None: ...  # noqa: B006
    def several(**items: list[int]) -> None: ...

    for wrong in (two, number, default, several):
        with pytest.raises(SignatureError, match="chunk"):
            app.register("wrong", wrong, chunk=3)


def test_each_job_carries_one_item(app: Windlass) -> None:
    """Under the parameter's name, checked by the item's type; a plain call takes the list."""

    @app.task(chunk=10)
    def store(rows: list[Row]) -> int:
        return len(rows)

    job = store.enqueue(Row("a"))
    assert job.payload == {"rows": {"name": "a", "number": 0}}
    assert app.enqueue("store", {"rows": {"name": "b"}}).payload == {"rows": {"name": "b"}}
    with pytest.raises(PayloadError):
        app.enqueue("store", {"rows": [{"name": "b"}]})
    assert store([Row("a"), Row("b")]) == 2


def test_a_typed_handler_takes_chunks_too(app: Windlass) -> None:
    """The payload type is what each job carries."""
    seen: list[list[Row]] = []

    @app.handler(Row, chunk=10)
    def store(rows: list[Row]) -> None:
        seen.append(rows)

    with testing(app) as t:
        app.dispatch(Row("a"))
        app.dispatch(Row("b", 2))
        assert t.drain() == 2
    assert seen == [[Row("a"), Row("b", 2)]]


# ---------------------------------------------------------------------------------------- the call


@pytest.mark.parametrize("lane", ["thread", "async"])
def test_waiting_jobs_come_in_one_call(app: Windlass, lane: str) -> None:
    """As many as the chunk has room for, in their order; each gets its own result."""
    calls: list[list[int]] = []

    def double(numbers: list[int]) -> list[int]:
        calls.append(numbers)
        return [2 * number for number in numbers]

    async def adouble(numbers: list[int]) -> list[int]:
        return double(numbers)

    app.register("double", double if lane == "thread" else adouble, chunk=4)
    jobs = put(app, "double", *range(10))
    with app.worker(concurrency=1):
        for job in jobs:
            ended(job)
    assert calls == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert [job.refresh().result for job in jobs] == [2 * number for number in range(10)]
    assert outcomes(jobs[0]) == ["completed"]


def test_a_chunk_takes_one_slot(app: Windlass) -> None:
    """Its jobs run all at once, whatever the concurrency; the next waits for its end."""
    sizes: list[int] = []
    go, begun = threading.Event(), threading.Event()

    @app.task(chunk=50)
    def slow(items: list[int]) -> None:
        sizes.append(len(items))
        begun.set()
        go.wait(30)

    @app.task
    def quick() -> None: ...

    jobs = put(app, "slow", *range(100))
    with app.worker(concurrency=2) as worker:
        until(lambda: len(sizes) == 2)
        assert app.stats().running == 100
        assert worker.snapshot().running == 2
        other = quick.enqueue()
        assert other.refresh().status == "pending"
        go.set()
        for job in (*jobs, other):
            ended(job)
    assert sizes == [50, 50]


def test_a_chunk_gives_its_slot_back_once(app: Windlass) -> None:
    """However many jobs it had: no more than the concurrency run afterwards."""
    go = threading.Event()

    @app.task(chunk=50)
    def many(items: list[int]) -> None: ...

    @app.task
    def block() -> None:
        go.wait(30)

    jobs = put(app, "many", *range(50))
    with app.worker(concurrency=2) as worker:
        for job in jobs:
            ended(job)
        blocked = app.enqueue_many([block.job() for _ in range(5)])
        until(lambda: app.stats().running == 2)
        assert worker.snapshot().running == 2
        assert app.stats().pending == 3
        go.set()
        for job in blocked:
            ended(job)


def test_the_other_slots_are_free_for_others(app: Windlass) -> None:
    """A flood of chunk jobs gathers in one call; the rest of the worker goes on."""
    go = threading.Event()

    @app.task(chunk=1000)
    def slow(items: list[int]) -> None:
        go.wait(30)

    @app.task
    def quick() -> None: ...

    jobs = put(app, "slow", *range(200))
    with app.worker(concurrency=2):
        until(lambda: app.stats().running == 200)
        ended(quick.enqueue())
        go.set()
        for job in jobs:
            ended(job)


def test_a_chunk_waits_for_more_and_not_for_longer_than_it_may(app: Windlass) -> None:
    """Jobs that come while it waits are in the call; when it is full it starts at once."""
    calls: list[list[int]] = []

    @app.task(chunk=Chunk(3, wait=3600))
    def patient(items: list[int]) -> None:
        calls.append(items)

    @app.task(chunk=Chunk(100, wait=0.3))
    def hasty(items: list[int]) -> None:
        calls.append(items)

    with app.worker(concurrency=3):
        [first] = put(app, "patient", 1)
        reaches(first, "running")
        assert calls == []
        rest = put(app, "patient", 2, 3)
        for job in (first, *rest):
            ended(job)
        assert calls == [[1, 2, 3]]
        [alone] = put(app, "hasty", 4)
        ended(alone)
        assert calls == [[1, 2, 3], [4]]


def test_a_chunk_gathers_though_no_slot_is_free(app: Windlass) -> None:
    """It asks for its own jobs, in the slot that it has."""
    calls: list[list[int]] = []

    @app.task(chunk=Chunk(3, wait=2))
    def patient(items: list[int]) -> None:
        calls.append(items)

    with app.worker(concurrency=1):
        [first] = put(app, "patient", 1)
        reaches(first, "running")
        rest = put(app, "patient", 2, 3)
        for job in (first, *rest):
            ended(job)
    assert calls == [[1, 2, 3]]


def test_a_chunk_is_of_one_queue(app: Windlass) -> None:
    """So that a paused or slow queue stays what it is."""
    calls: list[list[int]] = []

    @app.task(chunk=10)
    def note(items: list[int]) -> None:
        calls.append(items)

    jobs = [note.using(queue=queue).enqueue(number) for number, queue in enumerate("abab")]
    with app.worker(concurrency=1):
        for job in jobs:
            ended(job)
    assert sorted(calls) == [[0, 2], [1, 3]]


def test_the_context_knows_all_jobs(app: Windlass) -> None:
    """What it is told is told to each; a transaction, which completes one, is refused."""
    seen: list[list[int]] = []
    started: list[int] = []
    app.on(JobStarted)(lambda event: started.append(event.job.id))

    @app.task(chunk=10)
    def tell(ctx: Context, items: list[int]) -> None:
        assert ctx is current()
        seen.append([job.id for job in ctx.jobs])
        ctx.log("hello")
        ctx.progress(1, 2)
        with pytest.raises(NotSupportedError, match="chunk"):
            ctx.transaction()

    @app.task
    def single(ctx: Context) -> None:
        seen.append([job.id for job in ctx.jobs])

    jobs = put(app, "tell", 1, 2, 3)
    with app.worker():
        for job in jobs:
            assert [line.text for line in ended(job).lines()] == ["hello"]
            assert str(job.refresh().progress) == "1/2"
        alone = ended(single.enqueue())
    assert seen == [[job.id for job in jobs], [alone.id]]
    assert sorted(started) == [job.id for job in (*jobs, alone)]


# ---------------------------------------------------------------------------------------- how it ends


def test_all_fail_with_the_call(app: Windlass) -> None:
    """Each by its own counts: who has tries left is tried again, with or without its neighbours."""
    calls: list[int] = []

    @app.task(chunk=10, max_attempts=2)
    def fail(items: list[int]) -> None:
        calls.append(len(items))
        raise ValueError("no")

    jobs = put(app, "fail", 1, 2)
    jobs.append(fail.using(max_attempts=1).enqueue(3))
    with app.worker(concurrency=1):
        for job in jobs:
            ended(job)
    assert [job.refresh().failures for job in jobs] == [2, 2, 1]
    assert set(statuses(jobs)) == {"dead"}
    assert calls[0] == 3
    assert sum(calls) == 5


@pytest.mark.parametrize(("error", "status"), [(Snooze(600), "scheduled"), (Discard("no use"), "dead")])
def test_what_the_call_says_is_said_of_each(app: Windlass, error: Exception, status: str) -> None:
    """The outcomes that handlers have are those of chunks."""

    @app.task(chunk=10)
    def end(items: list[int]) -> None:
        raise error

    jobs = put(app, "end", 1, 2)
    with app.worker():
        for job in jobs:
            reaches(job, status)


@pytest.mark.parametrize("result", [[1], [1, 2, 3], {"a": 1}, 7])
def test_results_are_one_for_each_job(app: Windlass, result: Any) -> None:
    """A call that returns something else has failed, and says what was wrong."""

    @app.task(chunk=10, max_attempts=1)
    def wrong(items: list[int]) -> Any:
        return result

    jobs = put(app, "wrong", 1, 2)
    with app.worker():
        for job in jobs:
            error = ended(job).error
            assert error is not None
            assert "one result for each of its 2 jobs" in error.message


def test_a_payload_that_does_not_fit_fails_alone(app: Windlass) -> None:
    """Its neighbours are not to blame; a chunk of none is not called."""
    calls: list[list[int]] = []

    @app.task(chunk=10, max_attempts=1)
    def note(items: list[int]) -> list[int]:
        calls.append(items)
        return items

    def text(number: int) -> Job:
        draft = note.job(number)
        job = app.new_job(draft)
        return app.wrap(app.driver.insert([msgspec.structs.replace(job, payload=b'{"items":"text"}')])[0])

    good, bad = put(app, "note", 1, 2), text(3)
    with app.worker(concurrency=1):
        assert ended(bad).error.kind == "payload"  # type: ignore[union-attr]
        assert [ended(job).result for job in good] == [1, 2]
        assert ended(text(4)).status == "dead"
    assert calls == [[1, 2]]


def test_cancelling_one_job_leaves_the_call_alone(app: Windlass) -> None:
    """It is cancelled if the call raises, and completed if it returns, as a job alone would be."""
    begun, go = threading.Event(), threading.Event()

    @app.task(chunk=10, max_attempts=1)
    def work(ctx: Context, items: list[str]) -> None:
        begun.set()
        go.wait(30)
        assert not ctx.cancelled.is_set()
        if items[0] == "raise":
            raise ValueError

    for how, expected in (("raise", ["cancelled", "dead"]), ("return", ["completed", "completed"])):
        begun.clear()
        go.clear()
        jobs = put(app, "work", how, how)
        with app.worker() as worker:
            assert begun.wait(30)
            app.cancel(jobs[0].id)
            until(lambda: heard(worker))
            go.set()
            for job in jobs:
                ended(job)
        assert statuses(jobs) == expected


def heard(worker: Any) -> bool:
    """Whether a cancellation has reached a worker."""
    return any(execution.cause is not None for execution in worker._parts.pump.running.values())


@pytest.mark.parametrize("lane", ["thread", "async"])
def test_cancelling_all_jobs_stops_the_call(app: Windlass, lane: str) -> None:
    """Nobody wants it any more."""
    begun = threading.Event()

    def work(ctx: Context, items: list[int]) -> None:
        begun.set()
        assert ctx.cancelled.wait(30)
        raise RuntimeError("stopped")

    async def awork(items: list[int]) -> None:
        begun.set()
        await asyncio.sleep(30)

    app.register("work", work if lane == "thread" else awork, chunk=10)
    jobs = put(app, "work", 1, 2)
    with app.worker():
        assert begun.wait(30)
        app.cancel_many(ids=[job.id for job in jobs])
        for job in jobs:
            ended(job)
    assert statuses(jobs) == ["cancelled", "cancelled"]


def test_a_waiting_chunk_lets_go_of_what_is_cancelled(app: Windlass) -> None:
    """The job has not reached its handler; its neighbours do."""
    calls: list[list[int]] = []

    @app.task(chunk=Chunk(3, wait=60))
    def note(items: list[int]) -> None:
        calls.append(items)

    with app.worker():
        jobs = put(app, "note", 1, 2)
        until(lambda: statuses(jobs) == ["running", "running"])
        app.cancel(jobs[0].id)
        assert ended(jobs[0]).status == "cancelled"
        more = put(app, "note", 3, 4)
        for job in (jobs[1], *more):
            ended(job)
    assert calls == [[2, 3, 4]]


@pytest.mark.parametrize("lane", ["thread", "async"])
def test_a_time_limit_is_each_jobs_own(app: Windlass, lane: str) -> None:
    """The call is stopped at the first; who had time left is given back and counts nothing."""
    sizes: list[int] = []

    def work(ctx: Context, items: list[int]) -> None:
        sizes.append(len(items))
        if len(sizes) == 1:
            assert ctx.cancelled.wait(30)
            raise RuntimeError("stopped")

    async def awork(items: list[int]) -> None:
        sizes.append(len(items))
        if len(sizes) == 1:
            await asyncio.sleep(30)

    task = app.register("work", work if lane == "thread" else awork, chunk=10, max_attempts=1)
    jobs = [task.using(timeout=0.2).enqueue(1), task.using(timeout=0.2).enqueue(2), task.using(timeout=60).enqueue(3)]
    with app.worker(concurrency=1):
        for job in jobs:
            ended(job)
    assert statuses(jobs) == ["dead", "dead", "completed"]
    assert sizes == [3, 1]
    for job in jobs[:2]:
        error = job.refresh().error
        assert error is not None
        assert error.kind == "timeout"
    assert outcomes(jobs[2]) == ["released", "completed"]
    assert jobs[2].refresh().failures == 0


@pytest.mark.parametrize("waits", [False, True], ids=["running", "waiting"])
def test_a_stopping_worker_gives_chunks_back(app: Windlass, waits: bool) -> None:
    """One that still waits leaves no trace; one that runs is released."""
    begun = threading.Event()

    @app.task(chunk=Chunk(10, wait=60 if waits else 0))
    def work(ctx: Context, items: list[int]) -> None:
        begun.set()
        assert ctx.cancelled.wait(30)
        raise RuntimeError("stopped")

    jobs = put(app, "work", 1, 2)
    worker = app.worker()
    worker.start()
    if waits:
        until(lambda: statuses(jobs) == ["running", "running"])
    else:
        assert begun.wait(30)
    worker._stop(0.0)
    assert statuses(jobs) == ["pending", "pending"]
    assert outcomes(jobs[0]) == ([] if waits else ["released"])
    assert [job.refresh().attempt for job in jobs] == ([0, 0] if waits else [1, 1])


@pytest.mark.slow
def test_a_child_process_runs_chunks(app: Windlass) -> None:
    """Results, log lines and crashes are those of each job."""
    app.register("double_all", handlers.double_all, lane="process", chunk=10, max_attempts=1)
    jobs = put(app, "double_all", 1, 2, 3)
    with app.worker(concurrency=1):
        assert [ended(job).result for job in jobs] == [2, 4, 6]
        assert [[line.text for line in job.lines()] for job in jobs] == [["doubling 3"]] * 3
        crashed = put(app, "double_all", 13, 1)
        for job in crashed:
            until(lambda job=job: "lost" in outcomes(job))
        for job in crashed:
            ended(job)
    # On its last chance each runs alone, so only the culprit dies.
    assert statuses(crashed) == ["dead", "completed"]


def test_the_testing_kit_runs_chunks(app: Windlass) -> None:
    """What waits comes in one call."""
    calls: list[list[int]] = []

    @app.task(chunk=3)
    def note(items: list[int]) -> list[int]:
        calls.append(items)
        return items

    with testing(app) as t:
        jobs = put(app, "note", *range(5))
        assert t.drain() == 5
        assert [job.refresh().result for job in jobs] == list(range(5))
    assert calls == [[0, 1, 2], [3, 4]]
