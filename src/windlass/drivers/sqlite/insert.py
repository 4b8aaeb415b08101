"""What an enqueue writes, as rows: shared by our own connection and the caller's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from windlass.job import Record, Status

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
    planned = Planned([], [], [], [], [], {})
    counts = planned.counts
    job_id, seq = first_id, first_seq
    for job in jobs:
        rest: tuple[Any, ...]
        run_at = job.run_at if job.run_at is not None else now + job.delay
        if run_at > now:
            status = Status.SCHEDULED
            planned.timer.append((job_id, job.queue, job.task, run_at, 0, 0, 0, 0))
        else:
            status, run_at = Status.PENDING, now
        key = (job.queue, job.task, status)
        counts[key] = counts.get(key, 0) + 1
        payload = job.payload.decode()
        plain = (job_id, job.task, job.queue, job.priority, payload, job.max_attempts, job.timeout, now, seq)
        if job.tags or job.origin or job.meta or job.batch_id or job.tick or job.idempotency_key:
            tags = msgspec.json.encode(job.tags).decode() if job.tags else None
            planned.tags.extend((tag, job_id) for tag in dict.fromkeys(job.tags))
            meta = None if job.meta is None else job.meta.decode()
            planned.jobs.append((*plain, tags, job.origin, meta, job.batch_id, job.tick, job.idempotency_key))
            rest = (job.origin, job.meta, job.batch_id, job.tick, job.idempotency_key)
        else:
            tags, rest = None, ()
            planned.plain_jobs.append(plain)
        planned.records.append(
            Record(
                job_id,
                job.task,
                job.queue,
                status,
                job.priority,
                job.payload,
                0,
                0,
                0,
                job.max_attempts,
                job.timeout,
                run_at,
                now,
                None,
                None,
                None,
                None,
                tags,
                *rest,
            )
        )
        job_id += 1
        seq += 1
    return planned
