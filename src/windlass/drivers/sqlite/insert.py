"""What an enqueue writes, as rows: shared by our own connection and the caller's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from windlass.job import Record, Status, first_record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from windlass.job import NewJob


class Planned(msgspec.Struct, frozen=True):
    """The rows of an insert. Those of ``ready`` follow from the job rows, in the store."""

    records: list[Record]
    plain_jobs: list[tuple[Any, ...]]
    jobs: list[tuple[Any, ...]]
    timer: list[tuple[Any, ...]]
    tags: list[tuple[str, int]]
    counts: dict[tuple[str, str, Status], int]
    """How many there are of each queue, task and status."""


def plan(jobs: Sequence[NewJob], *, first_id: int, first_seq: int, now: float) -> Planned:
    """Give ids and places to new jobs."""
    records = [first_record(job, job_id, now) for job_id, job in enumerate(jobs, first_id)]
    planned = Planned(records, [], [], [], [], {})
    counts, plain_jobs = planned.counts, planned.plain_jobs
    for seq, (job, record) in enumerate(zip(jobs, records, strict=True), first_seq):
        job_id, status = record.id, record.status
        if status is Status.SCHEDULED:
            planned.timer.append((job_id, job.queue, job.task, record.run_at, 0, 0, 0, 0))
        key = (job.queue, job.task, status)
        counts[key] = counts.get(key, 0) + 1
        payload = job.payload.decode()
        plain = (job_id, job.task, job.queue, job.priority, payload, job.max_attempts, job.timeout, now, seq)
        if job.tags or job.origin or job.meta or job.batch_id or job.tick or job.idempotency_key:
            planned.tags.extend((tag, job_id) for tag in dict.fromkeys(job.tags))
            meta = None if job.meta is None else job.meta.decode()
            planned.jobs.append((*plain, record.tags, job.origin, meta, job.batch_id, job.tick, job.idempotency_key))
        else:
            plain_jobs.append(plain)
    return planned
