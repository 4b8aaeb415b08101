"""A worker's turn inside one transaction: settle, start, promote, let back, claim."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from windlass.drivers.base import Signal, Turned
from windlass.drivers.sqlite.claim import Claim
from windlass.job import Record, Status
from windlass.lifecycle import due as due_
from windlass.lifecycle import superseded
from windlass.uniqueness import flow_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from windlass.drivers.base import Turn
    from windlass.drivers.sqlite.tx import Tx

PROMOTE = 1000
"""Due jobs made available in one turn at most, so that a turn stays short."""
RIPE = 100
"""Ripe batches told in one turn at most."""

_encode = msgspec.json.encode


def exchange(tx: Tx, turn: Turn) -> Turned:
    """Take the turn."""
    execute, sql, now = tx.connection.execute, tx.sql, tx.now
    tx.flush()
    refused = tx.settle(turn.settlements)
    refused += _start(tx, turn.starting)
    tx.flush()
    values = (now - tx.shift, turn.worker, turn.worker)
    _, due, look_at, wide, ripe, heard, known, mail, stamp, fair = execute(sql.glance, values).fetchone()
    if due is not None and due <= now:
        due = _promote(tx)
    if look_at is not None and look_at <= now:
        tx.gates.admit()
    claim = Claim(tx, turn, wide=bool(wide), fair=bool(fair)) if known and turn.limit > 0 and turn.tasks else None
    claims = claim.take() if claim is not None else []
    signals = _signals(tx, turn.worker) if mail else []
    if tx.gated or tx.batched:
        tx.flush()
    if look_at is not None or tx.gated:
        due = min((at for at in (due, tx.gates.next_look()) if at is not None), default=None)
    return Turned(
        now=now,
        claims=claims,
        refused=refused,
        signals=signals,
        due=now if claim is not None and claim.unfinished else due,
        known=bool(known),
        ripe=tx.batches.ripe(RIPE) if ripe or tx.batched else (),
        heard=bool(heard),
        stamp=stamp,
    )


def _start(tx: Tx, records: Sequence[Record]) -> list[tuple[int, int]]:
    """Mark prefetched jobs as started; return those whose lease is not live."""
    if not records:
        return []
    live = tx.live([r.id for r in records])
    good = [r.id for r in records if live.get(r.id, (-1,))[0] == r.lease]
    tx.run(tx.sql.start, tx.now, _encode(good).decode())
    return [(r.id, r.lease) for r in records if live.get(r.id, (-1,))[0] != r.lease]


def _promote(tx: Tx) -> float | None:
    """Make due jobs available; return when the next one is due."""
    execute, sql = tx.connection.execute, tx.sql
    rows = execute(sql.due, (tx.now, PROMOTE)).fetchall()
    late = _outdone(tx, rows)
    execute(sql.delete_timer, (_encode([row[0] for row in rows]).decode(),))
    for job_id, queue, task, priority, run_at, retrying, *counters, _, _ in rows:
        if job_id in late:
            record, rival = late[job_id]
            tx.arrive(record, superseded(due_(record), rival), seq=0, finished_at=tx.now)
            continue
        tx.make_available(job_id, queue, task, priority, run_at=run_at, counters=counters)
        tx.count_moves((queue, task), Status.RETRYING if retrying else Status.SCHEDULED, Status.PENDING)
    tx.wake()
    tx.flush()
    return execute(sql.next_due).fetchone()[0]  # type: ignore[no-any-return]


def _outdone(tx: Tx, rows: Sequence[tuple[Any, ...]]) -> dict[int, tuple[Record, int]]:
    """Let due jobs take the keys that they hold pending; return those that cannot, with their rivals."""
    late: dict[int, tuple[Record, int]] = {}
    for job_id, _, _, _, _, retrying, _, _, _, encoded, created_at in rows:
        if encoded is None:
            continue
        flow, before = flow_of(encoded), Status.RETRYING if retrying else Status.SCHEDULED
        rival = tx.holds.rival(flow, job_id, before, Status.PENDING)
        tx.holds.move(flow, job_id, created_at, before, Status.PENDING if rival is None else Status.CANCELLED)
        if rival is not None and (record := tx.get(job_id)) is not None:
            late[job_id] = (record, rival)
    return late


def _signals(tx: Tx, worker: str) -> list[Signal]:
    """Hand a worker's messages out, once."""
    rows = tx.connection.execute(tx.sql.signals, (worker,)).fetchall()
    tx.run(tx.sql.delete_signals, worker)
    return [Signal(job_id, lease, bool(cancel)) for job_id, lease, cancel in rows]
