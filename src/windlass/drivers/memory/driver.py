"""``MemoryDriver``: the Driver Protocol under one lock.

Nothing here blocks for long: every method takes the lock, moves entries between the places that :mod:`.store` keeps,
and rings after the lock is free.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, TypeVar

import msgspec

from windlass.drivers.apart import Apart
from windlass.drivers.base import Capabilities, Changed, Filter, Finding, PastAttempt, Tally, Turn, Turned, Worker
from windlass.drivers.memory.bell import MemoryBell
from windlass.drivers.memory.hearing import Listeners, MemorySubscription
from windlass.drivers.memory.reads import expected, matches, source
from windlass.drivers.memory.store import Store
from windlass.drivers.memory.watching import Watching
from windlass.errors import ClosedError
from windlass.job import NAMED

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from windlass.drivers.base import BatchRecord, Decide, DecideBatch, NewBatch, Note, Passage, Signal
    from windlass.drivers.ticking import DecideSchedule, ScheduleChanged, ScheduleRecord, TickRecord
    from windlass.job import Gate, NewJob, Record, Status

T = TypeVar("T")

PULSE_KEPT = 3600
WORKERS_KEPT = 3600.0
_ALIVE = ("running", "stopping")


class MemoryDriver(Watching, Apart):
    """Jobs in this process, gone when it ends."""

    name = "memory"
    capabilities = Capabilities(durable=False, shared=False, transactions=False, atomic_bulk=True, one_machine=True)

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        super().__init__()
        self._clock = clock
        self._shift = 0.0
        self._lock = threading.RLock()
        self._store = Store()
        self._workers: dict[str, Worker] = {}
        self._bells: list[MemoryBell] = []
        self._closed = False
        self._listeners = Listeners()

    # ------------------------------------------------------------------ life

    def open(self) -> None:
        """Begin, or begin again: what was stored is still there."""
        self._closed = False

    def close(self) -> None:
        """Refuse everything until opened again."""
        self._closed = True

    def now(self) -> float:
        """Return this machine's clock and the test offset."""
        return self._clock() + self._shift

    def shift(self, seconds: float) -> None:
        """Move the clock forward."""
        with self._lock:
            self._shift += seconds
        self._ring()

    def bell(self) -> MemoryBell:
        """Return a new bell."""
        bell = MemoryBell(self._mute)
        with self._lock:
            self._bells = [*self._bells, bell]
        return bell

    def _mute(self, bell: MemoryBell) -> None:
        with self._lock:
            self._bells = [other for other in self._bells if other is not bell]

    def _ring(self) -> None:
        for bell in self._bells:
            bell.ring()

    def _write(self, operation: Callable[[Store, float], T]) -> T:
        """Run *operation* under the lock; ring if it made work or signals."""
        with self._lock:
            if self._closed:
                raise ClosedError
            store = self._store
            result = operation(store, self._clock() + self._shift)
            wake, store.wake = store.wake, False
        if wake:
            self._ring()
        return result

    # ------------------------------------------------------------------ the hot path

    def insert(self, jobs: Sequence[NewJob]) -> list[Record]:
        """Store new jobs, all or none."""
        return self._write(lambda store, now: store.insert(jobs, now))

    def exchange(self, turn: Turn) -> Turned:
        """Settle, start, promote, claim."""

        def take_turn(store: Store, now: float) -> Turned:
            refused = store.settle(turn.settlements, now)
            if turn.starting:
                refused += store.start(turn.starting, now)
            store.promote(now)
            worker = self._workers.get(turn.worker)
            known = worker is None or worker.status != "lost"
            claims = store.claim(turn, now) if known and turn.limit > 0 else []
            signals: list[Signal] = store.mail.pop(turn.worker, []) if store.mail else []
            return Turned(
                now=now,
                claims=claims,
                refused=refused,
                signals=signals,
                due=store.due(),
                known=known,
                ripe=list(store.batches.ripe),
                heard=bool(self._listeners),
                stamp=store.schedules.stamp,
            )

        return self._write(take_turn)

    def extend(self, record: Record, seconds: float) -> bool:
        """Move the deadline of a claim made by hand."""

        def write(store: Store, now: float) -> bool:
            entry = store.running.get(record.id)
            if entry is None or entry.lease != record.lease:
                return False
            entry.deadline = now + seconds
            return True

        return self._write(write)

    # ------------------------------------------------------------------ gates

    def set_gate(self, gate: Gate, *, pinned: bool) -> None:
        """Make or change a gate."""

        def write(store: Store, now: float) -> None:
            store.gates.set(gate, now, store.running.values(), pinned=pinned)
            store.wake = True

        self._write(write)

    def drop_gate(self, key: str) -> bool:
        """Forget what was set."""

        def write(store: Store, now: float) -> bool:
            store.wake = True
            return store.gates.drop(key, now)

        return self._write(write)

    def passages(self, keys: Collection[str] | None = None) -> list[Passage]:
        """Return the gates that are known."""
        return self._write(lambda store, _: store.gates.passages(keys))

    def holders(self, key: str, limit: int) -> list[int]:
        """Return who runs behind a limit."""
        return self._write(lambda store, _: store.gates.holders(key)[:limit])

    def blocked_by(self, job_id: int) -> str | None:
        """Return the gate that a pending job waits before."""

        def read(store: Store, _: float) -> str | None:
            entry = store.jobs.get(job_id)
            return None if entry is None else entry.blocked

        return self._write(read)

    def holder(self, key: str) -> Record | None:
        """Return the job that has a unique key now."""

        def read(store: Store, now: float) -> Record | None:
            entry = store.holds.holder(key, now)
            return None if entry is None else entry.record()

        return self._write(read)

    # ------------------------------------------------------------------ batches

    def open_batch(self, batch: NewBatch) -> BatchRecord:
        """Store a new batch."""
        return self._write(lambda store, now: store.batches.open(batch, now))

    def change_batch(self, batch_id: int, decide: DecideBatch) -> BatchRecord | None:
        """Ask *decide* about a batch and write its answer."""

        def write(store: Store, now: float) -> BatchRecord | None:
            batch, jobs = store.batches.change(batch_id, decide, now)
            if jobs:
                store.insert(jobs, now)
            return batch

        return self._write(write)

    def batches(
        self, ids: Collection[int] | None = None, *, limit: int = 50, before: int | None = None
    ) -> list[BatchRecord]:
        """Return these batches, or the newest first."""
        return self._write(lambda store, _: store.batches.find(ids, limit, before))

    def ripe(self, limit: int) -> list[int]:
        """Return batches about which something is to be decided."""
        return self._write(lambda store, _: list(store.batches.ripe)[:limit])

    # ------------------------------------------------------------------ schedules

    def change_schedule(self, name: str, decide: DecideSchedule) -> ScheduleChanged:
        """Ask *decide* about a schedule and write its answer."""
        return self._write(lambda store, now: store.schedules.change(store, name, decide, now))

    def schedules(self, names: Collection[str] | None = None) -> list[ScheduleRecord]:
        """Return these schedules, or all, by name."""
        return self._write(lambda store, _: store.schedules.find(names))

    def ticks(self, name: str, limit: int, before: int | None = None) -> list[TickRecord]:
        """Return rows of a schedule's history, the newest first."""
        return self._write(lambda store, _: store.schedules.ticks(name, limit, before))

    # ------------------------------------------------------------------ what handlers tell

    def note(self, notes: Sequence[Note]) -> list[tuple[int, int]]:
        """Keep progress and log lines of those whose lease is live."""
        return self._write(lambda store, _: store.note(notes))

    def lines(self, job_id: int, after: int = 0) -> list[tuple[int, float, str]]:
        """Return a job's log after a line."""

        def read(store: Store, _: float) -> list[tuple[int, float, str]]:
            entry = store.jobs.get(job_id)
            return [line for line in (entry.lines or ()) if line[0] > after] if entry is not None else []

        return self._write(read)

    def publish(self, messages: Sequence[bytes]) -> None:
        """Hand messages to all who listen now."""
        self._listeners.publish(messages)

    def subscribe(self) -> MemorySubscription:
        """Listen to what is published."""
        return self._listeners.add()

    # ------------------------------------------------------------------ workers

    def beat(self, worker: Worker) -> bool:
        """Write the heartbeat."""

        def write(_: Store, now: float) -> bool:
            known = self._workers.get(worker.id)
            if known is not None and known.status not in _ALIVE:
                return False
            self._workers[worker.id] = msgspec.structs.replace(worker, beat_at=now)
            return True

        return self._write(write)

    def retire(self, worker_id: str) -> None:
        """Mark the worker as stopped; wake the others, who may want its jobs."""

        def write(store: Store, _: float) -> None:
            worker = self._workers.get(worker_id)
            if worker is not None and worker.status in _ALIVE:
                self._workers[worker_id] = msgspec.structs.replace(worker, status="stopped")
                store.wake = True

        self._write(write)

    def workers(self) -> list[Worker]:
        """Return the workers, by id."""
        return self._write(
            lambda _, now: sorted(
                (w for w in self._workers.values() if w.status in _ALIVE or w.beat_at >= now - WORKERS_KEPT),
                key=lambda worker: worker.id,
            )
        )

    def bury(self, gone: Sequence[str] = (), *, overdue: bool = True) -> list[str]:
        """Declare workers lost."""

        def write(_: Store, now: float) -> list[str]:
            named = set(gone)
            lost = sorted(
                worker.id
                for worker in self._workers.values()
                if worker.status in _ALIVE
                and (worker.id in named or (overdue and worker.beat_at + worker.lost_after < now))
            )
            for worker_id in lost:
                self._workers[worker_id] = msgspec.structs.replace(self._workers[worker_id], status="lost")
            return lost

        return self._write(write)

    def orphans(self, limit: int) -> list[Record]:
        """Return running jobs that nobody runs any more; reads what is running and no more."""

        def read(store: Store, now: float) -> list[Record]:
            alive = {worker.id for worker in self._workers.values() if worker.status in _ALIVE}
            found: list[Record] = []
            for entry in store.running.values():
                if len(found) >= limit:
                    break
                if entry.deadline <= now if entry.deadline is not None else entry.holder not in alive:
                    found.append(entry.record())
            return found

        return self._write(read)

    # ------------------------------------------------------------------ managing

    def change(self, ids: Collection[int], decide: Decide) -> list[Changed]:
        """Decide about each job and write the answers."""
        return self._write(lambda store, now: store.change(ids, decide, now))

    def pause(self, kind: str, name: str, paused: bool) -> None:  # noqa: FBT001 - the Protocol's spelling
        """Pause or resume a queue or task."""

        def write(store: Store, _: float) -> None:
            if paused:
                store.paused.add((kind, name))
            else:
                store.paused.discard((kind, name))
            store.wake = True

        self._write(write)

    def pauses(self) -> set[tuple[str, str]]:
        """Return what is paused."""
        return self._write(lambda store, _: set(store.paused))

    def purge(self, older_than: Mapping[Status, float], limit: int, *, queue: str | None = None) -> int:
        """Delete finished jobs."""
        return self._write(lambda store, now: store.purge(older_than, limit, queue, now))

    def tidy(self) -> None:
        """Forget old rates, workers long gone and the mail of those that nobody will fetch."""

        def write(store: Store, now: float) -> None:
            for key in [key for key in store.pulse if key[0] < now - PULSE_KEPT]:
                del store.pulse[key]
            holders = {entry.holder for entry in store.running.values()}
            for worker in list(self._workers.values()):
                old = worker.status not in _ALIVE and worker.beat_at < now - WORKERS_KEPT
                if old and worker.id not in holders:
                    del self._workers[worker.id]
            for worker_id in [w for w in store.mail if w not in self._workers]:
                del store.mail[worker_id]

        self._write(write)

    # ------------------------------------------------------------------ reading

    def get(self, job_id: int) -> Record | None:
        """Return a job."""

        def read(store: Store, _: float) -> Record | None:
            entry = store.jobs.get(job_id)
            return None if entry is None else entry.record()

        return self._write(read)

    def by_key(self, key: str) -> Record | None:
        """Return the job with this idempotency key."""
        return self.holder(NAMED + key)

    def find(self, which: Filter, *, limit: int, offset: int = 0, before: int | None = None) -> list[Record]:
        """Return matching jobs, newest first."""

        def read(store: Store, _: float) -> list[Record]:
            found: list[Record] = []
            skip = offset
            if limit <= 0:
                return found
            for entry in source(store, which):
                if (before is not None and entry.id >= before) or not matches(entry, which):
                    continue
                if skip:
                    skip -= 1
                    continue
                found.append(entry.record())
                if len(found) == limit:
                    break
            return found

        return self._write(read)

    def count(self, which: Filter, *, most: int) -> int:
        """Count matching jobs: from the counters, or one by one up to *most* + 1."""

        def read(store: Store, _: float) -> int:
            if which == Filter(statuses=which.statuses, queue=which.queue, task=which.task):
                return expected(store, which)
            found = 0
            for entry in source(store, which):
                found += matches(entry, which)
                if found > most:
                    break
            return found

        return self._write(read)

    def history(self, job_id: int) -> list[PastAttempt]:
        """Return the attempts of a job."""

        def read(store: Store, _: float) -> list[PastAttempt]:
            entry = store.jobs.get(job_id)
            return list(entry.past or ()) if entry is not None else []

        return self._write(read)

    def tallies(self) -> list[Tally]:
        """Return the maintained counters."""
        return self._write(
            lambda store, _: [
                Tally(queue=s.queue, task=s.task, counts=dict(s.counts), totals=dict(s.totals))
                for s in store.streams.values()
            ]
        )

    def oldest(self, queue: str) -> float | None:
        """Return since when the first of every line has waited, at most."""

        def read(store: Store, _: float) -> float | None:
            lines = (line for s in store.streams.values() if s.queue == queue for line in s.lines.values())
            return min((head.run_at for line in lines if (head := line.head()) is not None), default=None)

        return self._write(read)

    def rates(self, since: float, queue: str | None = None) -> list[tuple[int, int, int]]:
        """Return what ended in each second."""

        def read(store: Store, _: float) -> list[tuple[int, int, int]]:
            sums: dict[int, list[int]] = {}
            for (second, in_queue), (processed, failed) in store.pulse.items():
                if second >= int(since) and (queue is None or queue == in_queue):
                    total = sums.setdefault(second, [0, 0])
                    total[0] += processed
                    total[1] += failed
            return [(second, processed, failed) for second, (processed, failed) in sorted(sums.items())]

        return self._write(read)

    # ------------------------------------------------------------------ looking after it

    def migrate(self) -> list[str]:
        """Do nothing: there is no schema."""
        return []

    def script(self) -> str:
        """Return nothing: there is no schema."""
        return ""

    def diagnose(self) -> list[Finding]:
        """Say what is well and what is not."""

        def read(store: Store, now: float) -> list[Finding]:
            lost = [worker.id for worker in self._workers.values() if worker.status == "lost"]
            due = store.next_due()
            late = 0.0 if due is None else max(0.0, now - due)
            return [
                Finding(
                    name="durability",
                    value="none",
                    level="note",
                    advice="jobs are gone when this process ends; use sqlite:/// to keep them",
                ),
                Finding(name="jobs", value=str(len(store.jobs))),
                Finding(name="running", value=str(len(store.running))),
                Finding(name="overdue timers", value=f"{late:.1f} s", level="warning" if late > 60 else "ok"),
                Finding(name="lost workers", value=str(len(lost)), level="warning" if lost else "ok"),
            ]

        return self._write(read)
