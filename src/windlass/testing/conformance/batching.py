"""Promises about batches, and about jobs that are enqueued with an end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from windlass import lifecycle
from windlass.drivers.base import BatchMove, BatchRecord, Filter, NewBatch, Turn
from windlass.errors import BatchStateError
from windlass.job import Status
from windlass.testing.conformance.bench import (
    CRASH,
    EVERYTHING,
    WORKER,
    assert_counted,
    cancel,
    delete,
    fail,
    job,
    put,
    retry,
    settle,
    succeed,
    take,
    totals,
    turn,
)
from windlass.testing.conformance.holding import WAITS, holding

if TYPE_CHECKING:
    from windlass.drivers.base import Driver
    from windlass.job import NewJob


def opened(driver: Driver, **options: Any) -> int:
    """Open a batch."""
    return driver.open_batch(NewBatch(name="images", **options)).id


def read(driver: Driver, batch_id: int) -> BatchRecord:
    """Read a batch that must be there."""
    [batch] = driver.batches([batch_id])
    return batch


def shut(driver: Driver, batch_id: int, *jobs: NewJob, **options: Any) -> BatchRecord:
    """Close a batch, and do what else is said."""
    batch = driver.change_batch(batch_id, lambda _, __: BatchMove(open=False, jobs=jobs, **options))
    assert batch is not None
    return batch


def counts(batch: BatchRecord) -> tuple[int, int, int, int, int]:
    """Return total, left, completed, dead, cancelled."""
    return batch.total, batch.left, batch.completed, batch.dead, batch.cancelled


class Batching:
    """Counters right, whatever becomes of the members; decisions written in one step."""

    def test_a_new_batch_is_open_and_empty(self, driver: Driver) -> None:
        """What was given comes back."""
        new = NewBatch(name="images", origin="shop", meta=b'{"a":1}', callbacks=b'{"success":[]}')
        before = driver.now()
        batch = driver.open_batch(new)
        assert read(driver, batch.id) == batch
        assert (batch.name, batch.origin, batch.meta, batch.callbacks) == (
            new.name,
            new.origin,
            new.meta,
            new.callbacks,
        )
        assert batch.created_at == pytest.approx(before, abs=5)
        assert (batch.open, batch.fired, batch.finished_at, batch.parent) == (True, (), None, None)
        assert counts(batch) == (0, 0, 0, 0, 0)
        assert driver.open_batch(new).id > batch.id

    def test_members_are_counted_through_their_lives(self, driver: Driver) -> None:
        """Enqueued, failed and retried they are left; ended they are counted as they ended."""
        batch_id = opened(driver)
        driver.insert([job(batch_id=batch_id) for _ in range(5)])
        put(driver)
        assert counts(read(driver, batch_id)) == (5, 5, 0, 0, 0)
        claims = [record for record in take(driver, 10) if record.batch_id == batch_id]
        succeed(driver, claims[0])
        fail(driver, claims[1], max_attempts=1)
        fail(driver, claims[2], delay=10)
        settle(driver, claims[3], lifecycle.cancelled(claims[3]))
        settle(driver, claims[4], lifecycle.release(claims[4]))
        assert counts(read(driver, batch_id)) == (5, 2, 1, 1, 1)
        cancel(driver, claims[4])
        driver.change([claims[2].id], lambda r, _: lifecycle.run_now(r))
        [last] = take(driver)
        succeed(driver, last)
        assert counts(read(driver, batch_id)) == (5, 0, 2, 1, 2)

    def test_many_ends_of_one_exchange_are_counted_together(self, driver: Driver) -> None:
        """Of several batches at once."""
        first, second = opened(driver), opened(driver)
        driver.insert([job(batch_id=batch_id) for batch_id in (first, second) * 10])
        ends = [lifecycle.Settlement(r, lifecycle.succeed(r), driver.now()) for r in take(driver, 20)]
        turned = driver.exchange(Turn(worker=WORKER, settlements=ends))
        assert sorted(turned.ripe) == [first, second]
        assert counts(read(driver, first)) == counts(read(driver, second)) == (10, 0, 10, 0, 0)

    def test_a_refused_end_counts_nothing(self, driver: Driver) -> None:
        """The lease has moved on."""
        batch_id = opened(driver)
        put(driver, batch_id=batch_id)
        [record] = take(driver)
        driver.change([record.id], lambda r, _: lifecycle.lose(r, CRASH, max_crashes=5))
        succeed(driver, record)
        assert counts(read(driver, batch_id)) == (1, 1, 0, 0, 0)

    def test_deleting_a_waiting_member_takes_it_out(self, driver: Driver) -> None:
        """The batch does not wait for it any more; one that has ended stays counted, purged too."""
        batch_id = opened(driver)
        waits = put(driver, batch_id=batch_id)
        put(driver, batch_id=batch_id, priority=1)
        put(driver, batch_id=batch_id, priority=1)
        done, dead = take(driver, 2)
        succeed(driver, done)
        fail(driver, dead, max_attempts=1)
        assert driver.purge({Status.COMPLETED: 0}, 10) == 1
        delete(driver, dead)
        assert counts(read(driver, batch_id)) == (3, 1, 1, 1, 0)
        delete(driver, waits)
        assert counts(read(driver, batch_id)) == (2, 0, 1, 1, 0)
        assert batch_id in driver.ripe(10)

    def test_a_member_that_is_retried_is_left_again(self, driver: Driver) -> None:
        """Also after the batch has finished."""
        batch_id = opened(driver)
        put(driver, batch_id=batch_id)
        [record] = take(driver)
        fail(driver, record, max_attempts=1)
        shut(driver, batch_id, finished_at=driver.now(), fired=("complete",))
        retry(driver, record)
        assert counts(read(driver, batch_id)) == (1, 1, 0, 0, 0)
        [record] = take(driver)
        succeed(driver, record)
        batch = read(driver, batch_id)
        assert counts(batch) == (1, 0, 1, 0, 0)
        assert batch.fired == ("complete",)
        assert batch_id in driver.ripe(10)

    def test_a_batch_is_ripe_when_nothing_is_left_until_it_is_decided(self, driver: Driver) -> None:
        """Whoever decides takes it off the list; one that nobody decides about stays on it."""
        batch_id = opened(driver)
        put(driver, batch_id=batch_id)
        [record] = take(driver)
        assert driver.ripe(10) == []
        assert list(succeed(driver, record).ripe) == [batch_id]
        assert list(turn(driver).ripe) == [batch_id]
        assert driver.ripe(10) == [batch_id]
        shut(driver, batch_id)
        assert driver.ripe(10) == []
        assert list(turn(driver).ripe) == []

    def test_a_batch_is_ripe_when_a_member_dies(self, driver: Driver) -> None:
        """Though others are left."""
        batch_id = opened(driver)
        driver.insert([job(batch_id=batch_id) for _ in range(2)])
        [record] = take(driver)
        assert list(fail(driver, record, max_attempts=1).ripe) == [batch_id]

    def test_a_decision_enqueues_and_writes_in_one_step(self, driver: Driver) -> None:
        """It sees the batch as it is, and what it says is there afterwards."""
        batch_id = opened(driver)
        put(driver, batch_id=batch_id)
        [record] = take(driver)
        succeed(driver, record)
        seen: list[BatchRecord] = []

        def decide(batch: BatchRecord, now: float) -> BatchMove:
            seen.append(batch)
            return BatchMove(open=False, fired=("success",), finished_at=now, jobs=(job("after"), job("after")))

        after = driver.change_batch(batch_id, decide)
        assert counts(seen[-1]) == (1, 0, 1, 0, 0)
        assert after == read(driver, batch_id)
        assert after is not None
        assert (after.open, after.fired) == (False, ("success",))
        assert after.finished_at == pytest.approx(driver.now(), abs=5)
        assert len(take(driver, 10, tasks=("after",))) == 2
        assert driver.change_batch(batch_id, lambda _, __: None) == after
        assert driver.change_batch(batch_id + 100, decide) is None
        assert_counted(driver)

    def test_a_finished_batch_takes_no_members(self, driver: Driver) -> None:
        """Nor does one that is not there; nothing is stored."""
        batch_id = opened(driver)
        shut(driver, batch_id)
        put(driver, batch_id=batch_id)
        shut(driver, batch_id, finished_at=driver.now())
        for missing in (batch_id, batch_id + 100):
            with pytest.raises(BatchStateError):
                driver.insert([job(batch_id=missing)])
            with pytest.raises(BatchStateError):
                driver.open_batch(NewBatch(name="nested", parent=missing))
        assert driver.count(EVERYTHING, most=10) == 1

    def test_a_refused_member_holds_no_key(self, driver: Driver) -> None:
        """Else its key would be nobody's, and keep all others out."""
        batch_id = opened(driver)
        shut(driver, batch_id, finished_at=driver.now())
        with pytest.raises(BatchStateError):
            driver.insert([job(batch_id=batch_id, **holding())])
        assert driver.holder("k") is None
        assert not put(driver, **holding()).found

    def test_a_member_that_gives_way_to_another_is_cancelled(self, driver: Driver) -> None:
        """At its retry it finds its key taken; its batch does not wait for it."""
        batch_id = opened(driver)
        put(driver, batch_id=batch_id, **holding(mask=WAITS))
        [record] = take(driver)
        put(driver, **holding(mask=WAITS))
        assert list(fail(driver, record, delay=0).ripe) == [batch_id]
        assert counts(read(driver, batch_id)) == (1, 0, 0, 0, 1)

    @pytest.mark.parametrize("max_crashes", [1, 3])
    def test_a_lost_member_is_left_or_dead(self, driver: Driver, max_crashes: int) -> None:
        """Whoever takes it back from its worker counts it, and hears of what is due."""
        batch_id = opened(driver)
        put(driver, batch_id=batch_id)
        [record] = take(driver)
        turned = settle(driver, record, lifecycle.lose(record, CRASH, max_crashes=max_crashes))
        dies = max_crashes == 1
        assert list(turned.ripe) == [batch_id] * dies
        assert counts(read(driver, batch_id)) == (1, not dies, 0, dies, 0)

    def test_a_parent_waits_for_nested_batches(self, driver: Driver) -> None:
        """Until they say that they have finished."""
        parent = opened(driver)
        child = opened(driver, parent=parent)
        assert read(driver, child).parent == parent
        assert read(driver, parent).children == 1
        shut(driver, child, finished_at=driver.now(), release_parent=True)
        assert read(driver, parent).children == 0
        assert driver.ripe(10) == [parent]

    def test_a_batch_can_be_deleted(self, driver: Driver) -> None:
        """Its members stay, and end as they would."""
        batch_id = opened(driver)
        put(driver, batch_id=batch_id)
        [record] = take(driver)
        shut(driver, batch_id, delete=True)
        assert driver.batches([batch_id]) == []
        assert succeed(driver, record).refused == []
        assert driver.count(Filter(batch=batch_id), most=10) == 1

    def test_batches_are_listed_newest_first(self, driver: Driver) -> None:
        """By pages."""
        made = [opened(driver) for _ in range(5)]
        page = driver.batches(limit=3)
        assert [batch.id for batch in page] == made[:1:-1]
        assert [batch.id for batch in driver.batches(limit=3, before=page[-1].id)] == made[1::-1]

    # ------------------------------------------------------------------ with an end

    def test_an_end_brings_jobs_with_it(self, driver: Driver) -> None:
        """In one step, and claimable in the same exchange."""
        put(driver)
        [record] = take(driver)
        end = lifecycle.Settlement(record, lifecycle.succeed(record), driver.now(), (job("next"), job("next", delay=5)))
        turned = driver.exchange(Turn(worker=WORKER, settlements=[end], limit=5, start=5, tasks=("next",)))
        assert [r.task for r in turned.claims] == ["next"]
        assert driver.count(Filter(task="next"), most=10) == 2
        assert_counted(driver)

    def test_a_refused_end_brings_nothing(self, driver: Driver) -> None:
        """The lease has moved on."""
        put(driver)
        [record] = take(driver)
        driver.change([record.id], lambda r, _: lifecycle.lose(r, CRASH, max_crashes=5))
        end = lifecycle.Settlement(record, lifecycle.succeed(record), driver.now(), (job("next"),))
        assert driver.exchange(Turn(worker=WORKER, settlements=[end])).refused == [(record.id, record.lease)]
        assert driver.count(Filter(task="next"), most=10) == 0

    def test_a_member_that_brings_a_member_keeps_the_batch_waiting(self, driver: Driver) -> None:
        """At no instant is nothing left."""
        batch_id = opened(driver)
        put(driver, batch_id=batch_id)
        [record] = take(driver)
        end = lifecycle.Settlement(record, lifecycle.succeed(record), driver.now(), (job("next", batch_id=batch_id),))
        turned = driver.exchange(Turn(worker=WORKER, settlements=[end]))
        assert turned.ripe == []
        assert counts(read(driver, batch_id)) == (2, 1, 1, 0, 0)
        assert driver.ripe(10) == []

    def test_a_member_whose_key_is_held_is_no_member(self, driver: Driver) -> None:
        """The job that holds it is not in the batch, so the batch does not wait for it."""
        put(driver, **holding())
        batch_id = opened(driver)
        driver.insert([job(batch_id=batch_id, **holding()), job(batch_id=batch_id)])
        assert counts(read(driver, batch_id)) == (1, 1, 0, 0, 0)

    def test_a_job_that_is_not_kept_goes_when_it_ends(self, driver: Driver) -> None:
        """It is counted, its batch knows, its keys are free; nothing else is left of it."""
        batch_id = opened(driver)
        record = put(driver, batch_id=batch_id, idempotency_key="k", tags=("t",), **holding())
        [claimed] = take(driver)
        settle(driver, claimed, lifecycle.succeed(claimed, b"1", keep=False))
        assert driver.get(record.id) is None
        assert driver.history(record.id) == []
        assert driver.by_key("k") is None
        assert driver.holder("k") is None
        assert driver.find(Filter(tag="t"), limit=5) == []
        assert totals(driver)["processed"] == 1
        assert counts(read(driver, batch_id)) == (1, 0, 1, 0, 0)
        assert driver.purge({Status.COMPLETED: 0}, 10) == 0
        assert_counted(driver)

    def test_terms_and_gates_come_back(self, driver: Driver) -> None:
        """What only workers read is kept as it is."""
        record = put(driver, terms=b'{"expires":5}')
        assert record.terms == b'{"expires":5}'
        [claimed] = take(driver)
        assert claimed.terms == b'{"expires":5}'
        assert claimed.flow is None
        assert msgspec.json.decode(claimed.payload) == {}
        found = driver.get(record.id)
        assert found is not None
        assert found.terms == b'{"expires":5}'
