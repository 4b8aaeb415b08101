"""The reference: what a store must show, in plain Python.

A dict of jobs, each with its visible record; every question is answered by looking at all of them. Nothing is fast,
nothing is cached, nothing is maintained, so there is little that could be wrong. It shares no code with any driver:
only the rules of :mod:`windlass.lifecycle`, which drivers are told and do not decide.

Ids and lease numbers are the driver's to draw; the model takes them over and checks that they only grow.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from windlass import lifecycle
from windlass.drivers.base import Filter, PastAttempt, Signal, Turn, Worker
from windlass.errors import JobError
from windlass.job import FINISHED, Record, Status

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from windlass.drivers.base import Decide
    from windlass.job import NewJob
    from windlass.lifecycle import Settlement, Transition

replace = msgspec.structs.replace
TIMED = (Status.SCHEDULED, Status.RETRYING)


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

    def insert(self, jobs: Sequence[NewJob], ids: Sequence[int]) -> list[Record]:
        """Store new jobs under the ids that the driver drew."""
        records = []
        for new, job_id in zip(jobs, ids, strict=True):
            assert job_id > self.last_id, "ids grow"
            self.last_id = job_id
            run_at = new.run_at if new.run_at is not None else self.now + new.delay
            status = Status.SCHEDULED if run_at > self.now else Status.PENDING
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
            )
            job = self.jobs[job_id] = ModelJob(record)
            if status is Status.PENDING:
                self.join_line(job)
            self.totals[new.queue, new.task, "enqueued"] += 1
            records.append(record)
        return records

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

    def claim(self, turn: Turn, leases: Sequence[int]) -> list[Record]:
        """Lease the best jobs under the numbers that the driver drew."""
        claims: list[Record] = []
        for job, lease in zip(self.eligible(turn)[: turn.limit], leases, strict=False):
            assert lease > self.last_lease, "lease numbers grow"
            self.last_lease = lease
            starts = len(claims) < turn.start and job.record.crashes < turn.cautious
            job.deadline = None if turn.deadline is None else self.now + turn.deadline
            job.record = replace(
                job.record,
                status=Status.RUNNING,
                lease=lease,
                worker=turn.worker,
                started_at=self.now if starts else None,
                attempt=job.record.attempt + starts,
            )
            claims.append(job.record)
        return claims

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
        if transition.request:
            self.tell(before, cancel=True, again=before.cancel)
            job.record = replace(before, cancel=True)
            return before, transition, None
        if before.status is Status.RUNNING:
            self.tell(before, cancel=False)
        if transition.status is None:
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
        before, status = job.record, transition.status
        assert status is not None
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
