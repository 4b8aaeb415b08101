"""Changing jobs by hand, and what is managed beside them: gates, batches, notes and what is published."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg

from windlass.drivers.base import LINES, Changed, Passage
from windlass.drivers.changing import until_made
from windlass.drivers.postgres import batches, ears, schedules
from windlass.drivers.postgres.connect import translate
from windlass.drivers.postgres.database import REFUSED, Database
from windlass.drivers.postgres.enqueue import run
from windlass.drivers.postgres.notes import spelt
from windlass.drivers.postgres.tied import insertion
from windlass.drivers.postgres.turn import array, moves
from windlass.errors import JobError, UniqueConflictError
from windlass.job import NAMED, Gate
from windlass.lifecycle import superseded
from windlass.limits import WIDE

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from windlass.drivers.base import BatchRecord, Decide, DecideBatch, NewBatch, Note
    from windlass.drivers.postgres.connect import Connection
    from windlass.drivers.postgres.enqueue import Enqueues
    from windlass.drivers.ticking import DecideSchedule, ScheduleChanged, ScheduleRecord, TickRecord
    from windlass.job import NewJob, Record, Status
    from windlass.lifecycle import Transition

PULSE_KEPT = 3600
WORKERS_KEPT = 3600.0
OFTEN, AWHILE = 50, 0.02
"""How often a change is tried again whose jobs have moved meanwhile, and the seconds between tries at most."""
HELD = "WL002"
"""The error of a move that would take a key that another job has."""


class Managing(Database):
    """What people and maintenance ask of a store."""

    _enqueues: Enqueues

    def _heard(self, now: float) -> None:
        """Learn the store's clock from an answer."""

    def _do(self, statement: str, *values: Any) -> int:
        """Run a statement; return how many rows it changed."""
        with self.clients.lend() as connection:
            return connection.execute(statement, values).rowcount

    def _rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with self.clients.lend() as connection:
            return connection.execute(statement, values, binary=True).fetchall()

    # ------------------------------------------------------------------ managing

    def get(self, job_id: int) -> Record | None:
        """Return a job."""
        self._check_open()
        rows = self._rows(self.sql.record_by_id, job_id) if -(1 << 63) <= job_id < 1 << 63 else []
        return self.sql.record(rows[0]) if rows else None

    def change(self, ids: Collection[int], decide: Decide) -> list[Changed]:
        """Read the jobs, decide, and write the answers if nothing has moved meanwhile; decide again where it has.

        No lock is held while *decide* runs.
        """
        self._check_open()
        return until_made(ids, lambda left, made: self._try_to_change(left, decide, made), tries=OFTEN, pause=AWHILE)

    def _try_to_change(self, ids: Sequence[int], decide: Decide, made: dict[int, Changed]) -> None:
        with self.clients.lend() as connection:
            (now,) = connection.execute(self.sql.now).fetchone()  # type: ignore[misc]
            rows = connection.execute(self.sql.records, (array(ids),), binary=True).fetchall()
        self._heard(now)
        records = {row[0]: self.sql.record(row) for row in rows}
        decided: list[tuple[Record, Transition]] = []
        for job_id in ids:
            record = records.get(job_id)
            if record is None:
                made[job_id] = Changed(job_id, None, None)
                continue
            try:
                decided.append((record, decide(record, now)))
            except JobError as error:
                made[job_id] = Changed(job_id, record, None, error)
        decided.sort(key=lambda one: one[0].id)  # everybody locks in this order
        while decided and (held := self._move(decided, made)) is not None:
            decided = [one for one in decided if one[0].id != held]

    def _move(self, decided: Sequence[tuple[Record, Transition]], made: dict[int, Changed]) -> int | None:
        """Write transitions, all or none; return the job that was in the way, whose key another has."""
        spelt = moves((record, transition, None) for record, transition in decided)
        try:
            with self.clients.lend_raw() as connection:
                rows = connection.again(self.sql.move, (spelt, True))
        except psycopg.Error as error:
            if error.sqlstate != HELD:
                raise translate(error) from error
            rival, job_id = int(error.diag.message_primary or 0), int(error.diag.message_detail or 0)
            holder = self.get(rival)
            if holder is not None:  # else it has gone meanwhile: try again
                record = next(record for record, _ in decided if record.id == job_id)
                made[job_id] = Changed(job_id, record, None, UniqueConflictError(holder))
            return job_id
        missed = {place for what, place, _ in rows if what == REFUSED}
        rivals = {place: rival for what, place, rival in rows if what != REFUSED}
        for place, (record, transition) in enumerate(decided, 1):
            if place not in missed:
                became = superseded(transition, rivals[place]) if place in rivals else transition
                made[record.id] = Changed(record.id, record, became)
        return None

    def pause(self, kind: str, name: str, paused: bool) -> None:  # noqa: FBT001 - the Protocol's spelling
        """Pause or resume a queue or task."""
        with self.clients.lend() as connection, connection.transaction():
            connection.execute(self.sql.pause if paused else self.sql.resume, (kind, name))
            connection.execute(self.sql.ring)

    def pauses(self) -> set[tuple[str, str]]:
        """Return what is paused."""
        return {(kind, name) for kind, name in self._rows(self.sql.pauses)}

    def purge(self, older_than: Mapping[Status, float], limit: int, *, queue: str | None = None) -> int:
        """Delete finished jobs, each status in one small transaction."""
        deleted = 0
        for status, age in older_than.items():
            if deleted < limit:
                deleted += self._rows(self.sql.purge, status.value, age, limit - deleted, queue)[0][0]
        return deleted

    def tidy(self) -> None:
        """Fold the counters and trim what only grows."""
        self._do(self.sql.fold)
        self._do(self.sql.trim_pulse, PULSE_KEPT)
        self._do(self.sql.forget_workers, WORKERS_KEPT)
        self._do(self.sql.forget_signals)
        self._do(self.sql.forget_gates)
        self._do(self.sql.forget_holds)
        self._do(self.sql.forget_ears)

    # ------------------------------------------------------------------ gates

    def set_gate(self, gate: Gate, *, pinned: bool) -> None:
        """Make or change a gate."""
        wide = gate.key.startswith(WIDE)
        self._rows(self.sql.set_gate, gate.key, gate.most, gate.per, gate.burst, gate.weight, wide, pinned)

    def drop_gate(self, key: str) -> bool:
        """Forget what was set."""
        return bool(self._rows(self.sql.drop_gate, key)[0][0])

    def passages(self, keys: Collection[str] | None = None) -> list[Passage]:
        """Return the gates that are known."""
        wanted = None if keys is None else list(keys)
        return [
            Passage(gate=Gate(*row[:5]), pinned=row[5], used=row[6], blocked=row[7], free_at=row[8])
            for row in self._rows(self.sql.passages, wanted, wanted)
        ]

    def holders(self, key: str, limit: int) -> list[int]:
        """Return who runs behind a limit."""
        return [row[0] for row in self._rows(self.sql.holders, key, limit)]

    def blocked_by(self, job_id: int) -> str | None:
        """Return the gate that a pending job waits before."""
        rows = self._rows(self.sql.blocked_by, job_id)
        return rows[0][0] if rows else None

    def holder(self, key: str) -> Record | None:
        """Return the job that has a unique key now."""
        rows = self._rows(self.sql.record_by_hold, key)
        return self.sql.record(rows[0]) if rows else None

    def by_key(self, key: str) -> Record | None:
        """Return the job with this idempotency key."""
        return self.holder(NAMED + key)

    # ------------------------------------------------------------------ batches

    def open_batch(self, batch: NewBatch) -> BatchRecord:
        """Store a new batch."""
        self._check_open()
        with self.clients.lend() as connection:
            return batches.open_batch(connection, self.sql, batch)

    def change_batch(self, batch_id: int, decide: DecideBatch) -> BatchRecord | None:
        """Ask *decide* about a batch and write its answer."""
        self._check_open()
        with self.clients.lend() as connection:
            return batches.change_batch(connection, self.sql, batch_id, decide, self._enqueues.insert_on)

    def batches(
        self, ids: Collection[int] | None = None, *, limit: int = 50, before: int | None = None
    ) -> list[BatchRecord]:
        """Return these batches, or the newest first."""
        self._check_open()
        with self.clients.lend() as connection:
            return batches.find(connection, self.sql, ids, limit, before)

    def ripe(self, limit: int) -> list[int]:
        """Return batches about which something is to be decided."""
        return [row[0] for row in self._rows(self.sql.ripe, limit)]

    # ------------------------------------------------------------------ schedules

    def change_schedule(self, name: str, decide: DecideSchedule) -> ScheduleChanged:
        """Ask *decide* about a schedule and write its answer."""
        self._check_open()
        with self.clients.lend() as connection:
            return schedules.change(connection, self.sql, name, decide, self._insert_later)

    def _insert_later(self, connection: Connection, jobs: Sequence[NewJob]) -> list[Record]:
        """Store jobs in a transaction that goes on: so the ring must not hush those of others meanwhile."""
        return run(connection, insertion(self.sql, jobs, self._store))

    def schedules(self, names: Collection[str] | None = None) -> list[ScheduleRecord]:
        """Return these schedules, or all, by name."""
        self._check_open()
        with self.clients.lend() as connection:
            return schedules.find(connection, self.sql, names)

    def ticks(self, name: str, limit: int, before: int | None = None) -> list[TickRecord]:
        """Return rows of a schedule's history, the newest first."""
        self._check_open()
        below = 1 << 62 if before is None else before
        return [schedules.tick(row) for row in self._rows(self.sql.ticks, name, below, limit)]

    # ------------------------------------------------------------------ what handlers tell

    def note(self, notes: Sequence[Note]) -> list[tuple[int, int]]:
        """Keep progress and log lines of those whose lease is live."""
        with self._pump.lend() as connection:
            rows = connection.again(self.sql.note, (spelt(notes), LINES))
        return [(notes[place - 1].job_id, notes[place - 1].lease) for (place,) in rows]

    def lines(self, job_id: int, after: int = 0) -> list[tuple[int, float, str]]:
        """Return a job's log after a line."""
        return self._rows(self.sql.lines, job_id, after)

    def publish(self, messages: Sequence[bytes]) -> None:
        """Hand messages to all who listen now."""
        if messages:
            with self._pump.lend() as connection:
                connection.execute(self.sql.publish, (self.sql.news, ears.pieces(messages)))

    def subscribe(self) -> ears.Ear:
        """Listen to what is published."""
        self._check_open()
        return ears.Ear(self._listen_connector, self.sql, self.clients)
