"""Batches and chains, as users say it; Sidekiq's faults (early, missing and double callbacks) each by name."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.client.work import ERROR, WORKER, end, run_all, take
from tests.waiting import until
from windlass import PREVIOUS, BatchFinished, BatchNotFoundError, BatchStateError, ConfigurationError, chain, lifecycle
from windlass.drivers.base import Turn

if TYPE_CHECKING:
    from collections.abc import Callable

    from windlass import Windlass
    from windlass.job import Record
    from windlass.task import AnyTask


@pytest.fixture
def work(app: Windlass) -> AnyTask:
    """A task to fill batches with."""

    def work(n: int) -> int:
        return n

    return app.register("work", work, max_attempts=1)


@pytest.fixture
def report(app: Windlass) -> AnyTask:
    """A callback."""
    return app.register("report", lambda what="": None)


def callbacks(report: AnyTask) -> dict[str, Any]:
    """Return one of each."""
    return {f"on_{name}": report.using(tags=[name]).job(name) for name in ("success", "complete", "death")}


def fired(app: Windlass) -> list[str]:
    """Return the callbacks that were enqueued, in order."""
    return [job.tags[0] for job in reversed(app.jobs(task="report", limit=1000))]


def test_callbacks_come_once_and_after_all_members(app: Windlass, work: AnyTask, report: AnyTask) -> None:
    with app.batch("images", origin="shop", **callbacks(report)) as batch:
        batch.add(*(work.job(n) for n in range(3)))
    assert batch.progress().total == 3
    claims = take(app, 3)
    end(app, claims[0], claims[1])
    assert fired(app) == []
    end(app, claims[2])
    assert fired(app) == ["complete", "success"]
    app.settle_batches([batch.id])
    app.settle_batches(app.driver.ripe(10))
    assert fired(app) == ["complete", "success"]
    done = batch.progress()
    assert (done.left, done.completed, done.finished, done.succeeded, done.share) == (0, 3, True, True, 1.0)
    job = app.jobs(task="report")[0]
    assert job.meta["batch"] == {"id": batch.id, "name": "images", "event": "success"}
    assert job.origin == "shop"
    assert {member.origin for member in app.jobs(batch=batch.id)} == {"shop"}


def test_no_callback_comes_early_while_the_batch_is_open(app: Windlass, work: AnyTask, report: AnyTask) -> None:
    with app.batch("images", **callbacks(report)) as batch:
        app.enqueue_many([work.job(0)])
        batch.add(work.job(1))
        batch._flush(1)
        run_all(app)
        assert fired(app) == []
        batch.add(work.job(2))
    assert fired(app) == []
    run_all(app)
    assert fired(app) == ["complete", "success"]


def test_an_empty_batch_finishes_at_once(app: Windlass, report: AnyTask) -> None:
    with app.batch("nothing", **callbacks(report)) as batch:
        pass
    assert fired(app) == ["complete", "success"]
    assert batch.progress().succeeded


def test_a_dead_member_fires_death_at_once_and_no_success(app: Windlass, work: AnyTask, report: AnyTask) -> None:
    with app.batch("images", **callbacks(report)) as batch:
        batch.add(work.job(1), work.job(2), work.job(3))
    claims = take(app, 3)
    end(app, claims[0], dies=True)
    end(app, claims[1], dies=True)
    assert fired(app) == ["death"]
    end(app, claims[2])
    assert fired(app) == ["death", "complete"]
    assert not batch.progress().succeeded


def test_members_retried_after_the_end_bring_success_once(app: Windlass, work: AnyTask, report: AnyTask) -> None:
    with app.batch("images", **callbacks(report)) as batch:
        batch.add(work.job(1))
    end(app, *take(app), dies=True)
    assert fired(app) == ["death", "complete"]
    [job] = app.jobs(batch=batch.id)
    app.retry(job.id)
    assert batch.progress().left == 1
    run_all(app)
    assert fired(app) == ["death", "complete", "success"]
    assert batch.progress().succeeded


def test_a_member_that_will_be_tried_again_is_no_end(app: Windlass, report: AnyTask) -> None:
    """celery#2324: the callback came before the retry."""
    again = app.register("again", lambda n: None, max_attempts=3)
    with app.batch("images", **callbacks(report)) as batch:
        batch.add(again.job(1))
    decide: list[Callable[[Record, float], lifecycle.Transition]] = [
        lambda record, now: lifecycle.fail(record, ERROR, max_attempts=3, delay=5, now=now),
        lambda record, now: lifecycle.snooze(record, 5, now=now),
        lambda record, _: lifecycle.lose(record, ERROR, max_crashes=3),
    ]
    for transition in decide:
        [record] = take(app)
        now = app.driver.now()
        settlement = lifecycle.Settlement(record, transition(record, now), now)
        turned = app.driver.exchange(Turn(worker=WORKER, settlements=[settlement]))
        app.settle_batches(turned.ripe)
        assert turned.refused == []
        assert fired(app) == []
        app.driver.shift(6)
    end(app, *take(app))
    assert fired(app) == ["complete", "success"]


def test_cancelling_the_last_member_finishes_the_batch(app: Windlass, work: AnyTask, report: AnyTask) -> None:
    with app.batch("images", **callbacks(report)) as batch:
        batch.add(work.job(1), work.job(2))
    end(app, *take(app))
    app.cancel(app.jobs(batch=batch.id, status="pending")[0].id)
    app.settle_batches(app.driver.ripe(10))
    assert fired(app) == ["complete"]


def test_a_deleted_member_is_not_waited_for(app: Windlass, work: AnyTask, report: AnyTask) -> None:
    """go-jobqueue's DJ12: it made its bundle uncompletable."""
    with app.batch("images", **callbacks(report)) as batch:
        batch.add(work.job(1), work.job(2))
    first, second = sorted(job.id for job in app.jobs(batch=batch.id))
    app.delete(second)
    run_all(app)
    assert fired(app) == ["complete", "success"]
    app.delete(first)
    assert batch.progress().completed == 1


def test_deleting_the_last_member_finishes_the_batch(app: Windlass, work: AnyTask, report: AnyTask) -> None:
    with app.batch("images", on_complete=report.using(tags=["complete"]).job()) as batch:
        batch.add(work.job(1))
    [job] = app.jobs(batch=batch.id)
    app.delete(job.id)
    app.settle_batches(app.driver.ripe(10))
    assert fired(app) == ["complete"]


def test_cancelling_a_batch_cancels_its_members(app: Windlass, work: AnyTask, report: AnyTask) -> None:
    with app.batch("outer", **callbacks(report)) as outer:
        outer.add(work.job(1), work.using(delay=100).job(2))
        with outer.batch("inner") as inner:
            inner.add(work.job(3))
    assert outer.cancel() == 3
    assert app.count(status="cancelled") == 3
    assert fired(app) == ["complete"]
    assert inner.progress().finished


def test_a_parent_waits_for_nested_batches(app: Windlass, work: AnyTask, report: AnyTask) -> None:
    with app.batch("outer", **callbacks(report)) as outer:
        outer.add(work.job(1))
        with outer.batch("inner") as inner:
            inner.add(work.using(delay=100).job(2))
    run_all(app)
    assert fired(app) == []
    assert outer.progress().nested == 1
    app.driver.shift(101)
    run_all(app)
    assert fired(app) == ["complete", "success"]


def test_a_nested_failure_is_the_parents_until_it_is_mended(app: Windlass, work: AnyTask, report: AnyTask) -> None:
    with app.batch("outer", **callbacks(report)) as outer, outer.batch("inner") as inner:
        inner.add(work.job(2))
    end(app, *take(app), dies=True)
    assert fired(app) == ["complete"]
    [job] = app.jobs(batch=inner.id)
    app.retry(job.id)
    run_all(app)
    assert fired(app) == ["complete", "success"]


def test_a_failure_far_below_is_mended_all_the_way_up(app: Windlass, work: AnyTask, report: AnyTask) -> None:
    with app.batch("top", **callbacks(report)) as top, top.batch("middle") as middle, middle.batch("low") as low:
        low.add(work.job(1))
    end(app, *take(app), dies=True)
    assert fired(app) == ["complete"]
    app.retry(app.jobs(batch=low.id)[0].id)
    run_all(app)
    assert fired(app) == ["complete", "success"]
    assert middle.refresh().fired == top.refresh().fired == ("complete", "success")


@pytest.mark.parametrize("finished", [False, True])
def test_who_looked_before_a_nested_batch_was_mended_does_not_fail_it_again(
    app: Windlass, work: AnyTask, report: AnyTask, finished: bool
) -> None:
    """A worker that was frozen between its look and its decision; the batch had finished meanwhile, or not yet."""
    with app.batch("outer", **callbacks(report)) as outer:
        outer.add(work.using(delay=100).job(1))
        with outer.batch("inner") as inner:
            inner.add(work.job(2))
    [record] = take(app)
    end_without_deciding(app, [record], dies=True)
    seen = app.driver.batches([inner.id])
    if finished:
        app.settle_batches([inner.id])
    app.retry(record.id)
    run_all(app)
    look = app.driver.batches
    looks = iter([seen])
    app.driver.batches = lambda *ids, **rest: next(looks, None) or look(*ids, **rest)  # type: ignore[method-assign]
    app.settle_batches([inner.id])
    app.driver.shift(101)
    run_all(app)
    assert fired(app) == ["complete", "success"]


@pytest.mark.parametrize("dies", [True, False])
def test_a_member_that_ends_between_a_look_and_its_decision_is_not_overlooked(
    app: Windlass, work: AnyTask, report: AnyTask, dies: bool
) -> None:
    with app.batch("outer", **callbacks(report)) as outer, outer.batch("inner") as inner:
        inner.add(work.job(1))
    seen = app.driver.batches([inner.id])
    end_without_deciding(app, take(app), dies=dies)
    look = app.driver.batches
    looks = iter([seen])
    app.driver.batches = lambda *ids, **rest: next(looks, None) or look(*ids, **rest)  # type: ignore[method-assign]
    app.settle_batches([inner.id])
    app.settle_batches(app.driver.ripe(10))
    assert fired(app) == (["complete"] if dies else ["complete", "success"])


def test_a_nested_empty_batch_is_no_obstacle(app: Windlass, report: AnyTask) -> None:
    with app.batch("outer", **callbacks(report)) as outer, outer.batch("inner"):
        pass
    assert outer.progress().finished
    assert fired(app) == ["complete", "success"]


def test_workers_that_decide_together_fire_once(app: Windlass, work: AnyTask, report: AnyTask) -> None:
    """Threads meet at a barrier, each with the ripe batches in hand."""
    with app.batch("outer", **callbacks(report)) as outer, outer.batch("inner", **callbacks(report)) as inner:
        inner.add(*(work.job(n) for n in range(4)))
    end_without_deciding(app, take(app, 4))
    barrier = threading.Barrier(8)

    def decide() -> None:
        ripe = app.driver.ripe(10)
        barrier.wait(30)
        app.settle_batches(ripe)

    threads = [threading.Thread(target=decide) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(fired(app)) == ["complete", "complete", "success", "success"]


@pytest.mark.parametrize("steps", range(5))
@pytest.mark.parametrize("mended", [False, True])
def test_a_crash_between_any_two_steps_loses_and_doubles_nothing(
    app: Windlass, work: AnyTask, report: AnyTask, steps: int, mended: bool
) -> None:
    """Whoever decides dies after so many writes; whoever comes next goes on."""
    with app.batch("outer", **callbacks(report)) as outer, outer.batch("inner") as inner:
        inner.add(work.job(1), work.job(2))
    if mended:
        end(app, *take(app), dies=True)
        end(app, *take(app))
        assert fired(app) == ["complete"]
        app.retry(app.jobs(batch=inner.id, status="dead")[0].id)
    end_without_deciding(app, take(app, 2))
    left = steps
    change = app.driver.change_batch

    def crashing(batch_id: int, decide: Any) -> Any:
        nonlocal left
        if left == 0:
            raise InterruptedError
        left -= 1
        return change(batch_id, decide)

    app.driver.change_batch = crashing  # type: ignore[method-assign]
    with contextlib.suppress(InterruptedError):
        app.settle_batches(app.driver.ripe(10))
    app.driver.change_batch = change  # type: ignore[method-assign]
    for _ in range(3):
        app.settle_batches(app.driver.ripe(10))
    assert fired(app) == ["complete", "success"]
    assert inner.progress().succeeded
    assert outer.progress().succeeded


def end_without_deciding(app: Windlass, records: list[Any], *, dies: bool = False) -> None:
    """End attempts as a worker does that dies before it decides about their batch."""
    now = app.driver.now()
    ends = [
        lifecycle.Settlement(
            r, lifecycle.fail(r, ERROR, max_attempts=1, delay=0, now=now) if dies else lifecycle.succeed(r), now
        )
        for r in records
    ]
    app.driver.exchange(Turn(worker="by-hand", settlements=ends))


def test_what_a_block_raises_cancels_what_was_enqueued(app: Windlass, work: AnyTask, report: AnyTask) -> None:
    def fill() -> None:
        with app.batch("images", **callbacks(report)) as batch:
            batch.add(work.job(1))
            batch._flush(1)
            batch.add(work.job(2))
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fill()
    assert app.count(task="work") == 1
    assert app.count(task="work", status="cancelled") == 1


def test_many_members_are_enqueued_by_thousands(app: Windlass, work: AnyTask) -> None:
    with app.batch("many") as batch:
        for n in range(2500):
            batch.add(work.job(n))
    assert batch.progress().total == 2500
    assert app.count(task="work") == 2500


def test_members_may_be_added_while_it_runs_and_not_after(app: Windlass, work: AnyTask, report: AnyTask) -> None:
    with app.batch("images", **callbacks(report)) as batch:
        batch.add(work.job(1))
    [running] = take(app)
    app.get_batch(batch.id).add(work.job(2))
    end(app, running)
    assert fired(app) == []
    run_all(app)
    assert fired(app) == ["complete", "success"]
    with pytest.raises(BatchStateError):
        batch.add(work.job(3))
    with pytest.raises(BatchStateError):
        app.batch("nested", parent=batch)
    assert app.count(task="work") == 2


def test_delete_on_success_removes_the_batch_and_its_members(app: Windlass, work: AnyTask, report: AnyTask) -> None:
    with app.batch("images", delete_on_success=True, on_success=report.using(tags=["success"]).job()) as batch:
        batch.add(work.job(1))
    end(app, *take(app))
    assert fired(app) == ["success"]
    with pytest.raises(BatchNotFoundError):
        app.get_batch(batch.id)
    assert app.count(task="work") == 0


def test_batches_are_found_and_listed(app: Windlass, work: AnyTask) -> None:
    made = [app.batch(f"b{n}") for n in range(3)]
    assert [batch.name for batch in app.batches()] == ["b2", "b1", "b0"]
    assert [batch.name for batch in app.batches(after=made[2].id)] == ["b1", "b0"]
    assert app.get_batch(made[0].id).name == "b0"
    app.delete_batch(made[0].id)
    with pytest.raises(BatchNotFoundError):
        app.get_batch(made[0].id)


def test_async_blocks(app: Windlass, work: AnyTask, report: AnyTask) -> None:
    async def fill() -> int:
        async with await app.abatch("images", on_success=report.using(tags=["success"]).job()) as batch:
            batch.add(*(work.job(n) for n in range(3)))
        return batch.id

    batch_id = asyncio.run(fill())
    assert app.get_batch(batch_id).progress().total == 3
    run_all(app)
    assert fired(app) == ["success"]


def test_bad_input_is_refused(app: Windlass, work: AnyTask) -> None:
    with pytest.raises(ConfigurationError):
        app.batch("x", on_success="report")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError):
        app.batch("")
    with pytest.raises(TypeError):
        app.batch("x").add(work)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------- chains


def test_each_step_follows_the_one_before_with_its_result(app: Windlass) -> None:
    def double(n: int, plus: int = 0) -> int:
        return n * 2 + plus

    task = app.register("double", double)
    job = chain(task.job(1), task.job(PREVIOUS, plus=5), task).enqueue()
    assert app.count() == 1
    end(app, *take(app), result=b"2")
    [second] = app.jobs(status="pending")
    assert second.payload == {"n": 2, "plus": 5}
    end(app, *take(app), result=b"9")
    [third] = app.jobs(status="pending")
    assert third.payload == {"n": 9}
    end(app, *take(app), result=b"18")
    assert app.count(status="completed") == 3
    assert job.id == 1


def test_a_step_that_dies_ends_the_chain_until_it_is_retried(app: Windlass, work: AnyTask) -> None:
    job = chain(work.job(1), work.job(2)).enqueue()
    end(app, *take(app), dies=True)
    assert app.count() == 1
    app.retry(job.id)
    run_all(app)
    assert app.count(status="completed") == 2


def test_all_steps_are_members_of_the_batch(app: Windlass, work: AnyTask, report: AnyTask) -> None:
    with app.batch("images", **callbacks(report)) as batch:
        batch.add(chain(work.job(1), work.job(2), work.job(3)))
    end(app, *take(app))
    assert fired(app) == []
    run_all(app)
    assert fired(app) == ["complete", "success"]
    assert batch.progress().total == 3


def test_chains_in_nested_batches_are_waited_for(app: Windlass, work: AnyTask, report: AnyTask) -> None:
    """celery#5612: with several levels the callback never came."""
    with app.batch("outer", **callbacks(report)) as outer:
        outer.add(chain(work.job(1), work.job(2)))
        with outer.batch("middle") as middle, middle.batch("inner") as inner:
            inner.add(chain(work.job(3), work.job(4), work.job(5)), work.job(6))
    for left in range(5, 0, -1):
        end(app, *take(app))
        assert fired(app) == [], f"{left} are left"
    end(app, *take(app))
    assert fired(app) == ["complete", "success"]


def test_chains_of_chains_are_one(app: Windlass, work: AnyTask) -> None:
    chain(chain(work.job(1), work.job(2)), chain(work.job(3), work.job(4))).enqueue()
    assert run_all(app) == ["work"] * 4


def test_bad_chains_are_refused(app: Windlass, work: AnyTask) -> None:
    with pytest.raises(ConfigurationError):
        chain(work.job(PREVIOUS), work.job(1))
    with pytest.raises(TypeError, match="missing a required argument"):
        chain(work, work.job(1))
    with pytest.raises(ConfigurationError):
        chain(work.job(1), "work")  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------- waiting, with a worker


def test_join_waits_for_the_last_member(app: Windlass, work: AnyTask) -> None:
    with app.batch("images") as batch:
        batch.add(*(work.job(n) for n in range(20)))
    heard: list[BatchFinished] = []
    app.on(BatchFinished)(heard.append)
    with app.worker(concurrency=2):
        progress = batch.join(30)
    assert (progress.completed, progress.finished) == (20, True)
    assert [(event.batch_id, event.completed) for event in heard] == [(batch.id, 20)]
    assert asyncio.run(batch.ajoin(5)) == progress


def test_join_gives_up_in_time(app: Windlass, work: AnyTask) -> None:
    with app.batch("images") as batch:
        batch.add(work.job(1))
    with pytest.raises(TimeoutError):
        batch.join(0.01)


def test_join_sees_the_end_of_a_batch_that_goes(app: Windlass, work: AnyTask) -> None:
    with app.batch("images", delete_on_success=True) as batch:
        batch.add(work.job(1))
    results: list[Any] = []
    waiting = threading.Thread(target=lambda: results.append(batch.join(30)))
    waiting.start()
    until(lambda: app.ear.open)
    with app.worker(concurrency=1):
        waiting.join(30)
    assert [result.completed for result in results] == [1]
