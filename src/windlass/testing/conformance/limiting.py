"""Promises about limits, rates and the parts of a demand."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from windlass import lifecycle
from windlass.drivers.base import Filter, Take, Turn
from windlass.job import Gate, Status
from windlass.testing.conformance.bench import (
    CRASH,
    QUEUE,
    TASK,
    WORKER,
    assert_counted,
    cancel,
    delete,
    fail,
    put,
    settle,
    stored,
    succeed,
    take,
)

if TYPE_CHECKING:
    from windlass.drivers.base import Driver, Passage
    from windlass.job import Record

LIMIT = "limit:tenant:5"
RATE = "rate:api"


def limited(most: int = 2, key: str = LIMIT) -> dict[str, Any]:
    """Return the options of a job behind a limit."""
    return {"gates": (Gate(key, most),)}


def rated(most: float = 10, per: float = 1.0, burst: float = 3, weight: float = 1) -> Gate:
    """Return a rate."""
    return Gate(RATE, most, per, burst, weight)


def passage(driver: Driver, key: str = LIMIT) -> Passage:
    """Return what is known of a gate."""
    [found] = driver.passages([key])
    return found


def ids(records: list[Record]) -> list[int]:
    """Return their ids."""
    return [record.id for record in records]


class Limiting:
    """Never more than a gate lets through; nobody waits for ever."""

    def test_no_more_run_than_the_limit(self, driver: Driver) -> None:
        """Whoever is one too many waits, in order, and the claims' way is free."""
        jobs = [put(driver, **limited()) for _ in range(5)]
        other = put(driver)
        claims = take(driver, 10)
        assert ids(claims) == [jobs[0].id, jobs[1].id, other.id]
        assert take(driver, 10) == []
        assert passage(driver).used == 2
        assert driver.holders(LIMIT, 10) == [jobs[0].id, jobs[1].id]
        assert driver.count(Filter(statuses=(Status.PENDING,)), most=10) == 3
        assert driver.blocked_by(jobs[2].id) == LIMIT
        assert driver.blocked_by(jobs[0].id) is None
        assert_counted(driver)

    def test_a_slot_that_is_given_back_lets_the_next_start(self, driver: Driver) -> None:
        """In the same exchange that gives it back, the oldest first."""
        jobs = [put(driver, **limited()) for _ in range(4)]
        first, second = take(driver, 10)
        for record, waits in ((first, jobs[2]), (second, jobs[3])):
            end = lifecycle.Settlement(record, lifecycle.succeed(record), driver.now())
            turned = driver.exchange(Turn(worker=WORKER, settlements=[end], limit=10, start=10, tasks=(TASK,)))
            assert ids(turned.claims) == [waits.id]
        assert passage(driver).used == 2
        assert driver.blocked_by(jobs[3].id) is None

    @pytest.mark.parametrize(
        "ends", ["fails", "dies", "snoozes", "is released", "is cancelled", "is lost", "is taken away"]
    )
    def test_however_a_lease_ends_its_slot_comes_back(self, driver: Driver, ends: str) -> None:
        """Once, and no slot is left over."""
        put(driver, **limited(1))
        waits = put(driver, **limited(1))
        [record] = take(driver, 10)
        match ends:
            case "fails":
                fail(driver, record, delay=100)
            case "dies":
                fail(driver, record, max_attempts=1)
            case "snoozes":
                settle(driver, record, lifecycle.snooze(record, 100, now=driver.now()))
            case "is released":
                settle(driver, record, lifecycle.release(record, delay=100, now=driver.now()))
            case "is cancelled":
                settle(driver, record, lifecycle.cancelled(record))
            case "is lost":
                driver.change([record.id], lambda r, _: lifecycle.lose(r, CRASH, max_crashes=1))
            case _:
                driver.change(
                    [record.id],
                    lambda r, now: lifecycle.retry(r, mode="reset", delay=100, force=True, max_attempts=3, now=now),
                )
        assert ids(take(driver, 10)) == [waits.id]
        assert driver.holders(LIMIT, 10) == [waits.id]
        succeed(driver, stored(driver, waits))
        assert [p.used for p in driver.passages([LIMIT])] in ([], [0])

    def test_a_refused_end_gives_no_slot_back(self, driver: Driver) -> None:
        """A lease that has moved on has no slot."""
        put(driver, **limited(1))
        put(driver, **limited(1))
        [record] = take(driver, 10)
        driver.change([record.id], lambda r, _: lifecycle.lose(r, CRASH, max_crashes=3))
        [again] = take(driver, 10)
        assert succeed(driver, record).refused == [(record.id, record.lease)]
        assert passage(driver).used == 1
        assert take(driver, 10) == []
        succeed(driver, again)
        assert len(take(driver, 10)) == 1

    def test_those_who_wait_keep_their_order_and_priority(self, driver: Driver) -> None:
        """A higher priority goes first also among those put aside, and newer ones do not overtake."""
        first = put(driver, **limited(1))
        low = put(driver, **limited(1))
        high = put(driver, priority=5, **limited(1))
        [running] = take(driver, 10)
        assert running.id == high.id
        order = [running.id]
        newer = [put(driver, **limited(1)) for _ in range(2)]
        for _ in range(3):
            succeed(driver, running)
            [running] = take(driver, 10)
            order.append(running.id)
        assert order == [high.id, first.id, low.id, newer[0].id]

    def test_keys_have_slots_of_their_own(self, driver: Driver) -> None:
        """Another key's jobs are not held up."""
        a = [put(driver, **limited(1, "limit:a")) for _ in range(3)]
        b = [put(driver, **limited(1, "limit:b")) for _ in range(3)]
        assert ids(take(driver, 10)) == [a[0].id, b[0].id]

    def test_a_job_passes_all_its_gates_or_none(self, driver: Driver) -> None:
        """A shut gate keeps the slots of the others free."""
        both = (Gate("limit:a", 1), Gate("limit:b", 1))
        put(driver, gates=both)
        second = put(driver, gates=both)
        only_a, only_b = put(driver, **limited(1, "limit:a")), put(driver, **limited(1, "limit:b"))
        [first] = take(driver, 10)
        succeed(driver, first)
        assert ids(take(driver, 10)) == [second.id]
        succeed(driver, stored(driver, second))
        assert ids(take(driver, 10)) == [only_a.id, only_b.id]

    def test_jobs_put_aside_can_be_changed_like_others(self, driver: Driver) -> None:
        """Cancelled, deleted, rescheduled, run now: they are pending jobs."""
        put(driver, **limited(1))
        jobs = [put(driver, **limited(1)) for _ in range(5)]
        [running] = take(driver, 10)
        cancel(driver, jobs[0])
        delete(driver, jobs[1])
        driver.change([jobs[2].id], lambda r, now: lifecycle.reschedule(r, now + 50, now=now))
        driver.change([jobs[4].id], lambda r, _: lifecycle.run_now(r))
        assert_counted(driver)
        assert driver.blocked_by(jobs[0].id) is None
        succeed(driver, running)
        [running] = take(driver, 10)
        assert running.id == jobs[3].id
        succeed(driver, running)
        [running] = take(driver, 10)
        assert running.id == jobs[4].id
        succeed(driver, running)
        assert take(driver, 10) == []
        driver.shift(51)
        assert ids(take(driver, 10)) == [jobs[2].id]

    def test_jobs_bring_the_newest_limit_with_them(self, driver: Driver) -> None:
        """A limit that was changed in the code holds from the next job on that is claimed."""
        for _ in range(2):
            put(driver, **limited(1))
        assert len(take(driver, 10)) == 1
        for _ in range(3):
            put(driver, priority=1, **limited(3))
        assert len(take(driver, 10)) == 2
        assert passage(driver).used == 3

    def test_a_limit_set_by_hand_beats_those_of_jobs(self, driver: Driver) -> None:
        """More at once, and at once; fewer as running ones end; until it is dropped."""
        for _ in range(12):
            put(driver, **limited(1))
        assert len(take(driver, 20)) == 1
        driver.set_gate(Gate(LIMIT, 4), pinned=True)
        assert len(take(driver, 20)) == 3
        assert passage(driver).pinned
        driver.set_gate(Gate(LIMIT, 2), pinned=False)
        assert passage(driver).gate.most == 4
        driver.set_gate(Gate(LIMIT, 2), pinned=True)
        assert take(driver, 20) == []
        holders = driver.holders(LIMIT, 10)
        for job_id in holders[:3]:
            record = driver.get(job_id)
            assert record is not None
            succeed(driver, record)
        assert len(take(driver, 20)) == 1
        assert driver.drop_gate(LIMIT)
        for job_id in driver.holders(LIMIT, 10):
            record = driver.get(job_id)
            assert record is not None
            succeed(driver, record)
        assert len(take(driver, 20)) == 1

    @pytest.mark.parametrize("key", [f"limit:task:{TASK}", f"limit:queue:{QUEUE}"])
    def test_a_limit_of_a_whole_task_or_queue(self, driver: Driver, key: str) -> None:
        """Every job of it passes the gate, also those that are waiting or running already."""
        first = put(driver)
        assert len(take(driver)) == 1
        for _ in range(5):
            put(driver)
        other = put(driver, task="other", queue="elsewhere")
        driver.set_gate(Gate(key, 2), pinned=False)
        assert passage(driver, key).used == 1
        assert len(take(driver, 10, tasks=(TASK, "other"))) == 2
        assert stored(driver, other).status is Status.RUNNING
        assert passage(driver, key).used == 2
        assert take(driver, 10) == []
        succeed(driver, stored(driver, first))
        assert len(take(driver, 10)) == 1
        assert driver.drop_gate(key)
        assert not driver.drop_gate(key)
        assert len(take(driver, 10)) == 3

    def test_a_rate_lets_its_burst_start_and_then_so_many_a_second(self, driver: Driver) -> None:
        """Ten a second, three at once; the turn says when the next may start."""
        for _ in range(20):
            put(driver, gates=(rated(),))
        turned = driver.exchange(Turn(worker=WORKER, limit=10, start=10, tasks=(TASK,)))
        assert len(turned.claims) == 3
        assert turned.due is not None
        assert 0 < turned.due - turned.now <= 0.11
        driver.shift(0.21)
        started = len(take(driver, 10))
        assert started in (2, 3)  # time passes while the test runs
        driver.shift(100)
        assert len(take(driver, 10)) == 3
        assert passage(driver, RATE).used == 0

    def test_weights_count(self, driver: Driver) -> None:
        """A start of weight two takes two tokens."""
        for _ in range(6):
            put(driver, gates=(rated(most=0.001, burst=5, weight=2),))
        assert len(take(driver, 10)) == 2
        assert take(driver, 10) == []

    def test_a_rate_of_a_whole_task(self, driver: Driver) -> None:
        """It needs no gate on the jobs; the turn says when to come back."""
        for _ in range(6):
            put(driver)
        driver.set_gate(Gate(f"rate:task:{TASK}", 0.1, 1.0, 2.0), pinned=False)
        assert len(take(driver, 10)) == 2
        turned = driver.exchange(Turn(worker=WORKER, limit=5, start=5, tasks=(TASK,)))
        assert turned.claims == []
        assert turned.due is not None
        assert 0 < turned.due - turned.now <= 10
        driver.shift(10.1)
        assert len(take(driver, 10)) == 1

    def test_slots_are_for_those_who_run(self, driver: Driver) -> None:
        """Jobs that nobody here may claim take none: a paused queue, a task that is not known."""
        for _ in range(3):
            put(driver, queue="paused", **limited(1))
            put(driver, task="unknown", **limited(1))
        free = put(driver, **limited(1))
        driver.pause("queue", "paused", paused=True)
        assert ids(take(driver, 10)) == [free.id]
        succeed(driver, stored(driver, free))
        assert take(driver, 10) == []
        driver.pause("queue", "paused", paused=False)
        assert len(take(driver, 10)) == 1

    def test_many_put_aside_come_back_little_by_little(self, driver: Driver) -> None:
        """Each starts once, whatever the number of turns."""
        made = {put(driver, **limited(7)).id for _ in range(60)}
        seen: Counter[int] = Counter()
        while claims := take(driver, 50):
            assert len(claims) <= 7
            for record in claims:
                seen[record.id] += 1
                succeed(driver, record)
        assert seen == Counter(made)
        assert_counted(driver)

    def test_those_let_back_and_not_claimed_leave_room_for_others(self, driver: Driver) -> None:
        """A slot is not lost with a job that was let back and then cancelled."""
        put(driver, **limited(1))
        jobs = [put(driver, **limited(1)) for _ in range(3)]
        [running] = take(driver, 10)
        succeed(driver, running)  # lets jobs[0] back; nobody claims
        cancel(driver, jobs[0])
        driver.shift(2)
        assert ids(take(driver, 10)) == [jobs[1].id]

    # ------------------------------------------------------------------ parts

    def test_a_demand_is_met_part_by_part(self, driver: Driver) -> None:
        """In the order given, each part and all together within their limits."""
        for queue in ("a", "b", "c"):
            for _ in range(4):
                put(driver, queue=queue)
        parts = (Take(("b",), 2), Take(("a",), 3), Take(None, 9))
        turned = driver.exchange(Turn(worker=WORKER, takes=parts, limit=7, start=7, tasks=(TASK,)))
        assert [r.queue for r in turned.claims] == ["b", "b", "a", "a", "a", "a", "b"]
        assert all(r.started_at is not None for r in turned.claims)
