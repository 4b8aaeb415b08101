"""Chunks in a worker: gathering their jobs, and one call for all of them.

Theory: the first job of a chunk comes as any job does, in its turn among all others, and takes the one slot that the
chunk will run in. Only then the store is asked for more jobs of that task and queue: at once, a few times while the
chunk may wait, and a last time before it starts. So nothing is held back for longer than ``wait``, no other task's turn
is taken, and a worker without a free slot gathers nothing.

Each job has an ``Execution`` of its own that decides its end by the usual rules; the call's end is told to all.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from windlass.context import Context
from windlass.errors import PayloadError
from windlass.worker.execution import Cause, Execution

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable, Sequence

    from windlass.app import Windlass
    from windlass.job import Record
    from windlass.notes import Scribe
    from windlass.task import AnyTask

LOOKS = 4
"""How often a chunk that waits asks for more jobs, after the first time."""
_SAME = 0.01
"""Seconds between time limits that count as one."""


class Gathering:
    """A chunk that is not complete yet."""

    def __init__(self, task: AnyTask, queue: str) -> None:
        assert task.chunk is not None
        now = time.monotonic()
        self.task = task
        self.queue = queue
        self.records: list[Record] = []
        self.until = now + task.chunk.wait
        self.ask_at = now
        self._every = task.chunk.wait / LOOKS

    @property
    def missing(self) -> int:
        """How many more jobs it has room for."""
        assert self.task.chunk is not None
        return max(0, self.task.chunk.most - len(self.records))

    def asked(self) -> None:
        """Note that the store was asked just now."""
        self.ask_at = min(self.until, time.monotonic() + self._every)


class Gatherings:
    """All chunks of a worker that are not complete yet; used by the pump's thread only."""

    def __init__(self) -> None:
        self._all: dict[tuple[str, str], Gathering] = {}

    def __len__(self) -> int:
        """How many slots they will take."""
        return len(self._all)

    @property
    def records(self) -> list[Record]:
        """All jobs in them."""
        return [record for gathering in self._all.values() for record in gathering.records]

    def queues(self) -> list[str]:
        """Whose slots they take."""
        return [queue for _, queue in self._all]

    def add(self, task: AnyTask, record: Record) -> Gathering | None:
        """Put a job where it belongs; return the chunk if it is full now, and forget it."""
        gathering = self._all.get((task.name, record.queue))
        if gathering is None:
            gathering = self._all[task.name, record.queue] = Gathering(task, record.queue)
        gathering.records.append(record)
        return None if gathering.missing else self._all.pop((task.name, record.queue))

    def remove(self, lease: int) -> Record | None:
        """Take a job out again."""
        for key, gathering in list(self._all.items()):
            for record in gathering.records:
                if record.lease == lease:
                    gathering.records.remove(record)
                    if not gathering.records:
                        del self._all[key]
                    return record
        return None

    def clear(self) -> list[Record]:
        """Give all of them up."""
        records, self._all = self.records, {}
        return records

    def asking(self) -> list[Gathering]:
        """Return those for which the store is to be asked now."""
        now = time.monotonic()
        return [gathering for gathering in self._all.values() if gathering.ask_at <= now]

    def next_at(self) -> float | None:
        """When there is something to do, by the monotonic clock."""
        return min((gathering.ask_at for gathering in self._all.values()), default=None)

    def complete(self) -> list[Gathering]:
        """Take out those that have waited long enough."""
        now = time.monotonic()
        done = [key for key, gathering in self._all.items() if gathering.until <= now]
        return [self._all.pop(key) for key in done]


class ChunkExecution(Execution):
    """One call for many jobs."""

    __slots__ = ("left", "members")

    def __init__(
        self,
        app: Windlass,
        task: AnyTask,
        records: Sequence[Record],
        stopping: threading.Event,
        scribe: Scribe | None = None,
    ) -> None:
        super().__init__(app, task, records[0], stopping, scribe)
        self.members = [Execution(app, task, record, stopping) for record in records]
        self.left = len(self.members)
        """Members that the pump still has."""
        for member in self.members:
            member.chunk = self
        self.context = Context(records[0], app, stopping=stopping, chunk=tuple(records))
        self.context.scribe = scribe
        self.deadline = min((m.deadline for m in self.members if m.deadline is not None), default=None)

    def arguments(self) -> dict[str, Any]:
        """Decode the payloads that fit; the jobs of the others fail by themselves."""
        codec = self.task.codec
        [name] = codec.names
        items, fit = [], []
        for member in self.members:
            try:
                items.append(codec.decode(member.record.payload)[name])
            except PayloadError as error:
                member.raised(error)
            else:
                fit.append(member.record)
        if not fit:
            raise PayloadError("the payloads of all jobs of a chunk do not fit", task=self.task.name)
        self.context.chunk = tuple(fit)
        named: dict[str, Any] = {name: items}
        if codec.context_place is not None:
            named[codec.context_name] = self.context
        return named

    def returned(self, result: Any) -> None:
        """The handler returned: ``None``, or a list with a result for each job."""
        members = self._open()
        if result is None:
            result = [None] * len(members)
        if not isinstance(result, list | tuple) or len(result) != len(members):
            said = f"{len(result)} results" if isinstance(result, list | tuple) else repr(type(result).__name__)
            text = f"a chunk returns None or a list of one result for each of its {len(members)} jobs, not {said}"
            self.raised(PayloadError(text, task=self.task.name))
            return
        for member, each in zip(members, result, strict=True):
            member.returned(each)
        self.finished = True

    def raised(self, error: BaseException) -> None:
        """The handler raised: so did each job."""
        self.error = error
        for member in self._open():
            member.raised(error)
        self.finished = True

    def give_back(self, delay: float = 0.0) -> None:
        """End all attempts as if they had not been."""
        for member in self._open():
            member.give_back(delay)
        self.finished = True

    def _open(self) -> list[Execution]:
        return [member for member in self.members if not member.finished]

    # ------------------------------------------------------------------ being told to stop

    def told(self, cause: Cause) -> Execution | None:
        """Note why the call is to stop: at a time limit, of those whose limit it is; the others have done nothing wrong."""
        self.cause = cause
        now = time.monotonic() + _SAME
        for member in self.members:
            if member.cause is None:
                overdue = member.deadline is not None and member.deadline <= now
                member.cause = cause if cause is not Cause.TIMEOUT or overdue else Cause.NEIGHBOUR
        return self

    def heed(self, cause: Cause) -> Execution | None:
        """Return the call, to be stopped, when nobody wants any of its jobs any more."""
        if self.cause is not None or any(member.cause is None and not member.finished for member in self.members):
            return None
        self.cause = cause
        return self


def members_of(executions: Iterable[Execution]) -> list[Execution]:
    """Return the single jobs of calls."""
    return [m for e in executions for m in (e.members if isinstance(e, ChunkExecution) else (e,))]
