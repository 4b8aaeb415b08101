"""What an enqueue sends: a few jobs as one JSON array for a function, many as lines for ``COPY``."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from windlass.job import BIT, WAITING, Status, first_record
from windlass.limits import fair_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from windlass.job import Flow, NewJob, Record

_encode = msgspec.json.encode
_NULL = b"\\N"

# The bits of the column flags: what a store must do about a job beside moving it. NULL is a plain job's.
HOLDS, GATES, MEMBER, GAPS, TURNS = 1, 2, 4, 8, 16
_LIVE = sum(BIT[status] for status in (*WAITING, Status.RUNNING))


def flags_of(job: NewJob, flow: Flow | None) -> int:
    """Return the flags of a job; ``GAPS``: it has not got a key all the time from its enqueue to its end."""
    flags = 0 if job.batch_id is None else MEMBER
    if flow is not None:
        flags |= (HOLDS if flow.holds else 0) | (GATES if flow.gates else 0)
        if any(_LIVE & ~hold.mask for hold in flow.holds):
            flags |= GAPS
        if fair_key(flow.gates) is not None:
            flags |= TURNS
    return flags


def is_tied(job: NewJob) -> bool:
    """Whether storing the job takes more than rows of its own: keys, or a place in a batch."""
    return job.batch_id is not None or job.idempotency_key is not None or bool(job.holds)


def is_plain(job: NewJob) -> bool:
    """Whether the job has nothing but the usual."""
    return not (has_extras(job) or job.idempotency_key or job.holds)


def has_extras(job: NewJob) -> bool:
    """Whether the job has what few have, its keys aside."""
    return bool(
        job.tags
        or job.origin
        or job.meta
        or job.batch_id
        or job.tick
        or job.gates
        or job.terms
        or job.run_at is not None
    )


def as_json(jobs: Sequence[NewJob]) -> str:
    """Spell new jobs for the function ``enqueue``."""
    return "[" + ",".join(map(_object, jobs)) + "]"


@lru_cache(1024)
def _named(queue: str, task: str, priority: int) -> str:
    return f'{{"q":{_text(queue)},"t":{_text(task)},"p":{priority},"y":'


def _text(value: str) -> str:
    return _encode(value).decode()


def _object(job: NewJob) -> str:
    text = _named(job.queue, job.task, job.priority) + _text(job.payload.decode())
    if job.max_attempts is not None:
        text += f',"m":{job.max_attempts}'
    if job.timeout is not None:
        text += f',"o":{job.timeout!r}'
    if job.run_at is not None:
        text += f',"r":{job.run_at!r}'
    elif job.delay:
        text += f',"d":{job.delay!r}'
    if not is_plain(job):
        flow = job.flow()
        rest: dict[str, Any] = {
            "e": flags_of(job, flow) or None,
            "g": job.tags or None,
            "s": job.origin,
            "n": None if job.meta is None else job.meta.decode(),
            "b": job.batch_id,
            "k": job.tick,
            "i": job.idempotency_key,
            "f": None if flow is None else _encode(flow).decode(),
            "x": None if job.terms is None else job.terms.decode(),
        }
        text += "".join(f',"{name}":{_encode(value).decode()}' for name, value in rest.items() if value is not None)
    return text + "}"


def stored(jobs: Sequence[NewJob], ids: Sequence[int], now: float) -> list[Record]:
    """Return the records of jobs that were given *ids* at *now*."""
    return [first_record(job, job_id, now) for job, job_id in zip(jobs, ids, strict=True)]


class Lines(msgspec.Struct, frozen=True):
    """The lines of a bulk insert, for each table."""

    job: list[bytes]
    ready: list[bytes]
    timer: list[bytes]
    tag: list[bytes]
    counts: dict[tuple[int, Status], int]
    """How many there are of each stream and status."""


JOB_COLUMNS = (
    "id, created_at, timeout, batch_id, tick, stream, max_attempts, payload, flags, tags, origin, meta, idempotency_key, "
    "flow, terms"
)


def lines(jobs: Sequence[NewJob], records: Sequence[Record], streams: dict[tuple[str, str, int], int]) -> Lines:
    """Spell records for ``COPY`` in its text format."""
    made = Lines([], [], [], [], {})
    counts = made.counts
    for job, record in zip(jobs, records, strict=True):
        stream = streams[record.queue, record.task, record.priority]
        job_id = record.id
        key = (stream, record.status)
        counts[key] = counts.get(key, 0) + 1
        flags = (flags_of(job, job.flow()) or None) if record.flow is not None or job.batch_id is not None else None
        made.job.append(_line(job, record, stream, flags))
        if record.status is Status.PENDING:
            made.ready.append(b"%d\t%d\t%d\t%b\n" % (job_id, job_id, stream, _number(flags)))
        else:
            run_at = repr(record.run_at).encode()
            made.timer.append(b"%d\t%b\t%d\t%b\tf\n" % (job_id, run_at, stream, _number(flags)))
        for tag in dict.fromkeys(job.tags):
            made.tag.append(b"%d\t%s\n" % (job_id, _escaped(tag.encode())))
    return made


def _line(job: NewJob, record: Record, stream: int, flags: int | None) -> bytes:
    most = _NULL if job.max_attempts is None else b"%d" % job.max_attempts
    now, timeout = repr(record.created_at).encode(), _number(job.timeout)
    payload = _escaped(job.payload)
    if record.tags is None and is_plain(job):
        return b"%d\t%b\t%b\t\\N\t\\N\t%d\t%b\t%b\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\n" % (
            record.id,
            now,
            timeout,
            stream,
            most,
            payload,
        )
    fields = (
        b"%d" % record.id,
        now,
        timeout,
        _number(job.batch_id),
        _number(job.tick),
        b"%d" % stream,
        most,
        payload,
        _number(flags),
        _optional(record.tags),
        _optional(job.origin),
        _NULL if job.meta is None else _escaped(job.meta),
        _optional(job.idempotency_key),
        _NULL if record.flow is None else _escaped(record.flow),
        _NULL if job.terms is None else _escaped(job.terms),
    )
    return b"\t".join(fields) + b"\n"


def _number(value: float | None) -> bytes:
    return _NULL if value is None else repr(value).encode()


def _optional(value: str | None) -> bytes:
    return _NULL if value is None else _escaped(value.encode())


def _escaped(value: bytes) -> bytes:
    if b"\\" in value:
        value = value.replace(b"\\", b"\\\\")
    if b"\n" in value or b"\t" in value or b"\r" in value:
        value = value.replace(b"\n", b"\\n").replace(b"\t", b"\\t").replace(b"\r", b"\\r")
    return value
