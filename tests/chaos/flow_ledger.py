"""What must be true of keys, limits, rates, batches and chains when the dust has settled.

Instants. A job's creation and the start of an attempt are the store's own. The end of an attempt is what its worker knew
of the store's clock, which is never ahead of it: a lease was valid up to then at least, so that what is found to overlap
has overlapped. A handler runs from its first note to its last, but not beyond the end of its lease: who was killed notes no
end, and who has lost its lease may not know yet.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from tests.chaos.flow_program import EVENTS, KEYS, STEPS, Program
from tests.chaos.flow_tasks import ALL_HOSTS, ALL_TENANTS, EACH_HOST, EACH_TENANT
from windlass import Outcome, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from windlass import Attempt, Job, Rate, Windlass

SLACK = 0.1
"""Seconds that may pass between the instant that an insert goes by and its key."""
Span = tuple[float, float]


class Life:
    """A job, its attempts, and when its handler ran."""

    def __init__(self, job: Job, attempts: list[Attempt], notes: list[dict[str, Any]]) -> None:
        self.job = job
        self.attempts = attempts
        self.created = job.created_at.timestamp()
        self.ended = _at(job.finished_at)
        self.starts = [_at(attempt.started_at) for attempt in attempts if attempt.started_at]
        self.runs = list(self._runs(notes))

    def _runs(self, notes: list[dict[str, Any]]) -> Iterable[Span]:
        noted = {(line["what"], line["attempt"]): line["at"] for line in notes}
        for attempt in self.attempts:
            begin = noted.pop(("start", attempt.number), None)
            end = noted.pop(("end", attempt.number), float("inf"))
            if begin is not None:
                yield begin, min(end, _at(attempt.finished_at)) if attempt.outcome in TAKEN else end
        assert not noted, f"handlers ran that history does not know: {noted} of {self.job}, {self.attempts}"


TAKEN = (Outcome.LOST, Outcome.RELEASED)


def _at(moment: Any) -> float:
    assert moment is not None
    return float(moment.timestamp())


def read(app: Windlass, notes: Iterable[dict[str, Any]]) -> dict[int, Life]:
    """Read all that there is."""
    of: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for line in notes:
        if line["what"] in ("start", "end"):
            of[line["job"]].append(line)
    page = app.jobs(limit=1000)
    jobs = list(page)
    while page.next is not None:
        page = app.jobs(limit=1000, after=page.next)
        jobs += page
    return {job.id: Life(job, app.history(job.id), of[job.id]) for job in jobs}


def assert_promises(app: Windlass, program: Program, notes: Iterable[dict[str, Any]]) -> Counter[str]:
    """Check everything; return how often what happened."""
    lives = read(app, notes)
    assert_ended(app, lives, program.acknowledged)
    assert_limits(app, lives)
    assert_rates(lives)
    assert_keys(app, lives)
    assert_chains(lives, program)
    assert_batches(app, lives, program)
    ends = Counter(f"{life.job.task} {life.job.status}" for life in lives.values())
    ends.update(str(attempt.outcome) for life in lives.values() for attempt in life.attempts)
    ends.update("superseded" for life in lives.values() if _superseded(life.job))
    return ends


def _of(lives: dict[int, Life], task: str, argument: str = "") -> dict[Any, list[Life]]:
    """Return the lives of a task's jobs, by the value of an argument."""
    found: dict[Any, list[Life]] = defaultdict(list)
    for life in lives.values():
        if life.job.task == task:
            found[life.job.payload[argument] if argument else ""].append(life)
    return found


def assert_ended(app: Windlass, lives: dict[int, Life], acknowledged: Collection[int]) -> None:
    assert set(acknowledged) <= set(lives), "an acknowledged job is gone"
    stats = app.stats()
    counted = {status: getattr(stats, status) for status in Status}
    rows = Counter(life.job.status for life in lives.values())
    assert counted == {status: rows[status] for status in Status}
    for life in lives.values():
        assert life.job.status in ("completed", "dead", "cancelled"), life.job
        completed = [a.outcome for a in life.attempts].count(Outcome.COMPLETED)
        assert completed == (life.job.status == "completed"), (life.job, life.attempts)
        assert life.job.status != "dead" or life.job.task == "member", (life.job, life.attempts)


def assert_limits(app: Windlass, lives: dict[int, Life]) -> None:
    """Never more run than the limit, and nobody has kept a slot."""
    for limit, argument in ((EACH_TENANT, "tenant"), (ALL_TENANTS, "")):
        for value, some in _of(lives, "narrow", argument).items():
            most = _most_at_once(run for life in some for run in life.runs)
            assert most <= limit.most, f"{most} at once of {argument} {value}, not {limit.most}"
    kept = [state for state in app.limits() if state.used or state.waiting]
    assert not kept


def _most_at_once(runs: Iterable[Span]) -> int:
    # At one instant ends come before starts: a slot is given back before it is taken.
    steps = sorted(step for begin, end in runs for step in ((begin, 1), (end, -1)))
    return max(itertools.accumulate(step for _, step in steps), default=0)


def assert_rates(lives: dict[int, Life]) -> None:
    """In any time no more start than the burst and what the time brings."""
    for rate, argument in ((EACH_HOST, "host"), (ALL_HOSTS, "")):
        for some in _of(lives, "paced", argument).values():
            _assert_rate(rate, sorted(start for life in some for start in life.starts))


def _assert_rate(rate: Rate, starts: list[float]) -> None:
    for first, last in itertools.combinations(range(len(starts)), 2):
        time, number = starts[last] - starts[first], last - first + 1
        assert number <= rate.burst + rate.most / rate.per * time + 0.01, f"{number} in {time:.3f} s of {rate}"


def assert_keys(app: Windlass, lives: dict[int, Life]) -> None:
    """Two jobs of one key never live at once, who gives way does so to one of its key, and no key outlives its job."""
    for task, spans in (("once", _live), ("latest", _waits)):
        for key, some in _of(lives, task, "key").items():
            _assert_apart(some, spans)
            for life in some:
                if rival := _superseded(life.job):
                    assert rival in {other.job.id for other in some if other is not life}, (key, life.job)
    for task, key in itertools.product(("once", "latest"), KEYS):
        job = app.enqueue(task, {"key": key, "length": 0}, delay=3600)
        assert job.created, f"{task} {key} is still held by {job}"
        app.cancel(job.id)


def _live(life: Life) -> list[Span]:
    return [(life.created, life.ended)]


def _waits(life: Life) -> list[Span]:
    """Return when a job has certainly waited: from its creation to its first start, and at each later start."""
    first, *later = [*life.starts, life.ended] if not life.starts else life.starts
    return [(life.created, first), *((start, start) for start in later)]


def _assert_apart(lives: list[Life], spans: Callable[[Life], list[Span]]) -> None:
    known = sorted((begin, end, life.job.id) for life in lives for begin, end in spans(life))
    for (begin, end, one), (begins, ends, other) in itertools.combinations(known, 2):
        both = begins + SLACK < end and begin + SLACK < ends
        assert one == other or not both, (
            f"#{one} {begin:.3f}-{end:.3f} and #{other} {begins:.3f}-{ends:.3f} share a key"
        )


def _superseded(job: Job) -> int | None:
    if job.error is None or job.error.type != "Superseded":
        return None
    found = re.fullmatch(r"superseded by #(\d+)", job.error.message)
    assert found is not None
    assert job.status == "cancelled"
    return int(found[1])


def assert_chains(lives: dict[int, Life], program: Program) -> None:
    """Each step comes once, when the one before has completed, and gets its result."""
    chains: dict[int, list[Life]] = defaultdict(list)
    for life in _of(lives, "step")[""]:
        chains[life.job.payload["place"][0]].append(life)
    assert set(chains) == set(range(1, program.chains + 1))
    for steps in chains.values():
        steps.sort(key=lambda life: life.job.payload["place"][1])
        numbers = [life.job.payload["place"][1] for life in steps]
        assert numbers == list(range(1, len(steps) + 1)), f"steps {numbers} of {steps[0].job}"
        for before, after in itertools.pairwise(steps):
            assert before.job.status == "completed"
            assert before.ended <= after.created
            assert after.job.payload["before"] == before.job.result
        last = steps[-1].job
        assert len(steps) == STEPS or last.status == "cancelled", f"the chain has stopped at {last}"
        assert last.status != "completed" or last.result == list(range(1, STEPS + 1))


def assert_batches(app: Windlass, lives: dict[int, Life], program: Program) -> None:
    """Callbacks come once and none too early, and the counters equal a recount."""
    members: dict[int | None, list[Life]] = defaultdict(list)
    reports: dict[tuple[int, str], list[Life]] = defaultdict(list)
    for life in lives.values():
        members[life.job.batch_id].append(life)
        if "batch" in life.job.meta:
            reports[life.job.meta["batch"]["id"], life.job.meta["batch"]["event"]].append(life)
    for batch_id in program.batches:
        _assert_counted(app, batch_id, Counter(life.job.status for life in members[batch_id]))
        inside = [life for one in _within(program, batch_id) for life in members[one]]
        due = {"complete": True, "success": all(life.job.status == "completed" for life in inside)}
        due["death"] = any(_has_died(life, program) for life in members[batch_id])
        came = {event: reports[batch_id, event] for event in EVENTS}
        number = {event: len(some) for event, some in came.items()}
        assert number == due, f"{number} callbacks of batch {batch_id}, not {due}"
        (complete,) = came["complete"]
        for life in inside:
            if life.job.id in program.mended:
                assert _at(program.mended[life.job.id].finished_at) <= complete.created, (batch_id, life.job)
            elif program.mended_at is None or life.job.created_at < program.mended_at:
                assert life.ended <= complete.created, (batch_id, life.job)
        if came["success"]:
            assert max((life.ended for life in inside), default=0) <= came["success"][0].created, batch_id


def _assert_counted(app: Windlass, batch_id: int, rows: Counter[Status]) -> None:
    counted = app.get_batch(batch_id).progress()
    assert (counted.total, counted.left, counted.nested) == (rows.total(), 0, 0), f"{counted} of batch {batch_id}"
    ended = {status: getattr(counted, status) for status in (Status.COMPLETED, Status.DEAD, Status.CANCELLED)}
    assert ended == {status: rows[status] for status in ended}, f"{counted} of batch {batch_id}, not {rows}"


def _within(program: Program, batch_id: int) -> list[int]:
    return [batch_id, *(one for nested in program.batches[batch_id] for one in _within(program, nested))]


def _has_died(life: Life, program: Program) -> bool:
    return "dead" in (life.job.status, program.mended.get(life.job.id, life.job).status)
