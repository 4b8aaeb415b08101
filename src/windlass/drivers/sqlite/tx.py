"""One write transaction: the moves of jobs between their places, and the counters that follow.

Rows to be written are gathered per table and written by ``flush`` with one ``executemany`` each, so that a turn of a
hundred jobs costs about a dozen statements, and a group of enqueues as many as one. An operation that reads jobs flushes first.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import msgspec

from windlass.drivers.sqlite.batches import Batches
from windlass.drivers.sqlite.gates import Gates
from windlass.drivers.sqlite.holds import Holds, moving
from windlass.drivers.sqlite.insert import Sifted, batches_of, flows_of, keys_of, plan, sift, text
from windlass.drivers.sqlite.turns import Turns
from windlass.job import FINISHED, Record, Status
from windlass.lifecycle import TOTALS, Transition, superseded, totals
from windlass.uniqueness import flow_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence

    from windlass.drivers.sqlite.connect import Plain
    from windlass.drivers.sqlite.sql import Sql
    from windlass.job import NewJob
    from windlass.lifecycle import Settlement

_encode = msgspec.json.encode
TALLY = (*(str(s) for s in Status), *(f"total_{name}" for name in TOTALS))
_COLUMN = {name: place for place, name in enumerate(TALLY)}
_STATUS = {status: _COLUMN[str(status)] for status in Status}
_PROCESSED, _FAILED = _COLUMN["total_processed"], _COLUMN["total_failed"]
_ENQUEUED = _COLUMN["total_enqueued"]


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
        self._lease: int
        self._job, self._lease, self._seq, self.shift = self._execute(sql.counters).fetchone()
        self._drawn = (self._job, self._lease, self._seq)
        self.now = clock() + self.shift
        self._holds: Holds | None = None
        self._gates: Gates | None = None
        self._batches: Batches | None = None
        self.turns = Turns(connection, sql)
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
        self._buffers = (
            (self._attempts, sql.insert_attempt),
            (self._done, sql.insert_done),
            (self._timer, sql.insert_timer),
            (self._ready, sql.insert_ready),
            (self._places, sql.place),
            (self._signals, sql.insert_signal),
        )
        self._forgotten: list[int] = []
        self._parts: list[Holds | Gates | Batches] = []
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
        for rows, statement in self._buffers:
            if rows:
                self._many(statement, rows)
                rows.clear()
        if self._forgotten:
            self._forget(self._forgotten)
            self._forgotten.clear()
        for part in self._parts:
            part.flush()

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
        if self._wake or (self._gates is not None and self._gates.wanted()):
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

    # ------------------------------------------------------------------ what only some jobs need

    @property
    def holds(self) -> Holds:
        """The unique keys."""
        if self._holds is None:
            self._holds = Holds(self.connection, self.sql, self.now)
            self._parts.append(self._holds)
        return self._holds

    @property
    def gates(self) -> Gates:
        """The limits and rates."""
        if self._gates is None:
            self._gates = Gates(self.connection, self.sql, self.now)
            self._parts.append(self._gates)
        return self._gates

    @property
    def batches(self) -> Batches:
        """The batches."""
        if self._batches is None:
            self._batches = Batches(self.connection, self.sql)
            self._parts.append(self._batches)
        return self._batches

    @property
    def gated(self) -> bool:
        """Whether gates may have changed here."""
        return self._gates is not None

    @property
    def batched(self) -> bool:
        """Whether batches may have changed here."""
        return self._batches is not None

    # ------------------------------------------------------------------ enqueue

    def insert(self, jobs: Sequence[NewJob]) -> list[Record]:
        """Store new jobs; what could be refused is before the first write."""
        if not any(job.holds or job.idempotency_key is not None or job.batch_id is not None for job in jobs):
            return self._store(jobs)
        first = self._job + 1
        members = batches_of(jobs)
        if members:
            self.batches.check(members)
        sifted = self._sift(jobs)
        sifted.refuse(first, self.now, self._read)
        records = self._store(sifted.stored, sifted.taken)
        if sifted.rivals is None:
            return records
        known = {rival: record for rival in sifted.missing(first) if (record := self._read(rival)) is not None}
        return sifted.answer(records, known)

    def _sift(self, jobs: Sequence[NewJob]) -> Sifted:
        flows = flows_of(jobs)
        keys = keys_of(flows)
        if not keys:
            return Sifted(jobs)
        return sift(jobs, flows, self.holds.held(keys), first_id=self._job + 1, now=self.now)

    def _store(self, jobs: Sequence[NewJob], taken: Sequence[tuple[str, int]] = ()) -> list[Record]:
        if not jobs:
            return []
        first, last = self._job + 1, self._job + len(jobs)
        planned = plan(jobs, first_id=first, first_seq=self._seq + 1, now=self.now)
        self._plain_jobs.extend(planned.plain_jobs)
        self._jobs.extend(planned.jobs)
        self._tags.extend(planned.tags)
        self._timer.extend(planned.timer)
        if taken:
            self.holds.take(taken)
        if planned.batches:
            self.batches.add(planned.batches)
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

    def _read(self, job_id: int) -> Record | None:
        """Read a job that may have been written in this transaction."""
        self.flush()
        return self.get(job_id)

    # ------------------------------------------------------------------ the end of a lease

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
                sifted = self._sift(settlement.then)
                self._store(sifted.stored, sifted.taken)
            transition = settlement.transition
            if record.flow is not None:
                transition = self._let(record, record.flow, transition)
            self.arrive(record, transition, seq=seq, finished_at=settlement.finished_at)
            if slots is not None:
                self.gates.leave(record.id, slots)
        if gone:
            self._execute(self.sql.delete_running, (_encode(gone).decode(),))
        return refused

    def _load_keys(self, settlements: Sequence[Settlement]) -> None:
        """Read the keys that these moves have to do with, together."""
        keyed = [(s.record.flow, s) for s in settlements if s.record.flow is not None]
        if keyed:
            self.holds.load(
                key
                for flow, settlement in keyed
                for key in moving(flow_of(flow), settlement.record.status, settlement.transition.status)
            )

    def live(self, ids: list[int]) -> dict[int, tuple[int, int, str | None]]:
        """Return lease, place and slots of those of *ids* that run."""
        rows = self._execute(self.sql.live, (_encode(ids).decode(),))
        return {job_id: (lease, seq, slots) for job_id, lease, seq, slots in rows}

    def draw_leases(self, number: int) -> int:
        """Draw so many lease numbers; return the last before them."""
        before = self._lease
        self._lease += number
        return before

    def count_moves(self, stream: tuple[str, str], before: Status, after: Status, number: int = 1) -> None:
        """Count jobs of a queue and task that go from one status to another."""
        delta = self._deltas[stream]
        delta[_STATUS[before]] -= number
        delta[_STATUS[after]] += number

    def make_available(
        self, job_id: int, queue: str, task: str, priority: int, *, run_at: float, counters: Sequence[int]
    ) -> None:
        """Put a job behind those that wait already; *counters* are its attempts, failures and crashes."""
        self._seq += 1
        self._places.append((self._seq, job_id))
        self._ready.append((queue, task, -priority, self._seq, job_id, run_at, *counters))

    def get(self, job_id: int) -> Record | None:
        """Read one job inside the transaction."""
        row = self._execute(self.sql.record_by_id, (job_id,)).fetchone()
        return None if row is None else self.sql.record(row)

    def delete(self, job_id: int, queue: str, task: str, status: Status) -> None:
        """Drop a job that has left its place, with all that is told of it."""
        self._deltas[queue, task][_STATUS[status]] -= 1
        self._forgotten.append(job_id)

    def signal(self, record: Record, *, cancel: bool) -> None:
        """Tell the worker that has a lease."""
        self._signals.append((record.worker or "", record.id, record.lease, int(cancel)))

    def _forget(self, ids: Sequence[int]) -> None:
        encoded = (_encode(ids).decode(),)
        for statement in self.sql.forget:
            self._execute(statement, encoded)

    # ------------------------------------------------------------------ keys

    def rival(self, record: Record, transition: Transition) -> int | None:
        """Return the job that has a key that *record* would have to take."""
        if record.flow is None:
            return None
        return self.holds.rival(flow_of(record.flow), record.id, record.status, transition.status)

    def _let(self, record: Record, encoded: bytes, transition: Transition) -> Transition:
        """Return what the job becomes, cancelled if another has its key; move its keys."""
        flow = flow_of(encoded)
        rival = self.holds.rival(flow, record.id, record.status, transition.status)
        if rival is not None:
            transition = superseded(transition, rival)
        after = transition.status if transition.keep else None
        self.holds.move(flow, record.id, record.created_at, record.status, after)
        return transition

    # ------------------------------------------------------------------ arriving

    def arrive(self, record: Record, transition: Transition, *, seq: int, finished_at: float) -> None:
        """Put a job that has left its place into its new one, and count."""
        status = transition.status
        assert status is not None
        job_id, queue, task = record.id, record.queue, record.task
        if record.batch_id is not None:
            self.batches.move(record.batch_id, record.status, status)
        delta = self._deltas[queue, task]
        for name in totals(transition):
            delta[_COLUMN["total_" + name]] += 1
        delta[_STATUS[record.status]] -= 1
        if not transition.keep:
            self._forgotten.append(job_id)
            return
        delta[_STATUS[status]] += 1
        counters = (transition.attempt, transition.failures, transition.crashes)
        ended = record.status is Status.RUNNING and transition.outcome is not None
        error = text(transition.error)
        if status in FINISHED:
            outcome = transition.outcome.value if ended and transition.outcome else None
            instants = (record.run_at, record.started_at, finished_at)
            last = (record.worker, outcome, error, text(transition.result))
            self._done.append((job_id, queue, task, status.value, *instants, *counters, *last))
        else:
            if ended and transition.outcome:
                outcome = transition.outcome.value
                self._attempts.append(
                    (job_id, record.attempt, record.worker, record.started_at, finished_at, outcome, error)
                )
            if status is Status.PENDING:
                if transition.keep_place and seq:
                    self._ready.append((queue, task, -record.priority, seq, job_id, record.run_at, *counters))
                else:
                    self.make_available(job_id, queue, task, record.priority, run_at=self.now, counters=counters)
                self._wake = True
            else:
                retrying = int(status is Status.RETRYING)
                run_at = transition.run_at if transition.run_at is not None else self.now
                self._timer.append((job_id, queue, task, run_at, retrying, *counters))
