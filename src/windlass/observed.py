"""What is observed over time: how things stood each minute, what failed alike, and who did what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

from windlass.errors import ConfigurationError
from windlass.job import Job, Status

if TYPE_CHECKING:
    from windlass.drivers.base import Entry, Tally

Level: TypeAlias = Literal["minute", "hour"]
LEVELS: Mapping[Level, tuple[int, int]] = {"minute": (60, 24 * 60), "hour": (3600, 90 * 24)}
"""Seconds between the samples of a level, and how many are kept: a day of minutes, a quarter of hours."""
AUDIT, AUDIT_KEPT = "audit", 10_000
ORDERS = {"quiet": 1, "resume": 2, "stop": 3}
"""What a worker can be told, by the number that travels."""
Order: TypeAlias = Literal["quiet", "resume", "stop"]


class QueueSample(msgspec.Struct, frozen=True, array_like=True):
    """One queue at one instant: counters that never fall, and how many jobs there were."""

    enqueued: int
    processed: int
    failed: int
    dead: int
    pending: int
    running: int
    waiting: int
    """Scheduled and retrying."""


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """All queues at one instant."""

    at: datetime
    queues: Mapping[str, QueueSample]

    def total(self, queue: str | None = None) -> QueueSample:
        """Add up the queues, or return one."""
        wanted = [q for name, q in self.queues.items() if queue in (None, name)]
        rows = [(0,) * len(QueueSample.__struct_fields__), *map(msgspec.structs.astuple, wanted)]
        return QueueSample(*map(sum, zip(*rows, strict=True)))


class FailureGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Failures of one cause: the same type, the same message but for what varies, raised by the same function."""

    fingerprint: str
    type: str
    message: str
    """Of the newest job."""
    dead: int
    """How many are dead; exact up to 500, and 501 means more."""
    retrying: int
    """How many of the 500 newest retrying jobs have failed like this."""
    newest: Job


class Action(msgspec.Struct, frozen=True, kw_only=True):
    """Something that somebody did by hand."""

    number: int = 0
    at: datetime | None = None
    actor: str
    action: str
    """For instance ``retry``, ``pause``."""
    target: str
    """For instance ``job 17``, ``queue mail``."""
    done: int = 1
    refused: int = 0
    detail: str = ""


def journal(level: Level) -> str:
    """Return the name of a level's journal."""
    if level not in LEVELS:
        raise ConfigurationError(f"a level is one of {', '.join(LEVELS)}, not {level!r}")
    return f"sample:{level}"


def taken(tallies: Sequence[Tally]) -> bytes:
    """Return a sample of the counters as it is stored."""
    sums: dict[str, list[int]] = {}
    for tally in tallies:
        counts, totals = tally.counts, tally.totals
        row = (
            *(totals[name] for name in ("enqueued", "processed", "failed", "dead")),
            counts[Status.PENDING],
            counts[Status.RUNNING],
            counts[Status.SCHEDULED] + counts[Status.RETRYING],
        )
        before = sums.get(tally.queue, [0] * len(row))
        sums[tally.queue] = [a + b for a, b in zip(before, row, strict=True)]
    return msgspec.json.encode(sums)


_queues = msgspec.json.Decoder(dict[str, QueueSample]).decode


def sample(entry: Entry, level: Level) -> Sample:
    """Read a stored sample; its instant is that of its minute or hour."""
    return Sample(at=datetime.fromtimestamp(entry.number * LEVELS[level][0], UTC), queues=_queues(entry.body))


class _Stored(msgspec.Struct, omit_defaults=True):
    actor: str
    action: str
    target: str
    done: int = 1
    refused: int = 0
    detail: str = ""


_stored = msgspec.json.Decoder(_Stored).decode


def encoded(action: Action) -> bytes:
    """Return an action as it is stored."""
    row = _Stored(action.actor, action.action, action.target, action.done, action.refused, action.detail)
    return msgspec.json.encode(row)


def action(entry: Entry) -> Action:
    """Read a stored action."""
    at = datetime.fromtimestamp(entry.at, UTC)
    return Action(number=entry.number, at=at, **msgspec.structs.asdict(_stored(entry.body)))
