"""Promises about keys and batches when several are at it: the races that have cost other queues duplicates and callbacks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from windlass import lifecycle
from windlass.drivers.base import BatchMove, Filter, NewBatch, Turn
from windlass.errors import BatchStateError, UniqueConflictError
from windlass.job import Status
from windlass.testing.conformance.bench import (
    EVERYTHING,
    Bench,
    assert_counted,
    fail,
    job,
    put,
    retry,
    run_one,
    stored,
    take,
)
from windlass.testing.conformance.holding import holding
from windlass.testing.conformance.sharing import THREADS, insert_through, together

if TYPE_CHECKING:
    from windlass.drivers.base import BatchRecord, Driver
    from windlass.job import Record

PROCESSES = 4
PATIENCE = 0.2
"""Seconds in which one who does not wait has an answer."""


class Racing(Bench):
    """One wins, the others know, and nobody is told what may not come true."""

    def _several(self, driver: Driver) -> list[Driver]:
        """Return a driver for each thread, where the store can have that: threads of one may share a transaction."""
        with suppress(pytest.skip.Exception):
            return [driver, *(self.second(driver) for _ in range(PROCESSES - 1))]
        return [driver]

    # ------------------------------------------------------------------ keys

    def test_bulk_inserts_that_cross_get_each_key_once(self, driver: Driver) -> None:
        """Whatever the order in which they name the keys, none of them fails (oban#1505)."""
        drivers = self._several(driver)
        keys = [f"k{number}" for number in range(500)]

        def insert(number: int) -> list[Record]:
            own, backwards = drivers[number % len(drivers)], number % 2 == 1
            return own.insert([job(**holding(key)) for key in (reversed(keys) if backwards else keys)])

        made = together(insert)
        assert len({record.id for records in made for record in records}) == len(keys)
        assert sum(not record.found for records in made for record in records) == len(keys)
        assert driver.count(EVERYTHING, most=1000) == len(keys)
        assert_counted(driver)

    @pytest.mark.parametrize("end", ["commit", "rollback"])
    def test_a_key_in_an_open_transaction_is_waited_for(self, driver: Driver, end: str) -> None:
        """Nobody is told of a job that may be rolled back (oban#1087, #1093)."""
        if not driver.capabilities.transactions:
            pytest.skip(f"{driver.name} has no transactions")
        connection = self.foreign_connection(driver)
        [first] = insert_through(self, driver, connection, [job(**holding())])
        with ThreadPoolExecutor(1, thread_name_prefix="conformance") as pool:
            later = pool.submit(put, driver, **holding())
            with pytest.raises(TimeoutError):
                later.result(PATIENCE)
            getattr(connection, end)()
            second = later.result(30)
        connection.close()
        assert second.found is (end == "commit")
        assert second.id == first.id or not second.found
        assert driver.count(EVERYTHING, most=10) == 1
        assert driver.holder("k") == stored(driver, second)

    def test_a_retry_and_inserts_that_meet_let_one_live(self, driver: Driver) -> None:
        """The retry is refused, or the inserts find the retried job."""
        record = run_one(driver, **holding())
        fail(driver, record, max_attempts=1)
        drivers = self._several(driver)

        def work(number: int) -> list[Record]:
            if number:
                return [put(drivers[number % len(drivers)], **holding())]
            error = retry(driver, record).error
            assert error is None or isinstance(error, UniqueConflictError)
            return []

        together(work)
        live = Filter(statuses=(Status.PENDING,))
        [one] = driver.find(live, limit=10)
        held = driver.holder("k")
        assert held is not None
        assert held.id == one.id
        assert_counted(driver)

    # ------------------------------------------------------------------ batches

    def test_members_that_end_together_leave_nothing(self, driver: Driver) -> None:
        """Each is counted once, and the batch is ripe (sidekiq#5290: counted apart from their ends)."""
        batch_id = _full(driver, THREADS * 4)
        claims = take(driver, THREADS * 4)
        drivers = self._several(driver)

        def end(number: int) -> list[Record]:
            for record in claims[number::THREADS]:
                settlement = lifecycle.Settlement(record, lifecycle.succeed(record), driver.now())
                drivers[number % len(drivers)].exchange(Turn(worker=record.worker or "", settlements=[settlement]))
            return []

        together(end)
        [batch] = driver.batches([batch_id])
        assert (batch.total, batch.left, batch.completed) == (THREADS * 4, 0, THREADS * 4)
        assert driver.ripe(10) == [batch_id]

    def test_of_those_who_decide_together_one_enqueues(self, driver: Driver) -> None:
        """Each decision sees the one before (sidekiq-batch#84: callbacks came twice)."""
        batch_id = _full(driver, 0)

        def decide(batch: BatchRecord, now: float) -> BatchMove | None:
            if batch.fired:
                return None
            return BatchMove(open=False, fired=("complete",), finished_at=now, jobs=(job("after"),))

        drivers = self._several(driver)

        def work(number: int) -> list[Record]:
            drivers[number % len(drivers)].change_batch(batch_id, decide)
            return []

        together(work)
        assert driver.count(Filter(task="after"), most=100) == 1
        assert_counted(driver)

    def test_members_are_added_before_the_end_or_refused(self, driver: Driver) -> None:
        """A batch never finishes with members to come (sidekiq#6026, #6311, #6364)."""
        drivers = self._several(driver)
        for _ in range(5):
            batch_id = _full(driver, 0)

            def work(number: int, batch_id: int = batch_id) -> list[Record]:
                own = drivers[number % len(drivers)]
                if number == 0:
                    own.change_batch(batch_id, _finish)
                    return []
                try:
                    return [put(own, batch_id=batch_id)]
                except BatchStateError:
                    return []

            added = [record for records in together(work) for record in records]
            [batch] = driver.batches([batch_id])
            assert (batch.total, batch.left) == (len(added), len(added))
            assert len(driver.find(Filter(batch=batch_id), limit=100)) == len(added)
            assert not (added and batch.finished_at is not None)

    @pytest.mark.parametrize("end", ["commit", "rollback"])
    def test_a_member_in_an_open_transaction_is_waited_for(self, driver: Driver, end: str) -> None:
        """Whoever decides about its batch sees it, or that it has not come."""
        if not driver.capabilities.transactions:
            pytest.skip(f"{driver.name} has no transactions")
        batch_id = _full(driver, 0)
        connection = self.foreign_connection(driver)
        insert_through(self, driver, connection, [job(batch_id=batch_id)])
        with ThreadPoolExecutor(1, thread_name_prefix="conformance") as pool:
            later = pool.submit(driver.change_batch, batch_id, _finish)
            with pytest.raises(TimeoutError):
                later.result(PATIENCE)
            getattr(connection, end)()
            batch = later.result(30)
        connection.close()
        assert batch is not None
        assert (batch.left, batch.finished_at is None) == ((1, True) if end == "commit" else (0, False))


def _finish(batch: BatchRecord, now: float) -> BatchMove | None:
    return None if batch.left else BatchMove(open=False, fired=("complete",), finished_at=now)


def _full(driver: Driver, members: int) -> int:
    batch_id = driver.open_batch(NewBatch(name="images")).id
    if members:
        driver.insert([job(batch_id=batch_id) for _ in range(members)])
    return batch_id
