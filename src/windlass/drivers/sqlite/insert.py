"""What an enqueue writes, as rows: shared by our own connection and the caller's.

First ``sift`` tells which jobs are stored and which are not, because another has their key; then ``plan`` makes the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from windlass.errors import UniqueConflictError
from windlass.job import BIT, NewJob, Record, Status, first_record

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from windlass.job import Flow

_SCHEDULED, _PENDING = BIT[Status.SCHEDULED], BIT[Status.PENDING]


class Planned(msgspec.Struct, frozen=True):
    """The rows of an insert. Those of ``ready`` follow from the job rows, in the store."""

    records: list[Record]
    plain_jobs: list[tuple[Any, ...]]
    jobs: list[tuple[Any, ...]]
    timer: list[tuple[Any, ...]]
    tags: list[tuple[str, int]]
    batches: dict[int, int]
    """How many new members each batch has."""
    counts: dict[tuple[str, str, Status], int]
    """How many there are of each queue, task and status."""


class Sifted(msgspec.Struct, frozen=True):
    """Which jobs of an insert are stored."""

    stored: Sequence[NewJob]
    taken: Sequence[tuple[str, int]] = ()
    """Keys that they hold, and their ids."""
    rivals: list[int | None] | None = None
    """Of each job of the insert, the id of the one that has its key, a new one's too; ``None``: all are stored."""
    strict: int | None = None
    """The one that has a strict job's key: nothing may be stored."""

    def missing(self, first_id: int) -> set[int]:
        """Return the ids of rivals that were stored before."""
        return {rival for rival in self.rivals or () if rival is not None and rival < first_id}

    def refuse(self, first_id: int, now: float, read: Callable[[int], Record | None]) -> None:
        """Raise if nothing may be stored."""
        if self.strict is not None:
            rival = read(self.strict) if self.strict < first_id else None
            raise UniqueConflictError(rival or first_record(self.stored[self.strict - first_id], 0, now))

    def answer(self, records: list[Record], known: Mapping[int, Record]) -> list[Record]:
        """Return a record for each job of the insert: the new one, or that of the rival."""
        if self.rivals is None:
            return records
        new = iter(records)
        everyone = {record.id: record for record in records} | dict(known)
        return [
            next(new) if rival is None else msgspec.structs.replace(everyone[rival], found=True)
            for rival in self.rivals
        ]


def text(value: bytes | None) -> str | None:
    """JSON is kept as text, so that people can read the file with the ``sqlite3`` program."""
    return None if value is None else value.decode()


def flows_of(jobs: Sequence[NewJob]) -> list[Flow | None]:
    """Return what new jobs hold; ``None``: nothing."""
    return [job.flow() if job.holds or job.idempotency_key is not None else None for job in jobs]


def keys_of(flows: Sequence[Flow | None]) -> list[str]:
    """Return the keys that new jobs would hold."""
    return [hold.key for flow in flows if flow is not None for hold in flow.holds]


def batches_of(jobs: Sequence[NewJob]) -> set[int]:
    """Return the batches that new jobs would be members of."""
    return {job.batch_id for job in jobs if job.batch_id is not None}


def sift(
    jobs: Sequence[NewJob], flows: Sequence[Flow | None], held: Mapping[str, int], *, first_id: int, now: float
) -> Sifted:
    """Tell which of *jobs* are stored; *held* are the jobs that have their keys now."""
    owners = dict(held)
    stored: list[NewJob] = []
    taken: list[tuple[str, int]] = []
    rivals: list[int | None] = []
    strict = None
    for job, flow in zip(jobs, flows, strict=True):
        holds = () if flow is None else flow.holds
        clash = [hold for hold in holds if hold.key in owners]
        if clash:
            rivals.append(owners[clash[0].key])
            if strict is None:
                strict = next((owners[hold.key] for hold in clash if hold.strict), None)
            continue
        job_id = first_id + len(stored)
        if holds:
            bit = _SCHEDULED if (job.run_at if job.run_at is not None else now + job.delay) > now else _PENDING
            new = [(hold.key, job_id) for hold in holds if hold.mask & bit]
            taken += new
            owners.update(new)
        stored.append(job)
        rivals.append(None)
    return Sifted(stored, taken, rivals if len(stored) < len(jobs) else None, strict)


def plan(jobs: Sequence[NewJob], *, first_id: int, first_seq: int, now: float) -> Planned:
    """Give ids and places to new jobs."""
    records = [first_record(job, job_id, now) for job_id, job in enumerate(jobs, first_id)]
    planned = Planned(records, [], [], [], [], {}, {})
    counts, plain_jobs = planned.counts, planned.plain_jobs
    for seq, (job, record) in enumerate(zip(jobs, records, strict=True), first_seq):
        job_id, status = record.id, record.status
        if status is Status.SCHEDULED:
            planned.timer.append((job_id, job.queue, job.task, record.run_at, 0, 0, 0, 0))
        key = (job.queue, job.task, status)
        counts[key] = counts.get(key, 0) + 1
        payload = job.payload.decode()
        plain = (job_id, job.task, job.queue, job.priority, payload, job.max_attempts, job.timeout, now, seq)
        if job.tags or job.origin or job.meta or job.batch_id or job.tick or record.flow or job.terms:
            planned.jobs.append((*plain, *_rest(job, record)))
            planned.tags.extend((tag, job_id) for tag in dict.fromkeys(job.tags))
            if job.batch_id is not None:
                planned.batches[job.batch_id] = planned.batches.get(job.batch_id, 0) + 1
        else:
            plain_jobs.append(plain)
    return planned


def _rest(job: NewJob, record: Record) -> tuple[Any, ...]:
    flow, terms = text(record.flow), text(job.terms)
    return (record.tags, job.origin, text(job.meta), job.batch_id, job.tick, job.idempotency_key, flow, terms)
