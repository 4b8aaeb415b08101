"""``app.schedules``: declaring, adding, looking after schedules, and firing them."""

from __future__ import annotations

import contextvars
import functools
import logging
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, Unpack

import msgspec

from windlass import schedule as rules
from windlass.client.schedule import Schedule, Tick, tick_of
from windlass.client.scheduling import ScheduleOptions, check_whole, define
from windlass.drivers.ticking import ScheduleMove
from windlass.errors import ConfigurationError, ScheduleNotFoundError
from windlass.events import JobEnqueued, ScheduleTicked
from windlass.offload import offload
from windlass.settings import check_name
from windlass.task import Draft, Options, Task
from windlass.times import moment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from concurrent.futures import ThreadPoolExecutor
    from datetime import datetime, timedelta

    from windlass.drivers.base import Driver
    from windlass.drivers.ticking import ScheduleChanged, ScheduleRecord
    from windlass.events import Hub
    from windlass.job import Job, NewJob, Record
    from windlass.schedule import Definition
    from windlass.task import AnyTask
    from windlass.timing import Due

log = logging.getLogger(__name__)

AnyTaskT = TypeVar("AnyTaskT", bound="AnyTask")


class Host(Protocol):
    """What schedules need of their application."""

    hub: Hub

    @property
    def driver(self) -> Driver:
        """The store."""

    @property
    def executor(self) -> ThreadPoolExecutor:
        """The pool of the twins."""

    def named(self, name: str, payload: Any, given: Options) -> Draft[Any]:
        """Return a call by name."""

    def new_job(self, draft: Draft[Any]) -> NewJob:
        """Resolve a call."""

    def wrap(self, record: Record, *, created: bool = True) -> Job:
        """Return a job as users hold it."""


class Schedules:
    """The schedules of a store, and those that this process's code declares.

    Iterate over it for all of them, by name.
    """

    def __init__(self, app: Host) -> None:
        self._app = app
        self._declared: dict[str, Callable[[], Definition]] = {}
        self._lock = threading.Lock()
        self._synced: tuple[Driver, int] | None = None
        self.version = 0
        """Raised by every declaration of this process's code."""
        self.declares = True
        """Whether the store is told of those declarations; not by who only looks, perhaps with older code."""

    @property
    def executor(self) -> ThreadPoolExecutor:
        """The pool that awaitable twins run on."""
        return self._app.executor

    def __iter__(self) -> Iterator[Schedule]:
        """Yield all, by name."""
        return iter(self.all())

    def __contains__(self, name: object) -> bool:
        """Whether there is one of that name."""
        return isinstance(name, str) and bool(self._driver().schedules([name]))

    # ------------------------------------------------------------------ by code

    def declare(self, task: AnyTask, spec: Any, name: str | None, given: Mapping[str, Any]) -> None:
        """Remember what ``@app.schedule`` says; the store learns it at the first use, or from a worker's start.

        Raises:
            ConfigurationError: it cannot be right, or its name is taken.
        """
        chosen = check_name("a schedule's name", name or task.name)
        make = functools.partial(self._define, task.name, spec, {**given, "declared": True})
        make()
        with self._lock:
            if chosen in self._declared:
                raise ConfigurationError(f"a schedule {chosen!r} is declared already; give this one another name=")
            self._declared[chosen] = make
            self.version += 1

    @property
    def declared(self) -> frozenset[str]:
        """The names that this process's code declares."""
        return frozenset(self._declared)

    def sync(self) -> None:
        """Tell the store what this process's code declares; one look when it knows already."""
        driver, version = self._app.driver, self.version
        if not self.declares:
            return
        if self._synced is not None and self._synced[0] is driver and self._synced[1] == version:
            return
        declared = self._made()
        stored = {record.name: record for record in driver.schedules(list(declared))} if declared else {}
        for name, definition in declared.items():
            known = stored.get(name)
            if known is None or known.definition != msgspec.json.encode(definition):
                self._store(driver, name, definition)
        self._synced = (driver, version)

    def _made(self) -> dict[str, Definition]:
        """Return what is declared, but for what has become wrong since, with another task of the same name for instance."""
        made = {}
        for name, make in list(self._declared.items()):
            try:
                made[name] = make()
            except Exception:
                log.exception("schedule %s cannot be declared; the others can", name)
        return made

    def _store(self, driver: Driver, name: str, definition: Definition) -> ScheduleRecord:
        decide = functools.partial(rules.declare, name=name, definition=definition)
        changed = driver.change_schedule(name, decide)
        self._tell(name, changed)
        assert changed.record is not None
        stored = rules.definition_of(changed.record).version
        if stored > definition.version:
            log.warning(
                "schedule %s: the store has version %d; version %d, declared here, changes nothing",
                name, stored, definition.version,
            )  # fmt: skip
        return changed.record

    def _define(self, task: str, spec: Any, given: Mapping[str, Any]) -> Definition:
        # Whatever is set where this happens to be called first must not end up in the jobs of every tick.
        return contextvars.Context().run(define, self._app, task, spec, given)

    # ------------------------------------------------------------------ by hand

    def add(
        self,
        name: str,
        spec: str | timedelta | float | None = None,
        *,
        task: str | AnyTask,
        **given: Unpack[ScheduleOptions],
    ) -> Schedule:
        """Store a schedule at run time, or change one of that name: every worker fires it, also those without its task.

        *spec* is a cron expression (``"0 2 * * *"``) or an interval; the other options are those of ``app.schedule``.

        Raises:
            ConfigurationError: it would never run, cannot be right, or this process's code declares one of that name.
        """
        check_name("a schedule's name", name)
        if name in self._declared:
            raise ConfigurationError(f"schedule {name!r} is declared by @app.schedule; add one of another name")
        task_name = task.name if isinstance(task, Task) else check_name("task", task)
        definition = self._define(task_name, spec, given)
        return Schedule(self, self._store(self._driver(), name, definition))

    aadd = offload(add)

    def remove(self, name: str, *, missing_ok: bool = False) -> None:
        """Forget a schedule, with its history; its jobs stay. One that code declares is back at the next worker's start.

        Raises:
            ScheduleNotFoundError: there is none.
        """
        self._change(name, lambda *_: ScheduleMove(record=None), missing_ok=missing_ok)

    aremove = offload(remove)

    def pause(self, name: str) -> Schedule:
        """Skip its ticks from now on, for everybody, also when it is declared anew.

        Raises:
            ScheduleNotFoundError: there is none.
        """
        return self._changed(name, lambda record, _, now: rules.pause(record, now))

    apause = offload(pause)

    def resume(self, name: str) -> Schedule:
        """Fire again, from the next tick on; those of the pause are noted as skipped.

        Raises:
            ScheduleNotFoundError: there is none.
        """
        return self._changed(name, lambda record, _, now: rules.resume(record, now))

    aresume = offload(resume)

    def trigger(self, name: str, *, force: bool = False) -> list[Job]:
        """Enqueue its jobs now, one for each queue; its times stay as they are.

        Raises:
            ScheduleNotFoundError: there is none.
            ScheduleStateError: its last job has not ended, they must not overlap, and not *force*.
        """
        changed = self._change(name, functools.partial(rules.trigger, force=force))
        return [self._app.wrap(record) for record in changed.jobs]

    atrigger = offload(trigger)

    # ------------------------------------------------------------------ looking

    def get(self, name: str) -> Schedule:
        """Return a schedule.

        Raises:
            ScheduleNotFoundError: there is none.
        """
        return Schedule(self, self._record(name))

    aget = offload(get)

    def all(self) -> list[Schedule]:
        """Return all schedules, by name."""
        return [Schedule(self, record) for record in self._driver().schedules()]

    aall = offload(all)  # noqa: A003 - the method above

    def next(self, name: str, n: int = 5) -> list[datetime]:
        """Return the next *n* ticks from now on, in the schedule's own zone; none while it is paused.

        Raises:
            ScheduleNotFoundError: there is none.
        """
        check_whole("n", n, 1, 1000)
        return self.ticks_after(self._record(name), n)

    anext = offload(next)  # noqa: A003 - the method above

    def ticks_after(self, record: ScheduleRecord, n: int) -> list[datetime]:
        """Return the next *n* ticks of a record from now on."""
        from zoneinfo import ZoneInfo  # like all that only schedules need it is loaded where it is used

        zone = ZoneInfo(rules.definition_of(record).timezone)
        ticks = rules.upcoming(record, self._app.driver.now())
        return [at.astimezone(zone) for _, tick in zip(range(n), ticks, strict=False) if (at := moment(tick))]

    def history(self, name: str, limit: int = 50, *, before: int | None = None) -> list[Tick]:
        """Return what became of its ticks, the newest first; pass the last one's number as *before* for the next page.

        Raises:
            ScheduleNotFoundError: there is none.
        """
        check_whole("limit", limit, 1, 1000)
        rows = self._driver().ticks(name, limit, before)
        if not rows and before is None:
            self._record(name)
        return [tick_of(row) for row in rows]

    ahistory = offload(history)

    # ------------------------------------------------------------------ firing

    def fire(self, record: ScheduleRecord, now: float, found: Due | None = None) -> ScheduleChanged | None:
        """Fire what is due of a schedule, as it was read; ``None``: nothing is."""
        found = found if found is not None else rules.due_of(record, now)
        if not found.ticks or record.paused_at is not None:
            return None
        changed = self._app.driver.change_schedule(record.name, functools.partial(rules.fire, seen=record, found=found))
        self._tell(record.name, changed)
        return changed

    def _tell(self, name: str, changed: ScheduleChanged) -> None:
        hub = self._app.hub
        if changed.jobs and hub.wants(JobEnqueued):
            for record in changed.jobs:
                hub.emit(JobEnqueued(job=self._app.wrap(record)))
        if changed.ticks and hub.wants(ScheduleTicked):
            for row in changed.ticks:
                hub.emit(
                    ScheduleTicked(
                        name=name, outcome=row.outcome, tick=row.tick, queue=row.queue, job_id=row.job_id,
                        late=row.at - row.tick,
                    )
                )  # fmt: skip

    # ------------------------------------------------------------------ the store

    def _driver(self) -> Driver:
        """Return the store, which knows what this process's code declares."""
        self.sync()
        return self._app.driver

    def _record(self, name: str) -> ScheduleRecord:
        found = self._driver().schedules([name])
        if not found:
            raise ScheduleNotFoundError(name)
        return found[0]

    def _changed(
        self, name: str, decide: Callable[[ScheduleRecord | None, Mapping[str, int], float], ScheduleMove | None]
    ) -> Schedule:
        record = self._change(name, decide).record
        assert record is not None
        return Schedule(self, record)

    def _change(
        self,
        name: str,
        decide: Callable[[ScheduleRecord | None, Mapping[str, int], float], ScheduleMove | None],
        *,
        missing_ok: bool = False,
    ) -> ScheduleChanged:
        missing = False

        def found(record: ScheduleRecord | None, live: Mapping[str, int], now: float) -> ScheduleMove | None:
            nonlocal missing
            missing = record is None
            return None if record is None else decide(record, live, now)

        changed = self._driver().change_schedule(name, found)
        if missing and not missing_ok:
            raise ScheduleNotFoundError(name)
        self._tell(name, changed)
        return changed
