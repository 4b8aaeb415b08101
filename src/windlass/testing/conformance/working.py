"""Promises about workers: beats, loss, orphans, signals and the bell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from windlass import lifecycle
from windlass.drivers.base import Signal
from windlass.testing.conformance.bench import (
    CRASH,
    WORKER,
    beat,
    begin,
    cancel,
    fail,
    job,
    put,
    retry,
    run_one,
    settle,
    stored,
    succeed,
    take,
    turn,
)

if TYPE_CHECKING:
    from windlass.drivers.base import Bell, Driver

PATIENCE = 10.0
"""Seconds that a ring may take; reached only when it does not come."""


def listener(driver: Driver) -> Bell:
    """Return a bell whose address is known to the store, with nothing rung on it."""
    bell = driver.bell()
    beat(driver, "listener", bell=bell.address)
    bell.wait(0)
    return bell


class Working:
    """What the store promises to and about workers."""

    # ------------------------------------------------------------------ liveness

    def test_a_beat_registers_the_worker(self, driver: Driver) -> None:
        """The first beat makes it known, later ones renew ``beat_at`` by the store's clock."""
        assert driver.workers() == []
        assert beat(driver, lost_after=30.0, queues=("a", "b"), note="ünwell", concurrency=4, place="here/1")
        [worker] = driver.workers()
        assert (worker.id, worker.status, worker.lost_after) == (WORKER, "running", 30.0)
        assert (worker.queues, worker.note, worker.concurrency, worker.place) == (("a", "b"), "ünwell", 4, "here/1")
        assert worker.beat_at == pytest.approx(driver.now(), abs=5)
        driver.shift(20)
        assert beat(driver, processed=7, status="stopping")
        [worker] = driver.workers()
        assert worker.beat_at == pytest.approx(driver.now(), abs=5)
        assert (worker.processed, worker.status) == (7, "stopping")

    def test_a_silent_worker_is_lost_after_its_time(self, driver: Driver) -> None:
        """Not before ``lost_after`` of its own has passed since its last beat, and then once."""
        beat(driver, "quick", lost_after=20.0)
        beat(driver, "slow", lost_after=100.0)
        driver.shift(15)
        assert driver.bury() == []
        driver.shift(10)
        assert driver.bury(overdue=False) == []
        assert driver.bury() == ["quick"]
        assert driver.bury() == []
        assert {w.id: w.status for w in driver.workers()} == {"quick": "lost", "slow": "running"}

    def test_a_worker_known_to_be_gone_is_buried_at_once(self, driver: Driver) -> None:
        """Naming it is enough; unknown and finished ones are passed over."""
        beat(driver, "a")
        beat(driver, "b")
        driver.retire("b")
        assert driver.bury(["a", "b", "nobody"], overdue=False) == ["a"]

    def test_a_lost_worker_cannot_come_back(self, driver: Driver) -> None:
        """Its beats are refused for good; it must take a new id."""
        beat(driver)
        driver.bury([WORKER])
        assert not beat(driver)
        assert driver.workers()[0].status == "lost"
        assert beat(driver, "worker-1-again")

    def test_a_beat_in_time_keeps_a_worker(self, driver: Driver) -> None:
        """Each beat starts the wait anew."""
        for _ in range(4):
            assert beat(driver, lost_after=20.0)
            driver.shift(15)
            assert driver.bury() == []

    def test_workers_long_gone_are_not_listed(self, driver: Driver) -> None:
        """Lost and stopped workers are shown for an hour, living ones always."""
        beat(driver, "lost", lost_after=1e6)
        beat(driver, "stopped")
        driver.bury(["lost"], overdue=False)
        driver.retire("stopped")
        assert {w.id: w.status for w in driver.workers()} == {"lost": "lost", "stopped": "stopped"}
        driver.shift(7200)
        beat(driver, "alive")
        driver.tidy()
        assert [w.id for w in driver.workers()] == ["alive"]

    # ------------------------------------------------------------------ orphans

    def test_the_jobs_of_a_living_worker_are_no_orphans(self, driver: Driver) -> None:
        """As long as it is not declared lost, its leases are its own, however late it is."""
        beat(driver)
        run_one(driver)
        assert driver.orphans(10) == []
        driver.shift(1000)
        assert driver.orphans(10) == []

    def test_the_jobs_of_a_lost_worker_are_orphans(self, driver: Driver) -> None:
        """They are returned as they run, started or prefetched, until somebody ends their leases."""
        beat(driver)
        driver.insert([job(), job()])
        claims = take(driver, 2, start=1)
        driver.bury([WORKER])
        orphans = sorted(driver.orphans(10), key=lambda record: record.id)
        assert orphans == claims
        for orphan in orphans:
            settle(driver, orphan, lifecycle.lose(orphan, CRASH, max_crashes=3), worker="rescuer")
        assert driver.orphans(10) == []
        assert [stored(driver, r).crashes for r in claims] == [1, 0]

    def test_a_started_orphan_is_told_from_a_prefetched_one(self, driver: Driver) -> None:
        """Also when the job has been tried before."""
        beat(driver)
        record = run_one(driver)
        fail(driver, record, delay=0)
        [prefetched] = take(driver, start=0)
        driver.bury([WORKER])
        [orphan] = driver.orphans(10)
        assert orphan.started_at is None
        settle(driver, orphan, lifecycle.lose(orphan, CRASH, max_crashes=1), worker="rescuer")
        assert stored(driver, prefetched).crashes == 0

    def test_the_jobs_of_a_stopped_worker_are_orphans(self, driver: Driver) -> None:
        """A worker that retires leaves nothing behind that has to wait."""
        beat(driver)
        record = run_one(driver)
        driver.retire(WORKER)
        assert [r.id for r in driver.orphans(10)] == [record.id]

    def test_the_jobs_of_an_unknown_worker_are_orphans(self, driver: Driver) -> None:
        """A lease without a deadline needs a worker that lives."""
        record = run_one(driver)
        assert [r.id for r in driver.orphans(10)] == [record.id]

    def test_orphans_are_bounded(self, driver: Driver) -> None:
        """At most *limit* at a time."""
        driver.insert([job() for _ in range(10)])
        take(driver, 10)
        assert len(driver.orphans(4)) == 4

    def test_a_claim_by_hand_lives_until_its_deadline(self, driver: Driver) -> None:
        """Its own deadline counts, not a worker; after it the job is an orphan."""
        put(driver)
        [record] = take(driver, worker="hand:1", deadline=300.0)
        driver.shift(290)
        assert driver.orphans(10) == []
        driver.shift(15)
        assert [r.id for r in driver.orphans(10)] == [record.id]
        assert succeed(driver, record).refused == []
        assert driver.orphans(10) == []

    def test_a_claim_by_hand_can_be_extended(self, driver: Driver) -> None:
        """The new deadline counts from now; a lease that has ended cannot be extended."""
        put(driver)
        [record] = take(driver, worker="hand:1", deadline=300.0)
        driver.shift(290)
        assert driver.extend(record, 300.0)
        driver.shift(290)
        assert driver.orphans(10) == []
        driver.shift(15)
        assert [r.id for r in driver.orphans(10)] == [record.id]
        succeed(driver, record)
        assert not driver.extend(record, 300.0)

    def test_a_deadline_goes_before_the_worker(self, driver: Driver) -> None:
        """A claim by hand is not orphaned by what happens to its worker."""
        beat(driver)
        put(driver)
        take(driver, deadline=300.0)
        driver.bury([WORKER])
        assert driver.orphans(10) == []

    def test_a_deadline_ends_with_its_lease(self, driver: Driver) -> None:
        """The next lease of the job does not inherit it."""
        beat(driver)
        put(driver)
        [record] = take(driver, worker="hand:1", deadline=10.0)
        settle(driver, record, lifecycle.release(record))
        take(driver)
        driver.shift(15)
        assert driver.orphans(10) == []

    # ------------------------------------------------------------------ signals

    def test_a_cancel_signal_reaches_the_holder_once(self, driver: Driver) -> None:
        """The worker with the lease is told to stop the job, in its next turn and in no other's."""
        record = run_one(driver)
        cancel(driver, record)
        assert turn(driver, "worker-2").signals == []
        assert turn(driver).signals == [Signal(record.id, record.lease, True)]
        assert turn(driver).signals == []

    def test_a_second_cancel_signals_nothing_new(self, driver: Driver) -> None:
        """Asking twice is asking once."""
        record = run_one(driver)
        cancel(driver, record)
        cancel(driver, record)
        assert turn(driver).signals == [Signal(record.id, record.lease, True)]

    def test_a_lease_taken_away_is_signalled(self, driver: Driver) -> None:
        """A forced retry, and the cancel of a prefetched job, tell the holder that its lease is gone."""
        driver.insert([job(), job()])
        started, prefetched = take(driver, 2, start=1)
        retry(driver, started, force=True)
        cancel(driver, prefetched)
        expected = {Signal(r.id, r.lease, False) for r in (started, prefetched)}
        assert set(turn(driver).signals) == expected
        assert turn(driver).signals == []

    def test_a_job_that_started_meanwhile_is_asked(self, driver: Driver) -> None:
        """Cancel decides by whether the start mark has been written."""
        put(driver)
        [record] = take(driver, start=0)
        begin(driver, record)
        cancel(driver, record)
        assert turn(driver).signals == [Signal(record.id, record.lease, True)]

    def test_waiting_jobs_signal_nobody(self, driver: Driver) -> None:
        """There is nobody to be told."""
        record = run_one(driver)
        fail(driver, record, delay=0)
        cancel(driver, record)
        assert turn(driver).signals == []

    # ------------------------------------------------------------------ the bell

    def test_a_bell_that_nobody_rings_is_silent(self, driver: Driver) -> None:
        """``wait`` tells that it was not rung."""
        bell = listener(driver)
        assert not bell.wait(0)
        bell.close()

    def test_a_ring_is_kept_for_the_next_wait(self, driver: Driver) -> None:
        """A ring between the look and the wait is not lost, and many are one."""
        bell = listener(driver)
        bell.ring()
        bell.ring()
        assert bell.wait(PATIENCE)
        assert not bell.wait(0)
        bell.close()

    def test_an_insert_rings(self, driver: Driver) -> None:
        """New work wakes whoever waits, also work for later: the next due time may have changed."""
        bell = listener(driver)
        put(driver)
        assert bell.wait(PATIENCE)
        put(driver, delay=5)
        assert bell.wait(PATIENCE)
        bell.close()

    def test_a_change_that_makes_work_rings(self, driver: Driver) -> None:
        """Retry and resume wake, as does a signal to a running job."""
        record = run_one(driver)
        bell = listener(driver)
        cancel(driver, record)
        assert bell.wait(PATIENCE)
        retry(driver, record, force=True)
        assert bell.wait(PATIENCE)
        driver.pause("queue", record.queue, True)
        bell.wait(0)
        driver.pause("queue", record.queue, False)
        assert bell.wait(PATIENCE)
        bell.close()

    def test_work_given_back_rings(self, driver: Driver) -> None:
        """A released job is work for the others."""
        record = run_one(driver)
        bell = listener(driver)
        settle(driver, record, lifecycle.release(record))
        assert bell.wait(PATIENCE)
        bell.close()
