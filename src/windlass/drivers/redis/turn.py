"""One turn, spelt for the script and read from its answer."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from windlass.drivers.base import Signal
from windlass.drivers.redis import value
from windlass.drivers.redis.insert import Streams, new_jobs
from windlass.job import FINISHED, Outcome, Status
from windlass.lifecycle import Move, totals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from windlass.drivers.base import Turn
    from windlass.drivers.redis.wire import Word
    from windlass.job import Record
    from windlass.lifecycle import Settlement, Transition

_ONE, _TWO = struct.Struct("<d"), struct.Struct("<dd")
_NO_ERROR = b"\0\0\0\0"
_TOTALS = {
    "processed": "P",
    "failed": "F",
    "retried": "R",
    "dead": "D",
    "cancelled": "C",
    "snoozed": "S",
    "released": "L",
    "lost": "X",
}
TOTALS = {"enqueued": "E", **_TOTALS}
"""The letters under which totals are counted."""


class Head:
    """What the script says first."""

    __slots__ = ("due", "forgotten", "heard", "known", "now", "stale", "stamp", "token")

    def __init__(self, packed: bytes) -> None:
        self.now, due = _TWO.unpack_from(packed)
        self.due: float | None = due or None
        self.known = packed[16:17] != b"0"
        self.forgotten = packed[16:17] == b"f"
        """The worker has beaten, and the server knows nothing of it any more: nothing was claimed."""
        self.stale = packed[17:18] == b"1"
        """The server does not know what the class takes, or the class knows too few streams: nothing was claimed."""
        self.heard = packed[18:19] == b"1"
        stamp, _, self.token = packed[19:].partition(b";")
        self.stamp = int(stamp or 0)


def is_usual(settlement: Settlement, worker: str) -> bool:
    """Whether a job was completed by its handler, under the worker's own lease."""
    transition = settlement.transition
    usual = transition.move is Move.SUCCEED and transition.outcome is Outcome.COMPLETED and transition.keep
    return usual and settlement.record.worker == worker


def words(
    turn: Turn, name: str, parts: Sequence[tuple[str, int]], now: float, *, beaten: bool
) -> tuple[list[Word], list[tuple[int, int]]]:
    """Return the arguments of ``exchange``, and the (job, lease) that each of its positions stands for.

    *name* is the worker's class, *parts* are the classes and limits of a demand in parts.
    """
    completed = [s for s in turn.settlements if is_usual(s, turn.worker)]
    others = (
        [s for s in turn.settlements if not is_usual(s, turn.worker)] if len(completed) < len(turn.settlements) else []
    )
    deadline: Word = "" if turn.deadline is None else repr(turn.deadline)
    cautious = min(turn.cautious, 1 << 30)
    streams, brought = _brought((*completed, *others))
    spelt: list[Word] = [turn.worker, int(beaten), name, turn.limit, turn.start, cautious, deadline]
    spelt += [len(completed), len(others), len(turn.starting)]
    spelt += [repr(min((s.finished_at for s in completed), default=0.0)), len(parts), len(streams)]
    for s in completed:
        result = s.transition.result
        tail = b"" if result is None else _NO_ERROR + result
        spelt += (s.record.id, _ONE.pack(s.record.lease), _ONE.pack(s.finished_at), tail)
    for s in others:
        record = s.record
        decision = decided(record, s.transition, finished=s.finished_at, now=now, yields=True)
        spelt += (record.id, value.fence(record), *decision)
    for record in turn.starting:
        spelt += (record.id, value.fence(record))
    for part in parts:
        spelt += part
    spelt += streams
    spelt += brought
    positions = [(s.record.id, s.record.lease) for s in (*completed, *others)]
    positions += [(r.id, r.lease) for r in turn.starting]
    return spelt, positions


def _brought(settlements: Sequence[Settlement]) -> tuple[list[Word], list[Word]]:
    """Spell the jobs that ends bring: the streams of all, then for each end its position, their number and the jobs."""
    streams = Streams()
    spelt: list[Word] = []
    for position, settlement in enumerate(settlements, 1):
        if settlement.then:
            spelt += (position, len(settlement.then), *new_jobs(settlement.then, streams))
    return streams.names(), spelt


def decided(record: Record, transition: Transition, *, finished: float, now: float, yields: bool) -> tuple[Word, ...]:
    """Spell what becomes of a job: op, head, tail, past. *yields*: it is cancelled if another has its key."""
    status = transition.status
    if transition.request:
        return ("q", b"", b"", b"")
    if status is None:
        return ("D", b"", b"", b"")
    head = value.head(record, transition, finished=finished, now=now)
    past = b"" if status in FINISHED else value.past(record, transition, finished)
    return (operation(record, transition, yields=yields), head, value.tail(record, transition), past)


def operation(record: Record, transition: Transition, *, yields: bool) -> str:
    """Spell the operation for ``move``: the status, flags, totals."""
    assert transition.status is not None
    unstarted = record.status is Status.RUNNING and record.started_at is None
    flags = ("k" if transition.keep_place else "") + ("u" if unstarted else "")
    flags += ("" if transition.keep else "f") + ("y" if yields else "")
    raised = "".join(_TOTALS[name] for name in totals(transition))
    return f"{value.LETTERS[transition.status]}{flags}:{raised}"


def signals(packed: Sequence[bytes]) -> list[Signal]:
    """Read the messages to a worker."""
    return [
        Signal(int(job_id), int(lease), cancel == b"1") for job_id, lease, cancel in (m.split(b":") for m in packed)
    ]


def positions_of(refused: Sequence[Any], positions: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return what was refused."""
    return [positions[n - 1] for n in refused]
