"""The reference: what a store must show, in plain Python.

A dict of jobs, each with its visible record; every question is answered by looking at all of them. Nothing is fast,
nothing is cached, nothing is maintained, so there is little that could be wrong. It shares no code with any driver:
only the rules of :mod:`windlass.lifecycle`, which drivers are told and do not decide.

Ids and lease numbers are the driver's to draw; the model takes them over and checks that they only grow.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from windlass import lifecycle
from windlass.drivers.base import Filter, PastAttempt, Signal, Turn, Worker
from windlass.errors import JobError, UniqueConflictError
from windlass.job import BIT, FINISHED, Flow, Gate, NewJob, Record, Status
from windlass.limits import FAIR, fair_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from windlass.drivers.base import Decide
    from windlass.lifecycle import Settlement, Transition

replace = msgspec.structs.replace
TIMED = (Status.SCHEDULED, Status.RETRYING)


@dataclass(slots=True)
class ModelBatch:
    """Members by how they are counted; one that was deleted after its end stays counted."""

    total: int = 0
    ended: Counter[Status] = field(default_factory=Counter)


@dataclass(slots=True)
class ModelJob:
    """One job: what everybody can see, and the little that a store must remember beside it."""

    record: Record
    place: int = 0
    """Its turn in the line; drawn when it becomes available."""
    deadline: float | None = None
    ran: tuple[str | None, float | None] = (None, None)
    """Worker and start of the last attempt that ended."""
    history: list[PastAttempt] = field(default_factory=list)
    flow: Flow = field(default_factory=Flow)

    @property
    def gates(self) -> tuple[Gate, ...]:
        """Return the limits that it has to pass."""
        return tuple(gate for gate in self.flow.gates if not gate.key.startswith(FAIR))

    @property
    def line(self) -> tuple[Any, ...] | None:
        """Return which line it waits in, if it takes turns."""
        record, key = self.record, fair_key(self.flow.gates)
        return None if key is None else (record.queue, record.task, record.priority, key)


class Model:
    """A store of jobs."""

    def __init__(self, now: float) -> None:
        self.now = now
        self.jobs: dict[int, ModelJob] = {}
        self.places = 0
        self.last_id = 0
        self.last_lease = 0
        self.paused: set[tuple[str, str]] = set()
        self.workers: dict[str, Worker] = {}
        self.mail: dict[str, list[Signal]] = {}
        self.repeats: dict[str, list[Signal]] = {}
        """Requests to stop that were made again: a store may signal them again."""
        self.totals: Counter[tuple[str, str, str]] = Counter()
        self.rates: Counter[tuple[int, str]] = Counter()
        self.held: dict[str, int] = {}
        """Which job has a unique key."""
        self.batches: dict[int, ModelBatch] = {}

    # ------------------------------------------------------------------ questions

    def records(self) -> list[Record]:
        """Return all jobs, newest first."""
        return [self.jobs[job_id].record for job_id in sorted(self.jobs, reverse=True)]

    def found(self, which: Filter) -> list[Record]:
        """Return the jobs of a queue, task and statuses, newest first."""
        return [
            record
            for record in self.records()
            if (which.queue is None or record.queue == which.queue)
            and (which.task is None or record.task == which.task)
            and (not which.statuses or record.status in which.statuses)
        ]

    def due(self) -> float | None:
        """Return when the next timer is due."""
        return min((job.record.run_at for job in self.timers()), default=None)

    def timers(self) -> Iterator[ModelJob]:
        """Yield the jobs that wait for their time."""
        return (job for job in self.jobs.values() if job.record.status in TIMED)

    def live(self, record: Record) -> bool:
        """Tell whether the lease of *record* holds."""
        job = self.jobs.get(record.id)
        return job is not None and job.record.status is Status.RUNNING and job.record.lease == record.lease

    def alive(self, worker: str | None) -> bool:
        """Tell whether a worker is known and neither lost nor stopped."""
        return worker in self.workers and self.workers[worker].status == "running"

    def orphans(self) -> list[Record]:
        """Return running jobs that nobody runs any more."""
        return [
            job.record
            for job in self.jobs.values()
            if job.record.status is Status.RUNNING
            and (job.deadline <= self.now if job.deadline is not None else not self.alive(job.record.worker))
        ]

    def overdue(self) -> list[str]:
        """Return the workers that have been silent for too long."""
        return sorted(w.id for w in self.workers.values() if self.alive(w.id) and w.beat_at + w.lost_after < self.now)

    def expired(self, status: Status, age: float) -> set[int]:
        """Return the finished jobs that a purge may take."""
        return {
            record.id
            for record in self.records()
            if record.status is status and record.finished_at is not None and record.finished_at <= self.now - age
        }

    # ------------------------------------------------------------------ moves

    def refuses(self, jobs: Sequence[NewJob]) -> bool:
        """Whether a key that must be free is held, by a stored job or an earlier one of the same call."""
        seen = set(self.held)
        for new in jobs:
            holds = new.holds
            if any(hold.strict and hold.key in seen for hold in holds):
                return True
            seen.update(hold.key for hold in holds)
        return False

    def insert(self, jobs: Sequence[NewJob], shown: Sequence[Record]) -> list[Record]:
        """Store new jobs under the ids that the driver drew; whose key is held is not stored."""
        records = []
        for new, other in zip(jobs, shown, strict=True):
            rivals = {self.held[hold.key] for hold in new.holds if hold.key in self.held}
            if rivals:
                assert other.id in rivals, "the job that holds the key"
                records.append(replace(self.jobs[other.id].record, found=True))
                continue
            assert other.id > self.last_id, "ids grow"
            self.last_id = other.id
            records.append(self.store(new, other.id))
        return records

    def store(self, new: NewJob, job_id: int) -> Record:
        """Store one job."""
        run_at = new.run_at if new.run_at is not None else self.now + new.delay
        status = Status.SCHEDULED if run_at > self.now else Status.PENDING
        flow = Flow(new.holds, new.gates)
        record = Record(
            id=job_id,
            task=new.task,
            queue=new.queue,
            status=status,
            priority=new.priority,
            payload=new.payload,
            attempt=0,
            failures=0,
            crashes=0,
            max_attempts=new.max_attempts,
            timeout=new.timeout,
            run_at=max(run_at, self.now),
            created_at=self.now,
            batch_id=new.batch_id,
            flow=msgspec.json.encode(flow) if flow != Flow() else None,
        )
        job = self.jobs[job_id] = ModelJob(record, flow=flow)
        for hold in flow.holds:
            self.held[hold.key] = job_id
        self.count_member(record, None, status)
        if status is Status.PENDING:
            self.join_line(job)
        self.totals[new.queue, new.task, "enqueued"] += 1
        return record

    def rival(self, job: ModelJob, status: Status | None) -> int | None:
        """Return the job that has a key which *job* would have to take for *status*."""
        before = BIT[job.record.status]
        for hold in job.flow.holds:
            takes = status is not None and hold.mask & BIT[status] and not hold.mask & before
            if takes and self.held.get(hold.key, job.record.id) != job.record.id:
                return self.held[hold.key]
        return None

    def rehold(self, job: ModelJob, status: Status | None) -> None:
        """Take and give up keys."""
        for hold in job.flow.holds:
            if status is not None and hold.mask & BIT[status]:
                self.held[hold.key] = job.record.id
            elif self.held.get(hold.key) == job.record.id:
                del self.held[hold.key]

    def count_member(self, record: Record, before: Status | None, after: Status | None) -> None:
        """Count a member of a batch that moves."""
        batch = self.batches.get(record.batch_id or 0)
        if batch is None:
            return
        if before is None:
            batch.total += 1
        if after is None and before not in FINISHED:
            batch.total -= 1
        if before in FINISHED and after is not None:
            batch.ended[before] -= 1
        if after in FINISHED:
            batch.ended[after] += 1

    def running_behind(self, key: str) -> int:
        """Count the jobs that run behind a limit."""
        return sum(
            job.record.status is Status.RUNNING and any(gate.key == key for gate in job.gates)
            for job in self.jobs.values()
        )

    def passes(self, job: ModelJob) -> bool:
        """Whether a job may start now, as far as limits go."""
        return all(self.running_behind(gate.key) < gate.most for gate in job.gates)

    def join_line(self, job: ModelJob) -> None:
        """Put a job at the end of the line."""
        self.places += 1
        job.place = self.places

    def settle(self, settlements: Sequence[Settlement]) -> list[tuple[int, int]]:
        """End leases; return those that were not live."""
        refused = []
        for settlement in settlements:
            record = settlement.record
            if self.live(record):
                self.move(self.jobs[record.id], settlement.transition, settlement.finished_at)
            else:
                refused.append((record.id, record.lease))
        return refused

    def start(self, records: Sequence[Record]) -> list[tuple[int, int]]:
        """Start prefetched jobs; return those whose lease was not live."""
        refused = []
        for claimed in records:
            if not self.live(claimed):
                refused.append((claimed.id, claimed.lease))
                continue
            job = self.jobs[claimed.id]
            if job.record.started_at is None:
                job.record = replace(job.record, started_at=self.now, attempt=job.record.attempt + 1)
        return refused

    def promote(self) -> None:
        """Make due jobs available, in the order of their times."""
        due = [job for job in self.timers() if job.record.run_at <= self.now]
        for job in sorted(due, key=lambda job: (job.record.run_at, job.record.id)):
            if (rival := self.rival(job, Status.PENDING)) is not None:
                self.move(job, lifecycle.superseded(lifecycle.due(job.record), rival), self.now)
                continue
            self.rehold(job, Status.PENDING)
            job.record = replace(job.record, status=Status.PENDING)
            self.join_line(job)

    def eligible(self, turn: Turn) -> list[ModelJob]:
        """Return what a turn may claim, best first."""
        may = [
            job
            for job in self.jobs.values()
            if job.record.status is Status.PENDING
            and job.record.task in turn.tasks
            and (turn.queues is None or job.record.queue in turn.queues)
            and ("task", job.record.task) not in self.paused
            and ("queue", job.record.queue) not in self.paused
        ]
        return sorted(may, key=lambda job: (-job.record.priority, job.place, job.record.id))

    def claim(self, turn: Turn, shown: Sequence[Record]) -> list[Record]:
        """Lease the jobs that the driver chose, under the numbers that it drew, and check the choice.

        Without gates and turns there is one right choice. Behind a gate a store may be late in letting a job back; it must
        never let one through too many, nor keep others waiting for it. Turns change who is first, but not in one line, and
        leave no slot empty.
        """
        chosen = {record.id for record in shown}
        allowed: list[ModelJob] = []
        passed_over: set[tuple[Any, ...]] = set()
        for job in self.eligible(turn):
            if len(allowed) == turn.limit:
                break
            if job.record.id not in chosen:
                its_turn = job.line is None or len(shown) < turn.limit
                assert job.gates or not its_turn, f"job {job.record.id} was passed over"
                passed_over |= set() if job.line is None or job.gates else {job.line}
                continue
            assert job.line not in passed_over, f"job {job.record.id} is not the first of its line"
            allowed.append(job)
        in_order = [job.record.id for job in allowed if job.line is None]
        may = {job.record.id for job in allowed}
        assert [record.id for record in shown if record.id in may and self.jobs[record.id].line is None] == in_order
        claims: list[Record] = []
        for place, record in enumerate(shown):
            if record.id in may:
                assert self.passes(self.jobs[record.id]), f"job {record.id} is one too many behind a limit"
                claims.append(self.lease(self.jobs[record.id], turn, record.lease, started=place < turn.start))
        return claims

    def lease(self, job: ModelJob, turn: Turn, lease: int, *, started: bool) -> Record:
        """Lease one job."""
        assert lease > self.last_lease, "lease numbers grow"
        self.last_lease = lease
        starts = started and job.record.crashes < turn.cautious
        job.deadline = None if turn.deadline is None else self.now + turn.deadline
        self.rehold(job, Status.RUNNING)
        job.record = replace(
            job.record,
            status=Status.RUNNING,
            lease=lease,
            worker=turn.worker,
            started_at=self.now if starts else None,
            attempt=job.record.attempt + starts,
        )
        return job.record

    def extend(self, record: Record, seconds: float) -> bool:
        """Move the deadline of a lease, if it holds."""
        if self.live(record):
            self.jobs[record.id].deadline = self.now + seconds
            return True
        return False

    def change(self, job_id: int, decide: Decide) -> tuple[Record | None, Transition | None, type[Exception] | None]:
        """Do by hand what *decide* says; return what was, what was done, and why not."""
        job = self.jobs.get(job_id)
        if job is None:
            return None, None, None
        before = job.record
        try:
            transition = decide(before, self.now)
        except JobError as error:
            return before, None, type(error)
        rival = None if transition.request else self.rival(job, transition.status)
        if rival is not None:
            return before, None, UniqueConflictError
        if transition.request:
            self.tell(before, cancel=True, again=before.cancel)
            job.record = replace(before, cancel=True)
            return before, transition, None
        if before.status is Status.RUNNING:
            self.tell(before, cancel=False)
        if transition.status is None:
            self.rehold(job, None)
            self.count_member(before, before.status, None)
            del self.jobs[job_id]
            return before, transition, None
        if transition.extra_attempts:
            most = before.max_attempts
            more = before.failures + 1 if most is None else most + transition.extra_attempts
            job.record = replace(before, max_attempts=more)
        self.move(job, transition, self.now)
        return before, transition, None

    def tell(self, record: Record, *, cancel: bool, again: bool = False) -> None:
        """Leave a message for the worker that holds a lease."""
        mail = self.repeats if again else self.mail
        mail.setdefault(record.worker or "", []).append(Signal(record.id, record.lease, cancel))

    def move(self, job: ModelJob, transition: Transition, finished_at: float) -> None:
        """Put a job where *transition* says."""
        if (rival := self.rival(job, transition.status)) is not None:
            transition = lifecycle.superseded(transition, rival)
        before, status = job.record, transition.status
        assert status is not None
        self.rehold(job, status)
        self.count_member(before, before.status, status)
        if before.status is Status.RUNNING and transition.outcome is not None:
            row = PastAttempt(
                transition.attempt,
                before.worker,
                before.started_at,
                finished_at,
                transition.outcome.value,
                transition.error,
            )
            job.history.append(row)
            job.ran = (before.worker, before.started_at)
        stays = transition.keep_place and before.status in (Status.PENDING, Status.RUNNING)
        if status in TIMED:
            run_at = self.now if transition.run_at is None else transition.run_at
        elif status is Status.PENDING and not stays:
            run_at = self.now
            self.join_line(job)
        else:
            run_at = before.run_at
        job.deadline = None
        job.record = replace(
            before,
            status=status,
            max_attempts=job.record.max_attempts,
            attempt=transition.attempt,
            failures=transition.failures,
            crashes=transition.crashes,
            run_at=run_at,
            worker=job.ran[0],
            started_at=job.ran[1],
            finished_at=finished_at if status in FINISHED else None,
            result=transition.result,
            error=before.error if transition.error is None else transition.error,
            lease=0,
            cancel=False,
        )
        self.count(before, transition)

    def count(self, record: Record, transition: Transition) -> None:
        """Raise the counters that *transition* raises."""
        for name in lifecycle.totals(transition):
            self.totals[record.queue, record.task, name] += 1
            if name in ("processed", "failed"):
                self.rates[int(self.now), name] += 1

    def forget(self, job_id: int) -> None:
        """Drop a finished job."""
        self.rehold(self.jobs[job_id], None)
        del self.jobs[job_id]

    # ------------------------------------------------------------------ workers

    def beat(self, worker: Worker) -> bool:
        """Write a heartbeat."""
        if worker.id in self.workers and not self.alive(worker.id):
            return False
        self.workers[worker.id] = replace(worker, beat_at=self.now)
        return True

    def end_workers(self, ids: Sequence[str], status: str) -> None:
        """Mark workers as lost or stopped."""
        for worker_id in ids:
            if self.alive(worker_id):
                self.workers[worker_id] = replace(self.workers[worker_id], status=status)
