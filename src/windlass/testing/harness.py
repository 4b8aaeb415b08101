"""``with testing(app) as t``: no store, no worker, no waiting."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import msgspec

from windlass import ending
from windlass.drivers.base import Filter, Turn
from windlass.drivers.memory import MemoryDriver
from windlass.errors import UnknownTaskError
from windlass.job import Record, Status
from windlass.lifecycle import Settlement
from windlass.notes import Direct
from windlass.task import Task
from windlass.times import Duration, seconds
from windlass.worker.chunks import ChunkExecution, members_of
from windlass.worker.execution import Execution

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from windlass.app import Windlass
    from windlass.job import Job, NewJob
    from windlass.task import AnyTask

Ignored: TypeAlias = "bool | str | Task[..., Any] | Callable[[NewJob], bool] | Iterable[str | Task[..., Any]]"

START = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
MOST = 10_000
"""Attempts of one drain; more means that jobs enqueue each other for ever."""


class Harness:
    """An application under test: its jobs in memory, its clock in your hand."""

    def __init__(self, app: Windlass, *, inline: bool, ignore: Ignored) -> None:
        self._app = app
        self._time = START
        self.driver = _TestDriver(lambda: self._time, self._admit, self._inserted)
        self.driver.open()
        self._inline = inline
        self._ignores = _ignores(app, ignore)
        self.ignored: list[NewJob] = []
        """Jobs that were dropped because of ``ignore``."""

    def _admit(self, job: NewJob) -> bool:
        if self._ignores(job):
            self.ignored.append(job)
            return False
        return True

    def _inserted(self) -> None:
        if self._inline:
            self.drain()

    # ------------------------------------------------------------------ time and work

    @property
    def now(self) -> datetime:
        """The virtual time."""
        return datetime.fromtimestamp(self.driver.now(), UTC)

    def advance(self, by: Duration) -> None:
        """Move the clock forward; what becomes due runs at the next ``drain()``."""
        self._time += seconds(by, name="by")

    def drain(self, *, queue: str | None = None) -> int:
        """Run in this thread, one after another, all jobs that are due, and those that they enqueue; return how many.

        Failed attempts follow the retry rules: advance the clock to run them again. Timeouts are not enforced.
        """
        ran = 0
        for _ in range(MOST):
            turn = Turn(
                worker="testing",
                limit=1,
                start=1,
                tasks=self._app.task_names(),
                queues=None if queue is None else (queue,),
            )
            claims = self.driver.exchange(turn).claims
            if not claims:
                return ran
            ran += self._run(claims[0])
        raise AssertionError(f"{MOST} jobs ran in one drain(): do they enqueue each other for ever?")

    def _run(self, record: Record) -> int:
        """Run one job, or a chunk that it is the first of; return how many."""
        task = self._app.find_task(record.task)
        if task is None:
            raise UnknownTaskError(record.task)
        records = [one for one in (record, *self._others(task, record.queue)) if not self._too_late(one)]
        if not records:
            return 0
        execution: Execution
        if task.chunk is not None:
            execution = ChunkExecution(self._app, task, records, threading.Event(), Direct(self.driver))
        else:
            execution = Execution(self._app, task, record, threading.Event(), Direct(self.driver))
        try:
            run = functools.partial(_run_async, execution) if task.is_async else execution.call
            result = contextvars.copy_context().run(run)
        except Exception as error:  # noqa: BLE001 - it is the attempt's, as in a worker
            execution.raised(error)
        else:
            execution.returned(result)
        self._settle(*(one.settlement for one in members_of([execution]) if one.settlement is not None))
        return len(records)

    def _others(self, task: AnyTask, queue: str) -> list[Record]:
        """Claim what fills a chunk."""
        if task.chunk is None or task.chunk.most == 1:
            return []
        most, names = task.chunk.most - 1, (task.name, *task.aliases)
        return self.driver.exchange(Turn(worker="testing", limit=most, start=most, tasks=names, queues=(queue,))).claims

    def _too_late(self, record: Record) -> bool:
        refused = ending.refusal(record, self.driver.now())
        if refused is not None:
            self._settle(Settlement(record, refused, self.driver.now()))
        return refused is not None

    def _settle(self, *settlements: Settlement) -> None:
        self.driver.exchange(Turn(worker="testing", settlements=settlements))

    # ------------------------------------------------------------------ looking

    @property
    def jobs(self) -> list[Job]:
        """All jobs, in the order in which they were enqueued."""
        records = self.driver.find(Filter(), limit=1_000_000)
        return [self._app.wrap(record) for record in reversed(records)]

    def assert_enqueued(self, task: str | Task[..., Any], /, **arguments: Any) -> Job:
        """Return the newest job of *task* whose payload has these arguments.

        Raises:
            AssertionError: there is none; the message lists what there is.
        """
        name = task.name if isinstance(task, Task) else task
        wanted = msgspec.to_builtins(arguments)
        of_task = [job for job in self.jobs if job.task == name]
        for job in reversed(of_task):
            payload = job.payload if isinstance(job.payload, dict) else {}
            if all(key in payload and payload[key] == value for key, value in wanted.items()):
                return job
        listed = "\n".join(f"  {job.task} {job.payload}" for job in of_task or self.jobs) or "  (none at all)"
        raise AssertionError(f"no {name} job with {wanted} was enqueued; there are:\n{listed}")

    def assert_not_enqueued(self, task: str | Task[..., Any], /, **arguments: Any) -> None:
        """Check that no job of *task* has these arguments.

        Raises:
            AssertionError: there is one.
        """
        try:
            job = self.assert_enqueued(task, **arguments)
        except AssertionError:
            return
        raise AssertionError(f"job {job.id} {job.task} {job.payload} was enqueued")


class _TestDriver(MemoryDriver):
    """The memory store with a gate in front."""

    def __init__(
        self, clock: Callable[[], float], admit: Callable[[NewJob], bool], inserted: Callable[[], None]
    ) -> None:
        super().__init__(clock)
        self._admit = admit
        self._inserted = inserted

    def insert(self, jobs: Sequence[NewJob]) -> list[Record]:
        """Store those that are admitted; the others look like jobs with id 0."""
        admitted = [self._admit(job) for job in jobs]
        stored = iter(super().insert([job for job, good in zip(jobs, admitted, strict=True) if good]))
        records = [
            next(stored) if good else _dropped(job, self.now()) for job, good in zip(jobs, admitted, strict=True)
        ]
        self._inserted()
        return [self.get(record.id) or record for record in records]


def _dropped(job: NewJob, now: float) -> Record:
    return Record(
        0, job.task, job.queue, Status.PENDING, job.priority, job.payload, 0, 0, 0,
        job.max_attempts, job.timeout, now, now,
    )  # fmt: skip


def _ignores(app: Windlass, ignore: Ignored) -> Callable[[NewJob], bool]:
    if isinstance(ignore, bool):
        return lambda _: bool(ignore)
    entries: Any = (ignore,) if isinstance(ignore, str | Task) else ignore
    if callable(entries):
        return cast("Callable[[NewJob], bool]", entries)
    names = {entry.name if isinstance(entry, Task) else entry for entry in entries}
    for name in list(names):
        task = app.find_task(name)
        names |= {task.name} if task is not None else set()
    return lambda job: job.task in names


def _run_async(execution: Execution) -> Any:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(execution.acall())
    # Called from an async test: its loop is busy with us, so the handler gets one of its own.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, execution.acall()).result()


@contextmanager
def testing(app: Windlass, *, inline: bool = False, ignore: Ignored = False) -> Iterator[Harness]:
    """Swap in the memory store and a virtual clock for a block; nothing reaches the real store.

    Args:
        app: the application.
        inline: run each job at once when it is enqueued, in the same thread.
        ignore: drop jobs instead of storing them: ``True`` for all, a task or its name, several, or a predicate over
            ``NewJob``. What was dropped is in ``t.ignored``.
    """
    harness = Harness(app, inline=inline, ignore=ignore)
    with app.swapped(harness.driver):
        yield harness


# pytest takes every imported function whose name begins with "test" for a test.
testing.__test__ = False  # type: ignore[attr-defined]
