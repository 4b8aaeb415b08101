"""Schedules: what they are, and the rule by which they fire.

Theory: there is no leader. Every worker may fire any schedule, from what the store says it is, never from its own code.
A schedule has a *watermark*, the last instant up to which its ticks have been considered. Firing is one step in the
store: read the record, ask :func:`plan`, write the new watermark together with the jobs and the rows of history. So of
two workers that come to a tick at once, the second finds a watermark beyond it and has nothing to do, and a crash
between any two steps leaves the tick to the next worker.

Rules:

* A new schedule's watermark is the instant at which it was declared: it does not fire for the past.
* One that is declared anew keeps its watermark. If it now ticks at other times, what was due until now is dealt with by
  the old times first, and the new times count from now: nothing fires twice, nothing is left out.
* A definition with a lower ``version`` than the stored one changes nothing; with the same version the last one wins.
* Ticks of a paused schedule are skipped, and noted when it is resumed.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from windlass.drivers.ticking import HELD, NewTick, ScheduleMove, ScheduleRecord
from windlass.errors import ScheduleStateError
from windlass.job import Gate, NewJob
from windlass.terms import Link, single
from windlass.timing import Due, Interval, Timing, due

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CATCH_UP = 100
"""Missed ticks that are looked at one by one, unless a schedule says otherwise."""
LATE = 60.0
"""Seconds after which a tick that nobody has fired counts as missed, for ``missed="skip"``."""


class TickOutcome(StrEnum):
    """What became of a tick."""

    FIRED = "fired"
    """Its job was enqueued."""
    TRIGGERED = "triggered"
    """No tick: somebody asked for a job by hand."""
    MISSED = "missed"
    """It came when no worker was there, and ``missed`` says not to make up for it."""
    OVERLAP = "overlap"
    """The job of an earlier tick had not ended."""
    PAUSED = "paused"
    """The schedule was paused."""
    HELD = HELD
    """Another job has the unique key of its job."""


class Definition(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a schedule was declared as, as it is stored. Durations in seconds, instants in epoch seconds."""

    cron: str = ""
    timezone: str = "UTC"
    and_days: bool = False
    every: float = 0.0
    anchor: float = 0.0
    start: float | None = None
    """No tick is before it."""
    end: float | None = None
    """No tick is after it."""
    runs: int | None = None
    """Ticks that fire at most."""
    missed: str = "latest"
    overlap: str = "skip"
    catch_up: int = CATCH_UP
    jitter: float = 0.0
    queues: tuple[str, ...]
    job: Link
    declared: bool = False
    """By a decorator: it fires only where a worker's code declares it, so that it stops when it goes from the code."""
    version: int = 0


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done about a schedule now."""

    watermark: float
    ticks: tuple[NewTick, ...] = ()
    fired: int = 0
    """Ticks that have fired, these included."""
    late: float = 0.0
    """Seconds between the newest tick that fires and now."""
    next_at: float | None = None
    """The next tick; ``None``: there is none while nothing changes."""


_decoder = msgspec.json.Decoder(Definition)


def definition_of(record: ScheduleRecord) -> Definition:
    """Decode what a schedule was declared as."""
    return _decoder.decode(record.definition)


def timing_of(definition: Definition) -> Timing:
    """Return when a schedule ticks, its dates aside."""
    if definition.cron:
        from windlass.cron import cron  # who has no such schedules need not load cronsim and time zones

        return cron(definition.cron, definition.timezone, and_days=definition.and_days)
    return Interval(definition.every, definition.anchor)


# ---------------------------------------------------------------------- when


def upcoming(record: ScheduleRecord, after: float | None = None) -> Iterator[float]:
    """Yield the ticks that will come after an instant, by default the watermark; none of a schedule that is paused."""
    definition = definition_of(record)
    timing = timing_of(definition)
    left = None if definition.runs is None else definition.runs - record.fired
    at = record.watermark if after is None else max(after, record.watermark)
    tick = None if record.paused_at is not None else timing.next(_begin(definition, at))
    while tick is not None and (definition.end is None or tick <= definition.end) and (left is None or left > 0):
        yield tick
        left = None if left is None else left - 1
        tick = timing.next(tick)


def next_at(record: ScheduleRecord) -> float | None:
    """Return the tick after the watermark: when somebody has to look."""
    return next(upcoming(record), None)


def due_of(record: ScheduleRecord, now: float) -> Due:
    """Return the ticks since the watermark. It may take long after an outage, so it is asked before anything is locked."""
    definition = definition_of(record)
    until = now if definition.end is None else min(now, definition.end)
    return due(timing_of(definition), _begin(definition, record.watermark), until, definition.catch_up)


def _begin(definition: Definition, after: float) -> float:
    """Return the instant after which ticks count; one at the start itself does."""
    return after if definition.start is None else max(after, definition.start - 1e-6)


# ---------------------------------------------------------------------- the rule


def plan(record: ScheduleRecord, now: float, live: Mapping[str, int], *, found: Due | None = None) -> Plan:
    """Say which ticks fire now, which are skipped and why.

    *live* are the last jobs of its queues that have not ended. *found* are the ticks since the watermark, if somebody
    has looked already.
    """
    definition = definition_of(record)
    if record.paused_at is not None or (definition.runs is not None and record.fired >= definition.runs):
        return Plan(watermark=record.watermark, fired=record.fired)
    found = found if found is not None else due_of(record, now)
    if not found.ticks:
        return Plan(watermark=record.watermark, fired=record.fired, next_at=next_at(record))
    making = _Making(record.name, definition, now, live, record.fired)
    ticks = [*_older(found, TickOutcome.MISSED)]
    firing = _firing(definition, found, now)
    for tick in found.ticks:
        if making.over:
            break
        if tick in firing:
            ticks += making.fire(tick)
        else:
            ticks.append(NewTick(tick=tick, outcome=TickOutcome.MISSED))
    after = msgspec.structs.replace(record, watermark=found.ticks[-1], fired=making.fired)
    return Plan(
        watermark=after.watermark,
        ticks=tuple(ticks),
        fired=making.fired,
        late=now - max(firing) if firing else 0.0,
        next_at=next_at(after),
    )


def _firing(definition: Definition, found: Due, now: float) -> frozenset[float]:
    newest = found.ticks[-1]
    match definition.missed:
        case "all":
            return frozenset(found.ticks)
        case "skip" if now - newest > LATE:
            return frozenset()
        case _:
            return frozenset((newest,))


def _older(found: Due, outcome: TickOutcome) -> Iterator[NewTick]:
    """Sum up the ticks that nobody looks at one by one."""
    if found.last is not None:
        yield NewTick(tick=found.last, outcome=outcome, count=found.older, first=found.first)


class _Making:
    """Makes the jobs of the ticks that fire in one step."""

    def __init__(self, name: str, definition: Definition, now: float, live: Mapping[str, int], fired: int) -> None:
        self._name = name
        self._definition = definition
        self._now = now
        self._live: dict[str, int | None] = dict(live)
        self.fired = fired

    @property
    def over(self) -> bool:
        """Whether it has fired as often as it may."""
        return self._definition.runs is not None and self.fired >= self._definition.runs

    def fire(self, tick: float) -> Iterator[NewTick]:
        """Make the jobs of one tick, one for each queue, or say why not."""
        made = False
        for queue in self._definition.queues:
            if self._definition.overlap == "skip" and queue in self._live:
                yield NewTick(tick=tick, outcome=TickOutcome.OVERLAP, queue=queue, other=self._live[queue])
                continue
            made = True
            self._live[queue] = None
            job = job_of(self._name, self._definition, tick, queue, self._now)
            yield NewTick(tick=tick, outcome=TickOutcome.FIRED, queue=queue, job=job)
        self.fired += made


def key_of(name: str, tick: float, queue: str) -> str:
    """Return the idempotency key of the job of a tick in a queue."""
    return f"schedule:{name}:{datetime.fromtimestamp(tick, UTC).isoformat()}:{queue}"


def job_of(name: str, definition: Definition, tick: float, queue: str, now: float) -> NewJob:
    """Return the job of a tick in a queue."""
    job = single(definition.job)
    at = tick + definition.jitter * _share(name, tick)
    gates = job.gates
    if definition.overlap == "queue":
        gates = (*gates, Gate(f"limit:schedule:{name}:{queue}", 1))
    return msgspec.structs.replace(
        job,
        queue=queue,
        tick=tick,
        run_at=at if at > now else None,
        origin=job.origin or f"schedule:{name}",
        idempotency_key=key_of(name, tick, queue),
        gates=gates,
    )


def _share(name: str, tick: float) -> float:
    """Return a number in [0, 1) that is the same wherever it is computed."""
    digest = hashlib.blake2b(f"{name}\0{tick!r}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / (1 << 64)


# ---------------------------------------------------------------------- decisions


def fire(
    record: ScheduleRecord | None, live: Mapping[str, int], now: float, *, seen: ScheduleRecord, found: Due
) -> ScheduleMove | None:
    """Fire what is due; *found* are the ticks that were due when the schedule was as *seen*."""
    if record is None:
        return None
    same = record.revision == seen.revision and record.watermark == seen.watermark
    planned = plan(record, now, live, found=found if same else None)
    return _as_planned(record, planned) if planned.watermark != record.watermark else None


def _as_planned(record: ScheduleRecord, planned: Plan) -> ScheduleMove:
    after = msgspec.structs.replace(record, watermark=planned.watermark, fired=planned.fired)
    return ScheduleMove(record=after, ticks=planned.ticks)


def declare(
    record: ScheduleRecord | None, live: Mapping[str, int], now: float, *, name: str, definition: Definition
) -> ScheduleMove | None:
    """Store a definition, new or in the place of an older one."""
    encoded = msgspec.json.encode(definition)
    if record is None:
        new = ScheduleRecord(name=name, definition=encoded, revision=1, watermark=now, created_at=now)
        return ScheduleMove(record=new)
    if record.definition == encoded:
        return None
    old = definition_of(record)
    if definition.version < old.version:
        return None
    move = ScheduleMove(record=record)
    if _times(old) != _times(definition):
        mixed = msgspec.structs.replace(definition, **_times(old))
        before = msgspec.structs.replace(record, definition=msgspec.json.encode(mixed))
        move = _as_planned(record, plan(before, now, live))
        assert move.record is not None
        move = ScheduleMove(record=msgspec.structs.replace(move.record, watermark=now), ticks=move.ticks)
    assert move.record is not None
    renewed = msgspec.structs.replace(move.record, definition=encoded, revision=record.revision + 1)
    return ScheduleMove(record=renewed, ticks=move.ticks)


_TIMES = ("cron", "timezone", "and_days", "every", "anchor")


def _times(definition: Definition) -> dict[str, object]:
    return {name: getattr(definition, name) for name in _TIMES}


def pause(record: ScheduleRecord | None, now: float) -> ScheduleMove | None:
    """Skip the ticks from now on."""
    if record is None or record.paused_at is not None:
        return None
    return ScheduleMove(record=msgspec.structs.replace(record, paused_at=now, revision=record.revision + 1))


def resume(record: ScheduleRecord | None, now: float) -> ScheduleMove | None:
    """Fire again, from the next tick on; those of the pause are noted as skipped."""
    if record is None or record.paused_at is None:
        return None
    found = due_of(record, now)
    rows = [*_older(found, TickOutcome.PAUSED), *(NewTick(tick=at, outcome=TickOutcome.PAUSED) for at in found.ticks)]
    after = msgspec.structs.replace(
        record, paused_at=None, watermark=max(now, record.watermark), revision=record.revision + 1
    )
    return ScheduleMove(record=after, ticks=tuple(rows))


def trigger(
    record: ScheduleRecord | None, live: Mapping[str, int], now: float, *, force: bool = False
) -> ScheduleMove | None:
    """Enqueue a job of it now, whatever its times say.

    Raises:
        ScheduleStateError: its last job has not ended, and they must not overlap.
    """
    if record is None:
        return None
    definition = definition_of(record)
    if live and definition.overlap == "skip" and not force:
        running = min(live.values())
        raise ScheduleStateError(
            record.name, f"its job {running} has not ended; pass force=True to run another beside it"
        )
    ticks = []
    for queue in definition.queues:
        job = job_of(record.name, definition, now, queue, now)
        job = msgspec.structs.replace(job, run_at=None, idempotency_key=None)
        ticks.append(NewTick(tick=now, outcome=TickOutcome.TRIGGERED, queue=queue, job=job))
    return ScheduleMove(record=record, ticks=tuple(ticks))
