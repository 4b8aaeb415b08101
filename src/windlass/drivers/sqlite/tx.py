"""One write transaction: the moves of jobs between their places, and the counters that follow.

Rows to be written are gathered per table and written by ``flush`` with one ``executemany`` each, so that a turn of a
hundred jobs costs about a dozen statements, and a group of enqueues as many as one. An operation that reads jobs flushes first.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import msgspec

from windlass.drivers.base import Changed, Decide, Signal, Turn, Turned
from windlass.drivers.sqlite.insert import plan
from windlass.errors import JobError
from windlass.job import FINISHED, Record, Status
from windlass.lifecycle import TOTALS, Transition, totals

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Collection, Sequence

    from windlass.drivers.sqlite.connect import Plain
    from windlass.drivers.sqlite.sql import Sql
    from windlass.job import NewJob
    from windlass.lifecycle import Settlement

PROMOTE = 1000
"""Due jobs made available in one turn at most, so that a turn stays short."""

_encode = msgspec.json.encode
TALLY = (*(str(s) for s in Status), *(f"total_{name}" for name in TOTALS))
_COLUMN = {name: place for place, name in enumerate(TALLY)}
_STATUS = {status: _COLUMN[str(status)] for status in Status}
_PROCESSED, _FAILED = _COLUMN["total_processed"], _COLUMN["total_failed"]
_ENQUEUED = _COLUMN["total_enqueued"]


def text(value: bytes | None) -> str | None:
    """JSON is kept as text, so that people can read the file with the ``sqlite3`` program."""
    return None if value is None else value.decode()


class Tx:
    """What may be done inside one transaction of SQLite."""

    def __init__(
        self,
        connection: sqlite3.Connection | Plain,
        sql: Sql,
        clock: Callable[[], float],
        ring: Callable[[list[str]], None],
    ) -> None:
        self.connection = connection
        self._execute = connection.execute
        self._many = connection.executemany
        self._sql = sql
        self._ring = ring
        self._job, self._lease, self._seq, self.shift = self._execute(sql.counters).fetchone()
        self._drawn = (self._job, self._lease, self._seq)
        self.now = clock() + self.shift
        self._plain_jobs: list[tuple[Any, ...]] = []
        self._jobs: list[tuple[Any, ...]] = []
        self._tags: list[tuple[str, int]] = []
        self._fresh: tuple[int, int] | None = None
        self._ready: list[tuple[Any, ...]] = []
        self._places: list[tuple[int, int]] = []
        self._timer: list[tuple[Any, ...]] = []
        self._done: list[tuple[Any, ...]] = []
        self._attempts: list[tuple[Any, ...]] = []
        self._signals: list[tuple[str, int, int, int]] = []
        self._deltas: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0] * len(TALLY))
        self._wake = False
        self._bells: list[str] = []

    # ------------------------------------------------------------------ ends

    def flush(self) -> None:
        """Write the rows that were gathered."""
        if self._fresh:
            for fresh, statement in (
                (self._plain_jobs, self._sql.insert_plain_job),
                (self._jobs, self._sql.insert_job),
                (self._tags, self._sql.insert_tag),
                (self._timer, self._sql.insert_timer),
            ):
                if fresh:
                    self._many(statement, fresh)
                    fresh.clear()
            self._execute(self._sql.insert_new_ready, self._fresh * 2)
            self._fresh = None
        for rows, statement in (
            (self._attempts, self._sql.insert_attempt),
            (self._done, self._sql.insert_done),
            (self._timer, self._sql.insert_timer),
            (self._ready, self._sql.insert_ready),
            (self._places, self._sql.place),
            (self._signals, self._sql.insert_signal),
        ):
            if rows:
                self._many(statement, rows)
                rows.clear()

    def finish(self) -> None:
        """Write the counters; the last thing before the commit."""
        self.flush()
        if (self._job, self._lease, self._seq) != self._drawn:
            self._execute(self._sql.update_counters, (self._job, self._lease, self._seq))
        if self._deltas:
            self._many(self._sql.add_tally, [(*key, *delta) for key, delta in self._deltas.items()])
            second = int(self.now)
            pulses = [
                (second, queue, delta[_PROCESSED], delta[_FAILED])
                for (queue, _), delta in self._deltas.items()
                if delta[_PROCESSED] or delta[_FAILED]
            ]
            if pulses:
                self._many(self._sql.add_pulse, pulses)
            self._deltas.clear()
        if self._wake:
            self._bells = [row[0] for row in self._execute(self._sql.bells)]

    def committed(self) -> None:
        """Ring those who wait; only now can they see what was written."""
        if self._bells:
            self._ring(self._bells)

    def run(self, statement: str, *values: Any) -> None:
        """Run one statement."""
        self._execute(statement, values)

    # ------------------------------------------------------------------ enqueue

    def insert(self, jobs: Sequence[NewJob]) -> list[Record]:
        """Store new jobs."""
        first, last = self._job + 1, self._job + len(jobs)
        planned = plan(jobs, first_id=first, first_seq=self._seq + 1, now=self.now)
        self._plain_jobs.extend(planned.plain_jobs)
        self._jobs.extend(planned.jobs)
        self._tags.extend(planned.tags)
        self._timer.extend(planned.timer)
        # The ids of one transaction follow each other, whoever asked for them.
        self._fresh = (self._fresh[0] if self._fresh else first, last)
        self._job = last
        self._seq += len(jobs)
        for (queue, task, status), number in planned.counts.items():
            delta = self._deltas[queue, task]
            delta[_STATUS[status]] += number
            delta[_ENQUEUED] += number
        # A job that becomes due later must wake sleepers too: they sleep until the next due time that they know.
        self._wake = True
        return planned.records

    # ------------------------------------------------------------------ the turn

    def exchange(self, turn: Turn) -> Turned:
        """Settle, start, promote, claim."""
        self.flush()
        refused = self.settle(turn.settlements)
        refused += self._start(turn.starting)
        self.flush()
        due = self._promote()
        known = self._is_known(turn.worker)
        claims = self._claim(turn) if known and turn.limit > 0 and turn.tasks else []
        rows = self._execute(self._sql.signals, (turn.worker,)).fetchall()
        if rows:
            self._execute(self._sql.delete_signals, (turn.worker,))
        signals = [Signal(job_id, lease, bool(cancel)) for job_id, lease, cancel in rows]
        return Turned(now=self.now, claims=claims, refused=refused, signals=signals, due=due, known=known)

    def settle(self, settlements: Sequence[Settlement]) -> list[tuple[int, int]]:
        """Write the end of leases; return those that were not live."""
        if not settlements:
            return []
        live = self._live([s.record.id for s in settlements])
        refused, gone = [], []
        for settlement in settlements:
            record = settlement.record
            lease, seq = live.get(record.id, (-1, 0))
            if lease != record.lease:
                refused.append((record.id, record.lease))
                continue
            del live[record.id]  # a second end of the same lease in one turn is refused
            gone.append(record.id)
            self._arrive(record, settlement.transition, seq=seq, finished_at=settlement.finished_at)
        if gone:
            self._execute(self._sql.delete_running, (_encode(gone).decode(),))
        return refused

    def _live(self, ids: list[int]) -> dict[int, tuple[int, int]]:
        rows = self._execute(self._sql.live, (_encode(ids).decode(),))
        return {job_id: (lease, seq) for job_id, lease, seq in rows}

    def _start(self, records: Sequence[Record]) -> list[tuple[int, int]]:
        if not records:
            return []
        live = self._live([r.id for r in records])
        good = [r.id for r in records if live.get(r.id, (-1, 0))[0] == r.lease]
        self._execute(self._sql.start, (self.now, _encode(good).decode()))
        return [(r.id, r.lease) for r in records if live.get(r.id, (-1, 0))[0] != r.lease]

    def _promote(self) -> float | None:
        """Make due jobs available; return when the next one is due."""
        first = self._execute(self._sql.next_due).fetchone()[0]
        if first is None or first > self.now:
            return first  # type: ignore[no-any-return]
        rows = self._execute(self._sql.due, (self.now, PROMOTE)).fetchall()
        self._execute(self._sql.delete_timer, (_encode([row[0] for row in rows]).decode(),))
        for job_id, queue, task, priority, run_at, retrying, attempt, failures, crashes in rows:
            self._seq += 1
            self._ready.append((queue, task, -priority, self._seq, job_id, run_at, attempt, failures, crashes))
            self._places.append((self._seq, job_id))
            delta = self._deltas[queue, task]
            delta[_STATUS[Status.RETRYING if retrying else Status.SCHEDULED]] -= 1
            delta[_STATUS[Status.PENDING]] += 1
        self._wake = True
        self.flush()
        return self._execute(self._sql.next_due).fetchone()[0]  # type: ignore[no-any-return]

    def _is_known(self, worker: str) -> bool:
        row = self._execute(self._sql.worker_status, (worker,)).fetchone()
        return row is None or row[0] != "lost"

    def _claim(self, turn: Turn) -> list[Record]:
        rows = self._sql.heads(self.connection, turn)
        if not rows:
            return []
        deadline = None if turn.deadline is None else self.now + turn.deadline
        leases: list[tuple[Any, ...]] = []
        gone: list[tuple[Any, ...]] = []
        claims = []
        for place, row in enumerate(rows):
            rank, seq, job_id, task, queue, priority, payload, attempt, failures, crashes, *rest = row
            most, timeout, run_at, created_at, error, tags, origin, meta, batch_id, tick, key = rest
            started = place < turn.start and crashes < turn.cautious
            started_at = self.now if started else None
            attempt += started
            self._lease += 1
            held = (self._lease, turn.worker, seq, run_at, started_at, attempt, failures, crashes, deadline)
            leases.append((job_id, queue, task, *held))
            gone.append((queue, task, rank, seq))
            delta = self._deltas[queue, task]
            delta[_STATUS[Status.PENDING]] -= 1
            delta[_STATUS[Status.RUNNING]] += 1
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
                    turn.worker,
                    self._lease,
                )
            )
        self._many(self._sql.lease, leases)
        self._many(self._sql.delete_ready, gone)
        return claims

    # ------------------------------------------------------------------ by hand

    def change(self, ids: Collection[int], decide: Decide) -> list[Changed]:
        """Decide about each job and write the answer."""
        self.flush()
        changed = []
        for job_id in ids:
            record = self.get(job_id)
            if record is None:
                changed.append(Changed(job_id, None, None))
                continue
            try:
                transition = decide(record, self.now)
            except JobError as error:
                changed.append(Changed(job_id, record, None, error))
                continue
            self._move(record, transition)
            self.flush()
            changed.append(Changed(job_id, record, transition))
        return changed

    def get(self, job_id: int) -> Record | None:
        """Read one job inside the transaction."""
        row = self._execute(self._sql.record_by_id, (job_id,)).fetchone()
        return None if row is None else self._sql.record(row)

    def _move(self, record: Record, transition: Transition) -> None:
        self._wake = True
        if transition.request:
            self._execute(self._sql.request_cancel, (record.id,))
            self._signals.append((record.worker or "", record.id, record.lease, 1))
            return
        seq = 0
        match record.status:
            case Status.PENDING:
                (seq,) = self._execute(self._sql.seq, (record.id,)).fetchone()
                self._execute(self._sql.delete_ready, (record.queue, record.task, -record.priority, seq))
            case Status.SCHEDULED | Status.RETRYING:
                self._execute(self._sql.take_timer, (record.id,))
            case Status.RUNNING:
                seq = self._execute(self._sql.take_running, (record.id,)).fetchone()[0]
                self._signals.append((record.worker or "", record.id, record.lease, 0))
            case _:
                self._execute(self._sql.archive, (record.id,))
                self._execute(self._sql.take_done, (record.id,))
        if transition.status is None:
            self._deltas[record.queue, record.task][_STATUS[record.status]] -= 1
            self._forget(record.id)
            return
        if transition.extra_attempts:
            most = record.max_attempts
            most = record.failures + 1 if most is None else most + transition.extra_attempts
            self._execute(self._sql.raise_attempts, (most, record.id))
        self._arrive(record, transition, seq=seq, finished_at=self.now)

    def _forget(self, job_id: int) -> None:
        for statement in self._sql.forget:
            self._execute(statement, (job_id,))

    # ------------------------------------------------------------------ arriving

    def _arrive(self, record: Record, transition: Transition, *, seq: int, finished_at: float) -> None:
        """Put a job that has left its place into its new one, and count."""
        status = transition.status
        assert status is not None
        job_id, queue, task = record.id, record.queue, record.task
        counters = (transition.attempt, transition.failures, transition.crashes)
        ended = record.status is Status.RUNNING and transition.outcome is not None
        error = text(transition.error)
        if status in FINISHED:
            self._done.append(
                (
                    job_id,
                    queue,
                    task,
                    status.value,
                    record.run_at,
                    record.started_at,
                    finished_at,
                    *counters,
                    record.worker,
                    transition.outcome.value if ended and transition.outcome else None,
                    error,
                    text(transition.result),
                )
            )
        else:
            if ended and transition.outcome:
                outcome = transition.outcome.value
                self._attempts.append(
                    (job_id, record.attempt, record.worker, record.started_at, finished_at, outcome, error)
                )
            if status is Status.PENDING:
                if not (transition.keep_place and seq):
                    self._seq += 1
                    seq = self._seq
                    available = self.now
                    self._places.append((seq, job_id))
                else:
                    available = record.run_at
                self._ready.append((queue, task, -record.priority, seq, job_id, available, *counters))
                self._wake = True
            else:
                retrying = int(status is Status.RETRYING)
                run_at = transition.run_at if transition.run_at is not None else self.now
                self._timer.append((job_id, queue, task, run_at, retrying, *counters))
        delta = self._deltas[queue, task]
        delta[_STATUS[record.status]] -= 1
        delta[_STATUS[status]] += 1
        for name in totals(transition):
            delta[_COLUMN["total_" + name]] += 1

    # ------------------------------------------------------------------ retention

    def purge(self, cutoffs: dict[Status, float], limit: int, queue: str | None) -> int:
        """Delete finished jobs that ended before their status's cutoff."""
        self.flush()
        deleted = 0
        for status, cutoff in cutoffs.items():
            if deleted >= limit:
                break
            rows = self._execute(self._sql.expired, (status.value, cutoff, queue, queue, limit - deleted)).fetchall()
            for job_id, in_queue, task in rows:
                self._deltas[in_queue, task][_STATUS[status]] -= 1
                self._execute(self._sql.take_done, (job_id,))
                self._forget(job_id)
            deleted += len(rows)
        return deleted
