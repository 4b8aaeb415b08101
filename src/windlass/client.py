"""Every client operation, each with its awaitable twin.

The rules are in :mod:`windlass.lifecycle`; here they are looked up, handed to the driver, and its answers turned into
what users hold.
"""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import msgspec

from windlass import codec, lifecycle, rescuer, telling
from windlass.claims import Claim
from windlass.drivers import connect
from windlass.drivers.base import Filter, Turn
from windlass.drivers.sql import ainsert_on, insert_on
from windlass.errors import (
    ClosedError,
    ConfigurationError,
    JobNotFoundError,
    JobStateError,
    NotYetError,
    PayloadError,
)
from windlass.events import Hub, JobCancelled, JobEnqueued, LogSubscriber, QueuePaused, QueueResumed
from windlass.job import FINISHED, Attempt, Failure, Job, NewJob, Outcome, Record, Status
from windlass.offload import offload, run_blocking
from windlass.report import Count, Done, Page, Queue, Stats, Throughput, Why, explain
from windlass.settings import check_name
from windlass.task import Draft, EnqueueOptions, Options, options
from windlass.times import Duration, instant, moment, seconds

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from datetime import datetime

    from windlass.backoff import Backoff
    from windlass.drivers.base import Capabilities, Changed, Driver, Finding, Worker
    from windlass.lifecycle import RetryMode, Transition
    from windlass.settings import Settings
    from windlass.task import AnyTask


class Filters(TypedDict, total=False):
    """Which jobs: the filters of :meth:`Client.jobs`; every given one must match."""

    status: str | Status | Collection[str | Status] | None
    queue: str | None
    task: str | None
    tag: str | None
    origin: str | None
    batch: int | None
    worker: str | None
    error: str | type[BaseException] | None
    created_after: datetime | None
    created_before: datetime | None
    started_before: datetime | None


PAGE = 50
LARGEST_PAGE = 1000
COUNTED = 10_000
"""Filters that no counter answers are counted exactly up to here."""
BULK = 500
"""Jobs changed in one transaction."""


class Client:
    """What can be asked of a store of jobs, whether or not this process knows their tasks."""

    settings: Settings

    def __init__(self, settings: Settings, *, logger: logging.Logger) -> None:
        self.settings = settings
        self.default_max_attempts = settings.max_attempts
        self.log = logger
        self.hub = Hub()
        LogSubscriber(self.hub, logger)
        self._driver: Driver = connect(settings)
        self._opened = False
        self._closed = False
        self._ignores_connections = False
        self._opening = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None
        self._executor_pid = 0

    # ------------------------------------------------------------------ life

    @property
    def driver(self) -> Driver:
        """The store, opened at first use."""
        if self._closed:
            raise ClosedError
        if not self._opened:
            with self._opening:
                if not self._opened:
                    self._driver.open()
                    self._opened = True
        return self._driver

    @property
    def capabilities(self) -> Capabilities:
        """What this store can do."""
        return self._driver.capabilities

    @property
    def executor(self) -> ThreadPoolExecutor:
        """The pool that awaitable twins run on: made at first use, and again in a forked child."""
        if self._closed:
            raise ClosedError
        if self._executor is None or self._executor_pid != os.getpid():
            self._executor = ThreadPoolExecutor(8, thread_name_prefix="windlass-client")
            self._executor_pid = os.getpid()
        return self._executor

    @contextmanager
    def swapped(self, driver: Driver) -> Iterator[None]:
        """Use another, open driver for a block; ``connection=`` is ignored meanwhile. For tests."""
        before = self._driver, self._opened, self._ignores_connections
        self._driver, self._opened, self._ignores_connections = driver, True, True
        try:
            yield
        finally:
            self._driver, self._opened, self._ignores_connections = before

    def close(self) -> None:
        """Let go of the store. Afterwards every operation raises ``ClosedError``; closing again does nothing."""
        self._closed = True
        if self._executor is not None and self._executor_pid == os.getpid():
            self._executor.shutdown(wait=False)
        if self._opened:
            self._driver.close()

    # ------------------------------------------------------------------ what the tasks say

    def find_task(self, name: str) -> AnyTask | None:
        """Return the task of that name or alias, if it is known here."""
        raise NotImplementedError

    def backoff_of(self, name: str) -> Backoff:
        """Return the back-off that applies to a task."""
        task = self.find_task(name)
        return task.backoff if task is not None and task.backoff is not None else self.settings.backoff

    def max_attempts_of(self, record: Record) -> int:
        """Return the tries a job has: its own, else its task's, else the application's."""
        if record.max_attempts is not None:
            return record.max_attempts
        task = self.find_task(record.task)
        return task.max_attempts if task is not None and task.max_attempts else self.settings.max_attempts

    def timeout_of(self, record: Record) -> float | None:
        """Return the seconds an attempt may take, or ``None``: the job's own, else its task's, else the app's."""
        timeout = record.timeout
        if timeout is None:
            task = self.find_task(record.task)
            timeout = task.timeout if task is not None else None
        if timeout is None:
            timeout = self.settings.timeout
        return timeout or None

    def wrap(self, record: Record, *, created: bool = True) -> Job:
        """Show a record as a job."""
        return Job(record, self, created=created)

    # ------------------------------------------------------------------ enqueue

    def new_job(self, draft: Draft[Any]) -> NewJob:
        """Resolve a draft: call before task before application."""
        task, given = self.find_task(draft.task), draft.options
        most = given.max_attempts or (task.max_attempts if task else None)
        payload = draft.payload
        if payload is None:
            limit = self.settings.payload_limit
            payload = codec.encode(draft.arguments, task=draft.task, what="payload", limit=limit)
        if task is not None:
            task.codec.check(payload)
        meta = None
        if given.meta is not None:
            meta = codec.encode(dict(given.meta), task=draft.task, what="meta", limit=self.settings.payload_limit)
        tags = given.tags if given.tags is not None else (task.tags if task else ())
        return NewJob(
            task=task.name if task else draft.task,
            queue=given.queue or (task.queue if task else None) or self.settings.queue,
            payload=payload,
            priority=given.priority if given.priority is not None else (task.priority if task else 0),
            max_attempts=most if most or task is None else self.settings.max_attempts,
            timeout=given.timeout,
            delay=given.delay or 0.0,
            run_at=given.run_at,
            tags=tags,
            origin=given.origin,
            meta=meta,
        )

    def enqueue_draft(self, draft: Draft[Any], *, connection: Any = None) -> Job:
        """Store one draft."""
        return self._insert([self.new_job(draft)], connection)[0]

    async def aenqueue_draft(self, draft: Draft[Any], *, connection: Any = None) -> Job:
        """Await :meth:`enqueue_draft`; a ``connection`` stays on the caller's loop."""
        return (await self._ainsert([self.new_job(draft)], connection))[0]

    def enqueue(
        self,
        name: str,
        payload: Any = None,
        *,
        delay: Duration | None = None,
        run_at: datetime | None = None,
        queue: str | None = None,
        priority: int | None = None,
        max_attempts: int | None = None,
        timeout: Duration | None = None,
        tags: Sequence[str] | None = None,
        origin: str | None = None,
        meta: Mapping[str, Any] | None = None,
        unique: Any = None,
        idempotency_key: str | None = None,
        connection: Any = None,
    ) -> Job:
        """Enqueue by name: for a task that another process knows, or with a payload that is JSON already.

        *payload* is the object of named parameters (or any JSON value for a raw task). It is checked when the task is
        known here. Durations are ``timedelta`` or seconds and count from the store's clock.

        Raises:
            PayloadError: the payload does not fit, or cannot be stored.
            ConnectionLostError: the store cannot be reached.
        """
        given = options(
            delay=delay,
            run_at=run_at,
            queue=queue,
            priority=priority,
            max_attempts=max_attempts,
            timeout=timeout,
            tags=tags,
            origin=origin,
            meta=meta,
            unique=unique,
            idempotency_key=idempotency_key,
        )
        return self.enqueue_draft(self._named(name, payload, given), connection=connection)

    async def aenqueue(
        self, name: str, payload: Any = None, *, connection: Any = None, **given: Unpack[EnqueueOptions]
    ) -> Job:
        """Await :meth:`enqueue`; ``connection`` must be an async one and is used on this loop."""
        return await self.aenqueue_draft(self._named(name, payload, options(**given)), connection=connection)

    def _named(self, name: str, payload: Any, given: Options) -> Draft[Any]:
        check_name("a task's name", name)
        task = self.find_task(name)
        raw = task is not None and task.codec.raw
        if not raw and payload is None:
            payload = {}
        encoded = codec.encode(payload, task=name, what="payload", limit=self.settings.payload_limit)
        if not raw and task is not None and not encoded.startswith(b"{"):
            raise PayloadError(f"the payload of task {name!r} must be a JSON object of named parameters", task=name)
        return Draft(name, self, given, payload=encoded)

    def enqueue_many(self, drafts: Iterable[Draft[Any]], *, connection: Any = None) -> list[Job]:
        """Store many jobs, ``task.job(...)`` each: all or none on SQL stores. Returns them in order."""
        return self._insert([self.new_job(self._checked(draft)) for draft in drafts], connection)

    async def aenqueue_many(self, drafts: Iterable[Draft[Any]], *, connection: Any = None) -> list[Job]:
        """Await :meth:`enqueue_many`."""
        return await self._ainsert([self.new_job(self._checked(draft)) for draft in drafts], connection)

    def _checked(self, draft: Draft[Any]) -> Draft[Any]:
        if not isinstance(draft, Draft):
            raise TypeError(f"enqueue_many takes task.job(...) values, not {draft!r}")
        return draft

    def _insert(self, jobs: list[NewJob], connection: Any) -> list[Job]:
        if not jobs:
            return []
        if connection is None or self._ignores_connections:
            records = self.driver.insert(jobs)
        else:
            records = insert_on(self.driver, connection, jobs)
        return self._enqueued(records)

    async def _ainsert(self, jobs: list[NewJob], connection: Any) -> list[Job]:
        if not jobs:
            return []
        if connection is None or self._ignores_connections:
            records = await run_blocking(self.executor, lambda: self.driver.insert(jobs))
        else:
            records = await ainsert_on(self.driver, connection, jobs)
        return self._enqueued(records)

    def _enqueued(self, records: list[Record]) -> list[Job]:
        jobs = [Job(record, self) for record in records]
        if self.hub.wants(JobEnqueued):
            for job in jobs:
                self.hub.emit(JobEnqueued(job=job))
        return jobs

    # ------------------------------------------------------------------ one job

    def get(self, job_id: int | None = None, *, key: str | None = None) -> Job:
        """Return a job by id or idempotency key.

        Raises:
            JobNotFoundError: there is none.
        """
        if (job_id is None) == (key is None):
            raise TypeError("get() takes an id or key=, one of them")
        record = self.driver.get(_job_id(job_id)) if key is None else self.driver.by_key(key)
        if record is None:
            raise JobNotFoundError(job_id if job_id is not None else str(key))
        return self.wrap(record)

    aget = offload(get)

    def history(self, job_id: int) -> list[Attempt]:
        """Return the ended attempts of a job, oldest first."""
        return [
            Attempt(
                number=row.number,
                worker=row.worker,
                started_at=moment(row.started_at),
                finished_at=moment(row.finished_at),
                outcome=Outcome(row.outcome),
                error=None if row.error is None else msgspec.json.decode(row.error, type=Failure),
            )
            for row in self.driver.history(_job_id(job_id))
        ]

    ahistory = offload(history)

    def join(self, job_id: int, *, timeout: Duration | None = None) -> Any:
        """Wait for a job's end and return its result (not built yet)."""
        raise NotYetError("join() is not built yet; look at job.refresh().status")

    ajoin = offload(join)

    def retry(
        self,
        job_id: int,
        *,
        mode: RetryMode = "reset",
        delay: Duration = 0,
        force: bool = False,
        missing_ok: bool = False,
        state_ok: bool = False,
    ) -> Job | None:
        """Run a dead, cancelled or retrying job again; its history stays.

        ``mode="reset"`` starts its failures and crashes from 0, ``"extend"`` allows one more try. ``force`` also takes a
        completed job, and a running one, whose live lease is fenced. ``missing_ok`` and ``state_ok`` turn the errors
        into doing nothing. Returns the job, or ``None`` when it is missing.

        Raises:
            JobNotFoundError: there is no such job.
            JobStateError: its status does not allow it.
        """
        decide = self._retrying(mode, seconds(delay, name="delay"), force=force)
        return self._change_one(job_id, decide, missing_ok=missing_ok, state_ok=state_ok)

    aretry = offload(retry)

    def cancel(self, job_id: int, *, missing_ok: bool = False, state_ok: bool = False) -> Job | None:
        """Cancel: a waiting job at once; a running one is asked to stop within a second, in whichever process.

        A running job that raises after the signal ends cancelled; one that returns all the same is completed.

        Raises:
            JobNotFoundError: there is no such job.
            JobStateError: it is finished.
        """
        return self._change_one(job_id, _cancel, missing_ok=missing_ok, state_ok=state_ok)

    acancel = offload(cancel)

    def reschedule(self, job_id: int, at: datetime) -> Job | None:
        """Move a waiting job to another instant; one that has passed makes it available at once.

        Raises:
            JobNotFoundError: there is no such job.
            JobStateError: it is running or finished.
        """
        when = instant(at, name="at")
        return self._change_one(job_id, lambda record, now: lifecycle.reschedule(record, when, now=now))

    areschedule = offload(reschedule)

    def run_now(self, job_id: int) -> Job | None:
        """Make a scheduled or retrying job available at once.

        Raises:
            JobNotFoundError: there is no such job.
            JobStateError: it is running or finished.
        """
        return self._change_one(job_id, lambda record, _: lifecycle.run_now(record))

    arun_now = offload(run_now)

    def delete(self, job_id: int) -> None:
        """Remove a job that is not running, and its history.

        Raises:
            JobNotFoundError: there is no such job.
            JobStateError: it is running.
        """
        self._change_one(job_id, lambda record, _: lifecycle.delete(record))

    adelete = offload(delete)

    def _retrying(self, mode: RetryMode, delay: float, *, force: bool) -> Callable[[Record, float], Transition]:
        if mode not in ("reset", "extend"):
            raise ConfigurationError(f"mode must be 'reset' or 'extend', not {mode!r}")

        def decide(record: Record, now: float) -> Transition:
            most = self.max_attempts_of(record)
            return lifecycle.retry(record, mode=mode, delay=delay, force=force, max_attempts=most, now=now)

        return decide

    def _change_one(
        self,
        job_id: int,
        decide: Callable[[Record, float], Transition],
        *,
        missing_ok: bool = False,
        state_ok: bool = False,
    ) -> Job | None:
        changed = self.driver.change([_job_id(job_id)], decide)[0]
        self._tell([changed])
        if changed.before is None:
            if missing_ok:
                return None
            raise JobNotFoundError(job_id)
        if changed.error is not None and not (state_ok and isinstance(changed.error, JobStateError)):
            raise changed.error
        record = self.driver.get(changed.job_id)
        return None if record is None else self.wrap(record)

    def _tell(self, changes: Iterable[Changed]) -> None:
        if not self.hub.wants(JobCancelled):
            return
        for changed in changes:
            if changed.transition is not None and changed.transition.status is Status.CANCELLED:
                record = self.driver.get(changed.job_id)
                if record is not None:
                    self.hub.emit(JobCancelled(job=self.wrap(record)))

    # ------------------------------------------------------------------ many jobs

    def jobs(
        self,
        *,
        status: str | Status | Collection[str | Status] | None = None,
        queue: str | None = None,
        task: str | None = None,
        tag: str | None = None,
        origin: str | None = None,
        batch: int | None = None,
        worker: str | None = None,
        error: str | type[BaseException] | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        started_before: datetime | None = None,
        limit: int = PAGE,
        offset: int = 0,
        after: int | None = None,
    ) -> Page:
        """Return matching jobs, newest first, and a cursor: pass ``page.next`` as ``after=`` for the next page.

        ``status`` may be several; ``"failed"`` means retrying and dead. ``error`` is an exception type or its stored
        name. At most 1,000 a page.
        """
        if not _whole(limit) or not 1 <= limit <= LARGEST_PAGE:
            raise ConfigurationError(f"limit must be a whole number from 1 to {LARGEST_PAGE}, not {limit!r}")
        if not _whole(offset) or not 0 <= offset < 1 << 63:
            raise ConfigurationError(f"offset must be a whole number that is not negative, not {offset!r}")
        if after is not None and (not _whole(after) or not -(1 << 63) <= after < 1 << 63):
            raise ConfigurationError(f"after must be the cursor of a page, not {after!r}")
        which = self._filter(
            status=status, queue=queue, task=task, tag=tag, origin=origin, batch=batch, worker=worker, error=error,
            created_after=created_after, created_before=created_before, started_before=started_before,
        )  # fmt: skip
        records = self.driver.find(which, limit=limit + 1, offset=offset, before=after)
        more = len(records) > limit
        found = [self.wrap(record) for record in records[:limit]]
        return Page(found, next=found[-1].id if more else None)

    ajobs = offload(jobs)

    def count(self, /, **filters: Unpack[Filters]) -> Count:
        """Count the jobs that match the filters of :meth:`jobs`: an ``int`` with ``.exact``.

        By status, queue and task it is read from counters; other filters are exact up to 10,000 and stop there.
        """
        which = self._filter(**filters)
        number = self.driver.count(which, most=COUNTED)
        counters_only = which == Filter(statuses=which.statuses, queue=which.queue, task=which.task)
        return Count(number) if counters_only or number <= COUNTED else Count(COUNTED, exact=False)

    acount = offload(count)

    def retry_many(
        self,
        /,
        *,
        ids: Collection[int] | None = None,
        mode: RetryMode = "reset",
        delay: Duration = 0,
        force: bool = False,
        **filters: Unpack[Filters],
    ) -> Done:
        """Retry jobs by ``ids`` or by the filters of :meth:`jobs`; one that is refused does not stop the others."""
        decide = self._retrying(mode, seconds(delay, name="delay"), force=force)
        return self._change_many(ids, filters, decide, failed_ok=True)

    aretry_many = offload(retry_many)

    def cancel_many(self, /, *, ids: Collection[int] | None = None, **filters: Unpack[Filters]) -> Done:
        """Cancel jobs by ``ids`` or by the filters of :meth:`jobs`."""
        return self._change_many(ids, filters, _cancel)

    acancel_many = offload(cancel_many)

    def delete_many(self, /, *, ids: Collection[int] | None = None, **filters: Unpack[Filters]) -> Done:
        """Delete jobs by ``ids`` or by the filters of :meth:`jobs`."""
        return self._change_many(ids, filters, lambda record, _: lifecycle.delete(record))

    adelete_many = offload(delete_many)

    def _change_many(
        self,
        ids: Collection[int] | None,
        filters: Filters,
        decide: Callable[[Record, float], Transition],
        *,
        failed_ok: bool = False,
    ) -> Done:
        if (ids is None) == all(value is None for value in filters.values()):
            raise TypeError("give ids= or filters, one of them")
        status = filters.get("status")
        _statuses(status)
        if not failed_ok and "failed" in ((status,) if isinstance(status, str) else status or ()):
            raise ConfigurationError("'failed' is ambiguous here: say status='retrying' or status='dead'")
        done: list[int] = []
        refused: dict[int, Exception] = {}
        for batch in self._batches(ids, filters):
            changes = self.driver.change(batch, decide)
            self._tell(changes)
            for changed in changes:
                if changed.before is None:
                    refused[changed.job_id] = JobNotFoundError(changed.job_id)
                elif changed.error is not None:
                    refused[changed.job_id] = changed.error
                else:
                    done.append(changed.job_id)
        return Done(done, refused)

    def _batches(self, ids: Collection[int] | None, filters: Filters) -> Iterator[list[int]]:
        if ids is not None:
            listed = list(dict.fromkeys(_job_id(job_id) for job_id in ids))
            for start in range(0, len(listed), BULK):
                yield listed[start : start + BULK]
            return
        which = self._filter(**filters)
        before: int | None = None
        while records := self.driver.find(which, limit=BULK, before=before):
            before = records[-1].id
            yield [record.id for record in records]

    def _filter(
        self,
        *,
        status: str | Status | Collection[str | Status] | None = None,
        queue: str | None = None,
        task: str | None = None,
        tag: str | None = None,
        origin: str | None = None,
        batch: int | None = None,
        worker: str | None = None,
        error: str | type[BaseException] | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        started_before: datetime | None = None,
    ) -> Filter:
        if isinstance(error, type):
            cls = error
            error = (
                cls.__qualname__
                if cls.__module__ in ("builtins", "__main__")
                else f"{cls.__module__}.{cls.__qualname__}"
            )
        texts = {"queue": queue, "task": task, "tag": tag, "origin": origin, "worker": worker, "error": error}
        for name, value in texts.items():
            if value is not None and not isinstance(value, str):
                raise ConfigurationError(f"{name} must be text, not {value!r}")
        if batch is not None and not _whole(batch):
            raise ConfigurationError(f"batch must be a whole number, not {batch!r}")
        return Filter(
            statuses=_statuses(status),
            queue=queue,
            task=task,
            tag=tag,
            origin=origin,
            batch=batch,
            worker=worker,
            error=error,
            created_after=None if created_after is None else instant(created_after, name="created_after"),
            created_before=None if created_before is None else instant(created_before, name="created_before"),
            started_before=None if started_before is None else instant(started_before, name="started_before"),
        )

    def purge(
        self,
        older_than: Duration,
        statuses: Collection[str | Status] = ("completed", "cancelled"),
        *,
        queue: str | None = None,
    ) -> int:
        """Delete finished jobs with ``finished_at <= now - older_than``, in small batches; return how many."""
        wanted = _statuses(statuses, purge=True)
        age = seconds(older_than, name="older_than")
        ages = dict.fromkeys(wanted, age)
        total = 0
        while deleted := self.driver.purge(ages, BULK, queue=queue):
            total += deleted
        return total

    apurge = offload(purge)

    # ------------------------------------------------------------------ the whole

    def stats(self) -> Stats:
        """Return the number of jobs in each status, per queue and task too, and totals that never fall."""
        return Stats.of(self.driver.tallies())

    astats = offload(stats)

    def throughput(self, queue: str | None = None, window: Duration = 60) -> Throughput:
        """Return how many jobs were processed and failed in the last *window* (at most an hour), over all processes."""
        length = seconds(window, name="window")
        if not 1 <= length <= 3600:
            raise ConfigurationError(f"window must be from 1 second to 1 hour, not {window!r}")
        now = self.driver.now()
        return Throughput.of(self.driver.rates(now - length, queue), window=length)

    athroughput = offload(throughput)

    def pause(self, *, queue: str | None = None, task: str | None = None) -> None:
        """Pause a queue or task for all processes, durably. Running jobs go on; waiting ones lose nothing."""
        for kind, name in self._named_by(queue, task):
            self.driver.pause(kind, name, True)
            self.hub.emit(QueuePaused(kind=kind, name=name))

    apause = offload(pause)

    def resume(self, *, queue: str | None = None, task: str | None = None) -> None:
        """Resume a paused queue or task."""
        for kind, name in self._named_by(queue, task):
            self.driver.pause(kind, name, False)
            self.hub.emit(QueueResumed(kind=kind, name=name))

    aresume = offload(resume)

    def _named_by(self, queue: str | None, task: str | None) -> list[tuple[str, str]]:
        """Return what is meant; a task with its aliases, under which jobs may be stored."""
        if (queue is None) == (task is None):
            raise TypeError("give queue= or task=, one of them")
        if queue is not None:
            return [("queue", check_name("queue", queue))]
        known = self.find_task(task or "")
        if known is None:
            return [("task", check_name("task", task))]
        return [("task", name) for name in (known.name, *known.aliases)]

    def queues(self) -> list[Queue]:
        """Return the queues, by name."""
        driver = self.driver
        stats, pauses, now = Stats.of(driver.tallies()), driver.pauses(), driver.now()
        names = set(stats.queues) | {name for kind, name in pauses if kind == "queue"}
        found = []
        for name in sorted(names):
            oldest = driver.oldest(name)
            age = None if oldest is None else max(0.0, now - oldest)
            found.append(Queue.of(name, stats, paused=("queue", name) in pauses, oldest=age))
        return found

    aqueues = offload(queues)

    def workers(self) -> list[Worker]:
        """Return the workers that live, and those lost or stopped within the last hour."""
        return self.driver.workers()

    aworkers = offload(workers)

    def why(self, job_id: int) -> Why:
        """Say why a job is not running (or that it is, or how it ended).

        Raises:
            JobNotFoundError: there is no such job.
        """
        driver = self.driver
        record = driver.get(_job_id(job_id))
        if record is None:
            raise JobNotFoundError(job_id)
        ahead = 0
        if record.status is Status.PENDING:
            ahead = max(0, driver.count(Filter(statuses=(Status.PENDING,), queue=record.queue), most=COUNTED) - 1)
        return explain(
            self.wrap(record), pauses=driver.pauses(), workers=driver.workers(), queued=ahead, now=driver.now()
        )

    awhy = offload(why)

    def rescue(self) -> int:
        """Take back the jobs of lost workers now, instead of waiting for a worker to do it; return how many."""
        total = 0
        while True:
            _, rescued = rescuer.rescue(
                self.driver, worker="hand:rescue", max_crashes=self.settings.max_crashes, overdue=True
            )
            total += len(rescued)
            if telling.wanted(self.hub):
                for settlement in rescued:
                    telling.tell(self, settlement)
            if not rescued:
                return total

    arescue = offload(rescue)

    def diagnose(self) -> list[Finding]:
        """Look for what is wrong with the store and its workers; what ``windlass doctor`` prints."""
        from windlass.doctor import examine

        return examine(self.driver)

    adiagnose = offload(diagnose)

    def migrate(self) -> list[str]:
        """Bring the store's schema up to date; return what was done."""
        return self.driver.migrate()

    # ------------------------------------------------------------------ by hand

    def claim(
        self,
        queue: str = "default",
        wait: Duration = 0,
        lease: Duration = 300,
        tasks: Collection[str] | None = None,
    ) -> Claim | None:
        """Take one job of a queue, waiting at most *wait* for one; ``None`` when there is none.

        The claim lives for *lease*, whatever becomes of this process; past that the job goes to somebody else and the
        attempt counts as a crash. ``tasks`` limits which tasks are taken; by default any.
        """
        length = seconds(lease, name="lease")
        if length <= 0:
            raise ConfigurationError("lease must be more than 0")
        holder = f"hand:{uuid.uuid4().hex}"
        deadline = self.driver.now() + seconds(wait, name="wait")
        bell = None
        try:
            while True:
                turned = self.driver.exchange(
                    Turn(
                        worker=holder,
                        limit=1,
                        start=1,
                        queues=(check_name("queue", queue),),
                        tasks=self._claimable(queue, tasks),
                        deadline=length,
                    )
                )
                if turned.claims:
                    return Claim(self, turned.claims[0], holder)
                left = deadline - turned.now
                if left <= 0:
                    return None
                if turned.due is not None:
                    left = min(left, max(0.0, turned.due - turned.now))
                bell = bell or self.driver.bell()
                bell.wait(min(left, self.settings.poll))
        finally:
            if bell is not None:
                bell.close()

    aclaim = offload(claim)

    def _claimable(self, queue: str, tasks: Collection[str] | None) -> tuple[str, ...]:
        if tasks is None:
            return tuple({tally.task for tally in self.driver.tallies() if tally.queue == queue})
        if isinstance(tasks, str):
            raise ConfigurationError(f"tasks must be a list of names, not the text {tasks!r}")
        names: list[str] = []
        for name in tasks:
            task = self.find_task(name)
            names.extend((task.name, *task.aliases) if task is not None else (name,))
        return tuple(dict.fromkeys(names))


def _cancel(record: Record, _now: float) -> Transition:
    return lifecycle.cancel(record)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _job_id(value: Any) -> int:
    if not _whole(value):
        raise TypeError(f"a job's id is a whole number, not {value!r}")
    return value if -(1 << 63) <= value < 1 << 63 else 0


def _statuses(status: str | Status | Collection[str | Status] | None, *, purge: bool = False) -> tuple[Status, ...]:
    if status is None:
        return ()
    names: Iterable[str | Status] = (status,) if isinstance(status, str) else status
    if not isinstance(names, Iterable):
        raise ConfigurationError(
            f"status must be one or several of {', '.join(s.value for s in Status)}, not {status!r}"
        )
    found: list[Status] = []
    for name in names:
        if name == "failed" and not purge:
            found += [Status.RETRYING, Status.DEAD]
            continue
        try:
            found.append(Status(name))
        except ValueError:
            hint = "; 'failed' is ambiguous here: say 'dead'" if name == "failed" else ""
            known = ", ".join(s.value for s in Status)
            raise ConfigurationError(f"{name!r} is not a status ({known}){hint}") from None
    if purge and (wrong := [s for s in found if s not in FINISHED]):
        raise ConfigurationError(f"only finished jobs can be purged, not {wrong[0].value} ones")
    return tuple(dict.fromkeys(found))
