"""Promises about jobs that take turns."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from windlass import lifecycle
from windlass.drivers.base import Filter, Turn
from windlass.job import Gate, Status
from windlass.testing.conformance.bench import (
    QUEUE,
    TASK,
    WORKER,
    assert_counted,
    cancel,
    delete,
    fail,
    job,
    put,
    settle,
    stored,
    succeed,
    take,
)

if TYPE_CHECKING:
    from windlass.drivers.base import Driver
    from windlass.job import Record

OTHER = "another task"


def of(key: str, *gates: Gate) -> dict[str, Any]:
    """Return the options of a job that takes turns by a key."""
    return {"gates": (*gates, Gate(f"fair:{key}", 1))}


def names(records: list[Record], jobs: dict[int, str]) -> list[str]:
    """Return what the test calls them."""
    return [jobs[record.id] for record in records]


class Line:
    """Jobs with names, taken and ended one by one."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.jobs: dict[int, str] = {}

    def put(self, *jobs: str, **options: Any) -> None:
        """Enqueue one job for each name; the letter is its key."""
        for name in jobs:
            self.jobs[put(self.driver, **{**of(name[0]), **options}).id] = name

    def take(self, number: int = 1) -> list[Record]:
        """Claim."""
        return take(self.driver, number, tasks=(TASK, OTHER))

    def run(self, number: int = 100) -> list[str]:
        """Run one after another, at most so many; return their names in the order of their starts."""
        ran: list[str] = []
        while len(ran) < number and (claims := self.take()):
            ran += names(claims, self.jobs)
            succeed(self.driver, claims[0])
        return ran


class Fairness:
    """Each key starts one in its turn, and nobody waits for ever."""

    @pytest.fixture
    def line(self, driver: Driver) -> Line:
        """Jobs with names, in the store."""
        return Line(driver)

    def test_keys_take_turns(self, driver: Driver, line: Line) -> None:
        """However many one of them has brought before the others came."""
        line.put("a1", "a2", "a3", "a4", "b1", "b2", "c1")
        assert line.run() == ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]
        assert_counted(driver)

    def test_who_comes_new_has_a_turn_after_those_who_wait(self, line: Line) -> None:
        """And so has who has waited for nothing in between."""
        line.put("a1", "a2", "a3", "b1", "b2", "b3")
        assert line.run(3) == ["a1", "b1", "a2"]
        line.put("c1", "c2")
        assert line.run() == ["b2", "a3", "c1", "b3", "c2"]

    def test_a_claim_of_many_takes_as_many_of_each(self, line: Line) -> None:
        """One claim is several turns."""
        line.put(*(f"a{n}" for n in range(10)), *(f"b{n}" for n in range(10)), "c0")
        assert Counter(name[0] for name in names(line.take(7), line.jobs)) == {"a": 3, "b": 3, "c": 1}
        assert len(line.take(100)) == 14

    def test_lines_of_different_length_leave_no_slot_empty(self, line: Line) -> None:
        """Whoever has more takes what the others leave."""
        line.put("a1", "b1", "b2", *(f"c{n}" for n in range(20)))
        assert Counter(name[0] for name in names(line.take(10), line.jobs)) == {"a": 1, "b": 2, "c": 7}

    def test_a_claim_of_many_takes_the_best_priority_first(self, line: Line) -> None:
        """To its last job, whoever waits behind."""
        line.put("a1", "b1", "d1")
        line.put("a2", "a3", "c1", priority=5)
        assert sorted(names(line.take(3), line.jobs)) == ["a2", "a3", "c1"]

    def test_a_claim_goes_on_behind_those_whose_limit_is_full(self, driver: Driver, line: Line) -> None:
        """Their turn brings them nothing, and the slot is not lost."""
        for key in "abcd":
            line.put(f"{key}1", f"{key}2", **of(key, Gate(f"limit:{key}", 1)))
        assert len(line.take(4)) == 4
        line.put("e1")
        assert names(line.take(1), line.jobs) == ["e1"]
        assert line.take(1) == []
        assert_counted(driver)

    def test_one_key_alone_uses_all(self, line: Line) -> None:
        """Turns keep no slot empty."""
        line.put("a1", "a2", "a3")
        assert sorted(names(line.take(10), line.jobs)) == ["a1", "a2", "a3"]

    def test_a_key_s_jobs_keep_their_order(self, driver: Driver, line: Line) -> None:
        """A failed one comes after those that wait, one given back before them."""
        line.put("a1", "a2", "a3", "b1")
        [first] = line.take()
        settle(driver, first, lifecycle.release(first))
        assert line.run(2) in (["b1", "a1"], ["a1", "b1"])
        [second] = line.take()
        assert names([second], line.jobs) == ["a2"]
        fail(driver, second, delay=0)
        driver.shift(1)
        assert line.run() == ["a3", "a2"]

    def test_priority_goes_first(self, line: Line) -> None:
        """Turns are taken among jobs of one priority."""
        line.put("a1", "a2", "b1")
        line.put("a3", "a4", "c1", priority=5)
        assert line.run() == ["a3", "c1", "a4", "a1", "b1", "a2"]

    def test_other_jobs_of_the_queue_have_their_share(self, line: Line) -> None:
        """By age: neither starves the other."""
        line.put("a1", "a2", "b1", "b2")
        line.put("x1", "x2", "x3", "x4", gates=(), task=OTHER)
        line.put("c1", "c2")
        ran = line.run()
        assert sorted(ran) == sorted(line.jobs.values())
        assert [name for name in ran if name[0] == "x"] == ["x1", "x2", "x3", "x4"]
        assert ran.index("x4") < ran.index("c2")
        assert ran.index("b1") < ran.index("x1")

    def test_tasks_and_queues_share_no_line(self, driver: Driver, line: Line) -> None:
        """The same key elsewhere is somebody else."""
        line.put("a1", "a2")
        line.put("a3", "a4", task=OTHER)
        line.put("a5", queue="elsewhere")
        claims = take(driver, 10, queues=(QUEUE,))
        assert sorted(names(claims, line.jobs)) == ["a1", "a2"]
        assert sorted(names(line.take(10), line.jobs)) == ["a3", "a4", "a5"]

    @pytest.mark.parametrize("how", ["cancelled", "deleted"])
    def test_who_leaves_by_another_door_is_missed_by_nobody(self, driver: Driver, line: Line, how: str) -> None:
        """His key goes on with the next, or is forgotten."""
        line.put("a1", "a2", "a3", "b1", "c1")
        assert line.run(1) == ["a1"]
        leave = cancel if how == "cancelled" else delete
        for record in driver.find(Filter(statuses=(Status.PENDING,)), limit=10):
            if line.jobs[record.id] in ("a2", "b1"):
                leave(driver, record)
        assert line.run() == ["c1", "a3"]
        assert_counted(driver)
        line.put("b2", "a4")
        assert line.run() == ["b2", "a4"]

    def test_a_paused_queue_wakes_up_where_it_was(self, driver: Driver, line: Line) -> None:
        """Nobody is called while it sleeps."""
        line.put("a1", "a2", "b1")
        assert line.run(1) == ["a1"]
        driver.pause("queue", QUEUE, paused=True)
        assert line.take(5) == []
        driver.pause("queue", QUEUE, paused=False)
        assert line.run() == ["b1", "a2"]

    def test_limits_hold_beside_turns(self, driver: Driver, line: Line) -> None:
        """Whoever is shut out has had his turn; the others go on."""
        one = Gate("limit:key:a", 1)
        for name in ("a1", "a2", "a3"):
            line.put(name, **of("a", one))
        line.put("b1", "b2")
        claims = line.take(10)
        assert sorted(names(claims, line.jobs)) == ["a1", "b1", "b2"]
        for rest in ("a2", "a3"):
            [record] = [claim for claim in claims if line.jobs[claim.id][0] == "a"]
            end = lifecycle.Settlement(record, lifecycle.succeed(record), driver.now())
            claims = list(
                driver.exchange(Turn(worker=WORKER, settlements=[end], limit=10, start=10, tasks=(TASK,))).claims
            )
            assert names(claims, line.jobs) == [rest]
        assert_counted(driver)

    def test_they_can_be_looked_at(self, driver: Driver, line: Line) -> None:
        """They are pending, and before no shut gate."""
        line.put("a1", "a2", "a3")
        [first] = line.take()
        assert driver.count(Filter(statuses=(Status.PENDING,)), most=10) == 2
        assert [record.status for record in driver.find(Filter(), limit=10)].count(Status.PENDING) == 2
        waits = next(job_id for job_id, name in line.jobs.items() if name == "a3")
        assert driver.blocked_by(waits) is None
        assert driver.passages(None) == []
        assert driver.oldest(QUEUE) is not None
        succeed(driver, first)
        assert stored(driver, first).status is Status.COMPLETED

    def test_a_turn_that_leaves_somebody_says_so(self, driver: Driver, line: Line) -> None:
        """A worker without a slot left is asked again when it has one; one that has not been is not idle."""
        line.put("a1", "a2", "a3")
        [first] = line.take()
        end = lifecycle.Settlement(first, lifecycle.succeed(first), driver.now())
        turned = driver.exchange(Turn(worker=WORKER, settlements=[end], limit=1, start=1, tasks=(TASK,)))
        assert names(list(turned.claims), line.jobs) == ["a2"]
        assert names(line.take(5), line.jobs) == ["a3"]
        assert line.take(5) == []

    def test_a_key_behind_thousands_of_another_is_reached(self, driver: Driver, line: Line) -> None:
        """In a few turns, each of which looks at some."""
        driver.insert([job(**of("a")) for _ in range(2500)])
        line.put("b1")
        started: list[int] = []
        while len(started) < 8 and not set(started) & set(line.jobs):
            [record] = line.take()
            started.append(record.id)
            succeed(driver, record)
        assert set(started) & set(line.jobs)
