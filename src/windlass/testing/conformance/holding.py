"""Promises about unique keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from windlass import lifecycle
from windlass.errors import JobStateError, UniqueConflictError
from windlass.job import ALWAYS, BIT, Failure, Hold, Status, first_record
from windlass.testing.conformance.bench import (
    CRASH,
    EVERYTHING,
    assert_counted,
    cancel,
    delete,
    fail,
    job,
    put,
    retry,
    settle,
    stored,
    succeed,
    take,
    totals,
    turn,
)

if TYPE_CHECKING:
    from windlass.drivers.base import Driver
    from windlass.job import Record

LIVE = BIT[Status.SCHEDULED] | BIT[Status.PENDING] | BIT[Status.RUNNING] | BIT[Status.RETRYING]
WAITS = BIT[Status.SCHEDULED] | BIT[Status.PENDING]


def holding(key: str = "k", mask: int = LIVE, **options: Any) -> dict[str, Any]:
    """Return the options of a job that holds a key."""
    return {"holds": (Hold(key, mask, **options),)}


def superseded(driver: Driver, record: Record, rival: Record) -> bool:
    """Whether a job was cancelled because of another."""
    now = stored(driver, record)
    assert now.status is Status.CANCELLED
    assert now.error is not None
    return msgspec.json.decode(now.error, type=Failure).message == f"superseded by #{rival.id}"


class Holding:
    """At most one job has a key at a time."""

    def test_a_second_job_with_a_held_key_is_not_stored(self, driver: Driver) -> None:
        """The insert returns the job that is there, and says so."""
        first = put(driver, **holding())
        again = put(driver, payload=b'{"n":2}', **holding())
        assert not first.found
        assert again.found
        assert (again.id, again.payload) == (first.id, first.payload)
        assert driver.count(EVERYTHING, most=10) == 1
        assert totals(driver)["enqueued"] == 1
        assert driver.holder("k") == stored(driver, first)
        assert_counted(driver)

    def test_other_keys_do_not_meet(self, driver: Driver) -> None:
        """Keys are compared as a whole."""
        assert not any(put(driver, **holding(key)).found for key in ("a", "A", "a ", "b", "ü", "a:b"))

    def test_two_of_one_insert_are_one(self, driver: Driver) -> None:
        """Within one call the first wins, and the others are it."""
        others = [job(), job(**holding("other"))]
        records = driver.insert([job(**holding()), others[0], job(**holding()), others[1], job(**holding())])
        assert [r.found for r in records] == [False, False, True, False, True]
        assert len({r.id for r in records}) == 3
        assert records[2].id == records[4].id == records[0].id
        assert_counted(driver)

    @pytest.mark.parametrize("ends", ["completed", "dead", "cancelled", "deleted"])
    def test_a_key_is_free_when_its_job_has_ended(self, driver: Driver, ends: str) -> None:
        """However it ends."""
        first = put(driver, **holding())
        match ends:
            case "completed":
                succeed(driver, take(driver)[0])
            case "dead":
                fail(driver, take(driver)[0], max_attempts=1)
            case "cancelled":
                cancel(driver, first)
            case _:
                delete(driver, first)
        assert driver.holder("k") is None
        again = put(driver, **holding())
        assert not again.found
        assert again.id != first.id

    def test_a_key_is_held_through_every_live_status(self, driver: Driver) -> None:
        """Scheduled, pending, running, retrying: no gap in between."""
        first = put(driver, delay=10, **holding())
        assert put(driver, **holding()).found
        driver.shift(11)
        turn(driver)
        assert put(driver, **holding()).found
        [running] = take(driver)
        assert put(driver, **holding()).found
        fail(driver, running, delay=5)
        assert put(driver, **holding()).found
        driver.shift(6)
        [running] = take(driver)
        assert running.id == first.id
        settle(driver, running, lifecycle.snooze(running, 3, now=driver.now()))
        assert put(driver, **holding()).found
        driver.shift(4)
        [running] = take(driver)
        settle(driver, running, lifecycle.release(running))
        assert put(driver, **holding()).found
        assert take(driver)[0].id == first.id

    def test_a_key_held_while_waiting_is_free_when_the_job_starts(self, driver: Driver) -> None:
        """The claim gives it up, in the same step."""
        first = put(driver, **holding(mask=WAITS))
        take(driver)
        second = put(driver, **holding(mask=WAITS))
        assert not second.found
        assert driver.holder("k") == stored(driver, second)
        assert second.id != first.id

    def test_an_insert_that_must_not_meet_raises_and_stores_nothing(self, driver: Driver) -> None:
        """The error has the job that is there."""
        first = put(driver, **holding())
        with pytest.raises(UniqueConflictError) as raised:
            driver.insert([job(**holding(strict=True))])
        assert raised.value.existing.id == first.id
        if driver.capabilities.atomic_bulk:
            with pytest.raises(UniqueConflictError):
                driver.insert([job(), job(**holding("new")), job(**holding(strict=True))])
            assert driver.count(EVERYTHING, most=10) == 1
            assert driver.holder("new") is None
        assert not driver.insert([job(**holding("free", strict=True))])[0].found

    def test_a_retry_that_finds_its_key_free_takes_it(self, driver: Driver) -> None:
        """It keeps others out again."""
        put(driver, **holding())
        [first] = take(driver)
        fail(driver, first, max_attempts=1)
        assert retry(driver, first).error is None
        assert put(driver, **holding()).found

    def test_a_retry_by_hand_is_refused_while_another_has_the_key(self, driver: Driver) -> None:
        """The error has the other one; nothing changes."""
        put(driver, **holding())
        [first] = take(driver)
        fail(driver, first, max_attempts=1)
        second = put(driver, **holding())
        changed = retry(driver, first)
        assert isinstance(changed.error, UniqueConflictError)
        assert changed.error.existing.id == second.id
        assert stored(driver, first).status is Status.DEAD
        assert driver.holder("k") == stored(driver, second)

    def test_a_failed_attempt_whose_key_is_taken_cancels_its_job(self, driver: Driver) -> None:
        """It would wait again beside the one that has the key: the later one, it, gives way."""
        put(driver, **holding(mask=WAITS | BIT[Status.RETRYING]))
        [first] = take(driver)
        second = put(driver, **holding(mask=WAITS | BIT[Status.RETRYING]))
        fail(driver, first, delay=5)
        assert superseded(driver, first, second)
        assert stored(driver, second).status is Status.PENDING
        assert driver.holder("k") == stored(driver, second)
        assert [past.outcome for past in driver.history(first.id)] in ([], ["failed"])
        assert totals(driver)["cancelled"] == 1
        assert_counted(driver)

    def test_a_job_that_becomes_due_beside_the_holder_is_cancelled(self, driver: Driver) -> None:
        """Promotion cannot ask anybody."""
        put(driver, **holding(mask=WAITS))
        [first] = take(driver)
        fail(driver, first, delay=5)
        second = put(driver, **holding(mask=WAITS))
        assert not second.found
        driver.shift(6)
        claims = take(driver, 5)
        assert superseded(driver, first, second)
        assert [r.id for r in claims] == [second.id]
        assert_counted(driver)

    def test_a_job_that_becomes_due_takes_its_free_key(self, driver: Driver) -> None:
        """Retrying it held nothing; pending it does."""
        put(driver, **holding(mask=WAITS))
        [first] = take(driver)
        fail(driver, first, delay=5)
        assert driver.holder("k") is None
        driver.shift(6)
        turn(driver)
        assert put(driver, **holding(mask=WAITS)).id == first.id

    def test_a_lost_job_whose_key_is_taken_is_cancelled(self, driver: Driver) -> None:
        """A rescue cannot ask anybody either, and must not leave the job running."""
        put(driver, **holding(mask=WAITS))
        [first] = take(driver)
        second = put(driver, **holding(mask=WAITS))
        [changed] = driver.change([first.id], lambda record, _: lifecycle.lose(record, CRASH, max_crashes=3))
        assert changed.error is None
        assert changed.transition is not None
        assert changed.transition.status is Status.CANCELLED
        assert superseded(driver, first, second)
        assert_counted(driver)

    def test_a_lost_job_that_had_not_started_gives_way_too(self, driver: Driver) -> None:
        """It is given back, not lost; there is nobody to be told all the same."""
        put(driver, **holding(mask=WAITS))
        [first] = take(driver, start=0)
        second = put(driver, **holding(mask=WAITS))
        [changed] = driver.change([first.id], lambda record, _: lifecycle.lose(record, CRASH, max_crashes=3))
        assert changed.error is None
        assert superseded(driver, first, second)
        assert driver.history(first.id) == []
        assert_counted(driver)

    def test_a_window_outlasts_the_job(self, driver: Driver) -> None:
        """A throttle: from the job's creation, whatever becomes of it."""
        first = put(driver, **holding(window=60.0))
        succeed(driver, take(driver)[0])
        again = put(driver, **holding(window=60.0))
        assert again.found
        assert again.id == first.id
        assert again.status is Status.COMPLETED
        driver.shift(61)
        assert driver.holder("k") is None
        second = put(driver, **holding(window=60.0))
        assert not second.found
        assert put(driver, **holding(window=60.0)).id == second.id

    def test_a_live_job_is_held_beyond_its_window(self, driver: Driver) -> None:
        """The window is a least."""
        first = put(driver, **holding(window=5.0))
        driver.shift(10)
        assert put(driver, **holding(window=5.0)).id == first.id

    def test_a_deleted_job_holds_nothing(self, driver: Driver) -> None:
        """Neither its window nor its idempotency key; nor a purged one."""
        first = put(driver, idempotency_key="i", **holding(window=60.0))
        cancel(driver, first)
        assert driver.purge({Status.CANCELLED: 0}, 10) == 1
        assert driver.holder("k") is None
        assert driver.by_key("i") is None
        assert not put(driver, idempotency_key="i", **holding(window=60.0)).found

    def test_an_idempotency_key_is_held_while_its_job_is_there(self, driver: Driver) -> None:
        """Over all statuses."""
        first = put(driver, idempotency_key="i")
        assert put(driver, idempotency_key="i").found
        succeed(driver, take(driver)[0])
        again = put(driver, idempotency_key="i")
        assert again.found
        assert again.id == first.id
        assert again.status is Status.COMPLETED
        retry(driver, first, force=True)
        assert put(driver, idempotency_key="i").id == first.id
        cancel(driver, first)
        delete(driver, first)
        assert not put(driver, idempotency_key="i").found

    def test_two_keys_of_one_job_are_both_held(self, driver: Driver) -> None:
        """The idempotency key and the unique key; either keeps others out."""
        first = put(driver, idempotency_key="i", **holding())
        assert put(driver, idempotency_key="i").id == first.id
        assert put(driver, **holding()).id == first.id
        succeed(driver, take(driver)[0])
        assert not put(driver, **holding()).found
        assert put(driver, idempotency_key="i").id == first.id

    def test_a_waiting_job_takes_over_what_a_newer_one_brings(self, driver: Driver) -> None:
        """Payload, options and time; its id, its place in history and its keys stay."""
        first = put(driver, delay=10, max_attempts=2, **holding())
        newer = first_record(
            job(payload=b'{"n":2}', delay=30, max_attempts=7, timeout=3.0, meta=b'{"a":1}', terms=b'{"x":1}'),
            0,
            driver.now(),
        )
        [changed] = driver.change([first.id], lambda record, now: lifecycle.replace(record, newer, now=now))
        assert changed.error is None
        now = stored(driver, first)
        assert (now.payload, now.max_attempts, now.timeout) == (b'{"n":2}', 7, 3.0)
        assert (now.meta, now.terms) == (b'{"a":1}', b'{"x":1}')
        assert now.status is Status.SCHEDULED
        assert now.run_at == pytest.approx(newer.run_at)
        assert put(driver, **holding()).id == first.id
        driver.shift(31)
        [running] = take(driver)
        assert running.payload == b'{"n":2}'
        [changed] = driver.change([first.id], lambda record, now: lifecycle.replace(record, newer, now=now))
        assert isinstance(changed.error, JobStateError)

    def test_a_key_always_has_its_mask(self, driver: Driver) -> None:
        """A mask of every status is held as long as the row is there."""
        first = put(driver, **holding(mask=ALWAYS))
        succeed(driver, take(driver)[0])
        assert put(driver, **holding(mask=ALWAYS)).id == first.id
