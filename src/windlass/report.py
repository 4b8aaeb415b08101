"""What questions about the store are answered with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, overload

import msgspec

from windlass.drivers.base import Passage
from windlass.job import Job, Status
from windlass.lifecycle import TOTALS

if TYPE_CHECKING:
    from windlass.drivers.base import Tally, Worker


class Page(Sequence[Job]):
    """A page of jobs, newest first."""

    def __init__(self, jobs: Sequence[Job], *, next: int | None) -> None:  # noqa: A002 - the field's own word
        self._jobs = tuple(jobs)
        self.next = next
        """The cursor of the next page, for ``after=``; ``None`` at the end."""

    @overload
    def __getitem__(self, place: int) -> Job: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[Job, ...]: ...
    def __getitem__(self, place: int | slice) -> Job | tuple[Job, ...]:
        """Return one job or a part of the page."""
        return self._jobs[place]

    def __len__(self) -> int:
        """Count the jobs of this page."""
        return len(self._jobs)

    def __repr__(self) -> str:
        """Show the size and cursor."""
        return f"<Page of {len(self)} jobs, next={self.next}>"


class Count(int):
    """A number of jobs that knows whether it is exact or only a lower bound."""

    exact: bool

    def __new__(cls, number: int, *, exact: bool = True) -> Self:
        """Make one."""
        count = super().__new__(cls, number)
        count.exact = exact
        return count

    def __str__(self) -> str:
        """Return the number, with a plus when there are more."""
        return str(int(self)) if self.exact else f"{int(self)}+"


class Numbers(msgspec.Struct, frozen=True, kw_only=True):
    """The number of jobs in each status."""

    scheduled: int = 0
    pending: int = 0
    running: int = 0
    retrying: int = 0
    completed: int = 0
    dead: int = 0
    cancelled: int = 0

    @property
    def failed(self) -> int:
        """Retrying and dead together."""
        return self.retrying + self.dead

    @classmethod
    def sum(cls, counts: Sequence[Mapping[Status, int]]) -> Numbers:
        """Add up."""
        return cls(**{status.value: sum(count[status] for count in counts) for status in Status})


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """Counters that never fall, not even when jobs are deleted."""

    enqueued: int = 0
    processed: int = 0
    """Jobs completed."""
    failed: int = 0
    """Attempts failed."""
    retried: int = 0
    """Attempts granted again, by the back-off or by hand."""
    dead: int = 0
    cancelled: int = 0
    snoozed: int = 0
    released: int = 0
    lost: int = 0
    """Attempts lost with their worker."""


class Stats(Numbers, frozen=True, kw_only=True):
    """The whole store in numbers, read from counters."""

    queues: Mapping[str, Numbers]
    tasks: Mapping[str, Numbers]
    totals: Totals
    queue_totals: Mapping[str, Totals]

    @classmethod
    def of(cls, tallies: Sequence[Tally]) -> Stats:
        """Add up the counters."""
        queues: dict[str, list[Tally]] = {}
        tasks: dict[str, list[Tally]] = {}
        for tally in tallies:
            queues.setdefault(tally.queue, []).append(tally)
            tasks.setdefault(tally.task, []).append(tally)
        everything = Numbers.sum([t.counts for t in tallies])
        return cls(
            **msgspec.structs.asdict(everything),
            queues={name: Numbers.sum([t.counts for t in group]) for name, group in sorted(queues.items())},
            tasks={name: Numbers.sum([t.counts for t in group]) for name, group in sorted(tasks.items())},
            totals=_totals(tallies),
            queue_totals={name: _totals(group) for name, group in sorted(queues.items())},
        )


def _totals(tallies: Sequence[Tally]) -> Totals:
    return Totals(**{name: sum(tally.totals[name] for tally in tallies) for name in TOTALS})


class Queue(Numbers, frozen=True, kw_only=True):
    """One queue."""

    name: str
    paused: bool = False
    oldest: float | None = None
    """Seconds that its longest-waiting pending job has been available."""

    @classmethod
    def of(cls, name: str, stats: Stats, *, paused: bool, oldest: float | None) -> Queue:
        """Pick one queue out of the numbers."""
        numbers = msgspec.structs.asdict(stats.queues.get(name, Numbers()))
        return cls(name=name, paused=paused, oldest=oldest, **numbers)


class Sample(msgspec.Struct, frozen=True):
    """What ended in one second."""

    second: int
    """Epoch seconds."""
    processed: int
    failed: int


class Throughput(msgspec.Struct, frozen=True, kw_only=True):
    """What was done in the last while, over all processes."""

    window: float
    """Seconds looked at."""
    processed: int
    failed: int
    samples: tuple[Sample, ...]
    """The seconds in which something ended."""

    @property
    def per_second(self) -> float:
        """Jobs completed per second, on average over the window."""
        return self.processed / self.window

    @property
    def per_minute(self) -> float:
        """Jobs completed per minute, on average over the window."""
        return self.per_second * 60

    @classmethod
    def of(cls, rates: Sequence[tuple[int, int, int]], *, window: float) -> Throughput:
        """Add up."""
        samples = tuple(Sample(*row) for row in rates)
        return cls(
            window=window,
            processed=sum(s.processed for s in samples),
            failed=sum(s.failed for s in samples),
            samples=samples,
        )


class Done(msgspec.Struct, frozen=True):
    """What a bulk operation did."""

    ids: list[int]
    """The jobs it was done to."""
    refused: dict[int, Exception]
    """The others, each with the reason."""

    def __len__(self) -> int:
        """Count what was done."""
        return len(self.ids)

    def __iter__(self) -> Iterator[int]:
        """Go through what was done."""
        return iter(self.ids)


class Why(msgspec.Struct, frozen=True, kw_only=True):
    """Why a job is where it is."""

    job: Job
    reasons: tuple[tuple[str, str], ...]
    """``(code, sentence)``, the most important first. Codes: scheduled, retrying, queue-paused, task-paused, limited,
    rate-limited, no-worker, no-worker-for-queue, unknown-task, last-chance, busy, takes-turns, ready, running, prefetched, cancelling, lost-worker,
    completed, dead, cancelled."""

    def __str__(self) -> str:
        """Return the sentences."""
        return "; ".join(text for _, text in self.reasons)

    @property
    def code(self) -> str:
        """The most important reason."""
        return self.reasons[0][0]


class Shut(msgspec.Struct, frozen=True):
    """A gate that lets no job start now."""

    passage: Passage
    holders: Sequence[int]
    """Some of the jobs that run behind it."""

    def reason(self, now: float) -> tuple[str, str]:
        """Say it."""
        gate, (_, _, key) = self.passage.gate, self.passage.gate.key.partition(":")
        if gate.per:
            left = max(0.0, (self.passage.free_at or now) - now)
            return (
                "rate-limited",
                f"{gate.most:g} per {gate.per:g} s of {key} have started; the next may in {left:.1f} s",
            )
        named = ", ".join(f"#{job_id}" for job_id in self.holders) or "none that is known"
        more = self.passage.used - len(self.holders)
        others = f" and {more} more" if more > 0 else ""
        return (
            "limited",
            f"all {gate.most:g} slots of {key} are taken by {named}{others}; the first that ends frees one",
        )


def explain(
    job: Job,
    *,
    pauses: set[tuple[str, str]],
    workers: Sequence[Worker],
    queued: int,
    now: float,
    shut: Sequence[Shut] = (),
    turn: str | None = None,
) -> Why:
    """Say why *job* is not running. *queued* = the other pending jobs of its queue; *turn* = the key by which it takes turns."""
    match job.status:
        case Status.COMPLETED | Status.DEAD | Status.CANCELLED:
            reasons = [_ended(job)]
        case Status.RUNNING:
            reasons = [*_running(job, workers)]
        case _:
            live = [w for w in workers if w.status == "running"]
            reasons = [*_held_back(job, pauses, shut, now), *_waiting(job, live, queued, held=bool(shut), turn=turn)]
    return Why(job=job, reasons=tuple(reasons))


def _ended(job: Job) -> tuple[str, str]:
    when = f"{job.finished_at:%Y-%m-%d %H:%M:%S %Z}"
    if job.status is Status.DEAD:
        counted = f"{job.failures} of {job.max_attempts} tries failed, {job.crashes} crashed"
        return "dead", f"it died at {when} ({counted}): {job.error}"
    return job.status.value, f"it was {job.status.value} at {when}"


def _running(job: Job, workers: Sequence[Worker]) -> Iterator[tuple[str, str]]:
    holder = next((w for w in workers if w.id == job.worker), None)
    place = f"worker {job.worker}" + (f" on {holder.host}" if holder else "")
    if holder is not None and holder.status == "lost":
        yield "lost-worker", f"{place} is lost; the job is about to be taken back"
    if job._record.cancel:  # noqa: SLF001 - not of public interest
        yield "cancelling", "it was asked to stop and has not stopped yet"
    if job.started_at is None or job._record.started_at is None:  # noqa: SLF001
        yield "prefetched", f"{place} has fetched it and starts it as soon as a slot is free"
    else:
        yield "running", f"it has been running on {place} since {job.started_at:%Y-%m-%d %H:%M:%S %Z}"


def _held_back(job: Job, pauses: set[tuple[str, str]], shut: Sequence[Shut], now: float) -> Iterator[tuple[str, str]]:
    left = job.run_at.timestamp() - now
    if job.status is Status.SCHEDULED and left > 0:
        yield "scheduled", f"it is scheduled for {job.run_at:%Y-%m-%d %H:%M:%S %Z}, in {left:.0f} s"
    if job.status is Status.RETRYING and left > 0:
        yield "retrying", f"try {job.failures} of {job.max_attempts} failed ({job.error}); next in {left:.0f} s"
    if ("queue", job.queue) in pauses:
        yield "queue-paused", f"queue {job.queue!r} is paused; app.resume(queue={job.queue!r})"
    if ("task", job.task) in pauses:
        yield "task-paused", f"task {job.task!r} is paused; app.resume(task={job.task!r})"
    yield from (one.reason(now) for one in shut)


def _waiting(
    job: Job, workers: Sequence[Worker], queued: int, *, held: bool, turn: str | None
) -> Iterator[tuple[str, str]]:
    if not workers:
        yield "no-worker", "no worker is running; start one with `windlass worker`"
        return
    able = [w for w in workers if w.queues is None or job.queue in w.queues]
    if not able:
        yield "no-worker-for-queue", f"none of the {len(workers)} workers takes jobs of queue {job.queue!r}"
        return
    if not any(job.task in w.tasks for w in able):
        yield "unknown-task", f"none of the {len(able)} workers of its queue knows task {job.task!r}"
        return
    slots = sum(w.concurrency for w in able)
    busy = sum(w.running for w in able)
    if busy >= slots:
        yield "busy", f"all {slots} slots are busy; {queued} other jobs wait in queue {job.queue!r}"
        if turn is not None:
            yield "takes-turns", f"jobs of {turn!r} take turns with those of other keys, each its first"
    elif not held:
        yield "ready", f"it is next to be taken by one of {len(able)} workers"


def as_json(value: Any) -> Any:
    """Turn an answer into JSON types, for programs."""
    return msgspec.to_builtins(value, enc_hook=_other)


def _other(value: Any) -> Any:
    if isinstance(value, Job):
        return job_as_json(value)
    if isinstance(value, Exception):
        return str(value)
    raise NotImplementedError(type(value).__qualname__)


def job_as_json(job: Job) -> dict[str, Any]:
    """Return every field of a job as JSON types; instants in ISO 8601, UTC."""
    fields = (
        "id", "task", "queue", "status", "priority", "payload", "attempt", "failures", "crashes", "max_attempts",
        "timeout", "run_at", "created_at", "started_at", "finished_at", "error", "result", "progress", "tags",
        "origin", "meta", "batch_id", "tick", "idempotency_key", "worker",
    )  # fmt: skip
    found: dict[str, Any] = msgspec.to_builtins({name: getattr(job, name) for name in fields})
    return found
