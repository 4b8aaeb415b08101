"""What a worker has in hand: claims on their way to a lane, and what runs. Used by the pump's thread only.

A claim starts at once, with three exceptions: one that comes too late to be run is settled instead; a job on its last
crash waits until the process is empty, and runs alone; and a job of a chunk waits for the others of its call.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from typing import TYPE_CHECKING

import msgspec

from windlass import ending, lifecycle
from windlass.worker.chunks import ChunkExecution, Gatherings, members_of
from windlass.worker.execution import NO_ROOM, Execution

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from windlass.app import Windlass
    from windlass.job import Record
    from windlass.lifecycle import Transition
    from windlass.task import AnyTask
    from windlass.worker.lanes import Lane
    from windlass.worker.scribe import Scribe
    from windlass.worker.stopper import Stopper
    from windlass.worker.teller import Teller

log = logging.getLogger(__name__)


class Roster:
    """Who runs, and who is about to."""

    def __init__(
        self,
        app: Windlass,
        *,
        stopping: threading.Event,
        stopper: Stopper,
        scribe: Scribe,
        teller: Teller,
        settle: Callable[[Record, Transition], None],
        finished: Callable[[Sequence[Execution]], None],
    ) -> None:
        self._app = app
        self._stopping = stopping
        self._stopper = stopper
        self._scribe = scribe
        self._teller = teller
        self._settle = settle
        self._finished = finished
        self.lanes: Mapping[str, Lane] = {}
        self.running: dict[int, Execution] = {}
        """What runs, by lease: a job that was lost and came back may run here twice, the first time in vain."""
        self.gatherings = Gatherings()
        self._spare = 0
        """Jobs that share a slot with another: all of a chunk but one."""
        self._alone: deque[Record] = deque()
        self._lonely: Execution | None = None

    # ------------------------------------------------------------------ what there is

    @property
    def busy(self) -> int:
        """Slots that are taken."""
        return len(self.running) - self._spare + len(self.gatherings)

    @property
    def closed(self) -> bool:
        """Whether nothing may start beside the job that runs alone, or is to."""
        return bool(self._alone) or self._lonely is not None

    @property
    def held(self) -> list[Record]:
        """Claims that have not reached their handlers."""
        return [*self._alone, *self.gatherings.records]

    def by_queue(self) -> Mapping[str, int]:
        """Return how many slots are taken, by queue."""
        slots = {id(execution.chunk or execution): execution.record.queue for execution in self.running.values()}
        return Counter([*slots.values(), *self.gatherings.queues()])

    # ------------------------------------------------------------------ in

    def take_in(self, claims: Sequence[Record]) -> None:
        """Start claims, or keep them for later."""
        ready = []
        for record in claims:
            if record.started_at is None:
                self._alone.append(record)
            else:
                ready.append(record)
        if ready:
            self._launch(ready)

    def next_alone(self) -> list[Record]:
        """Take out the job on its last crash, once the process is empty."""
        return [self._alone.popleft()] if self._alone and not self.running and not self.gatherings else []

    def put_back(self, records: Iterable[Record]) -> None:
        """Keep jobs that could not start after all."""
        self._alone.extendleft(records)

    def start_alone(self, record: Record, now: float) -> None:
        """Start a job with no neighbours; its start is stored."""
        self._launch([msgspec.structs.replace(record, attempt=record.attempt + 1, started_at=now)], alone=True)
        self._lonely = self.running.get(record.lease)

    def start_complete(self) -> None:
        """Start the chunks that have waited long enough."""
        for gathering in self.gatherings.complete():
            self._enter(gathering.task.lane, [self._chunk(gathering.task, gathering.records)])

    def _launch(self, records: Sequence[Record], *, alone: bool = False) -> None:
        by_lane: dict[str, list[Execution]] = {}
        for record in records:
            task = self._app.find_task(record.task)
            if task is None:  # unregistered since the names were sent
                self._settle(record, lifecycle.release(record))
            elif record.terms is not None and (refused := ending.refusal(record, self._app.driver.now())) is not None:
                self._settle(record, refused)
            elif (execution := self._execution(task, record, alone=alone)) is not None:
                by_lane.setdefault(task.lane, []).append(execution)
        for lane, executions in by_lane.items():
            self._enter(lane, executions)

    def _execution(self, task: AnyTask, record: Record, *, alone: bool) -> Execution | None:
        """Return what is to run now; ``None``: the job waits for others."""
        if task.chunk is None:
            execution = self.running[record.lease] = Execution(self._app, task, record, self._stopping, self._scribe)
            self._stopper.limit(execution, len(self.running))
            return execution
        if alone:
            return self._chunk(task, [record])
        full = self.gatherings.add(task, record)
        return None if full is None else self._chunk(task, full.records)

    def _chunk(self, task: AnyTask, records: Sequence[Record]) -> ChunkExecution:
        chunk = ChunkExecution(self._app, task, records, self._stopping, self._scribe)
        self.running.update((member.record.lease, member) for member in chunk.members)
        self._spare += len(chunk.members) - 1
        self._stopper.limit(chunk, len(self.running))
        return chunk

    def _enter(self, lane: str, executions: Sequence[Execution]) -> None:
        self._teller.started(members_of(executions))
        try:
            self.lanes[lane].start(executions)
        except Exception:  # no thread, memory or file descriptor left: the jobs are not to blame
            log.exception("the %s lane cannot start; its jobs are given back", lane)
            for execution in executions:
                execution.give_back(NO_ROOM)
            self._finished(executions)

    # ------------------------------------------------------------------ out

    def remove(self, execution: Execution) -> bool:
        """Forget one that has ended; False: it was abandoned before, and its handler has ended only now."""
        record = execution.record
        if self.running.get(record.lease) is not execution:
            return False
        del self.running[record.lease]
        if execution.chunk is not None:
            execution.chunk.left -= 1
            self._spare -= execution.chunk.left > 0
        if self._lonely is execution:
            self._lonely = None
        self._stopper.stuck.pop(record.id, None)
        return True

    def give_back_held(self) -> None:
        """Give back what has not reached its handler."""
        for record in self.drop_held():
            self.give_back(record)

    def drop_held(self) -> list[Record]:
        """Forget what has not reached its handler."""
        held = self.held
        self._alone.clear()
        self.gatherings.clear()
        return held

    def give_back(self, record: Record) -> None:
        """Give back a claim that no handler has seen, as if it had not been."""
        attempt = record.attempt - (record.started_at is not None)
        unstarted = msgspec.structs.replace(record, started_at=None, attempt=attempt)
        self._settle(unstarted, lifecycle.release(unstarted))

    def signalled(self, lease: int, *, cancel: bool) -> None:
        """Let go of a job that has not reached its handler: it was cancelled, or its lease is lost."""
        if not cancel:
            self._alone = deque(record for record in self._alone if record.lease != lease)
        gathered = self.gatherings.remove(lease)
        if gathered is not None and cancel:
            self._settle(gathered, lifecycle.cancelled(gathered))
