"""One write transaction: the moves of jobs between their places, and the counters that follow.

Rows to be written are gathered per table and written by ``flush`` with one ``executemany`` each, so that a turn of a
hundred jobs costs about a dozen statements, and a group of enqueues as many as one. An operation that reads jobs flushes first.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import msgspec

from windlass.drivers.base import Changed, Decide, Signal, Turn, Turned
from windlass.drivers.sqlite.batches import Batches
from windlass.drivers.sqlite.claim import Claim
from windlass.drivers.sqlite.gates import Gates
from windlass.drivers.sqlite.holds import Holds, moving
from windlass.drivers.sqlite.insert import Sifted, batches_of, keys_of, plan, sift
from windlass.errors import JobError, UniqueConflictError
from windlass.job import FINISHED, Record, Status
from windlass.lifecycle import TOTALS, Move, Transition, due, superseded, totals
from windlass.uniqueness import flow_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Collection, Sequence

    from windlass.drivers.sqlite.connect import Plain
    from windlass.drivers.sqlite.sql import Sql
    from windlass.job import Flow, NewJob
    from windlass.lifecycle import Settlement

PROMOTE = 1000
"""Due jobs made available in one turn at most, so that a turn stays short."""
RIPE = 100
"""Ripe batches told in one turn at most."""

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
        self.sql = sql
        self._ring = ring
        self._job, self._lease, self._seq, self.shift = self._execute(sql.counters).fetchone()
        self._drawn = (self._job, self._lease, self._seq)
        self.now = clock() + self.shift
        self.holds = Holds(connection, sql, self.now)
        self.gates = Gates(connection, sql, self.now)
        self.batches = Batches(connection, sql)
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
        self._forgotten: list[int] = []
        self._deltas: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0] * len(TALLY))
        self._wake = False
        self._bells: list[str] = []

    # ------------------------------------------------------------------ ends

    def flush(self) -> None:
        """Write the rows that were gathered."""
        if self._fresh:
            for fresh, statement in (
                (self._plain_jobs, self.sql.insert_plain_job),
                (self._jobs, self.sql.insert_job),
                (self._tags, self.sql.insert_tag),
                (self._timer, self.sql.insert_timer),
            ):
                if fresh:
                    self._many(statement, fresh)
                    fresh.clear()
            self._execute(self.sql.insert_new_ready, self._fresh * 2)
            self._fresh = None
        for rows, statement in (
            (self._attempts, self.sql.insert_attempt),
            (self._done, self.sql.insert_done),
            (self._timer, self.sql.insert_timer),
            (self._ready, self.sql.insert_ready),
            (self._places, self.sql.place),
            (self._signals, self.sql.insert_signal),
        ):
            if rows:
                self._many(statement, rows)
                rows.clear()
        if self._forgotten:
            self._forget(self._forgotten)
            self._forgotten.clear()
        self.holds.flush()
        self.gates.flush()
        self.batches.flush()

    def finish(self) -> None:
        """Write the counters; the last thing before the commit."""
        self.flush()
        if (self._job, self._lease, self._seq) != self._drawn:
            self._execute(self.sql.update_counters, (self._job, self._lease, self._seq))
        if self._deltas:
            self._many(self.sql.add_tally, [(*key, *delta) for key, delta in self._deltas.items()])
            second = int(self.now)
            pulses = [
                (second, queue, delta[_PROCESSED], delta[_FAILED])
                for (queue, _), delta in self._deltas.items()
                if delta[_PROCESSED] or delta[_FAILED]
            ]
            if pulses:
                self._many(self.sql.add_pulse, pulses)
            self._deltas.clear()
        if self._wake or self.gates.wanted():
            self._bells = [row[0] for row in self._execute(self.sql.bells)]

    def committed(self) -> None:
        """Ring those who wait; only now can they see what was written."""
        if self._bells:
            self._ring(self._bells)

    def run(self, statement: str, *values: Any) -> None:
        """Run one statement."""
        self._execute(statement, values)

    def wake(self) -> None:
        """Ring those who wait, once it is committed."""
        self._wake = True

    # ------------------------------------------------------------------ enqueue

    def insert(self, jobs: Sequence[NewJob]) -> list[Record]:
        """Store new jobs; what could be refused is before the first write."""
        members = batches_of(jobs)
        if members:
            self.batches.check(members)
        return self._insert(jobs, strict=True)

    def _insert(self, jobs: Sequence[NewJob], *, strict: bool) -> list[Record]:
        first = self._job + 1
        keys = keys_of(jobs)
        sifted = sift(jobs, self.holds.held(keys), first_id=first, now=self.now) if keys else Sifted(jobs)
        if strict:
            sifted.refuse(first, self.now, self._read)
        planned = plan(sifted.stored, first_id=first, first_seq=self._seq + 1, now=self.now)
        known = {rival: record for rival in sifted.missing(first) if (record := self._read(rival)) is not None}
        if not planned.records:
            return sifted.answer([], known)
        last = self._job = self._job + len(planned.records)
        self._seq += len(planned.records)
        self._plain_jobs.extend(planned.plain_jobs)
        self._jobs.extend(planned.jobs)
        self._tags.extend(planned.tags)
        self._timer.extend(planned.timer)
        self.holds.take(planned.holds)
        self.batches.add(planned.batches.items())
        # The ids of one transaction follow each other, whoever asked for them.
        self._fresh = (self._fresh[0] if self._fresh else first, last)
        for (queue, task, status), number in planned.counts.items():
            delta = self._deltas[queue, task]
            delta[_STATUS[status]] += number
            delta[_ENQUEUED] += number
        # A job that becomes due later must wake sleepers too: they sleep until the next due time that they know.
        self._wake = True
        return sifted.answer(planned.records, known)

    def _read(self, job_id: int) -> Record | None:
        """Read a job that may have been written in this transaction."""
        self.flush()
        return self.get(job_id)

    # ------------------------------------------------------------------ the turn

    def exchange(self, turn: Turn) -> Turned:
        """Settle, start, promote, claim."""
        self.flush()
        refused = self.settle(turn.settlements)
        refused += self._start(turn.starting)
        self.flush()
        due, look_at, wide, ripe, heard = self._execute(self.sql.glance, (self.now,)).fetchone()
        if due is not None and due <= self.now:
            due = self._promote()
        if look_at is not None and look_at <= self.now:
            self.gates.admit()
        known = self._is_known(turn.worker)
        claim = Claim(self, turn, wide=bool(wide))
        claims = claim.take() if known and turn.limit > 0 and turn.tasks else []
        rows = self._execute(self.sql.signals, (turn.worker,)).fetchall()
        if rows:
            self._execute(self.sql.delete_signals, (turn.worker,))
        signals = [Signal(job_id, lease, bool(cancel)) for job_id, lease, cancel in rows]
        self.flush()
        if look_at is not None or self.gates.changed:
            due = min((at for at in (due, self.gates.next_look()) if at is not None), default=None)
        return Turned(
            now=self.now,
            claims=claims,
            refused=refused,
            signals=signals,
            due=self.now if claim.unfinished else due,
            known=known,
            ripe=self.batches.ripe(RIPE) if ripe or self.batches.touched else (),
            heard=bool(heard),
        )

    def settle(self, settlements: Sequence[Settlement]) -> list[tuple[int, int]]:
        """Write the end of leases; return those that were not live."""
        if not settlements:
            return []
        live = self.live([s.record.id for s in settlements])
        self._load_keys(settlements)
        refused, gone = [], []
        for settlement in settlements:
            record = settlement.record
            lease, seq, slots = live.get(record.id, (-1, 0, None))
            if lease != record.lease:
                refused.append((record.id, record.lease))
                continue
            del live[record.id]  # a second end of the same lease in one turn is refused
            gone.append(record.id)
            if settlement.then:
                self._insert(settlement.then, strict=False)
            transition = self._let(record, settlement.transition)
            self._arrive(record, transition, seq=seq, finished_at=settlement.finished_at)
            if slots is not None:
                self.gates.leave(record.id, slots)
        if gone:
            self._execute(self.sql.delete_running, (_encode(gone).decode(),))
        return refused

    def _load_keys(self, settlements: Sequence[Settlement]) -> None:
        """Read the keys that these moves have to do with, together."""
        self.holds.load(
            key
            for s in settlements
            if s.record.flow is not None
            for key in moving(flow_of(s.record.flow), s.record.status, s.transition.status)
        )

    def live(self, ids: list[int]) -> dict[int, tuple[int, int, str | None]]:
        """Return lease, place and slots of those of *ids* that run."""
        rows = self._execute(self.sql.live, (_encode(ids).decode(),))
        return {job_id: (lease, seq, slots) for job_id, lease, seq, slots in rows}

    def _start(self, records: Sequence[Record]) -> list[tuple[int, int]]:
        if not records:
            return []
        live = self.live([r.id for r in records])
        good = [r.id for r in records if live.get(r.id, (-1,))[0] == r.lease]
        self._execute(self.sql.start, (self.now, _encode(good).decode()))
        return [(r.id, r.lease) for r in records if live.get(r.id, (-1,))[0] != r.lease]

    def _promote(self) -> float | None:
        """Make due jobs available; return when the next one is due."""
        rows = self._execute(self.sql.due, (self.now, PROMOTE)).fetchall()
        late = self._outdone(rows)
        self._execute(self.sql.delete_timer, (_encode([row[0] for row in rows]).decode(),))
        for job_id, queue, task, priority, run_at, retrying, attempt, failures, crashes, *_ in rows:
            if job_id in late:
                record, rival = late[job_id]
                self._arrive(record, superseded(due(record), rival), seq=0, finished_at=self.now)
                continue
            self._seq += 1
            self._ready.append((queue, task, -priority, self._seq, job_id, run_at, attempt, failures, crashes))
            self._places.append((self._seq, job_id))
            self.count_move(queue, task, Status.RETRYING if retrying else Status.SCHEDULED, Status.PENDING)
        self._wake = True
        self.flush()
        return self._execute(self.sql.next_due).fetchone()[0]  # type: ignore[no-any-return]

    def _outdone(self, rows: Sequence[tuple[Any, ...]]) -> dict[int, tuple[Record, int]]:
        """Let due jobs take the keys that they hold pending; return those that cannot, with their rivals."""
        late: dict[int, tuple[Record, int]] = {}
        for job_id, *_, retrying, _, _, _, encoded, created_at in rows:
            if encoded is None:
                continue
            flow, before = flow_of(encoded), Status.RETRYING if retrying else Status.SCHEDULED
            rival = self.holds.rival(flow, job_id, before, Status.PENDING)
            if rival is None:
                self.holds.move(flow, job_id, created_at, before, Status.PENDING)
            elif (record := self.get(job_id)) is not None:
                self.holds.move(flow, job_id, created_at, before, Status.CANCELLED)
                late[job_id] = (record, rival)
        return late

    def _is_known(self, worker: str) -> bool:
        row = self._execute(self.sql.worker_status, (worker,)).fetchone()
        return row is None or row[0] != "lost"

    def next_lease(self) -> int:
        """Draw a lease number."""
        self._lease += 1
        return self._lease

    def count_move(self, queue: str, task: str, before: Status, after: Status) -> None:
        """Count a job that goes from one status to another."""
        delta = self._deltas[queue, task]
        delta[_STATUS[before]] -= 1
        delta[_STATUS[after]] += 1

    def release_starting(self, starting: Sequence[tuple[Flow, int, float]]) -> None:
        """Give up the keys that jobs hold only until they start: flow, id, creation."""
        self.holds.load(key for flow, *_ in starting for key in moving(flow, Status.PENDING, Status.RUNNING))
        for flow, job_id, created_at in starting:
            self.holds.move(flow, job_id, created_at, Status.PENDING, Status.RUNNING)

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
            rival = self._rival(record, transition)
            if rival is not None and transition.move is Move.LOSE:  # nobody is there who could be told
                transition = superseded(transition, rival)
            elif rival is not None and (existing := self.get(rival)) is not None:
                changed.append(Changed(job_id, record, None, UniqueConflictError(existing)))
                continue
            self._move(record, transition)
            self.flush()
            changed.append(Changed(job_id, record, transition))
        return changed

    def get(self, job_id: int) -> Record | None:
        """Read one job inside the transaction."""
        row = self._execute(self.sql.record_by_id, (job_id,)).fetchone()
        return None if row is None else self.sql.record(row)

    def _move(self, record: Record, transition: Transition) -> None:
        self._wake = True
        if transition.request:
            self._execute(self.sql.request_cancel, (record.id,))
            self._signals.append((record.worker or "", record.id, record.lease, 1))
            return
        status = transition.status
        if record.status is status is Status.PENDING and transition.keep_place:
            return  # it stands there already
        seq = self._take_out(record)
        if status is None:
            self._deltas[record.queue, record.task][_STATUS[record.status]] -= 1
            self._leave_all(record)
            self._forgotten.append(record.id)
            return
        if transition.update is not None:
            new = transition.update
            values = (text(new.payload), new.max_attempts, new.timeout, text(new.meta), text(new.terms), record.id)
            self._execute(self.sql.update, values)
        if transition.extra_attempts:
            most = record.max_attempts
            most = record.failures + 1 if most is None else most + transition.extra_attempts
            self._execute(self.sql.raise_attempts, (most, record.id))
        if record.flow is not None:
            self.holds.move(flow_of(record.flow), record.id, record.created_at, record.status, status)
        self._arrive(record, transition, seq=seq, finished_at=self.now)

    def _take_out(self, record: Record) -> int:
        """Take a job out of its place; return its place in the order if it had one."""
        seq = 0
        match record.status:
            case Status.PENDING:
                (seq,) = self._execute(self.sql.seq, (record.id,)).fetchone()
                place = (record.queue, record.task, -record.priority, seq)
                if not self._execute(self.sql.delete_ready, place).rowcount:
                    for (gate,) in self._execute(self.sql.take_blocked, (record.id,)).fetchall():
                        self.gates.unblock(gate)
            case Status.SCHEDULED | Status.RETRYING:
                self._execute(self.sql.take_timer, (record.id,))
            case Status.RUNNING:
                [(seq, slots)] = self._execute(self.sql.take_running, (record.id,)).fetchall()
                if slots is not None:
                    self.gates.leave(record.id, slots)
                self._signals.append((record.worker or "", record.id, record.lease, 0))
            case _:
                self._execute(self.sql.archive, (record.id,))
                self._execute(self.sql.take_done, (record.id,))
        return seq  # type: ignore[no-any-return]

    def _leave_all(self, record: Record) -> None:
        """Let keys and batch of a job go that is about to be deleted."""
        if record.flow is not None:
            self.holds.move(flow_of(record.flow), record.id, record.created_at, record.status, None)
        if record.batch_id is not None:
            self.batches.move(record.batch_id, record.status, None)

    def _forget(self, ids: Sequence[int]) -> None:
        encoded = (_encode(ids).decode(),)
        for statement in self.sql.forget:
            self._execute(statement, encoded)

    # ------------------------------------------------------------------ keys

    def _rival(self, record: Record, transition: Transition) -> int | None:
        """Return the job that has a key that *record* would have to take."""
        if record.flow is None:
            return None
        return self.holds.rival(flow_of(record.flow), record.id, record.status, transition.status)

    def _let(self, record: Record, transition: Transition) -> Transition:
        """Return what the job becomes, cancelled if another has its key; move its keys."""
        if record.flow is None:
            return transition
        rival = self._rival(record, transition)
        if rival is not None:
            transition = superseded(transition, rival)
        after = transition.status if transition.keep else None
        self.holds.move(flow_of(record.flow), record.id, record.created_at, record.status, after)
        return transition

    # ------------------------------------------------------------------ arriving

    def _arrive(self, record: Record, transition: Transition, *, seq: int, finished_at: float) -> None:
        """Put a job that has left its place into its new one, and count."""
        status = transition.status
        assert status is not None
        job_id, queue, task = record.id, record.queue, record.task
        if record.batch_id is not None:
            self.batches.move(record.batch_id, record.status, status)
        for name in totals(transition):
            self._deltas[queue, task][_COLUMN["total_" + name]] += 1
        if not transition.keep:
            self._deltas[queue, task][_STATUS[record.status]] -= 1
            self._forgotten.append(job_id)
            return
        self.count_move(queue, task, record.status, status)
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

    # ------------------------------------------------------------------ retention

    def purge(self, cutoffs: dict[Status, float], limit: int, queue: str | None) -> int:
        """Delete finished jobs that ended before their status's cutoff."""
        self.flush()
        deleted = 0
        for status, cutoff in cutoffs.items():
            if deleted >= limit:
                break
            rows = self._execute(self.sql.expired, (status.value, cutoff, queue, queue, limit - deleted)).fetchall()
            for job_id, in_queue, task, flow in rows:
                self._deltas[in_queue, task][_STATUS[status]] -= 1
                self._execute(self.sql.take_done, (job_id,))
                if flow is not None:
                    self.holds.move(flow_of(flow), job_id, 0.0, status, None)
                self._forgotten.append(job_id)
            deleted += len(rows)
        return deleted
