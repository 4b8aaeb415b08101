"""Promises about schedules: decided about one at a time, and written in one step with their jobs and history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from windlass.drivers.base import Turn
from windlass.drivers.ticking import HELD, TICKS, NewTick, ScheduleMove, ScheduleRecord
from windlass.errors import ScheduleStateError
from windlass.job import ALWAYS, Gate, Hold, Status
from windlass.testing.conformance.bench import (
    EVERYTHING,
    TASK,
    WORKER,
    Bench,
    assert_counted,
    cancel,
    delete,
    fail,
    job,
    put,
    succeed,
    take,
    turn,
)
from windlass.testing.conformance.sharing import THREADS, together
from windlass.testing.conformance.working import listener

if TYPE_CHECKING:
    from collections.abc import Mapping

    from windlass.drivers.base import Driver
    from windlass.drivers.ticking import ScheduleChanged
    from windlass.job import NewJob, Record

NAME = "nightly"
_replace = msgspec.structs.replace


def declare(driver: Driver, name: str = NAME, **options: Any) -> ScheduleRecord:
    """Store a schedule."""
    now = driver.now()
    plain = ScheduleRecord(name=name, definition=b'{"cron":"@daily"}', revision=1, watermark=now, created_at=now)
    new = _replace(plain, **options)
    record = driver.change_schedule(name, lambda *_: ScheduleMove(record=new)).record
    assert record is not None
    return record


def read(driver: Driver, name: str = NAME) -> ScheduleRecord:
    """Read a schedule that must be there."""
    [record] = driver.schedules([name])
    return record


def fire(driver: Driver, *ticks: NewTick, name: str = NAME, **options: Any) -> ScheduleChanged:
    """Write ticks, and what else is said."""

    def decide(record: ScheduleRecord | None, _live: Mapping[str, int], _now: float) -> ScheduleMove:
        assert record is not None
        return ScheduleMove(record=_replace(record, **options), ticks=ticks)

    return driver.change_schedule(name, decide)


def live(driver: Driver, name: str = NAME) -> dict[str, int]:
    """Return the jobs that a decision is told of."""
    told: list[dict[str, int]] = []
    driver.change_schedule(name, lambda _, live, __: told.append(dict(live)))
    return told[-1]


def tick(at: float, *, queue: str = "default", made: NewJob | None = None, **options: Any) -> NewTick:
    """Make a tick that fires."""
    made = made if made is not None else job(queue=queue, tick=at, **options)
    return NewTick(tick=at, outcome="fired", queue=queue, job=made)


class Ticking(Bench):
    """Fired once, by whoever comes first; every tick accounted for."""

    def test_a_schedule_is_kept_as_it_was_decided(self, driver: Driver) -> None:
        """Every field comes back, to the last bit of an instant."""
        given: dict[str, Any] = {
            "definition": '{"cron":"@daily","n":"ü"}'.encode(),
            "revision": 7,
            "watermark": 1767268800.1234567,
            "created_at": 1767268799.25,
            "paused_at": 1767268801.5,
            "fired": 3,
        }
        record = declare(driver, **given)
        assert read(driver) == record
        assert {name: getattr(record, name) for name in given} == given
        assert (record.name, record.rows, record.jobs) == (NAME, 0, {})
        assert fire(driver, paused_at=None).record == read(driver)
        assert read(driver).paused_at is None

    def test_a_name_that_none_has_is_decided_about_too(self, driver: Driver) -> None:
        """With nothing to write, nothing is there."""
        declare(driver, "other")
        told: list[Any] = []
        changed = driver.change_schedule(NAME, lambda *seen: told.append(seen))
        assert (changed.record, list(changed.ticks), list(changed.jobs)) == (None, [], [])
        assert told[0][:2] == (None, {})
        assert driver.schedules([NAME]) == []

    def test_a_decision_is_told_the_time_of_the_store(self, driver: Driver) -> None:
        """Not this process's."""
        declare(driver)
        driver.shift(3600)
        before = driver.now()
        told: list[float] = []
        driver.change_schedule(NAME, lambda _, __, now: told.append(now))
        assert before - 1 <= told[-1] <= driver.now() + 1

    def test_schedules_are_listed_by_name(self, driver: Driver) -> None:
        """All of them, or those that are asked for."""
        for name in ("b", "ü", "a"):
            declare(driver, name)
        assert [record.name for record in driver.schedules()] == ["a", "b", "ü"]
        assert [record.name for record in driver.schedules(["b", "nobody", "a"])] == ["a", "b"]
        assert driver.schedules([]) == []

    def test_a_tick_is_written_with_its_jobs(self, driver: Driver) -> None:
        """The watermark, the jobs, the rows of history and the last job of each queue."""
        record = declare(driver)
        at = record.watermark
        changed = fire(driver, tick(at + 60.5, queue="eu"), tick(at + 60.5, queue="us"), watermark=at + 60.5, fired=1)
        first, second = changed.jobs
        assert [(r.queue, r.tick, r.status) for r in changed.jobs] == [
            ("eu", at + 60.5, Status.PENDING),
            ("us", at + 60.5, Status.PENDING),
        ]
        after = read(driver)
        assert after == changed.record
        assert (after.watermark, after.fired, after.rows) == (at + 60.5, 1, 2)
        assert after.jobs == {"eu": first.id, "us": second.id}
        rows = driver.ticks(NAME, 10)
        assert rows == list(reversed(changed.ticks))
        assert [(r.number, r.tick, r.outcome, r.queue, r.job_id) for r in rows] == [
            (2, at + 60.5, "fired", "us", second.id),
            (1, at + 60.5, "fired", "eu", first.id),
        ]
        assert all(at <= row.at <= driver.now() + 1 for row in rows)
        assert [r.id for r in take(driver, 10)] == [first.id, second.id]
        assert_counted(driver)

    def test_a_job_of_a_tick_may_be_for_later(self, driver: Driver) -> None:
        """It is scheduled, and a turn says when it is due."""
        record = declare(driver)
        changed = fire(driver, tick(record.watermark, run_at=driver.now() + 100))
        assert changed.jobs[0].status is Status.SCHEDULED
        assert turn(driver).due == changed.jobs[0].run_at
        assert live(driver) == {"default": changed.jobs[0].id}

    def test_a_tick_that_is_skipped_is_kept_with_its_reason(self, driver: Driver) -> None:
        """Alone, or as the last of several; no job is stored."""
        record = declare(driver)
        at = record.watermark
        skipped = (
            NewTick(tick=at + 600, outcome="missed", count=9, first=at + 60),
            NewTick(tick=at + 660, outcome="missed", count=None, first=at + 60),
            NewTick(tick=at + 720, outcome="overlap", queue="eu", other=5),
        )
        changed = fire(driver, *skipped, watermark=at + 720)
        assert changed.jobs == []
        rows = [
            (r.tick, r.outcome, r.count, r.first, r.queue, r.other, r.job_id) for r in reversed(driver.ticks(NAME, 5))
        ]
        assert rows == [(t.tick, t.outcome, t.count, t.first, t.queue, t.other, None) for t in skipped]
        assert driver.count(EVERYTHING, most=10) == 0

    def test_a_decision_is_told_which_of_its_last_jobs_have_not_ended(self, driver: Driver) -> None:
        """Waiting, running and retrying ones have not; ended, deleted and unknown ones have."""
        declare(driver)
        assert live(driver) == {}
        fire(driver, *(tick(1.0, queue=queue) for queue in "abcdef"))
        ids = dict(read(driver).jobs)
        claims = {record.queue: record for record in take(driver, 5)}
        succeed(driver, claims["a"])
        fail(driver, claims["b"], delay=10)
        fail(driver, claims["c"], max_attempts=1)
        cancel(driver, next(r for r in driver.find(EVERYTHING, limit=9) if r.queue == "f"))
        assert live(driver) == {queue: ids[queue] for queue in "bde"}
        assert read(driver).jobs == ids
        delete(driver, next(r for r in driver.find(EVERYTHING, limit=9) if r.queue == "b"))
        assert live(driver) == {queue: ids[queue] for queue in "de"}

    def test_the_last_job_of_a_queue_is_the_newest(self, driver: Driver) -> None:
        """Of several in one step too; a queue that got none keeps the one it had."""
        declare(driver)
        fire(driver, tick(1.0, queue="eu"), tick(1.0, queue="us"))
        eu, us = (read(driver).jobs[queue] for queue in ("eu", "us"))
        changed = fire(driver, tick(2.0, queue="eu"), tick(3.0, queue="eu"))
        assert read(driver).jobs == {"eu": changed.jobs[1].id, "us": us}
        assert changed.jobs[1].id > changed.jobs[0].id > eu

    def test_a_job_whose_key_is_held_is_not_stored(self, driver: Driver) -> None:
        """The row says which job has the key, and the last job of the queue is who it was."""
        declare(driver)
        holder = put(driver, holds=(Hold("k", ALWAYS),))
        before = dict(fire(driver, tick(1.0)).record.jobs)  # type: ignore[union-attr]
        changed = fire(driver, tick(2.0, holds=(Hold("k", ALWAYS),)), tick(3.0, queue="other"))
        assert [(row.outcome, row.job_id, row.other) for row in changed.ticks] == [
            (HELD, None, holder.id),
            ("fired", changed.jobs[0].id, None),
        ]
        assert read(driver).jobs == before | {"other": changed.jobs[0].id}
        assert driver.ticks(NAME, 2) == list(reversed(changed.ticks))
        assert_counted(driver)

    def test_a_key_keeps_a_tick_from_firing_again(self, driver: Driver) -> None:
        """Whatever the watermark says; the same within one step."""
        declare(driver)
        first = fire(driver, tick(1.0, idempotency_key="nightly:1"), tick(1.0, idempotency_key="nightly:1"))
        again = fire(driver, tick(1.0, idempotency_key="nightly:1"))
        assert len(first.jobs) == 1
        assert again.jobs == []
        assert [row.other for row in (*first.ticks, *again.ticks)] == [None, first.jobs[0].id, first.jobs[0].id]

    def test_jobs_of_ticks_pass_gates(self, driver: Driver) -> None:
        """As they do however they were enqueued."""
        declare(driver)
        gate = Gate("limit:schedule:nightly:default", 1)
        first, second = fire(driver, *(tick(at, gates=(gate,)) for at in (1.0, 2.0))).jobs
        assert [r.id for r in take(driver, 5)] == [first.id]
        assert driver.blocked_by(second.id) == gate.key or take(driver, 5) == []

    def test_history_is_read_backwards_in_pages(self, driver: Driver) -> None:
        """And is each schedule's own."""
        declare(driver)
        declare(driver, "other")
        fire(driver, *(NewTick(tick=float(n), outcome="missed") for n in range(1, 8)))
        fire(driver, NewTick(tick=9.0, outcome="paused"), name="other")
        assert [row.number for row in driver.ticks(NAME, 3)] == [7, 6, 5]
        assert [row.number for row in driver.ticks(NAME, 3, before=5)] == [4, 3, 2]
        assert [row.number for row in driver.ticks(NAME, 3, before=2)] == [1]
        assert [row.outcome for row in driver.ticks("other", 3)] == ["paused"]
        assert driver.ticks("nobody", 3) == []

    def test_the_newest_rows_of_history_are_kept(self, driver: Driver) -> None:
        """Numbers go on."""
        declare(driver)
        for start in (0, 700):
            fire(driver, *(NewTick(tick=float(start + n), outcome="missed") for n in range(700)))
        rows = driver.ticks(NAME, 2 * TICKS)
        assert len(rows) == TICKS
        assert (rows[0].number, rows[-1].number) == (1400, 1401 - TICKS)
        assert read(driver).rows == 1400

    def test_a_schedule_that_is_removed_goes_with_its_history(self, driver: Driver) -> None:
        """Its jobs stay; another of its name begins anew."""
        record = declare(driver)
        made = fire(driver, tick(1.0)).jobs[0]
        changed = driver.change_schedule(NAME, lambda *_: ScheduleMove(record=None))
        assert changed.record is None
        assert driver.schedules() == []
        assert driver.ticks(NAME, 10) == []
        assert driver.get(made.id) is not None
        declare(driver, watermark=record.watermark)
        assert (read(driver).rows, read(driver).jobs) == (0, {})

    def test_what_a_decision_raises_leaves_all_as_it_was(self, driver: Driver) -> None:
        """It reaches the caller."""
        record = declare(driver)

        def refuse(*_: Any) -> ScheduleMove:
            raise ScheduleStateError(NAME, "not now")

        with pytest.raises(ScheduleStateError, match="not now"):
            driver.change_schedule(NAME, refuse)
        assert read(driver) == record

    def test_a_turn_tells_that_schedules_have_changed(self, driver: Driver) -> None:
        """When one is new, has another revision or is gone; not when it fires."""
        stamps = [turn(driver).stamp]

        def looked() -> bool:
            stamps.append(turn(driver).stamp)
            return stamps[-1] != stamps[-2]

        declare(driver)
        assert looked()
        assert not looked()
        fire(driver, tick(1.0), watermark=5.0)
        assert not looked()
        fire(driver, revision=2)
        assert looked()
        driver.change_schedule(NAME, lambda *_: None)
        assert not looked()
        driver.change_schedule(NAME, lambda *_: ScheduleMove(record=None))
        assert looked()

    def test_a_turn_that_has_work_tells_it_too(self, driver: Driver) -> None:
        """The same number as one that has none."""
        declare(driver)
        put(driver)
        busy = driver.exchange(Turn(worker=WORKER, limit=1, start=1, tasks=(TASK,)))
        assert busy.claims
        assert busy.stamp == turn(driver).stamp

    def test_a_new_schedule_rings(self, driver: Driver) -> None:
        """Whoever sleeps until the next tick it knows must hear of an earlier one."""
        declare(driver, "other")
        bell = listener(driver)
        declare(driver)
        assert bell.wait(10.0)
        bell.close()

    def test_of_threads_that_come_to_a_tick_at_once_one_fires_it(self, driver: Driver) -> None:
        """Eight threads, twenty ticks each would fire."""
        record = declare(driver)
        ticks = [record.watermark + n for n in range(1, 21)]

        def work(_: int) -> list[Record]:
            made: list[Record] = []
            for at in ticks:

                def decide(seen: ScheduleRecord | None, *_: Any, at: float = at) -> ScheduleMove | None:
                    assert seen is not None
                    if seen.watermark >= at:
                        return None
                    return ScheduleMove(record=_replace(seen, watermark=at, fired=seen.fired + 1), ticks=(tick(at),))

                made += driver.change_schedule(NAME, decide).jobs
            return made

        made = [record for records in together(work) for record in records]
        assert sorted(r.tick or 0 for r in made) == ticks
        assert read(driver).fired == len(ticks)
        assert [row.tick for row in reversed(driver.ticks(NAME, 100))] == ticks
        assert_counted(driver)

    def test_threads_change_several_schedules_side_by_side(self, driver: Driver) -> None:
        """No change of one is lost because of another."""
        names = [f"s{number}" for number in range(4)]
        for name in names:
            declare(driver, name)

        def work(_: int) -> list[Record]:
            for name in names:
                driver.change_schedule(
                    name,
                    lambda seen, *_: ScheduleMove(record=_replace(seen, fired=seen.fired + 1)),
                )
            return []

        together(work)
        assert [record.fired for record in driver.schedules()] == [THREADS] * 4

    def test_schedules_outlive_the_process(self, driver: Driver) -> None:
        """With their history and their number."""
        declare(driver)
        fire(driver, tick(1.0), watermark=5.0)
        if not driver.capabilities.durable:
            pytest.skip(f"{driver.name}: nothing outlives the process")
        record, rows, stamp = read(driver), driver.ticks(NAME, 10), turn(driver).stamp
        again = self.reopen(driver)
        assert (read(again), again.ticks(NAME, 10), turn(again).stamp) == (record, rows, stamp)

    def test_another_process_sees_the_same_schedules(self, driver: Driver) -> None:
        """And decides about them by what the first has written."""
        declare(driver)
        other = self.second(driver)
        try:
            fire(other, tick(1.0), watermark=5.0)
            assert read(driver) == read(other)
            assert driver.ticks(NAME, 5) == other.ticks(NAME, 5)
            assert live(driver) == live(other) != {}
        finally:
            other.close()
