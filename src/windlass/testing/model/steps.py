"""What a program may do next, as Hypothesis strategies: a step is the name of a method of the machine and its arguments.

One list for all, so that its repetitions are the weights: Hypothesis itself would switch half of the rules off in every
program, and what needs four of them in a row would hardly ever be met.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from hypothesis import strategies as st

from windlass import lifecycle
from windlass.job import BIT, FINISHED, Failure, Gate, Hold, Kind, NewJob, Record, Status

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

    from windlass.drivers.base import Decide
    from windlass.lifecycle import Transition

ERROR = msgspec.json.encode(Failure(type="ValueError", message="no"))
CRASH = msgspec.json.encode(Failure(type="WorkerLost", message="gone", kind=Kind.CRASH))
MAX_ATTEMPTS, MAX_CRASHES = 3, 2
KNOWN, QUEUES, WORKERS = ("t1", "t2"), ("q1", "q2"), ("w1", "w2")

KEYS = ("unique:a", "unique:b")
GATES = {"limit:x": 1, "limit:y": 2}
BATCHES = range(2)

_WAITS = BIT[Status.SCHEDULED] | BIT[Status.PENDING]
_LIVE = _WAITS | BIT[Status.RUNNING] | BIT[Status.RETRYING]
holds = st.builds(
    Hold,
    key=st.sampled_from(KEYS),
    mask=st.sampled_from([_LIVE, _LIVE, _WAITS, _WAITS | BIT[Status.RETRYING], _LIVE | BIT[Status.COMPLETED]]),
    strict=st.sampled_from([False, False, False, True]),
)
TURNS = ("fair:a", "fair:b")
gates = st.sampled_from(
    [
        *((Gate(key, most),) for key, most in GATES.items()),
        tuple(map(Gate, *zip(*GATES.items(), strict=True))),
        *((Gate(key, 1),) for key in TURNS),
        (Gate("limit:x", 1), Gate("fair:a", 1)),
    ]
)
places = st.integers(0, 7)
limits = st.sampled_from([1, 2, 3, 5, 0])
delays = st.sampled_from([0.0, 0.0, 0.0, 5.0, 10.0])
new_jobs = st.builds(
    NewJob,
    task=st.sampled_from([*KNOWN, *KNOWN, "unknown"]),
    queue=st.sampled_from(QUEUES),
    payload=st.just(b"{}"),
    priority=st.sampled_from([0, 0, 0, 5, -5]),
    delay=delays,
    max_attempts=st.sampled_from([None, None, 1, 2]),
    holds=st.one_of(st.just(()), st.just(()), st.tuples(holds)),
    gates=st.one_of(st.just(()), st.just(()), gates),
    batch_id=st.sampled_from([None, None, *BATCHES]),
)
outcomes = st.sampled_from(
    ["succeed", "succeed", "fail", "fail", "discard", "snooze", "release", "release", "cancelled", "lose"]
)


def end(record: Record, outcome: str, delay: float, now: float) -> Transition:
    """Return the end of an attempt; what never started can only be given back or lost."""
    if outcome == "lose":
        return lifecycle.lose(record, CRASH, max_crashes=MAX_CRASHES)
    if outcome == "release" or record.started_at is None:
        return lifecycle.release(record, delay=delay, now=now)
    match outcome:
        case "fail":
            most = record.max_attempts or MAX_ATTEMPTS
            return lifecycle.fail(record, ERROR, max_attempts=most, delay=delay, now=now)
        case "discard":
            return lifecycle.discard(record, ERROR)
        case "snooze":
            return lifecycle.snooze(record, delay, now=now)
        case "cancelled":
            return lifecycle.cancelled(record)
        case _:
            return lifecycle.succeed(record, b"1")


def decision(action: str, *, delay: float, force: bool) -> Decide:
    """Return what a person may ask for."""

    def decide(record: Record, now: float) -> Transition:
        match action:
            case "reset" | "extend":
                most = record.max_attempts or MAX_ATTEMPTS
                mode: lifecycle.RetryMode = "reset" if action == "reset" else "extend"
                return lifecycle.retry(record, mode=mode, delay=delay, force=force, max_attempts=most, now=now)
            case "reschedule":
                return lifecycle.reschedule(record, now + delay, now=now)
            case "run now":
                return lifecycle.run_now(record)
            case "delete":
                return lifecycle.delete(record)
            case _:
                return lifecycle.cancel(record)

    return decide


def _step(name: str, **arguments: SearchStrategy[Any]) -> SearchStrategy[tuple[str, dict[str, Any]]]:
    return st.tuples(st.just(name), st.fixed_dictionaries(arguments))


_enqueue = _step("enqueue", jobs=st.lists(new_jobs, min_size=1, max_size=4))
_claim = _step(
    "claim",
    worker=st.sampled_from(WORKERS),
    limit=limits,
    start=st.sampled_from([0, 1, 1, 5]),
    tasks=st.sampled_from([KNOWN, KNOWN, KNOWN, KNOWN[:1]]),
    queues=st.sampled_from([None, None, None, QUEUES[:1], QUEUES[1:]]),
    deadline=st.sampled_from([None, None, 10.0]),
    cautious=st.sampled_from([1, 9]),
)
_start = _step("start", picks=st.lists(places, min_size=1, max_size=3))
_end_one = _step("end_one", pick=places, outcome=outcomes, delay=delays)
_end_and_claim = _step(
    "end_and_claim",
    picks=st.lists(st.tuples(places, outcomes, delays), min_size=1, max_size=3),
    limit=st.sampled_from([0, 1, 3]),
)
_extend = _step("extend", pick=places)
_end_again = _step("end_again", pick=places, outcome=outcomes)
_manage = _step(
    "manage",
    kind=places,
    pick=places,
    action=st.sampled_from(["cancel", "cancel", "reset", "reset", "extend", "reschedule", "run now", "delete"]),
    delay=delays,
    force=st.booleans(),
)
_pause = _step(
    "pause",
    what=st.sampled_from([*(("task", name) for name in KNOWN), *(("queue", name) for name in QUEUES)]),
    paused=st.sampled_from([False, True, False]),
)
_purge = _step(
    "purge",
    status=st.sampled_from(sorted(FINISHED)),
    age=st.sampled_from([0.0, 5.0, 10.0]),
    limit=st.sampled_from([1, 100]),
)
_pass_time = _step("pass_time", seconds=st.sampled_from([1.0, 4.0, 5.0, 25.0]), bury=st.booleans(), limit=limits)
_befall = _step(
    "befall", worker=st.sampled_from(WORKERS), what=st.sampled_from(["crash", "crash", "retire", "beat", "beat"])
)
_rescue = _step("rescue", limit=st.sampled_from([1, 100]))

FIRST_JOBS = st.lists(new_jobs, min_size=2, max_size=6)
STEPS: SearchStrategy[tuple[str, dict[str, Any]]] = st.sampled_from(
    [
        *[_enqueue] * 2,
        *[_claim] * 3,
        *[_start] * 2,
        *[_end_one] * 3,
        *[_end_and_claim] * 3,
        *[_manage] * 4,
        *[_pass_time] * 2,
        _end_again,
        _extend,
        _pause,
        _purge,
        _befall,
        *[_rescue] * 2,
    ]
).flatmap(lambda step: step)
