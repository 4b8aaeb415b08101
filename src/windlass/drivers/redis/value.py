"""A job as one value: a head that changes, a body that does not, and a tail for its end.

The value is all there is to know about a job; every other key is an index that can be made again from it. Its first
byte says where the job is, and how long the head is:

* ``n`` pending and ``m`` scheduled, never claimed: the stream and the time of creation, for ``m`` also the due time.
* ``s p r t c d x`` scheduled, pending, running, retrying, completed, dead, cancelled: the long head and the worker.

Scripts cut and join these bytes at fixed places and understand little of them. The places are named in ``lua/value.lua``.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import msgspec

from windlass.drivers.base import PastAttempt
from windlass.job import ALWAYS, FINISHED, NAMED, Outcome, Record, Status
from windlass.uniqueness import flow_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from windlass.job import NewJob
    from windlass.lifecycle import Transition, Update

Names = tuple[int, str, str]
"""Priority, queue and task of a stream."""

LETTERS: Mapping[Status, str] = {
    Status.SCHEDULED: "s",
    Status.PENDING: "p",
    Status.RUNNING: "r",
    Status.RETRYING: "t",
    Status.COMPLETED: "c",
    Status.DEAD: "d",
    Status.CANCELLED: "x",
}
CANCEL, TAIL, OWN_ERROR = 1, 2, 4
"""Flags of the head: asked to stop; there is a tail; the error is the last attempt's."""

_STATUS = {ord(letter): status for status, letter in LETTERS.items()}
_OUTCOMES = {outcome: outcome.value[0].encode() for outcome in Outcome} | {Outcome.CANCELLED: b"x"}
_OUTCOME = {letter: outcome.value for outcome, letter in _OUTCOMES.items()}
_NEW, _SET = ord("n"), ord("m")
_SHORT = struct.Struct("<cId")
# most, attempt, failures, crashes, run_at, started, finished, deadline, flags, outcome
_DECIDED = struct.Struct("<IIIIddddBc")
# before it: status, stream, created; behind it: the length of the body, the place in line, the last lease
_HEAD = struct.Struct("<BIdIIIIddddBcIdd")
HEAD = _HEAD.size
_FENCE = struct.Struct("<dB")
_PAST = struct.Struct("<IddcB")
_LENGTH = struct.Struct("<I")
_DOUBLE = struct.Struct("<d")
_SHORT_SIZE, _SET_SIZE = 13, 21
_encode = msgspec.json.encode


class Known(msgspec.Struct, frozen=True, gc=False):
    """What a value says beyond the record."""

    stream: int
    seq: float
    lease: float
    """The last one, live or not."""
    outcome: str | None
    """How the last attempt ended, if the job is finished."""
    own_error: bool
    head: bytes
    """What must not have changed when a decision about the job is written."""


# ---------------------------------------------------------------------------------------- the body

_MOST, _TIMEOUT, _BATCH, _TICK, _ORIGIN, _META, _TAGS, _MORE = (1 << n for n in range(8))
_NO_FIELDS = b"\0"


def body(job: NewJob) -> bytes:
    """Pack what never changes, but for a job that takes over what a newer one brings."""
    if job.max_attempts is None and job.timeout is None and is_plain(job):
        return _NO_FIELDS + job.payload
    tags = _encode(job.tags) if job.tags else None
    origin = None if job.origin is None else job.origin.encode()
    numbers = (job.max_attempts, job.timeout, job.batch_id, job.tick)
    flow = job.flow()
    return _body(numbers, (origin, job.meta, tags), None if flow is None else _encode(flow), job.terms) + job.payload


def updated(before: Record, update: Update) -> bytes:
    """Pack the body of a job that takes over what a newer one brings."""
    tags = None if before.tags is None else before.tags.encode()
    origin = None if before.origin is None else before.origin.encode()
    numbers = (update.max_attempts, update.timeout, before.batch_id, before.tick)
    return _body(numbers, (origin, update.meta, tags), before.flow, update.terms) + update.payload


def _body(
    numbers: tuple[int | None, float | None, float | None, float | None],
    texts: tuple[bytes | None, ...],
    flow: bytes | None,
    terms: bytes | None,
) -> bytes:
    flags, fields = 0, b""
    if flow is not None or terms is not None:  # first, so that scripts find the flow without a search
        flags, fields = _MORE, _text(flow or b"") + _text(terms or b"")
    most, *doubles = numbers
    if most is not None:
        flags, fields = flags | _MOST, fields + _LENGTH.pack(most)
    for flag, number in zip((_TIMEOUT, _BATCH, _TICK), doubles, strict=True):
        if number is not None:
            flags, fields = flags | flag, fields + _DOUBLE.pack(number)
    for flag, text in zip((_ORIGIN, _META, _TAGS), texts, strict=True):
        if text is not None:
            flags, fields = flags | flag, fields + _text(text)
    return bytes((flags,)) + fields


def _text(text: bytes) -> bytes:
    return _LENGTH.pack(len(text)) + text


def is_plain(job: NewJob) -> bool:
    """Whether nothing holds the job back, beside what :func:`stands_alone` says."""
    # Spelt out here once more, for a call costs as much as all of it.
    return not (job.idempotency_key or job.holds or job.gates or job.terms or job.tags or job.origin or job.meta) and (
        job.batch_id is None and job.tick is None and job.run_at is None
    )


def stands_alone(job: NewJob) -> bool:
    """Whether the job is in no index but that of its stream, and due at once or after a delay."""
    return not (job.tags or job.origin or job.meta) and (
        job.batch_id is None and job.tick is None and job.run_at is None
    )


def _fields(value: bytes, at: int) -> tuple[Any, ...]:
    """Read the body's fields from *at*: those of ``_NOTHING``, and where the payload begins."""
    flags = value[at]
    at += 1
    found: list[Any] = [None] * 10
    if flags & _MORE:
        for place in (8, 9):
            (length,) = _LENGTH.unpack_from(value, at)
            found[place] = value[at + 4 : at + 4 + length] or None
            at += 4 + length
        found[7] = _key(found[8])
    if flags & _MOST:
        (found[0],) = _LENGTH.unpack_from(value, at)
        at += 4
    for place, flag in ((1, _TIMEOUT), (2, _BATCH), (3, _TICK)):
        if flags & flag:
            (found[place],) = _DOUBLE.unpack_from(value, at)
            at += 8
    for place, flag in ((4, _ORIGIN), (5, _META), (6, _TAGS)):
        if flags & flag:
            (length,) = _LENGTH.unpack_from(value, at)
            found[place] = value[at + 4 : at + 4 + length]
            at += 4 + length
    return (*found, at)


def _key(flow: bytes | None) -> str | None:
    """Return the idempotency key: the hold that says so, the last one."""
    holds = flow_of(flow).holds if flow is not None else ()
    last = holds[-1] if holds else None
    return last.key[len(NAMED) :] if last is not None and last.mask == ALWAYS and last.key.startswith(NAMED) else None


_NOTHING = (None,) * 10
"""most, timeout, batch, tick, origin, meta, tags, key, flow, terms"""


# ---------------------------------------------------------------------------------------- reading


def record(job_id: int, value: bytes, streams: Mapping[int, Names], progress: bytes | None = None) -> Record:
    """Read a value; what the job has reported stands elsewhere.

    Raises:
        KeyError: its stream is not in *streams*.
    """
    first = value[0]
    if first in (_NEW, _SET):
        return _waiting(job_id, value, streams, progress)
    (
        _, stream, created, most, attempt, failures, crashes, run_at, started, finished, _, flags, _, length, _, lease,
    ) = _HEAD.unpack_from(value)  # fmt: skip
    status = _STATUS[first]
    running = status is Status.RUNNING
    start = HEAD + 1 + value[HEAD]
    worker = value[HEAD + 1 : start].decode() or None
    if value[start]:
        own_most, timeout, batch, tick, origin, meta, tags, key, flow, terms, at = _fields(value, start)
    else:
        own_most, timeout, batch, tick, origin, meta, tags, key, flow, terms = _NOTHING
        at = start + 1
    end = start + length
    error = result = None
    if flags & TAIL:
        error, result = _tail(value, end)
    priority, queue, task = streams[stream]
    return Record(
        job_id,
        task,
        queue,
        status,
        priority,
        value[at:end],
        attempt,
        failures,
        crashes,
        most or own_most,
        timeout,
        run_at,
        created,
        started or None,
        finished or None,
        error,
        result,
        None if tags is None else tags.decode(),
        None if origin is None else origin.decode(),
        meta,
        None if batch is None else int(batch),
        tick,
        key,
        worker,
        int(lease) if running else 0,
        bool(flags & CANCEL) and running,
        flow,
        terms,
        progress,
    )


def _waiting(job_id: int, value: bytes, streams: Mapping[int, Names], progress: bytes | None) -> Record:
    _, stream, created = _SHORT.unpack_from(value)
    if value[0] == _NEW:
        status, run_at, start = Status.PENDING, created, _SHORT_SIZE
    else:
        status, start = Status.SCHEDULED, _SET_SIZE
        (run_at,) = _DOUBLE.unpack_from(value, _SHORT_SIZE)
    most, timeout, batch, tick, origin, meta, tags, key, flow, terms, at = _fields(value, start)
    priority, queue, task = streams[stream]
    return Record(
        id=job_id,
        task=task,
        queue=queue,
        status=status,
        priority=priority,
        payload=value[at:],
        attempt=0,
        failures=0,
        crashes=0,
        max_attempts=most,
        timeout=timeout,
        run_at=run_at,
        created_at=created,
        tags=None if tags is None else tags.decode(),
        origin=None if origin is None else origin.decode(),
        meta=meta,
        batch_id=None if batch is None else int(batch),
        tick=tick,
        idempotency_key=key,
        flow=flow,
        terms=terms,
        progress=progress,
    )


def stream_of(value: bytes) -> int:
    """Return the number of a value's stream."""
    stream: int = _SHORT.unpack_from(value)[1]
    return stream


def known(value: bytes) -> Known:
    """Read what the record does not show."""
    if value[0] in (_NEW, _SET):
        size = _SHORT_SIZE if value[0] == _NEW else _SET_SIZE
        return Known(stream_of(value), 0.0, 0.0, None, own_error=False, head=value[:size])
    head = _HEAD.unpack_from(value)
    return Known(
        head[1],
        head[14],
        head[15],
        _OUTCOME.get(head[12]),
        own_error=bool(head[11] & OWN_ERROR),
        head=value[: HEAD + 1 + value[HEAD]],
    )


def _tail(value: bytes, at: int) -> tuple[bytes | None, bytes | None]:
    (length,) = _LENGTH.unpack_from(value, at)
    error = value[at + 4 : at + 4 + length] or None
    return error, value[at + 4 + length :] or None


# ---------------------------------------------------------------------------------------- writing


def fence(record: Record) -> bytes:
    """Pack the lease and the worker as they stand in the head of a running job."""
    worker = (record.worker or "").encode()
    return _FENCE.pack(record.lease, len(worker)) + worker


def head(before: Record, transition: Transition, *, finished: float, now: float) -> bytes:
    """Pack the part of the head that is decided here; a script adds the rest, and when a job that lines up became available."""
    status = transition.status
    assert status is not None
    error, own = transition.error, 0
    if error is None:
        error = before.error
    elif transition.outcome is not None:
        own = OWN_ERROR
    flags = own | (TAIL if error is not None or transition.result is not None else 0)
    if status in FINISHED or status is Status.PENDING:
        run_at = before.run_at
    else:
        run_at = now if transition.run_at is None else transition.run_at
    ended = transition.outcome is not None and before.status is Status.RUNNING
    outcome = _OUTCOMES[transition.outcome] if ended and transition.outcome else b"\0"
    return _DECIDED.pack(
        _most(before, transition),
        transition.attempt,
        transition.failures,
        transition.crashes,
        run_at,
        before.started_at or 0.0,
        finished if status in FINISHED else 0.0,
        0.0,
        flags,
        outcome if status in FINISHED else b"\0",
    )


def _most(before: Record, transition: Transition) -> int:
    if transition.update is not None:
        return transition.update.max_attempts or 0
    most = before.max_attempts
    if not transition.extra_attempts:
        return most or 0
    return before.failures + 1 if most is None else most + transition.extra_attempts


def tail(before: Record, transition: Transition) -> bytes:
    """Pack the last error and the result."""
    error = before.error if transition.error is None else transition.error
    if error is None and transition.result is None:
        return b""
    error = error or b""
    return _LENGTH.pack(len(error)) + error + (transition.result or b"")


# ---------------------------------------------------------------------------------------- history


def past(before: Record, transition: Transition, finished: float) -> bytes:
    """Pack an attempt that did not end its job; empty when none had started."""
    if transition.outcome is None or before.status is not Status.RUNNING:
        return b""
    return pack_attempt(
        PastAttempt(
            transition.attempt,
            before.worker,
            before.started_at,
            finished,
            transition.outcome.value,
            transition.error,
        )
    )


def last_attempt(record: Record, beyond: Known) -> PastAttempt | None:
    """Return the attempt that ended a finished job, which only its value tells of."""
    if record.status not in FINISHED or beyond.outcome is None:
        return None
    error = record.error if beyond.own_error else None
    return PastAttempt(record.attempt, record.worker, record.started_at, record.finished_at, beyond.outcome, error)


def pack_attempt(ended: PastAttempt) -> bytes:
    """Pack an attempt for the history."""
    name = (ended.worker or "").encode()
    letter = _OUTCOMES[Outcome(ended.outcome)]
    fixed = _PAST.pack(ended.number, ended.started_at or 0.0, ended.finished_at or 0.0, letter, len(name))
    return fixed + name + (ended.error or b"")


def attempt(entry: bytes) -> PastAttempt:
    """Read one packed attempt."""
    number, started, finished, outcome, length = _PAST.unpack_from(entry)
    at = _PAST.size
    worker = entry[at : at + length].decode() or None
    return PastAttempt(
        number, worker, started or None, finished or None, _OUTCOME[outcome], entry[at + length :] or None
    )
