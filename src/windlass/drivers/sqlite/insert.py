"""What an enqueue writes, as rows: shared by our own connection and the caller's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from windlass.job import Record, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from windlass.job import NewJob


class Planned(msgspec.Struct, frozen=True):
    """The rows of an insert."""

    records: list[Record]
    jobs: list[tuple[Any, ...]]
    ready: list[tuple[Any, ...]]
    timer: list[tuple[Any, ...]]
    tags: list[tuple[str, int]]


def plan(jobs: Sequence[NewJob], *, first_id: int, first_seq: int, now: float) -> Planned:
    """Give ids and places to new jobs."""
    planned = Planned([], [], [], [], [])
    job_id, seq = first_id, first_seq
    for job in jobs:
        run_at = job.run_at if job.run_at is not None else now + job.delay
        if run_at > now:
            status = Status.SCHEDULED
            planned.timer.append((job_id, job.queue, job.task, run_at, 0, 0, 0, 0))
        else:
            status, run_at = Status.PENDING, now
            planned.ready.append((job_id, job.queue, job.task, -job.priority, seq, now, 0, 0, 0))
            seq += 1
        tags = msgspec.json.encode(job.tags).decode() if job.tags else None
        if job.tags:
            planned.tags.extend((tag, job_id) for tag in dict.fromkeys(job.tags))
        meta = job.meta
        planned.jobs.append(
            (
                job_id,
                job.task,
                job.queue,
                job.priority,
                job.payload.decode(),
                job.max_attempts,
                job.timeout,
                now,
                tags,
                job.origin,
                None if meta is None else meta.decode(),
                job.batch_id,
                job.tick,
                job.idempotency_key,
            )
        )
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
                tags=tags,
                origin=job.origin,
                meta=meta,
                batch_id=job.batch_id,
                tick=job.tick,
                idempotency_key=job.idempotency_key,
            )
        )
        job_id += 1
    return planned
