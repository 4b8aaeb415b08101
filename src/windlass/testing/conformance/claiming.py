"""Promises about claims: what is taken, in which order, and by whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

from windlass import lifecycle
from windlass.drivers.base import Turn
from windlass.job import Status
from windlass.testing.conformance.bench import (
    CRASH,
    QUEUE,
    TASK,
    WORKER,
    assert_counted,
    beat,
    begin,
    fail,
    job,
    put,
    run_one,
    settle,
    stored,
    succeed,
    take,
    turn,
)

if TYPE_CHECKING:
    from windlass.drivers.base import Driver


class Claiming:
    """What ``exchange`` promises about claims."""

    def test_a_claim_is_running_and_leased(self, driver: Driver) -> None:
        """A claimed job is in one place: running, with its lease and worker, as the claim says."""
        put(driver)
        [record] = take(driver)
        assert record.status is Status.RUNNING
        assert record.lease > 0
        assert record.worker == WORKER
        assert stored(driver, record) == record
        assert take(driver) == []
        assert_counted(driver)

    def test_jobs_come_in_the_order_in_which_they_became_available(self, driver: Driver) -> None:
        """First come, first served, whatever the task and queue."""
        made = driver.insert([job(f"t{n % 3}", f"q{n % 2}") for n in range(30)])
        claims = take(driver, 12, tasks=("t0", "t1", "t2")) + take(driver, 100, tasks=("t2", "t0", "t1"))
        assert [r.id for r in claims] == [r.id for r in made]

    def test_higher_priority_comes_first(self, driver: Driver) -> None:
        """Priority goes before age, over several tasks and queues, to the ends of its range."""
        priorities = [0, 5, -5, 32767, 5, -32768, 0, 1]
        made = driver.insert([job(f"t{n % 3}", f"q{n % 2}", priority=p) for n, p in enumerate(priorities)])
        claims = [r for _ in made for r in take(driver, 1, tasks=("t0", "t1", "t2"))]
        assert [r.priority for r in claims] == [32767, 5, 5, 1, 0, 0, -5, -32768]
        assert [r.id for r in claims] == [r.id for r in sorted(made, key=lambda r: (-r.priority, r.id))]

    def test_a_job_that_became_due_waits_behind_those_that_were_available(self, driver: Driver) -> None:
        """The place in line is drawn when a job becomes available, not when it was enqueued."""
        late = put(driver, delay=10)
        first = put(driver)
        driver.shift(20)
        assert [r.id for r in take(driver, 5)] == [first.id, late.id]

    def test_due_jobs_come_in_the_order_of_their_times(self, driver: Driver) -> None:
        """Those promoted in one turn stand in line by their time, then by id."""
        delays = [30, 10, 20, 10]
        at = driver.now()
        made = driver.insert([job(run_at=at + delay) for delay in delays])
        driver.shift(60)
        assert [r.id for r in take(driver, 5)] == [made[n].id for n in (1, 3, 2, 0)]

    def test_nothing_is_promoted_before_its_time(self, driver: Driver) -> None:
        """A scheduled job is not claimed until the clock of the store has passed its time."""
        record = put(driver, delay=100)
        assert take(driver) == []
        driver.shift(50)
        assert take(driver) == []
        driver.shift(51)
        [claimed] = take(driver)
        assert claimed.id == record.id
        assert claimed.run_at == record.run_at

    def test_a_turn_promotes_without_claiming(self, driver: Driver) -> None:
        """Any turn makes due jobs pending, also one that wants no work and knows no task."""
        record = put(driver, delay=5)
        driver.shift(6)
        turn(driver)
        assert stored(driver, record).status is Status.PENDING
        assert_counted(driver)

    def test_the_turn_says_when_the_next_job_is_due(self, driver: Driver) -> None:
        """``due`` is the earliest time of a scheduled or retrying job, or nothing."""
        assert turn(driver).due is None
        later = put(driver, delay=100)
        assert turn(driver).due == later.run_at
        sooner = put(driver, delay=50)
        assert turn(driver).due == sooner.run_at
        failed = run_one(driver)
        fail(driver, failed, delay=10)
        assert turn(driver).due == stored(driver, failed).run_at
        driver.shift(60)
        assert turn(driver).due == later.run_at

    def test_many_due_jobs_all_become_available(self, driver: Driver) -> None:
        """Promotion may be bounded for each turn, but then ``due`` says that there is more."""
        driver.insert([job(delay=1) for _ in range(2500)])
        driver.shift(2)
        turns = 1
        while (due := turn(driver).due) is not None:
            assert due <= driver.now()
            turns += 1
            assert turns < 100, "promotion does not come to an end"
        assert len(take(driver, 3000)) == 2500
        assert_counted(driver)

    def test_only_known_tasks_are_claimed(self, driver: Driver) -> None:
        """Jobs of other tasks stay pending, even at the head of the queue."""
        strangers = driver.insert([job("unknown", priority=9) for _ in range(50)])
        known = put(driver)
        assert [r.id for r in take(driver, 10)] == [known.id]
        assert take(driver, 10, tasks=()) == []
        assert stored(driver, strangers[0]).status is Status.PENDING

    def test_only_the_wanted_queues_are_claimed(self, driver: Driver) -> None:
        """Naming queues leaves the others alone; ``None`` takes from all."""
        a, b, c = (put(driver, queue=name) for name in "abc")
        assert [r.id for r in take(driver, 10, queues=("b",))] == [b.id]
        assert take(driver, 10, queues=()) == []
        assert [r.id for r in take(driver, 10)] == [a.id, c.id]

    def test_a_paused_queue_is_not_claimed(self, driver: Driver) -> None:
        """Pausing holds what waits, and resuming lets it go, in its old place."""
        held, free = put(driver, queue="held"), put(driver, queue="free")
        driver.pause("queue", "held", True)
        assert driver.pauses() == {("queue", "held")}
        assert [r.id for r in take(driver, 10)] == [free.id]
        assert stored(driver, held).status is Status.PENDING
        driver.pause("queue", "held", False)
        assert driver.pauses() == set()
        assert [r.id for r in take(driver, 10)] == [held.id]

    def test_a_paused_task_is_not_claimed(self, driver: Driver) -> None:
        """A task can be paused like a queue; the name of one is not the name of the other."""
        held, free = put(driver, "held"), put(driver, "free", "held")
        driver.pause("task", "held", True)
        driver.pause("task", "held", True)
        assert [r.id for r in take(driver, 10, tasks=("held", "free"))] == [free.id]
        driver.pause("task", "held", False)
        assert [r.id for r in take(driver, 10, tasks=("held", "free"))] == [held.id]

    def test_pausing_leaves_running_jobs_alone(self, driver: Driver) -> None:
        """A pause stops claims, not settlements."""
        record = run_one(driver)
        driver.pause("queue", QUEUE, True)
        driver.pause("task", TASK, True)
        assert succeed(driver, record).refused == []

    def test_no_more_than_the_limit_is_claimed(self, driver: Driver) -> None:
        """``limit`` bounds a claim; zero claims nothing."""
        driver.insert([job() for _ in range(5)])
        assert take(driver, 0) == []
        assert len(take(driver, 3)) == 3
        assert len(take(driver, 3)) == 2

    def test_the_best_start_and_the_others_are_prefetched(self, driver: Driver) -> None:
        """``start`` of the claims carry ``started_at`` and a raised attempt; the rest have left no trace yet."""
        driver.insert([job() for _ in range(4)])
        turned = driver.exchange(Turn(worker=WORKER, limit=4, start=2, tasks=(TASK,)))
        assert [r.attempt for r in turned.claims] == [1, 1, 0, 0]
        assert [r.started_at for r in turned.claims] == [turned.now, turned.now, None, None]
        assert [stored(driver, r) for r in turned.claims] == turned.claims

    def test_a_job_that_crashed_comes_unstarted_to_the_cautious(self, driver: Driver) -> None:
        """With so many crashes or more it is prefetched, whatever ``start`` says; its neighbours start."""
        crashed = run_one(driver)
        settle(driver, crashed, lifecycle.lose(crashed, CRASH, max_crashes=3))
        put(driver, priority=-1)
        claims = driver.exchange(Turn(worker=WORKER, limit=2, start=2, cautious=1, tasks=(TASK,))).claims
        assert [(r.id == crashed.id, r.started_at is None) for r in claims] == [(True, True), (False, False)]
        assert stored(driver, crashed).attempt == 1
        assert [stored(driver, r) for r in claims] == claims

    def test_a_prefetched_job_counts_its_attempt_when_it_starts(self, driver: Driver) -> None:
        """The attempt is raised once, by the start mark, however often that is sent."""
        put(driver)
        [prefetched] = take(driver, start=0)
        turned = driver.exchange(Turn(worker=WORKER, starting=[prefetched]))
        assert turned.refused == []
        started = stored(driver, prefetched)
        assert (started.attempt, started.started_at) == (1, turned.now)
        driver.exchange(Turn(worker=WORKER, starting=[prefetched]))
        assert stored(driver, prefetched) == started

    def test_a_start_without_a_live_lease_is_refused(self, driver: Driver) -> None:
        """A prefetched job that was taken away must not start."""
        put(driver)
        [prefetched] = take(driver, start=0)
        settle(driver, prefetched, lifecycle.release(prefetched))
        turned = driver.exchange(Turn(worker=WORKER, starting=[prefetched]))
        assert turned.refused == [(prefetched.id, prefetched.lease)]
        assert stored(driver, prefetched).attempt == 0

    def test_a_second_prefetch_looks_unstarted(self, driver: Driver) -> None:
        """A job that was tried before and is prefetched again has no start of this attempt."""
        record = run_one(driver)
        fail(driver, record, delay=0)
        [prefetched] = take(driver, start=0)
        assert prefetched.attempt == 1
        assert prefetched.started_at is None
        assert stored(driver, prefetched).started_at is None
        assert begin(driver, prefetched).attempt == 2
        assert stored(driver, prefetched).attempt == 2

    def test_leases_grow_and_are_never_reused(self, driver: Driver) -> None:
        """Every claim gets a number above all before it, also for the same job and after deletions."""
        seen: list[int] = []
        for _ in range(5):
            driver.insert([job(), job()])
            claims = take(driver, 2)
            seen += [r.lease for r in claims]
            succeed(driver, claims[0])
            settle(driver, claims[1], lifecycle.release(claims[1]))
            [again] = take(driver)
            seen.append(again.lease)
            succeed(driver, again)
            driver.purge({Status.COMPLETED: 0.0}, 100)
        assert seen == sorted(set(seen))

    def test_one_turn_settles_before_it_claims(self, driver: Driver) -> None:
        """A job freed by a settlement is seen by the claim of the same turn."""
        record = run_one(driver)
        settlement = lifecycle.Settlement(record, lifecycle.release(record), driver.now())
        turned = driver.exchange(Turn(worker=WORKER, settlements=[settlement], limit=5, start=5, tasks=(TASK,)))
        [again] = turned.claims
        assert (again.id, again.attempt) == (record.id, 2)
        assert again.lease > record.lease

    def test_one_turn_promotes_before_it_claims(self, driver: Driver) -> None:
        """A job that is due is claimed by the turn that finds it due."""
        record = put(driver, delay=5)
        driver.shift(6)
        assert [r.id for r in take(driver)] == [record.id]

    def test_a_lost_worker_claims_nothing(self, driver: Driver) -> None:
        """After it was declared lost, its turns say so and bring no work."""
        beat(driver)
        put(driver)
        assert driver.bury([WORKER]) == [WORKER]
        turned = driver.exchange(Turn(worker=WORKER, limit=1, start=1, tasks=(TASK,)))
        assert not turned.known
        assert turned.claims == []
        assert len(take(driver, worker="worker-2")) == 1

    def test_an_unregistered_worker_may_claim(self, driver: Driver) -> None:
        """Claims by hand come from nobody's worker."""
        put(driver)
        turned = driver.exchange(Turn(worker="hand:1", limit=1, start=1, tasks=(TASK,), deadline=30.0))
        assert turned.known
        assert len(turned.claims) == 1
