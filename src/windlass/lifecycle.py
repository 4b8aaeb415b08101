"""The state machine: the table of legal moves, and the pure decisions about them.

Rule 1: everything that decides what becomes of a job is here. Drivers write what they are told, atomically, if the
lease still holds; workers report what happened; neither decides.

Rule 2: nobody builds a ``Transition`` but the named constructors below, so an illegal move cannot be spelt.

``MOVES`` is the truth that the diagram in the documentation is drawn from.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Literal

import msgspec

from windlass.errors import ConfigurationError, JobStateError
from windlass.job import FINISHED, WAITING, Kind, NewJob, Outcome, Record, Status

if TYPE_CHECKING:
    from collections.abc import Mapping


class Move(StrEnum):
    """A step in a job's life."""

    ENQUEUE = "enqueue"
    DUE = "become due"
    CLAIM = "claim"
    SUCCEED = "succeed"
    FAIL = "fail"
    DISCARD = "discard"
    SNOOZE = "snooze"
    RELEASE = "release"
    LOSE = "lose"
    CANCEL = "cancel"
    RETRY = "retry"
    RESCHEDULE = "reschedule"
    RUN_NOW = "run now"
    GIVE_UP = "give up"
    DELETE = "delete"


S = Status
MOVES: Mapping[Status | None, Mapping[Move, tuple[Status | None, ...]]] = {
    None: {Move.ENQUEUE: (S.SCHEDULED, S.PENDING)},
    S.SCHEDULED: {
        Move.DUE: (S.PENDING,),
        Move.CANCEL: (S.CANCELLED,),
        Move.RESCHEDULE: (S.SCHEDULED, S.PENDING),
        Move.RUN_NOW: (S.PENDING,),
        Move.DELETE: (None,),
    },
    S.PENDING: {
        Move.CLAIM: (S.RUNNING,),
        Move.GIVE_UP: (S.DEAD,),
        Move.CANCEL: (S.CANCELLED,),
        Move.RESCHEDULE: (S.SCHEDULED, S.PENDING),
        Move.RUN_NOW: (S.PENDING,),
        Move.DELETE: (None,),
    },
    S.RUNNING: {
        Move.SUCCEED: (S.COMPLETED,),
        Move.FAIL: (S.RETRYING, S.PENDING, S.DEAD),
        Move.DISCARD: (S.DEAD,),
        Move.SNOOZE: (S.SCHEDULED, S.PENDING),
        Move.RELEASE: (S.PENDING, S.SCHEDULED, S.CANCELLED),
        Move.LOSE: (S.PENDING, S.DEAD, S.CANCELLED),
        Move.CANCEL: (S.RUNNING, S.CANCELLED),
        Move.RETRY: (S.PENDING, S.SCHEDULED),
    },
    S.RETRYING: {
        Move.DUE: (S.PENDING,),
        Move.CANCEL: (S.CANCELLED,),
        Move.RETRY: (S.PENDING, S.SCHEDULED),
        Move.RESCHEDULE: (S.RETRYING, S.PENDING),
        Move.RUN_NOW: (S.PENDING,),
        Move.DELETE: (None,),
    },
    S.COMPLETED: {Move.RETRY: (S.PENDING, S.SCHEDULED), Move.DELETE: (None,)},
    S.DEAD: {Move.RETRY: (S.PENDING, S.SCHEDULED), Move.DELETE: (None,)},
    S.CANCELLED: {Move.RETRY: (S.PENDING, S.SCHEDULED), Move.DELETE: (None,)},
}
del S


class Update(msgspec.Struct, frozen=True, kw_only=True):
    """What a waiting job takes over from a newer one: nothing else of it changes."""

    payload: bytes
    max_attempts: int | None
    timeout: float | None
    meta: bytes | None
    terms: bytes | None


SUPERSEDED = b'{"type":"Superseded","message":"superseded by #%d","kind":"discard"}'
"""The error of a job whose unique key another had taken when it was to wait again."""


class Transition(msgspec.Struct, frozen=True, kw_only=True):
    """One guarded write: what a job becomes. Drivers write these values and compute none."""

    move: Move
    status: Status | None
    """The new status; ``None`` deletes the job."""
    attempt: int
    failures: int
    crashes: int
    run_at: float | None = None
    """When it is or becomes available; ``None`` = at once, behind those that wait already."""
    keep_place: bool = False
    """A job given back returns to the place in the order that it was claimed from."""
    outcome: Outcome | None = None
    """How the attempt ended; ``None`` when none had started."""
    error: bytes | None = None
    result: bytes | None = None
    extra_attempts: int = 0
    """Tries added to ``max_attempts``."""
    request: bool = False
    """A running job is only asked to stop: its lease stays."""
    keep: bool = True
    """False: the job is counted as ended, and goes with its history in the same step."""
    update: Update | None = None
    """A waiting job takes these over from a newer one that its key kept out."""


class Settlement(msgspec.Struct, frozen=True):
    """The end of one lease: applies only while ``record.lease`` is live."""

    record: Record
    transition: Transition
    finished_at: float
    """By the store's clock as the worker knows it."""
    then: tuple[NewJob, ...] = ()
    """Jobs that are enqueued in the same step, if the settlement is applied."""


def diagram() -> str:
    """Draw the table of legal moves as text, a line for each: ``from ──move──▶ to``."""
    lines = []
    for start, moves in MOVES.items():
        for move, ends in moves.items():
            names = ", ".join("(deleted)" if end is None else end.value for end in ends)
            lines.append(f"{start.value if start else '(new)':<10} ──{move.value:─<12}▶ {names}")
        lines.append("")
    return "\n".join(lines)


def _legal(record: Record, move: Move, status: Status | None) -> bool:
    return status in MOVES[record.status].get(move, ())


def _refuse(record: Record, move: Move, hint: str = "") -> JobStateError:
    return JobStateError(record.id, status=record.status.value, move=move.value, hint=hint)


# ---------------------------------------------------------------------------------------- the end of an attempt


def succeed(record: Record, result: bytes | None = None, *, keep: bool = True) -> Transition:
    """The handler returned."""
    return Transition(
        move=Move.SUCCEED,
        status=Status.COMPLETED,
        attempt=record.attempt,
        failures=record.failures,
        crashes=record.crashes,
        outcome=Outcome.COMPLETED,
        result=result,
        keep=keep,
    )


def fail(record: Record, error: bytes, *, max_attempts: int, delay: float, now: float) -> Transition:
    """The attempt failed: try again after *delay* seconds, or dead when no try is left."""
    failures = record.failures + 1
    again = Status.RETRYING if delay > 0 else Status.PENDING
    status = Status.DEAD if failures >= max_attempts else again
    return Transition(
        move=Move.FAIL,
        status=status,
        attempt=record.attempt,
        failures=failures,
        crashes=record.crashes,
        run_at=now + delay if status is Status.RETRYING else None,
        outcome=Outcome.FAILED,
        error=error,
    )


def discard(record: Record, error: bytes) -> Transition:
    """The handler gave up: dead at once, one failure."""
    return Transition(
        move=Move.DISCARD,
        status=Status.DEAD,
        attempt=record.attempt,
        failures=record.failures + 1,
        crashes=record.crashes,
        outcome=Outcome.FAILED,
        error=error,
    )


def snooze(record: Record, delay: float, *, now: float) -> Transition:
    """Run again later; counts nothing."""
    return Transition(
        move=Move.SNOOZE,
        status=Status.SCHEDULED if delay > 0 else Status.PENDING,
        attempt=record.attempt,
        failures=record.failures,
        crashes=record.crashes,
        run_at=now + delay if delay > 0 else None,
        outcome=Outcome.SNOOZED,
    )


def cancelled(record: Record, error: bytes | None = None) -> Transition:
    """The attempt ended because the job was cancelled, or by ``Cancel``."""
    return Transition(
        move=Move.CANCEL,
        status=Status.CANCELLED,
        attempt=record.attempt,
        failures=record.failures,
        crashes=record.crashes,
        outcome=Outcome.CANCELLED,
        error=error,
    )


def expire(record: Record, error: bytes) -> Transition:
    """It came too late to be started: cancelled as if it had not been claimed."""
    return Transition(
        move=Move.CANCEL,
        status=Status.CANCELLED,
        attempt=record.attempt - (record.started_at is not None),
        failures=record.failures,
        crashes=record.crashes,
        error=error,
    )


def release(record: Record, *, delay: float = 0.0, now: float = 0.0) -> Transition:
    """Give the job back; counts nothing. One that had not started leaves no trace and keeps its place."""
    if record.cancel:
        return cancelled(record)
    return Transition(
        move=Move.RELEASE,
        status=Status.SCHEDULED if delay > 0 else Status.PENDING,
        attempt=record.attempt,
        failures=record.failures,
        crashes=record.crashes,
        run_at=now + delay if delay > 0 else None,
        keep_place=delay <= 0,
        outcome=Outcome.RELEASED if record.started_at is not None else None,
    )


def lose(record: Record, error: bytes, *, max_crashes: int) -> Transition:
    """The worker is gone. An attempt that had started counts as a crash; a prefetched job returns free."""
    if record.started_at is None:
        return release(record)
    crashes = record.crashes + 1
    if record.cancel:
        status = Status.CANCELLED
    elif crashes >= max_crashes:
        status = Status.DEAD
    else:
        status = Status.PENDING
    return Transition(
        move=Move.LOSE,
        status=status,
        attempt=record.attempt,
        failures=record.failures,
        crashes=crashes,
        outcome=Outcome.LOST,
        error=error,
    )


def superseded(transition: Transition, rival: int) -> Transition:
    """The job was to wait again, but another has taken its unique key meanwhile: the later one is cancelled."""
    return msgspec.structs.replace(
        transition,
        move=Move.CANCEL,
        status=Status.CANCELLED,
        run_at=None,
        keep_place=False,
        error=SUPERSEDED % rival,
    )


def gives_way(transition: Transition) -> bool:
    """Whether a change cancels its job rather than fail when another has its unique key: nobody is there to be told."""
    return transition.move in (Move.LOSE, Move.RELEASE)


def due(record: Record) -> Transition:
    """Its time has come."""
    return Transition(
        move=Move.DUE,
        status=Status.PENDING,
        attempt=record.attempt,
        failures=record.failures,
        crashes=record.crashes,
    )


def replace(record: Record, new: Record, *, now: float) -> Transition:
    """A waiting job takes over what a newer one brings that its key has kept out: payload, options and time.

    Raises:
        JobStateError: it is running or finished.
    """
    update = Update(
        payload=new.payload, max_attempts=new.max_attempts, timeout=new.timeout, meta=new.meta, terms=new.terms
    )
    return msgspec.structs.replace(reschedule(record, new.run_at, now=now), update=update)


# ---------------------------------------------------------------------------------------- by hand


def cancel(record: Record) -> Transition:
    """Cancel: waiting at once; running is asked to stop, unless it has not started yet.

    Raises:
        JobStateError: it is finished.
    """
    running = record.status is Status.RUNNING
    if not _legal(record, Move.CANCEL, Status.CANCELLED):
        raise _refuse(record, Move.CANCEL)
    request = running and record.started_at is not None
    return Transition(
        move=Move.CANCEL,
        status=Status.RUNNING if request else Status.CANCELLED,
        attempt=record.attempt,
        failures=record.failures,
        crashes=record.crashes,
        request=request,
    )


RetryMode = Literal["reset", "extend"]


def retry(record: Record, *, mode: RetryMode, delay: float, force: bool, max_attempts: int, now: float) -> Transition:
    """Run a finished or retrying job again; history stays.

    ``reset`` sets failures and crashes to 0, ``extend`` allows one more try. *force* also takes a completed job, and a
    running one, whose live lease is fenced.

    Raises:
        JobStateError: its status does not allow it.
    """
    if mode not in ("reset", "extend"):
        raise ConfigurationError(f"mode must be 'reset' or 'extend', not {mode!r}")
    status = Status.SCHEDULED if delay > 0 else Status.PENDING
    if not _legal(record, Move.RETRY, status):
        raise _refuse(record, Move.RETRY)
    if record.status in (Status.RUNNING, Status.COMPLETED) and not force:
        raise _refuse(record, Move.RETRY, "pass force=True to do it all the same")
    reset = mode == "reset"
    # One more try than have failed: a job given up early (Discard) may have had tries left.
    short = record.failures + 1 - max_attempts
    started = record.status is Status.RUNNING and record.started_at is not None
    return Transition(
        move=Move.RETRY,
        status=status,
        attempt=record.attempt,
        failures=0 if reset else record.failures,
        crashes=0,
        run_at=now + delay if delay > 0 else None,
        extra_attempts=0 if reset else max(0, short),
        outcome=Outcome.RELEASED if started else None,
    )


def reschedule(record: Record, at: float, *, now: float) -> Transition:
    """Move a waiting job to another instant.

    Raises:
        JobStateError: it is running or finished.
    """
    waits = Status.RETRYING if record.status is Status.RETRYING else Status.SCHEDULED
    status = waits if at > now else Status.PENDING
    if not _legal(record, Move.RESCHEDULE, status):
        raise _refuse(record, Move.RESCHEDULE)
    return Transition(
        move=Move.RESCHEDULE,
        status=status,
        attempt=record.attempt,
        failures=record.failures,
        crashes=record.crashes,
        run_at=at if at > now else None,
    )


def run_now(record: Record) -> Transition:
    """Make a waiting job available at once.

    Raises:
        JobStateError: it is running or finished.
    """
    if not _legal(record, Move.RUN_NOW, Status.PENDING):
        raise _refuse(record, Move.RUN_NOW)
    return Transition(
        move=Move.RUN_NOW,
        status=Status.PENDING,
        attempt=record.attempt,
        failures=record.failures,
        crashes=record.crashes,
        keep_place=record.status is Status.PENDING,
    )


def give_up(record: Record, error: bytes) -> Transition:
    """End a pending job that nobody can run.

    Raises:
        JobStateError: it is not pending any more.
    """
    if not _legal(record, Move.GIVE_UP, Status.DEAD):
        raise _refuse(record, Move.GIVE_UP)
    return Transition(
        move=Move.GIVE_UP,
        status=Status.DEAD,
        attempt=record.attempt,
        failures=record.failures,
        crashes=record.crashes,
        error=error,
    )


def delete(record: Record) -> Transition:
    """Remove the job and its history.

    Raises:
        JobStateError: it is running.
    """
    if not _legal(record, Move.DELETE, None):
        raise _refuse(record, Move.DELETE, "cancel it first")
    return Transition(
        move=Move.DELETE,
        status=None,
        attempt=record.attempt,
        failures=record.failures,
        crashes=record.crashes,
    )


# ---------------------------------------------------------------------------------------- what is counted

TOTALS = ("enqueued", "processed", "failed", "retried", "dead", "cancelled", "snoozed", "released", "lost")
"""Counters that never fall, beside the number of jobs in each status."""

_BY_OUTCOME = {
    Outcome.COMPLETED: "processed",
    Outcome.FAILED: "failed",
    Outcome.SNOOZED: "snoozed",
    Outcome.RELEASED: "released",
    Outcome.LOST: "lost",
}


def totals(transition: Transition) -> tuple[str, ...]:
    """Name the counters that *transition* raises by one."""
    names = []
    if transition.outcome is not None and (name := _BY_OUTCOME.get(transition.outcome)):
        names.append(name)
    if transition.status is Status.DEAD:
        names.append("dead")
    elif transition.status is Status.CANCELLED:
        names.append("cancelled")
    if transition.move is Move.RETRY or (transition.move is Move.FAIL and transition.status is not Status.DEAD):
        names.append("retried")
    return tuple(names)


def failing(record: Record) -> Record:
    """Return the record as a back-off policy sees it: with this failure counted."""
    return msgspec.structs.replace(record, failures=record.failures + 1)


def solo(record: Record, *, max_crashes: int) -> bool:
    """Whether one more crash would kill the job, so that it must run with no neighbours."""
    return record.crashes > 0 and record.crashes + 1 >= max_crashes


__all__ = ["FINISHED", "MOVES", "TOTALS", "WAITING", "Kind", "Move", "RetryMode", "Settlement", "Transition"]
