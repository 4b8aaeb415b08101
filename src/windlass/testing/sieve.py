"""A sieve before a store: it drops some of the jobs and batches that are enqueued, and notes all."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import msgspec

from windlass.drivers.base import BatchRecord, NewBatch
from windlass.job import NewJob, Record, Status
from windlass.task import Task

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence

    from windlass.app import Windlass
    from windlass.drivers.base import DecideBatch, Driver, Statement, Transaction
    from windlass.drivers.ticking import DecideSchedule, NewTick, ScheduleChanged, ScheduleMove, ScheduleRecord


class Batches(msgspec.Struct, frozen=True):
    """Batches to ignore, with their members: all, those of a name, or those that a predicate over ``NewBatch`` picks."""

    which: str | Callable[[NewBatch], bool] | None = None

    def has(self, batch: NewBatch) -> bool:
        """Whether it is one of them."""
        if self.which is None or isinstance(self.which, str):
            return self.which in (None, batch.name)
        return self.which(batch)


Entry: TypeAlias = "str | Task[..., Any] | Batches"
Ignored: TypeAlias = "bool | Entry | Callable[[NewJob], bool] | Iterable[Entry]"


class Ignore(msgspec.Struct, frozen=True):
    """What is to be dropped."""

    jobs: Callable[[NewJob], bool]
    batches: tuple[Batches, ...] = ()


def _nothing(_: NewJob) -> bool:
    return False


def ignore_of(app: Windlass, ignore: Ignored) -> Ignore:
    """Read the option ``ignore=``."""
    if isinstance(ignore, bool):
        return Ignore(lambda _: True, (Batches(),)) if ignore else Ignore(_nothing)
    if callable(ignore) and not isinstance(ignore, Task):
        return Ignore(ignore)
    entries = (ignore,) if isinstance(ignore, str | Task | Batches) else tuple(ignore)
    names = {entry.name if isinstance(entry, Task) else entry for entry in entries if not isinstance(entry, Batches)}
    for name in list(names):
        task = app.find_task(name)
        names |= {task.name} if task is not None else set()
    batches = tuple(entry for entry in entries if isinstance(entry, Batches))
    return Ignore((lambda job: job.task in names) if names else _nothing, batches)


class Sieve:
    """Drops what is to be ignored; the rest is stored as usual."""

    def __init__(self, ignore: Ignore) -> None:
        self._ignore = ignore
        self.ignored: list[NewJob] = []
        """The jobs that were dropped."""
        self.ignored_batches: list[NewBatch] = []
        self.stored: list[Record] = []
        """The jobs that were stored, as they then were."""

    def over(self, driver: Driver) -> Driver:
        """Return *driver* behind this sieve."""
        return cast("Driver", _Sieved(driver, self))

    def drops(self, job: NewJob) -> bool:
        """Whether a job is dropped; note it then."""
        if job.batch_id != DROPPED and not self._ignore.jobs(job):
            return False
        self.ignored.append(job)
        return True

    def drops_batch(self, batch: NewBatch) -> bool:
        """Whether a batch is dropped; note it then."""
        if batch.parent != DROPPED and not any(some.has(batch) for some in self._ignore.batches):
            return False
        self.ignored_batches.append(batch)
        return True


DROPPED = 0
"""The id of what was never stored."""


class _Sieved:
    """A driver behind a sieve: all else goes straight to it."""

    def __init__(self, inner: Driver, sieve: Sieve) -> None:
        self._inner = inner
        self.sieve = sieve

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def insert(self, jobs: Sequence[NewJob]) -> list[Record]:
        return self._passed(jobs, self._inner.insert)

    def insertion(self, jobs: Sequence[NewJob]) -> Generator[Statement, list[Any], list[Record]]:
        kept = [job for job in jobs if not self.sieve.drops(job)]
        records = (yield from self._inner.insertion(kept)) if kept else []
        return self._merged(jobs, kept, records)

    @contextmanager
    def transaction(self, connection: Any = None) -> Iterator[Transaction]:
        with self._inner.transaction(connection) as inner:
            yield cast("Transaction", _SievedTransaction(inner, self))

    def _passed(self, jobs: Sequence[NewJob], store: Callable[[Sequence[NewJob]], list[Record]]) -> list[Record]:
        kept = [job for job in jobs if not self.sieve.drops(job)]
        return self._merged(jobs, kept, store(kept) if kept else [])

    def _merged(self, jobs: Sequence[NewJob], kept: Sequence[NewJob], records: Sequence[Record]) -> list[Record]:
        """Put the records in the order of the jobs; those that were dropped look like jobs with id 0."""
        self.sieve.stored += [record for record in records if not record.found]
        stored = {id(job): record for job, record in zip(kept, records, strict=True)}
        now = self._inner.now()
        return [stored.get(id(job)) or _dropped(job, now) for job in jobs]

    def open_batch(self, batch: NewBatch) -> BatchRecord:
        return self._pretended(batch) if self.sieve.drops_batch(batch) else self._inner.open_batch(batch)

    def _pretended(self, batch: NewBatch) -> BatchRecord:
        now = self._inner.now()
        return BatchRecord(
            id=DROPPED, name=batch.name, origin=batch.origin, meta=batch.meta, parent=batch.parent, callbacks=None,
            created_at=now, open=False, finished_at=now,
        )  # fmt: skip

    def change_batch(self, batch_id: int, decide: DecideBatch) -> BatchRecord | None:
        if batch_id == DROPPED:
            return self._newest_dropped()
        return self._inner.change_batch(batch_id, decide)

    def change_schedule(self, name: str, decide: DecideSchedule) -> ScheduleChanged:
        def sieved(record: ScheduleRecord | None, live: Mapping[str, int], now: float) -> ScheduleMove | None:
            move = decide(record, live, now)
            return None if move is None else msgspec.structs.replace(move, ticks=tuple(map(self._ticked, move.ticks)))

        return self._inner.change_schedule(name, sieved)

    def _ticked(self, tick: NewTick) -> NewTick:
        dropped = tick.job is not None and self.sieve.drops(tick.job)
        return msgspec.structs.replace(tick, job=None) if dropped else tick

    def batches(
        self, ids: Collection[int] | None = None, *, limit: int = 50, before: int | None = None
    ) -> list[BatchRecord]:
        found = self._inner.batches(ids, limit=limit, before=before)
        dropped = self._newest_dropped() if ids is not None and DROPPED in ids else None
        return found if dropped is None else [dropped, *found]

    def _newest_dropped(self) -> BatchRecord | None:
        dropped = self.sieve.ignored_batches
        return self._pretended(dropped[-1]) if dropped else None


def sieves_of(driver: Any) -> list[Sieve]:
    """Return the sieves that a driver is behind, the outermost first."""
    found = []
    while isinstance(driver, _Sieved):
        found.append(driver.sieve)
        driver = driver._inner  # noqa: SLF001 - a part of it
    return found


class _SievedTransaction:
    """A transaction behind a sieve."""

    def __init__(self, inner: Transaction, sieved: _Sieved) -> None:
        self._inner = inner
        self._sieved = sieved

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def insert(self, jobs: Sequence[NewJob]) -> list[Record]:
        return self._sieved._passed(jobs, self._inner.insert)  # noqa: SLF001 - a part of it


def _dropped(job: NewJob, now: float) -> Record:
    return Record(
        DROPPED, job.task, job.queue, Status.PENDING, job.priority, job.payload, 0, 0, 0,
        job.max_attempts, job.timeout, now, now, meta=job.meta, origin=job.origin, batch_id=job.batch_id,
    )  # fmt: skip
