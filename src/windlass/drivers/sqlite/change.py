"""Changes by hand inside one transaction, and retention."""

from __future__ import annotations

from typing import TYPE_CHECKING

from windlass.drivers.base import Changed, Decide
from windlass.drivers.sqlite.insert import text
from windlass.errors import JobError, UniqueConflictError
from windlass.job import Record, Status
from windlass.lifecycle import Transition, gives_way, superseded
from windlass.uniqueness import flow_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from windlass.drivers.sqlite.tx import Tx


def change(tx: Tx, ids: Collection[int], decide: Decide) -> list[Changed]:
    """Decide about each job and write the answer."""
    tx.flush()
    changed = []
    for job_id in ids:
        record = tx.get(job_id)
        if record is None:
            changed.append(Changed(job_id, None, None))
            continue
        try:
            transition = _let(tx, record, decide(record, tx.now))
        except JobError as error:
            changed.append(Changed(job_id, record, None, error))
            continue
        _move(tx, record, transition)
        tx.flush()
        changed.append(Changed(job_id, record, transition))
    return changed


def _let(tx: Tx, record: Record, transition: Transition) -> Transition:
    """Return what the job becomes, if another has its key.

    Raises:
        UniqueConflictError: somebody is there who can be told.
    """
    rival = tx.rival(record, transition)
    if rival is None:
        return transition
    if gives_way(transition):
        return superseded(transition, rival)
    existing = tx.get(rival)
    assert existing is not None, "keys go with their jobs"
    raise UniqueConflictError(existing)


def _move(tx: Tx, record: Record, transition: Transition) -> None:
    tx.wake()
    if transition.request:
        tx.run(tx.sql.request_cancel, record.id)
        tx.signal(record, cancel=True)
        return
    status = transition.status
    if record.status is status is Status.PENDING and transition.keep_place:
        return  # it stands there already
    seq = _take_out(tx, record)
    if record.flow is not None:
        tx.holds.move(flow_of(record.flow), record.id, record.created_at, record.status, status)
    if status is None:
        tx.delete(record.id, record.queue, record.task, record.status)
        if record.batch_id is not None:
            tx.batches.move(record.batch_id, record.status, None)
        return
    if transition.update is not None:
        new = transition.update
        values = (text(new.payload), new.max_attempts, new.timeout, text(new.meta), text(new.terms))
        tx.run(tx.sql.update, *values, record.id)
    if transition.extra_attempts:
        most = record.max_attempts
        most = record.failures + 1 if most is None else most + transition.extra_attempts
        tx.run(tx.sql.raise_attempts, most, record.id)
    tx.arrive(record, transition, seq=seq, finished_at=tx.now)


def _take_out(tx: Tx, record: Record) -> int:
    """Take a job out of its place; return its place in the order if it had one."""
    execute, sql = tx.connection.execute, tx.sql
    seq = 0
    match record.status:
        case Status.PENDING:
            [[seq]] = execute(sql.seq, (record.id,)).fetchall()
            if not execute(sql.delete_ready, (record.queue, record.task, -record.priority, seq)).rowcount:
                [[gate]] = execute(sql.take_blocked, (record.id,)).fetchall()
                tx.gates.unblock(gate)
        case Status.SCHEDULED | Status.RETRYING:
            tx.run(sql.take_timer, record.id)
        case Status.RUNNING:
            [[seq, slots]] = execute(sql.take_running, (record.id,)).fetchall()
            if slots is not None:
                tx.gates.leave(record.id, slots)
            tx.signal(record, cancel=False)
        case _:
            tx.run(sql.archive, record.id)
            tx.run(sql.take_done, record.id)
    return seq


def purge(tx: Tx, cutoffs: Mapping[Status, float], limit: int, queue: str | None) -> int:
    """Delete finished jobs that ended before their status's cutoff."""
    tx.flush()
    deleted = 0
    for status, cutoff in cutoffs.items():
        if deleted >= limit:
            break
        values = (status.value, cutoff, queue, queue, limit - deleted)
        rows = tx.connection.execute(tx.sql.expired, values).fetchall()
        for job_id, in_queue, task, flow in rows:
            tx.run(tx.sql.take_done, job_id)
            if flow is not None:
                tx.holds.move(flow_of(flow), job_id, 0.0, status, None)
            tx.delete(job_id, in_queue, task, status)
        deleted += len(rows)
    return deleted
