"""Promises about what people do to jobs: cancel, retry, reschedule, delete, purge."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from windlass import lifecycle
from windlass.drivers.base import Turn
from windlass.errors import JobStateError
from windlass.job import FINISHED, WAITING, Status
from windlass.testing.conformance.bench import (
    ERROR,
    EVERYTHING,
    WORKER,
    assert_counted,
    begin,
    cancel,
    delete,
    fail,
    in_every_status,
    job,
    put,
    retry,
    run_one,
    settle,
    stored,
    succeed,
    take,
    totals,
    turn,
)

if TYPE_CHECKING:
    from windlass.drivers.base import Changed, Driver
    from windlass.job import Record


def reschedule(driver: Driver, record: Record, seconds: float) -> Changed:
    """Move a waiting job to *seconds* from now."""
    [changed] = driver.change([record.id], lambda r, now: lifecycle.reschedule(r, now + seconds, now=now))
    return changed


def run_now(driver: Driver, record: Record) -> Changed:
    """Make a waiting job available."""
    [changed] = driver.change([record.id], lambda r, _: lifecycle.run_now(r))
    return changed


class Managing:
    """What ``change`` and ``purge`` promise."""

    # ------------------------------------------------------------------ change

    def test_change_reports_each_job(self, driver: Driver) -> None:
        """Each id is answered in order: what was, what was done, why not, or that there is no such job."""
        waiting = put(driver)
        changed = driver.change([987_654, waiting.id], lambda r, _: lifecycle.cancel(r))
        assert [c.job_id for c in changed] == [987_654, waiting.id]
        assert (changed[0].before, changed[0].transition) == (None, None)
        assert changed[1].before is not None
        assert changed[1].transition is not None
        again = cancel(driver, waiting)
        assert isinstance(again.error, JobStateError)
        assert again.transition is None

    def test_a_refused_change_changes_nothing(self, driver: Driver) -> None:
        """An illegal move leaves the job and the counters as they were."""
        made = in_every_status(driver)
        before, counted = driver.find(EVERYTHING, limit=100), totals(driver)
        for status in FINISHED:
            assert isinstance(cancel(driver, made[status]).error, JobStateError)
            assert isinstance(run_now(driver, made[status]).error, JobStateError)
            assert isinstance(reschedule(driver, made[status], 5).error, JobStateError)
        for status in (Status.RUNNING, Status.COMPLETED, Status.PENDING, Status.SCHEDULED):
            assert isinstance(retry(driver, made[status]).error, JobStateError)
        assert isinstance(delete(driver, made[Status.RUNNING]).error, JobStateError)
        assert driver.find(EVERYTHING, limit=100) == before
        assert totals(driver) == counted
        assert_counted(driver)

    def test_change_decides_by_the_stored_state_and_clock(self, driver: Driver) -> None:
        """``decide`` sees the job as it is and the store's time."""
        record = put(driver, delay=100)
        driver.shift(50)
        seen: list[tuple[Record, float]] = []

        def decide(found: Record, now: float) -> lifecycle.Transition:
            seen.append((found, now))
            return lifecycle.cancel(found)

        driver.change([record.id], decide)
        assert seen[-1][0] == record
        assert seen[-1][1] == pytest.approx(driver.now(), abs=5)

    # ------------------------------------------------------------------ cancel

    @pytest.mark.parametrize("status", sorted(WAITING))
    def test_a_waiting_job_is_cancelled_at_once(self, driver: Driver, status: Status) -> None:
        """It ends, adds no row of history, and is never claimed."""
        made = in_every_status(driver)[status]
        rows = driver.history(made.id)
        cancel(driver, made)
        gone = stored(driver, made)
        assert gone.status is Status.CANCELLED
        assert gone.finished_at == pytest.approx(driver.now(), abs=5)
        assert driver.history(made.id) == rows
        driver.shift(10_000)
        assert made.id not in [r.id for r in take(driver, 100)]
        assert_counted(driver)

    def test_a_running_job_is_asked_to_stop(self, driver: Driver) -> None:
        """Its lease stays, the request is seen on the job, and its worker may still complete it."""
        record = run_one(driver)
        assert cancel(driver, record).transition is not None
        asked = stored(driver, record)
        assert (asked.status, asked.cancel, asked.lease) == (Status.RUNNING, True, record.lease)
        assert totals(driver)["cancelled"] == 0
        assert succeed(driver, record).refused == []
        assert stored(driver, record).status is Status.COMPLETED
        assert stored(driver, record).cancel is False

    def test_a_prefetched_job_is_cancelled_at_once(self, driver: Driver) -> None:
        """Nobody works on it yet, so its lease is taken away and it ends without a trace."""
        put(driver)
        [record] = take(driver, start=0)
        cancel(driver, record)
        gone = stored(driver, record)
        assert (gone.status, gone.attempt, gone.lease) == (Status.CANCELLED, 0, 0)
        assert succeed(driver, record).refused == [(record.id, record.lease)]
        assert driver.history(record.id) == []
        assert totals(driver)["cancelled"] == 1
        assert_counted(driver)

    def test_a_job_prefetched_again_is_cancelled_at_once(self, driver: Driver) -> None:
        """Earlier attempts do not make a prefetched job look started."""
        record = run_one(driver)
        fail(driver, record, delay=0)
        [record] = take(driver, start=0)
        cancel(driver, record)
        assert stored(driver, record).status is Status.CANCELLED
        assert len(driver.history(record.id)) == 1

    # ------------------------------------------------------------------ retry

    @pytest.mark.parametrize("status", [Status.DEAD, Status.CANCELLED, Status.RETRYING])
    def test_a_job_is_retried_by_hand(self, driver: Driver, status: Status) -> None:
        """It is pending at once, with failures and crashes at zero and its history kept."""
        made = in_every_status(driver)[status]
        rows = driver.history(made.id)
        assert retry(driver, made).transition is not None
        again = stored(driver, made)
        assert (again.status, again.failures, again.crashes, again.attempt) == (Status.PENDING, 0, 0, made.attempt)
        assert (again.finished_at, again.result) == (None, None)
        assert driver.history(made.id) == rows
        assert totals(driver)["retried"] == 2
        assert made.id in [r.id for r in take(driver, 10)]
        assert_counted(driver)

    def test_a_completed_job_is_retried_by_force(self, driver: Driver) -> None:
        """Its result goes, its history stays, and the next attempt is the next number."""
        record = run_one(driver)
        succeed(driver, record, b"1")
        assert retry(driver, record).transition is None
        assert retry(driver, record, force=True).transition is not None
        assert stored(driver, record).result is None
        [again] = take(driver)
        succeed(driver, again, b"2")
        assert [past.number for past in driver.history(record.id)] == [1, 2]
        assert stored(driver, record).result == b"2"
        assert_counted(driver)

    def test_a_retry_may_wait(self, driver: Driver) -> None:
        """A delayed retry is scheduled by the store's clock."""
        made = in_every_status(driver)[Status.DEAD]
        retry(driver, made, delay=60)
        assert stored(driver, made).status is Status.SCHEDULED
        assert stored(driver, made).run_at == pytest.approx(driver.now() + 60, abs=5)
        assert_counted(driver)

    def test_extend_allows_one_more_try(self, driver: Driver) -> None:
        """Failures stay and the number of tries grows, so that the next failure is the last."""
        record = run_one(driver, max_attempts=1)
        fail(driver, record, max_attempts=1)
        retry(driver, record, "extend")
        again = stored(driver, record)
        assert (again.failures, again.max_attempts) == (1, 2)

    def test_extend_without_an_own_limit_counts_from_the_failures(self, driver: Driver) -> None:
        """A job that had the application's limit gets its own: the failures so far and one more."""
        record = run_one(driver)
        fail(driver, record, max_attempts=1)
        retry(driver, record, "extend", max_attempts=1)
        assert stored(driver, record).max_attempts == 2

    def test_extend_leaves_tries_that_were_left(self, driver: Driver) -> None:
        """A job given up early has tries left, so its limit stays."""
        record = run_one(driver, max_attempts=5)
        settle(driver, record, lifecycle.discard(record, ERROR))
        retry(driver, record, "extend")
        assert stored(driver, record).max_attempts == 5

    def test_a_forced_retry_of_a_prefetched_job_leaves_no_row(self, driver: Driver) -> None:
        """Nothing had started, so nothing ended."""
        put(driver)
        [record] = take(driver, start=0)
        retry(driver, record, force=True)
        assert stored(driver, record).status is Status.PENDING
        assert driver.history(record.id) == []
        assert succeed(driver, record).refused == [(record.id, record.lease)]

    # ------------------------------------------------------------------ reschedule

    def test_a_waiting_job_is_moved_in_time(self, driver: Driver) -> None:
        """Later or sooner, from any waiting status; a retrying job stays retrying."""
        made = in_every_status(driver)
        for status in WAITING:
            reschedule(driver, made[status], 500)
            after = stored(driver, made[status])
            assert after.status is (Status.RETRYING if status is Status.RETRYING else Status.SCHEDULED)
            assert after.run_at == pytest.approx(driver.now() + 500, abs=5)
        assert take(driver, 10) == []
        assert_counted(driver)
        driver.shift(600)
        assert {r.id for r in take(driver, 10)} == {made[status].id for status in WAITING}

    def test_a_job_moved_twice_runs_once(self, driver: Driver) -> None:
        """The times it no longer has do not make it run."""
        record = put(driver, delay=10)
        reschedule(driver, record, 100)
        reschedule(driver, record, 50)
        driver.shift(20)
        assert take(driver, 5) == []
        driver.shift(35)
        assert [r.id for r in take(driver, 5)] == [record.id]
        driver.shift(200)
        assert take(driver, 5) == []
        assert_counted(driver)

    def test_an_instant_in_the_past_makes_it_available(self, driver: Driver) -> None:
        """Moving a job to the past is running it now."""
        record = put(driver, delay=100)
        reschedule(driver, record, -5)
        assert stored(driver, record).status is Status.PENDING
        assert [r.id for r in take(driver)] == [record.id]

    def test_run_now_makes_a_waiting_job_available(self, driver: Driver) -> None:
        """A scheduled or retrying job joins the line; a pending one keeps its place in it."""
        first = put(driver)
        later = put(driver, delay=100)
        last = put(driver)
        for record in (later, first):
            assert run_now(driver, record).transition is not None
        assert stored(driver, later).status is Status.PENDING
        assert [r.id for r in take(driver, 5)] == [first.id, last.id, later.id]
        assert take(driver, 5) == []
        assert_counted(driver)

    # ------------------------------------------------------------------ delete and purge

    @pytest.mark.parametrize("status", sorted(set(Status) - {Status.RUNNING}))
    def test_a_deleted_job_is_gone_with_its_history(self, driver: Driver, status: Status) -> None:
        """Nothing of it is left, and it is never claimed; the totals do not fall."""
        made = in_every_status(driver)[status]
        counted = totals(driver)
        assert delete(driver, made).transition is not None
        assert driver.get(made.id) is None
        assert driver.history(made.id) == []
        assert totals(driver) == counted
        driver.shift(10_000)
        assert made.id not in [r.id for r in take(driver, 10)]
        assert_counted(driver)

    @pytest.mark.parametrize("status", sorted(FINISHED))
    def test_purge_takes_the_status_and_age_asked_for(self, driver: Driver, status: Status) -> None:
        """Only the statuses named, only ``finished_at <= now - age``, with their history."""
        made = in_every_status(driver)
        assert driver.purge({status: 3600.0}, 100) == 0
        driver.shift(7200)
        assert driver.purge({status: 3600.0}, 100) == 1
        assert driver.get(made[status].id) is None
        assert driver.history(made[status].id) == []
        assert driver.count(EVERYTHING, most=100) == len(Status) - 1
        assert_counted(driver)

    def test_purge_has_its_boundary_at_the_age_itself(self, driver: Driver) -> None:
        """With age zero, what ended by now goes; what ends later than the cut stays."""
        done = run_one(driver)
        succeed(driver, done)
        late = run_one(driver)
        settlement = lifecycle.Settlement(late, lifecycle.succeed(late), driver.now() + 1000)
        driver.exchange(Turn(worker=WORKER, settlements=[settlement]))
        assert driver.purge({Status.COMPLETED: 0.0}, 100) == 1
        assert driver.get(done.id) is None
        assert stored(driver, late).status is Status.COMPLETED

    def test_purge_is_bounded(self, driver: Driver) -> None:
        """At most *limit* at a time, and it says how many."""
        driver.insert([job() for _ in range(10)])
        for record in take(driver, 10):
            succeed(driver, record)
        assert [driver.purge({Status.COMPLETED: 0.0}, 4) for _ in range(4)] == [4, 4, 2, 0]
        assert_counted(driver)

    def test_purge_can_be_of_one_queue(self, driver: Driver) -> None:
        """The other queues keep theirs."""
        for queue in ("a", "b"):
            succeed(driver, run_one(driver, queue=queue))
        assert driver.purge({Status.COMPLETED: 0.0}, 10, queue="a") == 1
        assert [r.queue for r in driver.find(EVERYTHING, limit=10)] == ["b"]

    def test_purge_spares_what_was_retried(self, driver: Driver) -> None:
        """A job that lives again is not purged for having been dead once."""
        record = run_one(driver)
        fail(driver, record, max_attempts=1)
        retry(driver, record)
        driver.shift(1000)
        assert driver.purge(dict.fromkeys(FINISHED, 0.0), 10) == 0
        [again] = take(driver)
        succeed(driver, again)
        assert driver.purge({Status.DEAD: 0.0}, 10) == 0
        assert driver.purge({Status.COMPLETED: 500.0}, 10) == 0

    def test_totals_never_fall(self, driver: Driver) -> None:
        """Whatever happens to jobs, each counter only grows, and by what the transition says."""
        before = totals(driver)

        def grown(**expected: int) -> None:
            nonlocal before
            now = totals(driver)
            changed = {name: now[name] - before[name] for name in now if now[name] != before[name]}
            assert changed == expected
            before = now
            assert_counted(driver)

        driver.insert([job() for _ in range(3)])
        grown(enqueued=3)
        a, b, c = take(driver, 3)
        grown()
        succeed(driver, a)
        grown(processed=1)
        fail(driver, b)
        grown(failed=1, retried=1)
        fail(driver, c, max_attempts=1)
        grown(failed=1, dead=1)
        cancel(driver, b)
        grown(cancelled=1)
        retry(driver, c)
        grown(retried=1)
        [c] = take(driver)
        settle(driver, c, lifecycle.snooze(c, 5, now=driver.now()))
        grown(snoozed=1)
        run_now(driver, c)
        [c] = take(driver)
        settle(driver, c, lifecycle.release(c))
        grown(released=1)
        [c] = take(driver, start=0)
        c = begin(driver, c)
        settle(driver, c, lifecycle.lose(c, ERROR, max_crashes=1))
        grown(lost=1, dead=1)
        driver.purge(dict.fromkeys(FINISHED, 0.0), 10)
        driver.shift(1)
        driver.purge(dict.fromkeys(FINISHED, 0.0), 10)
        turn(driver)
        grown()
        assert driver.count(EVERYTHING, most=10) == 0
