"""Promises about the end of a lease: fencing, outcomes and history."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from windlass import lifecycle
from windlass.drivers.base import PastAttempt, Turn
from windlass.job import Outcome, Status
from windlass.testing.conformance.bench import (
    CRASH,
    ERROR,
    TASK,
    WORKER,
    assert_counted,
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
    totals,
)

if TYPE_CHECKING:
    from windlass.drivers.base import Driver
    from windlass.job import Record


def outcomes(driver: Driver, record: Record) -> list[tuple[int, str]]:
    """Return the number and outcome of each ended attempt."""
    return [(past.number, past.outcome) for past in driver.history(record.id)]


class Settling:
    """What ``exchange`` promises about settlements."""

    # ------------------------------------------------------------------ outcomes

    def test_success_completes(self, driver: Driver) -> None:
        """A completed job keeps its result, its end, its worker and one row of history."""
        record = run_one(driver)
        driver.shift(3)
        ended = driver.now()
        settlement = lifecycle.Settlement(record, lifecycle.succeed(record, b'{"n":1}'), ended)
        assert driver.exchange(Turn(worker=WORKER, settlements=[settlement])).refused == []
        done = stored(driver, record)
        assert (done.status, done.result, done.lease) == (Status.COMPLETED, b'{"n":1}', 0)
        assert done.finished_at == pytest.approx(ended, abs=1e-6)
        assert (done.attempt, done.failures, done.crashes, done.worker) == (1, 0, 0, WORKER)
        assert done.started_at == record.started_at
        [past] = driver.history(record.id)
        expected = PastAttempt(1, WORKER, record.started_at, done.finished_at, "completed", None)
        assert past == expected
        assert take(driver) == []
        assert_counted(driver)

    def test_failure_with_a_delay_is_retrying(self, driver: Driver) -> None:
        """A failed job waits for its time, then comes back with its failures and last error."""
        record = run_one(driver)
        fail(driver, record, delay=10)
        waiting = stored(driver, record)
        assert (waiting.status, waiting.failures, waiting.attempt) == (Status.RETRYING, 1, 1)
        assert waiting.run_at == pytest.approx(driver.now() + 10, abs=5)
        assert (waiting.error, waiting.finished_at, waiting.lease) == (ERROR, None, 0)
        assert take(driver) == []
        driver.shift(16)
        [again] = take(driver)
        assert (again.id, again.attempt, again.failures, again.error) == (record.id, 2, 1, ERROR)
        assert outcomes(driver, record) == [(1, "failed")]
        assert_counted(driver)

    def test_failure_without_a_delay_is_pending_behind_the_others(self, driver: Driver) -> None:
        """A back-off of zero goes to the end of the line at once."""
        record = run_one(driver)
        other = put(driver)
        fail(driver, record, delay=0)
        assert stored(driver, record).status is Status.PENDING
        assert [r.id for r in take(driver, 2)] == [other.id, record.id]

    def test_the_last_failure_is_dead(self, driver: Driver) -> None:
        """Without tries left the job ends dead, with its error and every attempt in history."""
        record = run_one(driver)
        fail(driver, record, max_attempts=2, delay=0)
        [again] = take(driver)
        fail(driver, again, max_attempts=2)
        dead = stored(driver, record)
        assert (dead.status, dead.failures, dead.attempt, dead.error) == (Status.DEAD, 2, 2, ERROR)
        assert dead.finished_at is not None
        assert outcomes(driver, record) == [(1, "failed"), (2, "failed")]
        assert [past.error for past in driver.history(record.id)] == [ERROR, ERROR]
        assert_counted(driver)

    def test_discard_is_dead_at_once(self, driver: Driver) -> None:
        """A discarded job counts one failure and is not tried again."""
        record = run_one(driver)
        settle(driver, record, lifecycle.discard(record, ERROR))
        assert (stored(driver, record).status, stored(driver, record).failures) == (Status.DEAD, 1)
        assert outcomes(driver, record) == [(1, "failed")]

    def test_snooze_counts_nothing(self, driver: Driver) -> None:
        """A snoozed job is scheduled, without a failure."""
        record = run_one(driver)
        settle(driver, record, lifecycle.snooze(record, 30, now=driver.now()))
        waiting = stored(driver, record)
        assert (waiting.status, waiting.failures, waiting.crashes, waiting.attempt) == (Status.SCHEDULED, 0, 0, 1)
        assert outcomes(driver, record) == [(1, "snoozed")]
        driver.shift(40)
        assert take(driver)[0].attempt == 2
        assert_counted(driver)

    def test_a_released_job_keeps_its_place(self, driver: Driver) -> None:
        """What was given back goes before those that came later, with a row of history and its old ``run_at``."""
        first = run_one(driver)
        second = put(driver)
        settle(driver, first, lifecycle.release(first))
        assert stored(driver, first).run_at == first.run_at
        assert [r.id for r in take(driver, 2)] == [first.id, second.id]
        assert outcomes(driver, first) == [(1, "released")]

    def test_a_released_job_may_wait(self, driver: Driver) -> None:
        """Giving back with a delay makes it scheduled."""
        record = run_one(driver)
        settle(driver, record, lifecycle.release(record, delay=10, now=driver.now()))
        assert stored(driver, record).status is Status.SCHEDULED
        driver.shift(20)
        assert len(take(driver)) == 1

    def test_a_prefetched_job_returns_free(self, driver: Driver) -> None:
        """One that never started keeps its place and leaves no trace: no attempt, no history, no counters."""
        driver.insert([job() for _ in range(3)])
        before = totals(driver)
        claims = take(driver, 3, start=0)
        for record in reversed(claims):
            settle(driver, record, lifecycle.release(record))
        assert totals(driver) == before
        back = [stored(driver, record) for record in claims]
        assert [(r.status, r.attempt, r.started_at, r.worker) for r in back] == [(Status.PENDING, 0, None, None)] * 3
        assert all(driver.history(r.id) == [] for r in claims)
        assert [r.id for r in take(driver, 3)] == [r.id for r in claims]

    def test_a_lost_attempt_is_a_crash(self, driver: Driver) -> None:
        """A started job of a lost worker counts a crash and comes back; after too many it is dead."""
        record = run_one(driver)
        settle(driver, record, lifecycle.lose(record, CRASH, max_crashes=2), worker="rescuer")
        back = stored(driver, record)
        assert (back.status, back.crashes, back.failures, back.error) == (Status.PENDING, 1, 0, CRASH)
        [again] = take(driver)
        settle(driver, again, lifecycle.lose(again, CRASH, max_crashes=2), worker="rescuer")
        assert stored(driver, record).status is Status.DEAD
        assert stored(driver, record).crashes == 2
        assert outcomes(driver, record) == [(1, "lost"), (2, "lost")]
        assert_counted(driver)

    def test_a_lost_prefetched_job_is_no_crash(self, driver: Driver) -> None:
        """What had not started is given back free."""
        put(driver)
        [record] = take(driver, start=0)
        settle(driver, record, lifecycle.lose(record, CRASH, max_crashes=1), worker="rescuer")
        back = stored(driver, record)
        assert (back.status, back.crashes, back.attempt, back.error) == (Status.PENDING, 0, 0, None)
        assert driver.history(record.id) == []

    def test_a_cancelled_attempt_ends_cancelled(self, driver: Driver) -> None:
        """A handler that stopped because it was asked to leaves a cancelled job and a row."""
        record = run_one(driver)
        cancel(driver, record)
        settle(driver, record, lifecycle.cancelled(record))
        assert stored(driver, record).status is Status.CANCELLED
        assert stored(driver, record).cancel is False
        assert outcomes(driver, record) == [(1, "cancelled")]
        assert_counted(driver)

    def test_a_claim_that_came_too_late_leaves_no_attempt(self, driver: Driver) -> None:
        """It is cancelled with its reason, as if it had not been claimed; retried by hand it runs for the first time."""
        record = run_one(driver)
        settle(driver, record, lifecycle.expire(record, ERROR))
        late = stored(driver, record)
        assert (late.status, late.attempt, late.error, late.lease) == (Status.CANCELLED, 0, ERROR, 0)
        assert late.finished_at is not None
        assert driver.history(record.id) == []
        assert (totals(driver)["cancelled"], totals(driver)["released"]) == (1, 0)
        retry(driver, record)
        [again] = take(driver)
        assert (again.id, again.attempt) == (record.id, 1)
        assert_counted(driver)

    def test_a_prefetched_job_can_start_and_end(self, driver: Driver) -> None:
        """The start mark and the settlement agree about the attempt."""
        put(driver)
        [prefetched] = take(driver, start=0)
        started = begin(driver, prefetched)
        assert succeed(driver, started).refused == []
        [past] = driver.history(started.id)
        assert (past.number, past.started_at, past.outcome) == (1, started.started_at, "completed")

    def test_history_has_a_row_for_every_outcome(self, driver: Driver) -> None:
        """Attempts are listed oldest first, the final one too."""
        record = run_one(driver)
        fail(driver, record, delay=0)
        [record] = take(driver)
        settle(driver, record, lifecycle.snooze(record, 0, now=driver.now()))
        [record] = take(driver)
        settle(driver, record, lifecycle.release(record))
        [record] = take(driver)
        settle(driver, record, lifecycle.lose(record, CRASH, max_crashes=3))
        [record] = take(driver)
        succeed(driver, record)
        expected = [Outcome.FAILED, Outcome.SNOOZED, Outcome.RELEASED, Outcome.LOST, Outcome.COMPLETED]
        assert outcomes(driver, record) == [(n, o.value) for n, o in enumerate(expected, 1)]
        assert stored(driver, record).error == CRASH
        rows = driver.history(record.id)
        assert all(r.worker == WORKER and r.started_at is not None and r.finished_at is not None for r in rows)

    # ------------------------------------------------------------------ fencing

    def test_a_second_settlement_is_refused(self, driver: Driver) -> None:
        """A lease ends once; the second end is reported and changes nothing."""
        record = run_one(driver)
        succeed(driver, record, b"1")
        before, counted = stored(driver, record), totals(driver)
        assert fail(driver, record).refused == [(record.id, record.lease)]
        assert stored(driver, record) == before
        assert totals(driver) == counted
        assert len(driver.history(record.id)) == 1

    def test_two_ends_in_one_turn_count_once(self, driver: Driver) -> None:
        """The first of two settlements of a lease in one turn applies, the second is refused."""
        record = run_one(driver)
        now = driver.now()
        ends = [lifecycle.succeed(record), lifecycle.discard(record, ERROR)]
        settlements = [lifecycle.Settlement(record, end, now) for end in ends]
        turned = driver.exchange(Turn(worker=WORKER, settlements=settlements))
        assert turned.refused == [(record.id, record.lease)]
        assert stored(driver, record).status is Status.COMPLETED
        assert len(driver.history(record.id)) == 1
        assert_counted(driver)

    def test_a_stale_lease_is_refused(self, driver: Driver) -> None:
        """The holder of an older lease cannot end the newer one."""
        old = run_one(driver)
        settle(driver, old, lifecycle.release(old))
        [new] = take(driver, worker="worker-2")
        assert succeed(driver, old).refused == [(old.id, old.lease)]
        assert stored(driver, new) == new
        assert succeed(driver, new).refused == []

    def test_a_stale_end_does_not_spoil_the_good_one(self, driver: Driver) -> None:
        """Ends of an old and of the live lease of one job in one turn: the old is refused, the live applies."""
        old = run_one(driver)
        settle(driver, old, lifecycle.release(old))
        [new] = take(driver)
        settlements = [lifecycle.Settlement(r, lifecycle.succeed(r), driver.now()) for r in (old, new)]
        turned = driver.exchange(Turn(worker=WORKER, settlements=settlements))
        assert turned.refused == [(old.id, old.lease)]
        assert stored(driver, new).status is Status.COMPLETED
        assert_counted(driver)

    def test_a_rescued_job_cannot_be_ended_by_the_dead(self, driver: Driver) -> None:
        """A worker that wakes up after it was declared lost and rescued is refused."""
        beat(driver)
        record = run_one(driver)
        driver.bury([WORKER])
        [orphan] = driver.orphans(10)
        settle(driver, orphan, lifecycle.lose(orphan, CRASH, max_crashes=3), worker="rescuer")
        assert succeed(driver, record).refused == [(record.id, record.lease)]
        assert stored(driver, record).status is Status.PENDING

    def test_a_settlement_of_a_waiting_job_is_refused(self, driver: Driver) -> None:
        """Nobody without a lease can end a job, not even with a lease of zero."""
        record = put(driver)
        assert succeed(driver, record).refused == [(record.id, 0)]
        assert stored(driver, record) == record
        gone = run_one(driver, task=TASK)
        succeed(driver, gone)
        driver.purge({Status.COMPLETED: 0.0}, 10)
        assert succeed(driver, gone).refused == [(gone.id, gone.lease)]

    def test_refused_and_good_settlements_travel_together(self, driver: Driver) -> None:
        """A refused one does not hold up its neighbours."""
        driver.insert([job() for _ in range(3)])
        claims = take(driver, 3)
        succeed(driver, claims[1])
        settlements = [lifecycle.Settlement(r, lifecycle.succeed(r), driver.now()) for r in claims]
        turned = driver.exchange(Turn(worker=WORKER, settlements=settlements))
        assert turned.refused == [(claims[1].id, claims[1].lease)]
        assert all(stored(driver, r).status is Status.COMPLETED for r in claims)
        assert totals(driver)["processed"] == 3

    def test_a_forced_retry_fences_the_lease(self, driver: Driver) -> None:
        """The running attempt is given back in history, its late end refused, the job free."""
        record = run_one(driver)
        assert retry(driver, record, force=True).transition is not None
        assert stored(driver, record).status is Status.PENDING
        assert succeed(driver, record).refused == [(record.id, record.lease)]
        assert outcomes(driver, record) == [(1, "released")]
        assert take(driver)[0].attempt == 2
        assert_counted(driver)
