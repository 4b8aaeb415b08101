"""Programs that drive a store and the model side by side, written and made small by Hypothesis.

Each step does one thing to both and compares the answers; after each step everything that can be read is compared, and
the store's own books are checked. Time stands still but for ``shift``, so a failing program replays exactly.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec
from hypothesis import HealthCheck, Phase, settings
from hypothesis import seed as with_seed
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from windlass.drivers.base import Filter, NewBatch, Turn, Worker
from windlass.errors import UniqueConflictError
from windlass.job import NewJob, Record, Status
from windlass.lifecycle import Settlement
from windlass.testing.model.reference import Model, ModelBatch
from windlass.testing.model.steps import BATCHES, FIRST_JOBS, GATES, KEYS, KNOWN, STEPS, WORKERS, decision, end

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from windlass.drivers.base import Decide, Driver, Turned

EPOCH = 1_700_000_000.0
MOST = 10_000
HAND = "hand:1"


def differences(shown: Record, expected: Record) -> list[tuple[str, Any, Any]]:
    """Return the fields that differ, with both values."""
    names = shown.__struct_fields__
    return [(n, getattr(shown, n), getattr(expected, n)) for n in names if getattr(shown, n) != getattr(expected, n)]


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
        """Compare all history once more, see that nobody waits for ever, then let go."""
        try:
            for job_id in self.model.jobs:
                self.compare_history(job_id)
            if any(job.gates for job in self.model.jobs.values()):
                self.run_dry()
        finally:
            self.driver.close()

    def run_dry(self) -> None:
        """Give back what is held and run everything: whoever was put aside behind a limit gets through."""
        for what in set(self.model.paused):
            self.pause(what, paused=False)
        self.work(WORKERS[0])
        running = [record for record in self.model.records() if record.status is Status.RUNNING]
        self.settle(running, "succeed", 0.0, self.name(WORKERS[0]))
        for _ in range(len(self.model.jobs) * 2 + 5):
            self.held.clear()
            self.driver.shift(2.0)
            self.model.now += 2.0
            self.work(WORKERS[0], limit=5, start=5)
            self.settle(self.held, "succeed", 0.0, self.name(WORKERS[0]))
        waiting = [r.id for r in self.model.records() if r.status is Status.PENDING and r.task in KNOWN]
        assert waiting == [], "jobs that never get through"

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
        assert turned.claims == (model.claim(turn, turned.claims) if known else []), "claims"
        mail, repeats = model.mail.pop(turn.worker, []), model.repeats.pop(turn.worker, [])
        if known:
            signals = set(turned.signals)
            assert len(signals) == len(turned.signals), "a signal comes once"
            assert signals - set(repeats) == set(mail) - set(repeats), "signals"
            assert signals >= set(mail), "signals"
        # A store also comes back for those it has put aside behind a limit.
        if turned.due is None or not any(job.gates for job in model.jobs.values()):
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

    @initialize(jobs=FIRST_JOBS)
    def begin(self, jobs: list[NewJob]) -> None:
        """Register the workers, store the first jobs and claim some."""
        for worker in WORKERS:
            self.beat(worker)
        self.batch_ids = [self.driver.open_batch(NewBatch(name="b")).id for _ in BATCHES]
        self.model.batches = {batch_id: ModelBatch() for batch_id in self.batch_ids}
        self.enqueue(jobs)
        self.work(WORKERS[0], limit=3, start=2)

    @rule(step=STEPS)
    def do(self, step: tuple[str, dict[str, Any]]) -> None:
        """Take a step."""
        name, arguments = step
        getattr(self, name)(**arguments)

    def enqueue(self, jobs: list[NewJob]) -> None:
        """Store jobs, or fail as a whole where a key that must be free is held."""
        jobs = [self.member(job) for job in jobs]
        refused = self.model.refuses(jobs)
        try:
            records = self.driver.insert(jobs)
        except UniqueConflictError:
            assert refused, "no key that must be free is held"
        else:
            assert not refused, "a key that must be free is held"
            assert records == self.model.insert(jobs, records)

    def member(self, job: NewJob) -> NewJob:
        """Put a job into a batch that is there."""
        batch_id = None if job.batch_id is None else self.batch_ids[job.batch_id]
        return msgspec.structs.replace(job, batch_id=batch_id)

    def claim(
        self,
        *,
        worker: str,
        limit: int,
        start: int,
        tasks: tuple[str, ...],
        queues: tuple[str, ...] | None,
        deadline: float | None,
        cautious: int,
    ) -> None:
        """Claim, as a worker or by hand; some start, the others are prefetched."""
        if deadline is None:
            self.work(worker, limit=limit, start=start, cautious=cautious, tasks=tasks, queues=queues)
        else:
            turn = Turn(worker=HAND, limit=limit, start=limit, tasks=tasks, queues=queues, deadline=deadline)
            self.exchange(turn)

    def work(self, worker: str, **wishes: Any) -> None:
        """Take a worker's turn; one that learns that it was lost comes back under a new id."""
        wishes.setdefault("tasks", KNOWN)
        if not self.exchange(Turn(worker=self.name(worker), **wishes)).known:
            self.beat(worker)
            self.beat(worker)

    def extend(self, pick: int) -> None:
        """Ask for more time for a claim made by hand, which may have been taken away."""
        by_hand = [record for record in [*self.held, *self.ended] if record.worker == HAND]
        if by_hand:
            record = by_hand[pick % len(by_hand)]
            assert self.driver.extend(record, 10.0) == self.model.extend(record, 10.0), "more time"

    def end_and_claim(self, picks: list[tuple[int, str, float]], limit: int) -> None:
        """End some attempts and claim in the same turn."""
        now, settlements = self.model.now, []
        worker = self.held[0].worker if self.held else None
        for pick, outcome, delay in picks[: len(self.held)]:
            record = self.held.pop(pick % len(self.held))
            self.ended.append(record)
            settlements.append(Settlement(record, end(record, outcome, delay, now), now))
        worker = worker or self.name(WORKERS[0])
        self.exchange(Turn(worker=worker, settlements=settlements, limit=limit, start=limit, tasks=KNOWN))

    def end_one(self, pick: int, outcome: str, delay: float) -> None:
        """End one attempt."""
        if not self.held:
            return
        record = self.held.pop(pick % len(self.held))
        self.ended.append(record)
        self.settle([record], outcome, delay, record.worker or "")

    def end_again(self, pick: int, outcome: str) -> None:
        """Report an end for a lease that was ended before."""
        if not self.ended:
            return
        record = self.ended[-1 - pick % len(self.ended)]
        self.settle([record], outcome, 5.0, record.worker or "")

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

    # ------------------------------------------------------------------ what people do

    def manage(self, *, kind: int, pick: int, action: str, delay: float, force: bool) -> None:
        """Do something by hand to a job of one of the statuses that there are, or to one that is not there."""
        records = self.model.records()
        present = [status for status in Status if any(record.status is status for record in records)]
        chosen = [r.id for r in records if kind < len(Status) and r.status is present[kind % len(present)]]
        ids = chosen or [self.model.last_id + 1]
        self.compare_change(ids[pick % len(ids)], decision(action, delay=delay, force=force))

    def pause(self, what: tuple[str, str], *, paused: bool) -> None:
        """Pause or resume."""
        self.driver.pause(*what, paused)
        (self.model.paused.add if paused else self.model.paused.discard)(what)
        assert self.driver.pauses() == self.model.paused

    def purge(self, status: Status, age: float, limit: int) -> None:
        """Delete old jobs; which of those old enough go first is the driver's choice."""
        may = self.model.expired(status, age)
        deleted = self.driver.purge({status: age}, limit)
        left = {record.id for record in self.driver.find(Filter(), limit=MOST)}
        gone = set(self.model.jobs) - left
        assert deleted == len(gone) == min(limit, len(may)), "the number of purged jobs"
        assert gone <= may, "purged jobs that should have stayed"
        for job_id in gone:
            self.model.forget(job_id)

    # ------------------------------------------------------------------ what befalls them

    def pass_time(self, seconds: float, *, bury: bool, limit: int) -> None:
        """Let time pass, perhaps look for workers that have been silent for too long, and go on."""
        self.driver.shift(seconds)
        self.model.now += seconds
        assert self.driver.now() == self.model.now
        if bury:
            expected = self.model.overdue()
            assert sorted(self.driver.bury()) == expected, "workers declared lost"
            self.model.end_workers(expected, "lost")
        self.work(WORKERS[0], limit=limit, start=limit)

    def befall(self, worker: str, what: str) -> None:
        """A worker process vanishes and somebody notices, or it stops in good order, or all is well with it."""
        name = self.name(worker)
        if what == "crash":
            expected = [name] if self.model.alive(name) else []
            assert self.driver.bury([name], overdue=False) == expected
            self.model.end_workers([name], "lost")
        elif what == "retire":
            self.driver.retire(name)
            self.model.end_workers([name], "stopped")
            self.generation[worker] += 1
            self.beat(worker)
        else:
            self.beat(worker)

    def beat(self, worker: str) -> None:
        """Write a heartbeat; a worker that learns that it was lost comes back under a new id."""
        card = Worker(id=self.name(worker), host="here", pid=1, lost_after=20.0)
        known = self.driver.beat(card)
        assert known == self.model.beat(card)
        if not known:
            self.generation[worker] += 1

    def rescue(self, limit: int) -> None:
        """Return the jobs of workers that are gone."""
        expected = {record.id: record for record in self.model.orphans()}
        orphans = self.driver.orphans(limit)
        assert len(orphans) == min(limit, len(expected)), "the number of orphans"
        assert [d for r in orphans for d in differences(r, expected[r.id])] == [], "orphans"
        self.settle(orphans, "lose", 0.0, "rescuer")

    # ------------------------------------------------------------------ always

    @invariant()
    def shows_the_same_jobs(self) -> None:
        """Every job is in one place, and looks as the model says."""
        records = self.driver.find(Filter(), limit=MOST)
        expected = self.model.records()
        assert [record.id for record in records] == [record.id for record in expected], "the jobs that there are"
        for record, other in zip(records, expected, strict=True):
            assert not differences(record, other), f"job {other.id}: field, shown, expected"
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
    def keeps_keys_apart(self) -> None:
        """A key has one job, the model's."""
        for key in KEYS:
            holder = self.driver.holder(key)
            assert (None if holder is None else holder.id) == self.model.held.get(key), f"who has key {key}"

    @invariant()
    def lets_no_more_through(self) -> None:
        """Those who run behind a limit are known, and never too many."""
        for key in GATES:
            running = [
                job.record.id
                for job in self.model.jobs.values()
                if job.record.status is Status.RUNNING and any(gate.key == key for gate in job.gates)
            ]
            assert self.driver.holders(key, MOST) == sorted(running), f"who runs behind {key}"

    @invariant()
    def counts_members(self) -> None:
        """The counters of batches equal the model's."""
        for batch in self.driver.batches(self.model.batches):
            expected = self.model.batches[batch.id]
            counted = (batch.total, batch.completed, batch.dead, batch.cancelled)
            ended = expected.ended
            assert counted == (
                expected.total,
                ended[Status.COMPLETED],
                ended[Status.DEAD],
                ended[Status.CANCELLED],
            ), "members of a batch"
            ripe = expected.total > 0 and not batch.left
            assert not ripe or batch.id in self.driver.ripe(10), "a batch whose members have all ended is ripe"

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
