"""``with testing(app) as t``: no store, no worker, no waiting."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from windlass import ending, telling
from windlass.drivers.base import Filter, Turn
from windlass.drivers.memory import MemoryDriver
from windlass.errors import UnknownTaskError
from windlass.events import JobStarted
from windlass.lifecycle import Settlement
from windlass.notes import Direct
from windlass.schedule import next_at
from windlass.testing.looking import Looking
from windlass.testing.sieve import Sieve, ignore_of
from windlass.times import Duration, seconds
from windlass.worker.chunks import ChunkExecution, members_of
from windlass.worker.execution import Execution

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from windlass.app import Windlass
    from windlass.drivers.base import Driver
    from windlass.job import Job, NewJob, Record
    from windlass.task import AnyTask
    from windlass.testing.sieve import Ignored

START = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
MOST = 10_000
"""Attempts of one drain; more means that jobs enqueue each other for ever."""


class Harness(Looking):
    """An application under test: its jobs in memory, its clock in your hand."""

    def __init__(self, app: Windlass, *, inline: bool, ignore: Ignored) -> None:
        self._app = app
        self._time = START
        self.driver = _TestDriver(lambda: self._time, inserted=self._inserted, rush=self.drain)
        self.driver.open()
        self._inline = inline
        self._sieve = Sieve(ignore_of(app, ignore))
        self.ignored = self._sieve.ignored
        """Jobs that were dropped because of ``ignore``."""
        self.ignored_batches = self._sieve.ignored_batches

    @property
    def jobs(self) -> list[Job]:
        """All jobs, in the order in which they were enqueued."""
        records = self.driver.find(Filter(), limit=1_000_000)
        return [self._app.wrap(record) for record in reversed(records)]

    def sieved(self) -> Driver:
        """Return the store as the application sees it."""
        return self._sieve.over(self.driver)

    def _inserted(self) -> None:
        if self._inline:
            self.drain()

    # ------------------------------------------------------------------ time and work

    @property
    def now(self) -> datetime:
        """The virtual time."""
        return datetime.fromtimestamp(self.driver.now(), UTC)

    def advance(self, by: Duration) -> None:
        """Move the clock forward, from tick to tick of the schedules; what becomes due runs at the next ``drain()``."""
        until = self._time + seconds(by, name="by")
        for _ in range(MOST):
            due = [(at, record) for record in self.driver.schedules() if (at := next_at(record)) is not None]
            at, record = min(due, key=lambda pair: pair[0], default=(until + 1, None))
            if at > until or record is None:
                self._time = until
                return
            self._time = max(self._time, at)
            self._app.schedules.fire(record, self._time)
        raise AssertionError(f"schedules have ticked {MOST} times in one advance()")

    def drain(self, *, queue: str | None = None) -> int:
        """Run in this thread, one after another, all jobs that are due, and those that they enqueue; return how many.

        Failed attempts follow the retry rules: advance the clock to run them again. Listeners hear of them as of a worker's.
        Timeouts are not enforced.
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
            claims = self._exchange(turn) or self._exchange(turn)  # the first may have brought callbacks
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
        members = members_of([execution])
        if self._app.hub.wants(JobStarted):
            for one in members:
                self._app.hub.emit(JobStarted(job=self._app.wrap(one.record)))
        try:
            run = functools.partial(_run_async, execution) if task.is_async else execution.call
            result = contextvars.copy_context().run(run)
        except Exception as error:  # noqa: BLE001 - it is the attempt's, as in a worker
            execution.raised(error)
        else:
            execution.returned(result)
        for one in members:
            self._ended(one)
        return len(records)

    def _others(self, task: AnyTask, queue: str) -> list[Record]:
        """Claim what fills a chunk."""
        if task.chunk is None or task.chunk.most == 1:
            return []
        most, names = task.chunk.most - 1, (task.name, *task.aliases)
        turn = Turn(worker="testing", limit=most, start=most, tasks=names, queues=(queue,))
        return list(self._exchange(turn))

    def _too_late(self, record: Record) -> bool:
        refused = ending.refusal(record, self.driver.now())
        if refused is not None:
            self._settle(Settlement(record, refused, self.driver.now()))
        return refused is not None

    def _ended(self, execution: Execution) -> None:
        if execution.settlement is not None:
            self._settle(execution.settlement, execution.error)

    def _settle(self, settlement: Settlement, error: BaseException | None = None) -> None:
        self._exchange(Turn(worker="testing", settlements=[settlement]))
        if telling.wanted(self._app.hub):
            telling.tell(self._app, settlement, error)

    def _exchange(self, turn: Turn) -> Sequence[Record]:
        """Take a turn, and have what is due of batches enqueued."""
        turned = self.driver.exchange(turn)
        self._app.settle_batches(turned.ripe)
        return turned.claims


class _TestDriver(MemoryDriver):
    """The memory store, which tells when something was stored."""

    def __init__(self, clock: Callable[[], float], *, inserted: Callable[[], None], rush: Callable[[], object]) -> None:
        super().__init__(clock)
        self._inserted = inserted
        self.rush = rush
        """Called when somebody begins to wait for the end of a job."""

    def insert(self, jobs: Sequence[NewJob]) -> list[Record]:
        """Store jobs; return them as they are when that was told."""
        records = super().insert(jobs)
        self._inserted()
        return [msgspec.structs.replace(self.get(record.id) or record, found=record.found) for record in records]


def _run_async(execution: Execution) -> Any:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(execution.acall())
    # Called from an async test: its loop is busy with us, so the handler gets one of its own.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(contextvars.copy_context().run, asyncio.run, execution.acall()).result()


@contextmanager
def testing(app: Windlass, *, inline: bool = False, ignore: Ignored = False) -> Iterator[Harness]:
    """Swap in the memory store and a virtual clock for a block; nothing reaches the real store.

    Args:
        app: the application.
        inline: run each job at once when it is enqueued, in the same thread.
        ignore: drop jobs instead of storing them: ``True`` for all, a task or its name, ``Batches(...)``, several of
            these, or a predicate over ``NewJob``. What was dropped is in ``t.ignored`` and ``t.ignored_batches``.
    """
    harness = Harness(app, inline=inline, ignore=ignore)
    with app.swapped(harness.sieved()):
        app.schedules.sync()
        yield harness


# pytest takes every imported function whose name begins with "test" for a test.
testing.__test__ = False  # type: ignore[attr-defined]
