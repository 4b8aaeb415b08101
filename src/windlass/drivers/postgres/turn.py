"""One turn, spelt for the server and read from its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from windlass.drivers.base import Signal, Turned
from windlass.drivers.postgres.insert import as_json
from windlass.job import Outcome, Record, Status
from windlass.lifecycle import Move, gives_way, totals
from windlass.uniqueness import enters, flow_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from windlass.drivers.base import Turn
    from windlass.drivers.postgres.marks import Low
    from windlass.lifecycle import Settlement, Transition

_encode = msgspec.json.encode


def array(numbers: Iterable[float]) -> str:
    """Spell numbers as an array literal: several times as fast as binding a list."""
    return "{" + ",".join(map(repr, numbers)) + "}"


def is_usual(settlement: Settlement, worker: str) -> bool:
    """Whether the settlement is the usual one: completed by its handler, under the worker's own lease."""
    transition = settlement.transition
    usual = transition.move is Move.SUCCEED and transition.outcome is Outcome.COMPLETED
    return usual and settlement.record.worker == worker and not _takes(settlement.record, Status.COMPLETED)


def _takes(record: Record, status: Status) -> bool:
    """Whether a job has to take a key when it moves."""
    return record.flow is not None and any(enters(hold, record.status, status) for hold in flow_of(record.flow).holds)


def parameters(turn: Turn, low: Low) -> list[Any]:
    """Return the parameters of ``exchange``.

    Completions come in the order of ids, in which everybody locks; the others as they were given, since those that become
    available again line up in that order.
    """
    completed = sorted((s for s in turn.settlements if is_usual(s, turn.worker)), key=_id)
    others = [s for s in turn.settlements if not is_usual(s, turn.worker)]
    results = None
    if any(s.transition.result is not None for s in completed):
        results = "[" + ",".join(_json(s.transition.result) for s in completed) + "]"
    return [
        turn.worker,
        array(s.record.id for s in completed),
        array(s.record.lease for s in completed),
        array(s.finished_at for s in completed),
        results,
        array(gone) if (gone := [s.record.id for s in completed if not s.transition.keep]) else None,
        moves((s.record, s.transition, s.finished_at) for s in others) if others else None,
        _then(completed, others),
        array(r.id for r in turn.starting),
        array(r.lease for r in turn.starting),
        turn.limit,
        turn.start,
        min(turn.cautious, 1 << 30),
        turn.deadline,
        None if turn.queues is None else list(turn.queues),
        _encode([{"q": part.queues, "l": part.limit} for part in turn.takes]).decode() if turn.takes else None,
        list(turn.tasks),
        low.streams,
        low.marks,
        low.safes,
        low.rewind,
        low.due,
    ]


def _then(completed: Sequence[Settlement], others: Sequence[Settlement]) -> str | None:
    """Spell the jobs that settlements bring, each with the place of its settlement."""
    brought = [
        f'{{"m":{flag},"n":{place},"jobs":{as_json(s.then)}}}'
        for flag, settlements in (("false", completed), ("true", others))
        for place, s in enumerate(settlements, 1)
        if s.then
    ]
    return "[" + ",".join(brought) + "]" if brought else None


def _id(settlement: Settlement) -> int:
    return settlement.record.id


def _json(value: bytes | None) -> str:
    return "null" if value is None else value.decode()


def moves(made: Iterable[tuple[Record, Transition, float | None]]) -> str:
    """Spell moves for the function ``move``: the record as it was seen, what becomes of it, when its lease ended.

    By hand there is no end of a lease (``None``), and the job is moved from where it was seen.
    """
    return "[" + ",".join(_move(*one) for one in made) + "]"


def _move(record: Record, transition: Transition, finished: float | None) -> str:
    fields: dict[str, Any] = {
        "id": record.id,
        "was": record.status.value if finished is None else Status.RUNNING.value,
        "lease": record.lease,
        "worker": record.worker,
        "attempt": record.attempt,
        "failures": record.failures,
        "crashes": record.crashes,
        "now": None if transition.status is None else transition.status.value,
        "attempt2": transition.attempt,
        "failures2": transition.failures,
        "crashes2": transition.crashes,
        "finished": finished,
        "totals": totals(transition) if transition.status is not None else (),
    }
    if transition.run_at is not None:
        fields["at"] = transition.run_at
    if transition.keep_place:
        fields["keep"] = True
    if transition.outcome is not None:
        fields["outcome"] = transition.outcome.value
    if transition.error is not None:
        fields["error"] = transition.error.decode()
    if transition.result is not None:
        fields["result"] = transition.result.decode()
    if transition.request:
        fields["request"] = True
    if not transition.keep:
        fields["forget"] = True
    if gives_way(transition):
        fields["yields"] = True
    fields |= _changes(record, transition)
    return _encode(fields).decode()


def _changes(record: Record, transition: Transition) -> dict[str, Any]:
    """Return what changes of the job itself."""
    changes: dict[str, Any] = {}
    if transition.update is not None:
        changes["update"] = {
            name: value.decode() if isinstance(value, bytes) else value
            for name, value in msgspec.structs.asdict(transition.update).items()
        }
    if transition.extra_attempts:
        most = record.max_attempts
        changes["tries"] = record.failures + 1 if most is None else most + transition.extra_attempts
    return changes


def answer(rows: Sequence[tuple[Any, ...]], worker: str) -> tuple[Turned, list[tuple[int, int]]]:
    """Read the rows of ``exchange``; return also the (stream, place) of each claim."""
    claims: list[Record] = []
    places: list[tuple[int, int]] = []
    refused: list[tuple[int, int]] = []
    signals: list[Signal] = []
    ripe: list[int] = []
    for row in rows[:-1]:
        kind, job_id, lease = row[0], row[1], row[2]
        if kind == 1:
            (
                _, _, _, seq, stream, attempt, failures, crashes, run_at, started_at, created_at, queue, task, priority,
                most, timeout, payload, error, tags, origin, meta, batch_id, tick, key, flow, terms,
            ) = row  # fmt: skip
            if seq is not None:  # else it was put aside before: its place tells nothing of those around it
                places.append((stream, seq))
            claims.append(
                Record(
                    job_id,
                    task,
                    queue,
                    Status.RUNNING,
                    priority,
                    payload,
                    attempt,
                    failures,
                    crashes,
                    most,
                    timeout,
                    run_at,
                    created_at,
                    started_at,
                    None,
                    error,
                    None,
                    tags,
                    origin,
                    meta,
                    batch_id,
                    tick,
                    key,
                    worker,
                    lease,
                    False,
                    None if flow is None else flow.encode(),
                    None if terms is None else terms.encode(),
                )
            )
        elif kind == 2:
            refused.append((job_id, lease))
        elif kind == 4:
            places.append((row[4], row[3]))
        elif kind == 5:
            ripe.append(job_id)
        else:
            signals.append(Signal(job_id, lease, bool(row[5])))
    head = rows[-1]
    turned = Turned(
        now=head[8],
        claims=claims,
        refused=refused,
        signals=signals,
        due=head[10],
        known=bool(head[5]),
        ripe=ripe,
        heard=bool(head[6]),
    )
    return turned, places
