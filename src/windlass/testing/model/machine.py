"""Programs that drive a store and the model side by side, written and made small by Hypothesis.

Each rule does one thing to both and compares the answers; after each step everything that can be read is compared, and
the store's own books are checked. Time stands still but for ``shift``, so a failing program replays exactly.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec
from hypothesis import HealthCheck, Phase, settings
from hypothesis import seed as with_seed
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from windlass import lifecycle
from windlass.drivers.base import Filter, Turn, Worker
from windlass.job import FINISHED, Failure, Kind, NewJob, Record, Status
from windlass.lifecycle import Settlement, Transition
from windlass.testing.model.reference import Model

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from windlass.drivers.base import Decide, Driver, Turned

EPOCH = 1_700_000_000.0
ERROR = msgspec.json.encode(Failure(type="ValueError", message="no"))
CRASH = msgspec.json.encode(Failure(type="WorkerLost", message="gone", kind=Kind.CRASH))
MAX_ATTEMPTS, MAX_CRASHES = 3, 2
TASKS, QUEUES, WORKERS = ("t1", "t2", "unknown"), ("q1", "q2"), ("w1", "w2")
KNOWN = TASKS[:2]
MOST = 10_000

small = st.integers(0, 7)
delays = st.sampled_from([0.0, 0.0, 5.0, 20.0])
new_jobs = st.builds(
    NewJob,
    task=st.sampled_from(TASKS),
    queue=st.sampled_from(QUEUES),
    payload=st.just(b"{}"),
    priority=st.sampled_from([0, 0, 0, 5, -5]),
    delay=delays,
    max_attempts=st.sampled_from([None, None, 1, 2]),
)
outcomes = st.sampled_from(
    ["succeed", "succeed", "fail", "fail", "discard", "snooze", "release", "release", "cancelled", "lose"]
)


def end(record: Record, outcome: str, delay: float, now: float) -> Transition:
    """Return the end of an attempt; what never started can only be given back or lost."""
    if outcome == "lose":
        return lifecycle.lose(record, CRASH, max_crashes=MAX_CRASHES)
    if outcome == "release" or record.started_at is None:
        return lifecycle.release(record, delay=delay, now=now)
    match outcome:
        case "fail":
            most = record.max_attempts or MAX_ATTEMPTS
            return lifecycle.fail(record, ERROR, max_attempts=most, delay=delay, now=now)
        case "discard":
            return lifecycle.discard(record, ERROR)
        case "snooze":
            return lifecycle.snooze(record, delay, now=now)
        case "cancelled":
            return lifecycle.cancelled(record)
        case _:
            return lifecycle.succeed(record, b"1")


def decision(action: str, *, delay: float, force: bool) -> Decide:
    """Return what a person may ask for."""

    def decide(record: Record, now: float) -> Transition:
        match action:
            case "reset" | "extend":
                most = record.max_attempts or MAX_ATTEMPTS
                mode: lifecycle.RetryMode = "reset" if action == "reset" else "extend"
                return lifecycle.retry(record, mode=mode, delay=delay, force=force, max_attempts=most, now=now)
            case "reschedule":
                return lifecycle.reschedule(record, now + delay, now=now)
            case "run now":
                return lifecycle.run_now(record)
            case "delete":
                return lifecycle.delete(record)
            case _:
                return lifecycle.cancel(record)

    return decide


class DriverMachine(RuleBasedStateMachine):
    """One program: a driver and the model, and what the workers believe they hold."""

    make_driver: Callable[[Callable[[], float]], Driver]
    """Makes a driver that is not open yet, over an empty store, with the clock given."""

    def __init__(self) -> None:
        super().__init__()
        self.driver = type(self).make_driver(lambda: EPOCH)
        self.driver.open()
        self.model = Model(EPOCH)
        self.held: list[Record] = []
        """Claims as their workers know them."""
        self.ended: list[Record] = []
        """Claims whose end was reported before: every further end is stale."""
        self.generation = dict.fromkeys(WORKERS, 0)

    def teardown(self) -> None:
        """Compare all history once more, then let go."""
        try:
            for job_id in self.model.jobs:
                self.compare_history(job_id)
        finally:
            self.driver.close()

    # ------------------------------------------------------------------ both at once

    def name(self, worker: str) -> str:
        """Return a worker's present id."""
        return f"{worker}.{self.generation[worker]}"

    def exchange(self, turn: Turn) -> Turned:
        """Take a turn on both and compare."""
        model = self.model
        turned = self.driver.exchange(turn)
        assert turned.now == model.now
        refused = model.settle(turn.settlements) + model.start(turn.starting)
        assert sorted(turned.refused) == sorted(refused), "refused settlements and starts"
        model.promote()
        known = turn.worker not in model.workers or model.workers[turn.worker].status != "lost"
        assert turned.known == known
        expected = [job.record.id for job in model.eligible(turn)][: turn.limit] if known else []
        assert [record.id for record in turned.claims] == expected, "the order of claims"
        assert turned.claims == model.claim(turn, [record.lease for record in turned.claims])
        mail = model.mail.pop(turn.worker, [])
        if known:
            assert sorted(turned.signals, key=repr) == sorted(mail, key=repr), "signals"
        assert turned.due == model.due()
        self.held += turned.claims
        for settlement in turn.settlements:
            self.compare_history(settlement.record.id)
        return turned

    def settle(self, records: Sequence[Record], outcome: str, delay: float, worker: str) -> None:
        """Report the end of leases, live or not."""
        now = self.model.now
        settlements = [Settlement(record, end(record, outcome, delay, now), now) for record in records]
        self.exchange(Turn(worker=worker, settlements=settlements))

    def compare_history(self, job_id: int) -> None:
        """Compare the ended attempts of one job."""
        expected = self.model.jobs[job_id].history if job_id in self.model.jobs else []
        assert self.driver.history(job_id) == expected, f"the history of job {job_id}"

    def compare_change(self, job_id: int, decide: Decide) -> None:
        """Change one job by hand on both and compare."""
        before, transition, error = self.model.change(job_id, decide)
        [changed] = self.driver.change([job_id], decide)
        assert changed.before == before
        assert changed.transition == transition
        assert (None if changed.error is None else type(changed.error)) is error
        self.compare_history(job_id)

    # ------------------------------------------------------------------ what workers and clients do

    @initialize(jobs=st.lists(new_jobs, min_size=2, max_size=6))
    def begin(self, jobs: list[NewJob]) -> None:
        """Register the workers and store the first jobs."""
        for worker in WORKERS:
            self.beat(worker)
        self.enqueue(jobs)

    @rule(jobs=st.lists(new_jobs, min_size=1, max_size=4))
    def enqueue(self, jobs: list[NewJob]) -> None:
        """Store jobs."""
        records = self.driver.insert(jobs)
        assert records == self.model.insert(jobs, [record.id for record in records])

    @rule(
        worker=st.sampled_from(WORKERS),
        limit=small,
        start=small,
        tasks=st.sampled_from([KNOWN, KNOWN, KNOWN[:1]]),
        queues=st.sampled_from([None, None, QUEUES[:1], QUEUES[1:]]),
    )
    def claim(
        self, worker: str, limit: int, start: int, tasks: tuple[str, ...], queues: tuple[str, ...] | None
    ) -> None:
        """Claim; some start, the others are prefetched."""
        self.exchange(Turn(worker=self.name(worker), limit=limit, start=start, tasks=tasks, queues=queues))

    @rule(picks=st.lists(st.tuples(small, outcomes, delays), min_size=1, max_size=4), limit=st.integers(0, 3))
    def end_and_claim(self, picks: list[tuple[int, str, float]], limit: int) -> None:
        """End some attempts and claim in the same turn."""
        if not self.held:
            return
        now, worker = self.model.now, self.held[0].worker or ""
        settlements = []
        for pick, outcome, delay in picks[: len(self.held)]:
            record = self.held.pop(pick % len(self.held))
            self.ended.append(record)
            settlements.append(Settlement(record, end(record, outcome, delay, now), now))
        self.exchange(Turn(worker=worker, settlements=settlements, limit=limit, start=limit, tasks=KNOWN))

    @rule(pick=small, outcome=outcomes, delay=delays)
    def end_one(self, pick: int, outcome: str, delay: float) -> None:
        """End one attempt."""
        if self.held:
            record = self.held.pop(pick % len(self.held))
            self.ended.append(record)
            self.settle([record], outcome, delay, record.worker or "")

    @rule(pick=small, outcome=outcomes)
    def end_again(self, pick: int, outcome: str) -> None:
        """Report an end for a lease that was ended before."""
        if self.ended:
            record = self.ended[-1 - pick % len(self.ended)]
            self.settle([record], outcome, 5.0, record.worker or "")

    @rule(picks=st.lists(small, min_size=1, max_size=3))
    def start(self, picks: list[int]) -> None:
        """Start prefetched jobs, live or not; what is refused is dropped."""
        waiting = [record for record in self.held if record.started_at is None]
        if not waiting:
            return
        chosen = list({id(r): r for r in (waiting[pick % len(waiting)] for pick in picks)}.values())
        turned = self.exchange(Turn(worker=chosen[0].worker or "", starting=chosen))
        for record in chosen:
            self.held.remove(record)
            if (record.id, record.lease) in turned.refused:
                self.ended.append(record)
            else:
                attempt = record.attempt + 1
                self.held.append(msgspec.structs.replace(record, started_at=turned.now, attempt=attempt))

    @rule(limit=st.integers(1, 3), deadline=st.sampled_from([10.0, 60.0]))
    def claim_by_hand(self, limit: int, deadline: float) -> None:
        """Claim with a deadline instead of a worker's heartbeat."""
        self.exchange(Turn(worker="hand:1", limit=limit, start=limit, tasks=KNOWN, deadline=deadline))

    # ------------------------------------------------------------------ what people do

    @rule(
        pick=st.integers(0, 30),
        action=st.sampled_from(["cancel", "cancel", "reset", "extend", "reschedule", "run now", "delete"]),
        delay=delays,
        force=st.booleans(),
    )
    def manage(self, pick: int, action: str, delay: float, force: bool) -> None:  # noqa: FBT001 - drawn by name
        """Do something by hand to a job, or to one that is not there."""
        ids = [*self.model.jobs, self.model.last_id + 1]
        self.compare_change(ids[-1 - pick % len(ids)], decision(action, delay=delay, force=force))

    @rule(
        what=st.sampled_from([*(("task", name) for name in KNOWN), *(("queue", name) for name in QUEUES)]),
        paused=st.booleans(),
    )
    def pause(self, what: tuple[str, str], paused: bool) -> None:  # noqa: FBT001 - drawn by name
        """Pause or resume."""
        self.driver.pause(*what, paused)
        (self.model.paused.add if paused else self.model.paused.discard)(what)
        assert self.driver.pauses() == self.model.paused

    @rule(status=st.sampled_from(sorted(FINISHED)), age=st.sampled_from([0.0, 10.0]), limit=st.sampled_from([1, 100]))
    def purge(self, status: Status, age: float, limit: int) -> None:
        """Delete old jobs; which of those old enough go first is the driver's choice."""
        may = self.model.expired(status, age)
        deleted = self.driver.purge({status: age}, limit)
        left = {record.id for record in self.driver.find(Filter(), limit=MOST)}
        gone = set(self.model.jobs) - left
        assert deleted == len(gone) == min(limit, len(may)), "the number of purged jobs"
        assert gone <= may, "purged jobs that should have stayed"
        for job_id in gone:
            del self.model.jobs[job_id]

    # ------------------------------------------------------------------ what befalls them

    @rule(seconds=st.sampled_from([1.0, 6.0, 25.0]))
    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.driver.shift(seconds)
        self.model.now += seconds
        assert self.driver.now() == self.model.now

    @rule(worker=st.sampled_from(WORKERS))
    def beat(self, worker: str) -> None:
        """Write a heartbeat; a worker that learns that it was lost comes back under a new id."""
        card = Worker(id=self.name(worker), host="here", pid=1, lost_after=20.0)
        known = self.driver.beat(card)
        assert known == self.model.beat(card)
        if not known:
            self.generation[worker] += 1

    @rule(worker=st.sampled_from(WORKERS))
    def crash(self, worker: str) -> None:
        """A worker process vanishes, and somebody notices."""
        gone = self.name(worker)
        expected = [gone] if self.model.alive(gone) else []
        assert self.driver.bury([gone], overdue=False) == expected
        self.model.end_workers([gone], "lost")

    @rule(worker=st.sampled_from(WORKERS))
    def retire(self, worker: str) -> None:
        """A worker stops in good order, and starts again under a new id."""
        self.driver.retire(self.name(worker))
        self.model.end_workers([self.name(worker)], "stopped")
        self.generation[worker] += 1
        self.beat(worker)

    @rule()
    def bury(self) -> None:
        """Look for workers that have been silent for too long."""
        expected = self.model.overdue()
        assert sorted(self.driver.bury()) == expected, "workers declared lost"
        self.model.end_workers(expected, "lost")

    @rule(limit=st.sampled_from([1, 100]))
    def rescue(self, limit: int) -> None:
        """Return the jobs of workers that are gone."""
        expected = {record.id: record for record in self.model.orphans()}
        orphans = self.driver.orphans(limit)
        assert len(orphans) == min(limit, len(expected)), "the number of orphans"
        assert all(expected.get(record.id) == record for record in orphans), "orphans"
        self.settle(orphans, "lose", 0.0, "rescuer")

    # ------------------------------------------------------------------ always

    @invariant()
    def shows_the_same_jobs(self) -> None:
        """Every job is in one place, and looks as the model says."""
        records = self.driver.find(Filter(), limit=MOST)
        expected = self.model.records()
        assert [record.id for record in records] == [record.id for record in expected], "the jobs that there are"
        for record, other in zip(records, expected, strict=True):
            assert record == other
        leases = [record.lease for record in records if record.lease]
        assert len(leases) == len(set(leases)), "two jobs under one lease"
        assert all((record.status is Status.RUNNING) == (record.lease > 0) for record in records)

    @invariant()
    def counts_the_same(self) -> None:
        """The maintained counters equal a recount, and the totals what happened."""
        recount = Counter((r.queue, r.task, r.status) for r in self.model.records())
        tallies = self.driver.tallies()
        counts = {(t.queue, t.task, status): n for t in tallies for status, n in t.counts.items() if n}
        assert counts == dict(recount), "counters by status"
        totals = {(t.queue, t.task, name): n for t in tallies for name, n in t.totals.items() if n}
        assert totals == dict(self.model.totals), "counters that never fall"

    @invariant()
    def has_the_same_rates(self) -> None:
        """What ended in each second."""
        rates: Counter[tuple[int, str]] = Counter()
        for second, processed, failed in self.driver.rates(EPOCH):
            rates[second, "processed"] += processed
            rates[second, "failed"] += failed
        assert +rates == self.model.rates, "rates"


def run_model(
    make_driver: Callable[[Callable[[], float]], Driver],
    *,
    programs: int = 500,
    seed: int | None = None,
    steps: int = 30,
    shrink: bool = True,
) -> None:
    """Run *programs* of *steps* each; raise what differs, with the smallest program that shows it.

    *make_driver* takes a clock that stands still and returns a driver that is not open yet, over an empty store. The
    programs are the same at every run; *seed* makes others.
    """
    members: dict[str, Any] = {"make_driver": staticmethod(make_driver)}
    machine: type[DriverMachine] = type("DriverProgram", (DriverMachine,), members)
    if seed is not None:
        machine = with_seed(seed)(machine)
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=programs,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            derandomize=seed is None,
            phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )
