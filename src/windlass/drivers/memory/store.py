"""The places of jobs in memory and the moves between them; the driver's lock is held around every call.

Role: what ``tx.py`` is to SQLite. Each move takes a job from one place to another and counts it in the same breath, so
that under the lock the counters are always right.

Places: pending jobs stand in lines, scheduled and retrying ones in the heap of timers, running ones in a dict, finished
ones in heaps by their end. Heaps are cleaned lazily: a place is dead when its job has moved on.
"""

from __future__ import annotations

from collections import defaultdict
from heapq import heapify, heappop, heappush, heapreplace
from typing import TYPE_CHECKING

import msgspec

from windlass.drivers.base import LINES, Changed, PastAttempt, Signal
from windlass.drivers.memory.batches import Batches
from windlass.drivers.memory.entry import STALE, Entry, Line, Stream
from windlass.drivers.memory.gates import Gates
from windlass.drivers.memory.holds import Holds
from windlass.drivers.memory.schedules import Schedules
from windlass.errors import JobError, UniqueConflictError
from windlass.job import Flow, Record, Status
from windlass.lifecycle import due as due_
from windlass.lifecycle import gives_way, superseded, totals
from windlass.limits import fair_key

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from windlass.drivers.base import Decide, Note, Turn
    from windlass.job import NewJob
    from windlass.lifecycle import Settlement, Transition, Update

PROMOTE = 1000
"""Due jobs made available in one turn at most, so that a turn stays short."""

_encode = msgspec.json.encode
# Looking an attribute up in an Enum class costs as much as a function call.
_SCHEDULED, _PENDING, _RUNNING, _RETRYING = Status.SCHEDULED, Status.PENDING, Status.RUNNING, Status.RETRYING
_COMPLETED = Status.COMPLETED


class Store:
    """Jobs, their places and their counters."""

    def __init__(self) -> None:
        self.jobs: dict[int, Entry] = {}
        self.running: dict[int, Entry] = {}
        self.streams: dict[tuple[str, str], Stream] = {}
        self.by_task: dict[str, list[Stream]] = {}
        self.paused: set[tuple[str, str]] = set()
        self.mail: dict[str, list[Signal]] = {}
        self.pulse: defaultdict[tuple[int, str], list[int]] = defaultdict(lambda: [0, 0])
        self.holds = Holds()
        self.gates = Gates()
        self.batches = Batches()
        self.schedules = Schedules()
        self.wake = False
        """Whether work or signals have appeared since the driver last rang."""
        self._timers: list[tuple[float, int, Entry]] = []
        self._timers_stale = 0
        self._job = self._seq = self._lease = 0

    # ------------------------------------------------------------------ enqueue

    def insert(self, jobs: Sequence[NewJob], now: float) -> list[Record]:
        """Store new jobs; everything that could fail comes before the first write."""
        if any(hold.strict for job in jobs for hold in job.holds):
            self.holds.check(jobs, now)
        members = [job for job in jobs if job.batch_id is not None]
        if members:
            self.batches.check(members)
        return self._insert(jobs, now)

    def _insert(self, jobs: Sequence[NewJob], now: float) -> list[Record]:
        tags = [_encode(job.tags).decode() if job.tags else None for job in jobs]
        records = []
        for job, tag in zip(jobs, tags, strict=True):
            flow = job.flow() if job.holds or job.gates or job.idempotency_key is not None else None
            if flow is not None and (rival := self._rival(flow, now)) is not None:
                records.append(msgspec.structs.replace(rival.record(), found=True))
                continue
            run_at = job.run_at if job.run_at is not None else now + job.delay
            stream = self.streams.get((job.queue, job.task)) or self._stream(job.queue, job.task)
            self._job += 1
            if run_at > now:
                entry = Entry(self._job, job, stream, _SCHEDULED, run_at, now, job.max_attempts, tag)
                heappush(self._timers, (run_at, entry.id, entry))
            else:
                self._seq += 1
                entry = Entry(self._job, job, stream, _PENDING, now, now, job.max_attempts, tag, self._seq)
            if flow is not None:
                entry.flow, entry.holds, entry.fair = _encode(flow), flow.holds, fair_key(flow.gates)
                self.holds.move(entry, None, entry.status, now)
            if entry.status is _PENDING:
                self._queue(entry)
            self.jobs[entry.id] = entry
            if job.batch_id is not None:
                self.batches.move(job.batch_id, None, entry.status)
            stream.counts[entry.status] += 1
            stream.totals["enqueued"] += 1
            records.append(entry.record())
        # A job that becomes due later must wake sleepers too: they sleep until the next due time that they know.
        self.wake = True
        return records

    def _rival(self, flow: Flow, now: float) -> Entry | None:
        """Return a job that has a key of a new one, which is not stored then."""
        for hold in flow.holds:
            rival = self.holds.holder(hold.key, now)
            if rival is not None:
                return rival
        return None

    def _stream(self, queue: str, task: str) -> Stream:
        stream = self.streams[queue, task] = Stream(queue, task)
        self.by_task.setdefault(task, []).append(stream)
        return stream

    def _queue(self, entry: Entry) -> None:
        lines, priority = entry.stream.lines, entry.new.priority
        line = lines.get(priority)
        if line is None:
            line = lines[priority] = Line(priority)
        line.add(entry)

    # ------------------------------------------------------------------ the turn

    def settle(self, settlements: Sequence[Settlement], now: float) -> list[tuple[int, int]]:
        """Write the end of leases; return those that were not live."""
        refused = []
        for settlement in settlements:
            record = settlement.record
            entry = self.running.get(record.id)
            if entry is None or entry.lease != record.lease:
                refused.append((record.id, record.lease))
                continue
            if entry.lease_started is None:
                entry.lease_started = record.started_at  # its start mark was lost on the way
            if settlement.then:
                self._insert(settlement.then, now)
            self._move(entry, settlement.transition, finished_at=settlement.finished_at, now=now)
        return refused

    def start(self, records: Sequence[Record], now: float) -> list[tuple[int, int]]:
        """Mark prefetched jobs as started; return those whose lease is not live. Twice is once."""
        refused = []
        for record in records:
            entry = self.running.get(record.id)
            if entry is None or entry.lease != record.lease or entry.cancel:
                refused.append((record.id, record.lease))
            elif entry.lease_started is None:
                entry.lease_started = now
                entry.attempt += 1
        return refused

    def promote(self, now: float) -> None:
        """Make due jobs available, at most ``PROMOTE``, and let back whoever a gate has room for."""
        promoted = 0
        while (due := self.next_due()) is not None and due <= now and promoted < PROMOTE:
            entry = self._timers[0][2]
            promoted += 1
            self.wake = True
            if entry.holds:
                record = entry.record()
                transition = self._let(entry, record, due_(record), now)
                if transition.status is not _PENDING:
                    self._move(entry, transition, finished_at=now, now=now)
                    continue
                self.holds.move(entry, entry.status, _PENDING, now)
            heappop(self._timers)
            counts = entry.stream.counts
            counts[entry.status] -= 1
            counts[_PENDING] += 1
            entry.status = _PENDING
            self._seq += 1
            entry.seq = self._seq
            self._queue(entry)
        self.gates.admit(now, self._queue)

    def due(self) -> float | None:
        """Return when a turn has something to do though nothing happens: a timer, or a rate's next token."""
        return min((at for at in (self.next_due(), self.gates.next_look()) if at is not None), default=None)

    def next_due(self) -> float | None:
        """Return when the first timer is due; drop the stale ones before it."""
        timers = self._timers
        while timers:
            run_at, _, entry = timers[0]
            if entry.run_at == run_at and (entry.status is _SCHEDULED or entry.status is _RETRYING):
                return run_at
            heappop(timers)
            self._timers_stale = max(0, self._timers_stale - 1)
        return None

    def claim(self, turn: Turn, now: float) -> list[Record]:
        """Lease the best pending jobs, part by part of the demand."""
        claims: list[Record] = []
        for part in turn.parts():
            self._claim_part(turn, part.queues, min(turn.limit, len(claims) + part.limit), claims, now)
        return claims

    def _claim_part(
        self, turn: Turn, queues: tuple[str, ...] | None, limit: int, claims: list[Record], now: float
    ) -> None:
        """Merge the heads of the lines that this worker may take from."""
        heads = self._heads(turn, queues)
        heapify(heads)
        deadline = None if turn.deadline is None else now + turn.deadline
        while heads and len(claims) < limit:
            _, _, entry, line, stream = heads[0]
            wide = self.gates.wide(stream.queue, stream.task)
            shut = next((barrier for barrier in wide if not barrier.room(now)), None)
            if shut is not None:  # the whole stream is passed over, as if it were paused
                self.gates.pass_over(shut, now)
                heappop(heads)
                continue
            line.take(entry)
            own = self.gates.own(entry) if entry.new.gates else []
            shut = next((barrier for barrier in own if not barrier.room(now)), None)
            if shut is not None:
                self.gates.block(entry, shut, now)
            else:
                if wide or own:
                    self.gates.enter(entry, [*wide, *own], now)
                claims.append(self._lease_to(entry, turn, deadline, now, started=len(claims) < turn.start))
            following = line.head()
            if following is not None:
                heapreplace(heads, (-line.priority, following.seq, following, line, stream))
            else:
                heappop(heads)
                del stream.lines[line.priority]

    def _lease_to(self, entry: Entry, turn: Turn, deadline: float | None, now: float, *, started: bool) -> Record:
        self._lease += 1
        entry.lease = self._lease
        entry.holder = turn.worker
        entry.deadline = deadline
        if started and entry.crashes < turn.cautious:
            entry.lease_started = now
            entry.attempt += 1
        entry.status = _RUNNING
        self.running[entry.id] = entry
        if entry.holds:
            self.holds.move(entry, _PENDING, _RUNNING, now)
        entry.stream.counts[_PENDING] -= 1
        entry.stream.counts[_RUNNING] += 1
        return entry.record()

    def _heads(self, turn: Turn, queues: tuple[str, ...] | None) -> list[tuple[int, int, Entry, Line, Stream]]:
        """Return the first job of every line that *turn* may take from; ``seq`` is unique, so order ends there."""
        paused = self.paused
        heads = []
        for task in dict.fromkeys(turn.tasks):
            if paused and ("task", task) in paused:
                continue
            for stream in self.by_task.get(task, ()):
                if queues is not None and stream.queue not in queues:
                    continue
                if paused and ("queue", stream.queue) in paused:
                    continue
                for line in list(stream.lines.values()):
                    entry = line.head()
                    if entry is None:
                        del stream.lines[line.priority]
                    else:
                        heads.append((-line.priority, entry.seq, entry, line, stream))
        return heads

    # ------------------------------------------------------------------ by hand

    def change(self, ids: Collection[int], decide: Decide, now: float) -> list[Changed]:
        """Decide about each job and write the answer."""
        changed = []
        for job_id in ids:
            entry = self.jobs.get(job_id)
            if entry is None:
                changed.append(Changed(job_id, None, None))
                continue
            record = entry.record()
            try:
                transition = decide(record, now)
            except JobError as error:
                changed.append(Changed(job_id, record, None, error))
                continue
            rival = self.holds.rival(entry, record.status, transition.status, now)
            if rival is not None and gives_way(transition):
                transition = superseded(transition, rival.id)
            elif rival is not None:
                changed.append(Changed(job_id, record, None, UniqueConflictError(rival.record())))
                continue
            self._apply(entry, record, transition, now)
            changed.append(Changed(job_id, record, transition))
        return changed

    def _apply(self, entry: Entry, record: Record, transition: Transition, now: float) -> None:
        self.wake = True
        if transition.request:
            if not entry.cancel:
                entry.cancel = True
                self._signal(record, cancel=True)
            return
        if record.status is _RUNNING:
            self._signal(record, cancel=False)
        if transition.status is None:
            self._leave(entry)
            self._forget(entry, now)
            return
        if transition.update is not None:
            self._update(entry, transition.update)
        if transition.extra_attempts:
            most = record.max_attempts
            entry.max_attempts = record.failures + 1 if most is None else most + transition.extra_attempts
        self._move(entry, transition, finished_at=now, now=now)

    @staticmethod
    def _update(entry: Entry, update: Update) -> None:
        entry.new = msgspec.structs.replace(
            entry.new, payload=update.payload, timeout=update.timeout, meta=update.meta, terms=update.terms
        )
        entry.max_attempts = update.max_attempts

    def _let(self, entry: Entry, record: Record, transition: Transition, now: float) -> Transition:
        """Return what the job becomes: cancelled, if another has the key that it would have to take."""
        rival = self.holds.rival(entry, record.status, transition.status, now)
        return transition if rival is None else superseded(transition, rival.id)

    def _signal(self, record: Record, *, cancel: bool) -> None:
        self.mail.setdefault(record.worker or "", []).append(Signal(record.id, record.lease, cancel))

    def note(self, notes: Sequence[Note]) -> list[tuple[int, int]]:
        """Keep progress and log lines; return those whose lease is not live."""
        refused = []
        for note in notes:
            entry = self.running.get(note.job_id)
            if entry is None or entry.lease != note.lease:
                refused.append((note.job_id, note.lease))
                continue
            if note.progress is not None:
                entry.progress = note.progress
            lines = entry.lines or []
            number = lines[-1][0] if lines else 0
            lines += [(number + place, at, text) for place, (at, text) in enumerate(note.lines, 1)]
            entry.lines = lines[-LINES:]
        return refused

    def purge(self, older_than: Mapping[Status, float], limit: int, queue: str | None, now: float) -> int:
        """Delete finished jobs, the oldest of each stream first."""
        deleted = 0
        for status, age in older_than.items():
            for stream in self.streams.values():
                if queue is not None and stream.queue != queue:
                    continue
                ended = stream.ended.get(status, [])
                while ended and ended[0][0] <= now - age and deleted < limit:
                    finished_at, job_id = heappop(ended)
                    entry = self.jobs.get(job_id)
                    if entry is not None and entry.status is status and entry.finished_at == finished_at:
                        self._forget(entry, now)
                        deleted += 1
        return deleted

    # ------------------------------------------------------------------ the moves

    def _move(self, entry: Entry, transition: Transition, *, finished_at: float, now: float) -> None:
        """Take a job out of its place and put it where *transition* says."""
        if entry.holds:
            transition = self._let(entry, entry.record(), transition, now)
            self.holds.move(entry, entry.status, transition.status, now)
        stream, before, status = entry.stream, entry.status, transition.status
        assert status is not None
        if before is _RUNNING:
            self._end_lease(entry, transition, finished_at)
            if entry.slots and self.gates.leave(entry, now):
                self.wake = True
        elif before is _PENDING and status is _PENDING and transition.keep_place:
            return  # it stands there already
        else:
            self._leave(entry)
        self._place(entry, transition, status, finished_at=finished_at, now=now, back=before is _RUNNING)
        if entry.new.batch_id is not None:
            self.batches.move(entry.new.batch_id, before, status)
        counts = stream.counts
        counts[before] -= 1
        counts[status] += 1
        self._count(stream, transition, now)
        if not transition.keep:
            self._forget(entry, now)

    def _place(
        self, entry: Entry, transition: Transition, status: Status, *, finished_at: float, now: float, back: bool
    ) -> None:
        """Put a job that has left its place into its new one; *back*: from running, so that it may keep its old one."""
        entry.status = status
        entry.attempt = transition.attempt
        entry.failures = transition.failures
        entry.crashes = transition.crashes
        if transition.error is not None:
            entry.error = transition.error
        if status is _PENDING:
            self.wake = True
            entry.finished_at = entry.result = None
            if not (transition.keep_place and back):
                self._seq += 1
                entry.seq = self._seq
                entry.run_at = now
            self._queue(entry)
        elif status is _SCHEDULED or status is _RETRYING:
            entry.finished_at = entry.result = None
            entry.run_at = now if transition.run_at is None else transition.run_at
            heappush(self._timers, (entry.run_at, entry.id, entry))
        else:
            entry.finished_at = finished_at
            entry.result = transition.result
            heappush(entry.stream.ended[status], (finished_at, entry.id))

    def _end_lease(self, entry: Entry, transition: Transition, finished_at: float) -> None:
        del self.running[entry.id]
        outcome = transition.outcome
        if outcome is not None:
            started_at, worker = entry.lease_started, entry.holder
            if entry.past is None:
                entry.past = []
            entry.past.append(
                PastAttempt(transition.attempt, worker, started_at, finished_at, outcome.value, transition.error)
            )
            entry.started_at, entry.worker = started_at, worker
        entry.lease = 0
        entry.holder = entry.lease_started = entry.deadline = None
        entry.cancel = False

    def _leave(self, entry: Entry) -> None:
        """Give up the place of a job that is not running; the heap it stood in is rebuilt when most of it is stale."""
        status, stream = entry.status, entry.stream
        if entry.blocked is not None:
            self.gates.unblock(entry)
        elif status is _PENDING:
            stream.lines[entry.new.priority].leave(entry)
        elif status is _SCHEDULED or status is _RETRYING:
            self._timers_stale += 1
            if self._timers_stale > STALE and self._timers_stale * 2 > len(self._timers):
                self._timers = [
                    item
                    for item in self._timers
                    if item[2] is not entry
                    and item[2].run_at == item[0]
                    and (item[2].status is _SCHEDULED or item[2].status is _RETRYING)
                ]
                heapify(self._timers)
                self._timers_stale = 0
        elif len(stream.ended[status]) > STALE + 2 * stream.counts[status]:
            stream.ended[status] = [
                (finished_at, job_id)
                for finished_at, job_id in stream.ended[status]
                if (other := self.jobs.get(job_id)) is not None
                and other.status is status
                and other.finished_at == finished_at
            ]
            heapify(stream.ended[status])

    def _count(self, stream: Stream, transition: Transition, now: float) -> None:
        for name in totals(transition):
            stream.totals[name] += 1
            if name == "processed":
                self.pulse[int(now), stream.queue][0] += 1
            elif name == "failed":
                self.pulse[int(now), stream.queue][1] += 1

    def _forget(self, entry: Entry, now: float) -> None:
        """Drop a job and its history; whatever still points at it is stale by its status."""
        if entry.holds:
            self.holds.move(entry, entry.status, None, now)
        self.batches.move(entry.new.batch_id, entry.status, None)
        entry.stream.counts[entry.status] -= 1
        del self.jobs[entry.id]
        entry.status = Status.CANCELLED
        entry.seq = 0
