"""What the SQLite driver does about limits, keys and batches, and with what handlers tell."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import msgspec

from windlass.drivers.sqlite import batches, gates, notes, schedules
from windlass.drivers.sqlite.database import Database
from windlass.drivers.sqlite.ears import KEPT, Ear, tell
from windlass.limits import FAIR

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from windlass.drivers.base import BatchRecord, DecideBatch, NewBatch, Note, Passage
    from windlass.drivers.sqlite.tx import Tx
    from windlass.drivers.ticking import DecideSchedule, ScheduleChanged, ScheduleRecord, TickRecord
    from windlass.job import Gate, Record


class Controls(Database):
    """Gates, batches, notes and listeners of one file."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._ears: weakref.WeakSet[Ear] = weakref.WeakSet()

    def now(self) -> float:
        """Return the store's time: this machine's clock and the test offset."""
        return self._clock() + self._shift

    # ------------------------------------------------------------------ gates

    def set_gate(self, gate: Gate, *, pinned: bool) -> None:
        """Make or change a gate; one that is as it should be costs a look."""
        for known in self.passages([gate.key]):
            if (known.pinned and not pinned) or (known.pinned == pinned and known.gate == gate):
                return

        def write(tx: Tx) -> None:
            tx.flush()
            tx.gates.set(gate, pinned=pinned)
            tx.wake()

        self._write(write)

    def drop_gate(self, key: str) -> bool:
        """Forget what was set."""

        def write(tx: Tx) -> bool:
            tx.flush()
            tx.wake()
            return tx.gates.drop(key)

        return self._write(write)

    def passages(self, keys: Collection[str] | None = None) -> list[Passage]:
        """Return the gates that are known."""
        with self._reading() as connection:
            return gates.passages(connection, self._sql, keys)

    def holders(self, key: str, limit: int) -> list[int]:
        """Return who runs behind a limit."""
        with self._reading() as connection:
            return [row[0] for row in connection.execute(self._sql.holders, (key, limit))]

    def blocked_by(self, job_id: int) -> str | None:
        """Return the gate that a pending job waits before."""
        with self._reading() as connection:
            row = connection.execute(self._sql.blocked_by, (job_id, f"{FAIR}*")).fetchone()
        return None if row is None else row[0]

    def holder(self, key: str) -> Record | None:
        """Return the job that has a unique key now."""
        with self._reading() as connection:
            row = connection.execute(self._sql.record_by_hold, (key, self.now())).fetchone()
        return None if row is None else self._sql.record(row)

    # ------------------------------------------------------------------ batches

    def open_batch(self, batch: NewBatch) -> BatchRecord:
        """Store a new batch."""
        return self._write(lambda tx: tx.batches.open(batch, tx.now))

    def change_batch(self, batch_id: int, decide: DecideBatch) -> BatchRecord | None:
        """Ask *decide* about a batch and write its answer."""

        def write(tx: Tx) -> BatchRecord | None:
            tx.flush()
            batch = tx.batches.get(batch_id)
            if batch is None:
                return None
            tx.batches.decided(batch_id)
            move = decide(batch, tx.now)
            if move is None:
                return batch
            batch = tx.batches.write(batch, move)
            if move.jobs:
                tx.insert(move.jobs)
            return batch

        return self._write(write)

    def batches(
        self, ids: Collection[int] | None = None, *, limit: int = 50, before: int | None = None
    ) -> list[BatchRecord]:
        """Return these batches, or the newest first."""
        with self._reading() as connection:
            if ids is not None:
                rows = connection.execute(self._sql.batches_of, (msgspec.json.encode(list(ids)).decode(),))
            else:
                rows = connection.execute(self._sql.batches, (1 << 62 if before is None else before, limit))
            return [batches.record(row) for row in rows]

    def ripe(self, limit: int) -> list[int]:
        """Return batches about which something is to be decided."""
        with self._reading() as connection:
            return [row[0] for row in connection.execute(self._sql.ripe, (limit,))]

    # ------------------------------------------------------------------ schedules

    def change_schedule(self, name: str, decide: DecideSchedule) -> ScheduleChanged:
        """Ask *decide* about a schedule and write its answer."""
        return self._write(lambda tx: schedules.change(tx, name, decide))

    def schedules(self, names: Collection[str] | None = None) -> list[ScheduleRecord]:
        """Return these schedules, or all, by name."""
        with self._reading() as connection:
            if names is not None:
                rows = connection.execute(self._sql.schedules_of, (msgspec.json.encode(list(names)).decode(),))
            else:
                rows = connection.execute(self._sql.schedules)
            return [schedules.record(row) for row in rows]

    def ticks(self, name: str, limit: int, before: int | None = None) -> list[TickRecord]:
        """Return rows of a schedule's history, the newest first."""
        with self._reading() as connection:
            rows = connection.execute(self._sql.ticks, (name, 1 << 62 if before is None else before, limit))
            return [schedules.tick(row) for row in rows]

    # ------------------------------------------------------------------ what handlers tell

    def note(self, what: Sequence[Note]) -> list[tuple[int, int]]:
        """Keep progress and log lines of those whose lease is live."""
        return self._write(lambda tx: notes.write(tx, what))

    def lines(self, job_id: int, after: int = 0) -> list[tuple[int, float, str]]:
        """Return a job's log after a line."""
        with self._reading() as connection:
            return connection.execute(self._sql.lines, (job_id, max(0, after))).fetchall()

    def publish(self, messages: Sequence[bytes]) -> None:
        """Hand messages to all who listen now."""
        if not messages:
            return
        with self._reading() as connection:
            addresses = [row[0] for row in connection.execute(self._sql.ears, (self.now(),))]
        tell(addresses, messages)

    def subscribe(self) -> Ear:
        """Listen to what is published."""
        ear = Ear(self._hear, self._unhear)
        self._ears.add(ear)
        return ear

    def _hear(self, address: str, still: Callable[[], bool]) -> None:
        """Write that somebody listens, if it *still* does when it is written."""
        self._write(lambda tx: tx.run(self._sql.put_ear, address, tx.now + KEPT) if still() else None)

    def _unhear(self, address: str) -> None:
        """Write that somebody has stopped."""
        if self._opened:
            self._write(lambda tx: tx.run(self._sql.drop_ear, address))

    def close(self) -> None:
        """Close every connection, and the ears."""
        for ear in list(self._ears):
            ear.close()
        super().close()
