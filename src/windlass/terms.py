"""Terms: what a job carries for the workers that meet it, and no store looks at.

A worker that rescues a job, or a process that never saw its task, must know them too; so they are stored with the job.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from windlass.carrying import inherited
from windlass.job import Gate, Hold, NewJob

if TYPE_CHECKING:
    from windlass.job import Record


NOTHING = msgspec.Raw()
"""What is not there; msgspec decodes no ``Raw | None``."""


class Link(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A later step of a chain, as it will be enqueued when the one before has completed."""

    task: str
    queue: str
    payload: msgspec.Raw
    previous: tuple[str, ...] = ()
    """The parameters that get the result of the step before."""
    priority: int = 0
    max_attempts: int | None = None
    timeout: float | None = None
    delay: float = 0.0
    tags: tuple[str, ...] = ()
    origin: str | None = None
    meta: msgspec.Raw = NOTHING
    idempotency_key: str | None = None
    holds: tuple[Hold, ...] = ()
    gates: tuple[Gate, ...] = ()
    terms: msgspec.Raw = NOTHING


class Terms(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Instants are epoch seconds of the store's clock, or seconds counted from the job's creation."""

    expires: float | None = None
    """Seconds after its creation in which it must start; later it is cancelled instead."""
    expires_at: float | None = None
    deadline: float | None = None
    """Seconds after its creation in which it must have ended; later it is dead, and an attempt is timed out then."""
    deadline_at: float | None = None
    on_crash: str = "retry"
    """``"dead"``: an attempt that was lost with its worker is the last."""
    keep: bool = True
    """False: nothing is kept of a job that has completed."""
    chain: tuple[Link, ...] = ()
    """The steps after this one."""


NONE = Terms()
_DECODER = msgspec.json.Decoder(Terms)


def terms_of(record: Record | NewJob) -> Terms:
    """Decode what a job carries."""
    return NONE if record.terms is None else _DECODER.decode(record.terms)


def encode(terms: Terms) -> bytes | None:
    """Encode for a job; ``None`` when there is nothing to say."""
    return None if terms == NONE else msgspec.json.encode(terms)


def expiry(record: Record, terms: Terms) -> float | None:
    """Return the instant at which the job must have started."""
    return _earlier(record.created_at, terms.expires, terms.expires_at)


def deadline(record: Record, terms: Terms) -> float | None:
    """Return the instant at which the job must have ended."""
    return _earlier(record.created_at, terms.deadline, terms.deadline_at)


def _earlier(created_at: float, after: float | None, at: float | None) -> float | None:
    if after is None:
        return at
    return created_at + after if at is None else min(created_at + after, at)


def _raw(value: bytes | None) -> msgspec.Raw:
    return NOTHING if value is None else msgspec.Raw(value)


def link(job: NewJob, previous: tuple[str, ...]) -> Link:
    """Keep a job for later, as a step of a chain."""
    return Link(
        task=job.task,
        queue=job.queue,
        payload=msgspec.Raw(job.payload),
        previous=previous,
        priority=job.priority,
        max_attempts=job.max_attempts,
        timeout=job.timeout,
        delay=job.delay,
        tags=job.tags,
        origin=job.origin,
        meta=_raw(job.meta),
        idempotency_key=job.idempotency_key,
        holds=job.holds,
        gates=job.gates,
        terms=_raw(job.terms),
    )


def single(step: Link) -> NewJob:
    """Return the job of a step by itself."""
    return NewJob(
        task=step.task,
        queue=step.queue,
        payload=bytes(step.payload),
        priority=step.priority,
        max_attempts=step.max_attempts,
        timeout=step.timeout,
        delay=step.delay,
        tags=step.tags,
        origin=step.origin,
        meta=bytes(step.meta) or None,
        idempotency_key=step.idempotency_key,
        # There is nobody who could be told of a conflict.
        holds=tuple(msgspec.structs.replace(hold, strict=False) for hold in step.holds),
        gates=step.gates,
        terms=bytes(step.terms) or None,
    )


def following(record: Record, terms: Terms, result: bytes | None) -> tuple[NewJob, ...]:
    """Return the next step of a job's chain, to be enqueued with its completion."""
    if not terms.chain:
        return ()
    step, *rest = terms.chain
    job = single(step)
    payload = job.payload
    if step.previous:
        named: dict[str, Any] = msgspec.json.decode(payload, type=dict[str, msgspec.Raw])
        named.update(dict.fromkeys(step.previous, msgspec.Raw(result if result is not None else b"null")))
        payload = msgspec.json.encode(named)
    own = terms_of(job)
    return (
        msgspec.structs.replace(
            job,
            payload=payload,
            meta=inherited(job.meta, record),
            batch_id=record.batch_id,
            terms=encode(msgspec.structs.replace(own, chain=tuple(rest))),
        ),
    )
