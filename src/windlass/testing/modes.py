"""Modes: what an enqueue does in this context, and in no other.

A block changes the enqueues of the code inside it (with the tasks and twins that it awaits), while other threads and tasks
of the process go on as before. Blocks may be nested.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from windlass import lifecycle
from windlass.drivers.base import Turn
from windlass.drivers.memory import MemoryDriver
from windlass.job import Outcome, Record, Status
from windlass.lifecycle import Settlement
from windlass.testing.harness import Harness
from windlass.testing.looking import Looking
from windlass.testing.sieve import Ignored, Sieve, ignore_of, sieves_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from windlass.app import Windlass
    from windlass.drivers.base import Driver
    from windlass.job import Job, NewJob
    from windlass.task import AnyTask
    from windlass.worker.execution import Execution

CLAIMED = 1_000
"""Waiting jobs of the same task among which the one that is to run now is found."""


class Recorded(Looking):
    """What was enqueued in a block."""

    def __init__(self, app: Windlass, sieve: Sieve) -> None:
        self._app = app
        self._sieve = sieve
        self.ignored = sieve.ignored
        """Jobs that were dropped."""
        self.ignored_batches = sieve.ignored_batches

    @property
    def jobs(self) -> list[Job]:
        """The jobs that were stored, as they then were, in that order."""
        return [self._app.wrap(record) for record in self._sieve.stored]


@contextmanager
def ignoring(app: Windlass, ignore: Ignored = True) -> Iterator[Recorded]:  # noqa: FBT002 - reads as a sentence
    """Drop what is enqueued in this context, or some of it; it is noted in ``.ignored`` and ``.ignored_batches``.

    Args:
        app: the application.
        ignore: a task or its name, ``Batches(...)``, several of these, a predicate over ``NewJob``, or ``True`` for all.
    """
    with _sieving(app, Sieve(ignore_of(app, ignore))) as recorded:
        yield recorded


@contextmanager
def recording(app: Windlass) -> Iterator[Recorded]:
    """Store what is enqueued in this context as usual, and note it in ``.jobs``."""
    with _sieving(app, Sieve(ignore_of(app, ignore=False))) as recorded:
        yield recorded


@contextmanager
def _sieving(app: Windlass, sieve: Sieve) -> Iterator[Recorded]:
    with app.diverted(sieve.over(app.driver)):
        yield Recorded(app, sieve)


@contextmanager
def synchronous(app: Windlass, *, raise_errors: bool = False) -> Iterator[Harness]:
    """Run what is enqueued in this context at once, in the caller's thread, whatever its delay; nothing is stored.

    Each job runs once and ends as it would; ``job`` shows it, and no retry comes. Its life is kept in memory, for this
    block: ``.jobs`` has all, with those that handlers have enqueued, and in the block the application sees no others.

    Args:
        app: the application.
        raise_errors: let the enqueue raise what the handler has raised.
    """
    here = _Synchronous(app, raise_errors=raise_errors)
    with app.diverted(here.behind(app.driver)):
        yield here


class _Synchronous(Harness):
    """Runs jobs where they are enqueued."""

    def __init__(self, app: Windlass, *, raise_errors: bool) -> None:
        super().__init__(app, inline=False, ignore=False)
        self._raises = raise_errors
        self.driver: MemoryDriver = _Inline(self)  # type: ignore[assignment]  # no clock to be moved
        self.driver.open()

    def behind(self, present: Driver) -> Driver:
        """Return the store as the application sees it: what *present* ignores is still ignored."""
        here = cast("Driver", self.driver)
        for sieve in reversed(sieves_of(present)):
            here = sieve.over(here)
        return here

    def run(self, record: Record) -> None:
        """Run a job that was stored just now."""
        if record.status is Status.SCHEDULED:
            self.driver.change([record.id], lambda stored, _: lifecycle.run_now(stored))
        turn = Turn(worker="testing", limit=CLAIMED, start=CLAIMED, tasks=(record.task,), queues=(record.queue,))
        for claim in self.driver.exchange(turn).claims:
            if claim.id == record.id:
                self._run(claim)
            else:  # it has failed before, and is not tried again here
                given_back = Settlement(claim, lifecycle.release(claim), self.driver.now())
                self.driver.exchange(Turn(worker="testing", settlements=[given_back]))

    def _others(self, task: AnyTask, queue: str) -> list[Record]:
        return []

    def _ended(self, execution: Execution) -> None:
        super()._ended(execution)
        settlement = execution.settlement
        failed = settlement is not None and settlement.transition.outcome is Outcome.FAILED
        if self._raises and failed and execution.error is not None:
            raise execution.error


class _Inline(MemoryDriver):
    """A store whose jobs run when they are stored."""

    apart = True
    """A connection of the caller's is of another store."""

    def __init__(self, here: _Synchronous) -> None:
        super().__init__(time.time)
        self._here = here

    def rush(self) -> None:
        """What can run has run."""

    def insert(self, jobs: Sequence[NewJob]) -> list[Record]:
        """Store and run jobs, one after another."""
        records = []
        for job in jobs:
            [record] = super().insert([job])
            if not record.found:
                self._here.run(record)
            records.append(record if record.found else self.get(record.id) or record)
        return records
