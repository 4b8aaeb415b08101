"""What a job's terms mean for those who run it: when it is too late, what its end brings, how often it may crash.

Pure rules beside those of :mod:`windlass.lifecycle`, for the worker, the rescuer, the harness and claims by hand alike.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from windlass import failures, lifecycle
from windlass.job import Failure, Kind
from windlass.lifecycle import Settlement
from windlass.terms import deadline, expiry, following, terms_of

if TYPE_CHECKING:
    from windlass.job import Record
    from windlass.lifecycle import Transition


def completion(record: Record, result: bytes | None, now: float) -> Settlement:
    """Return the end of a job whose handler has returned, and the next step of its chain."""
    if record.terms is None:
        return Settlement(record, lifecycle.succeed(record, result), now)
    terms = terms_of(record)
    return Settlement(record, lifecycle.succeed(record, result, keep=terms.keep), now, following(record, terms, result))


def refusal(record: Record, now: float) -> Transition | None:
    """Return what becomes of a claimed job that comes too late to be run; ``None``: it is in time.

    Expired: cancelled, and as if it had not been claimed. Only a job that has never started expires, and only once: who
    retries an expired job by hand wants it to run. Past its deadline: dead, whatever it has done before.
    """
    if record.terms is None:
        return None
    terms = terms_of(record)
    late = deadline(record, terms)
    if late is not None and now >= late:
        return lifecycle.discard(record, failures.encode(_missed(late)))
    late = expiry(record, terms)
    started_before = record.attempt > (record.started_at is not None)
    if late is None or now < late or started_before or record.error is not None:
        return None
    message = f"expired: not started within {late - record.created_at:g} s, by {_shown(late)}"
    return lifecycle.expire(record, failures.encode(Failure(type="windlass.Expired", message=message)))


def due_by(record: Record) -> float | None:
    """Return the instant by which an attempt must have ended."""
    return None if record.terms is None else deadline(record, terms_of(record))


def overdue(due: float, cause: BaseException | None = None) -> TimeoutError:
    """Return the error of an attempt that has missed its job's deadline."""
    error = TimeoutError(_missed(due).message)
    error.__cause__ = cause
    return error


def tries(record: Record, most: int, *, again_at: float) -> int:
    """Return how many tries a job has when the next could start at *again_at*: none after its deadline."""
    due = due_by(record)
    return most if due is None or again_at < due else record.failures + 1


def crashes(record: Record, most: int) -> int:
    """Return how many crashes end a job."""
    return 1 if record.terms is not None and terms_of(record).on_crash == "dead" else most


def _missed(due: float) -> Failure:
    return Failure(type="TimeoutError", message=f"missed its deadline, {_shown(due)}", kind=Kind.TIMEOUT)


def _shown(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(sep=" ", timespec="seconds")
