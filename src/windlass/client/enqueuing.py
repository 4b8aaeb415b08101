"""Storing new jobs."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Unpack, cast

import msgspec

from windlass import bounds, codec, lifecycle, terms
from windlass.carrying import loaded
from windlass.chain import previous_of
from windlass.drivers.sql import ainsert_on, insert_on
from windlass.errors import NotSupportedError, PayloadError, UniqueConflictError
from windlass.events import JobEnqueued
from windlass.job import Job, NewJob, Record, first_record
from windlass.limits import gates_of, turn
from windlass.offload import run_blocking
from windlass.settings import check_name
from windlass.task import NOTHING, Draft, EnqueueOptions, Options, options

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from windlass.bounds import Keep, OnCrash, Until
    from windlass.job import Gate, Hold, Holder
    from windlass.lifecycle import Transition
    from windlass.task import AnyTask
    from windlass.times import Duration
    from windlass.uniqueness import Unique

from windlass.client.handle import Handle


class Enqueuing(Handle):
    """Every way to enqueue, with its twin."""

    def new_job(self, draft: Draft[Any]) -> NewJob:
        """Resolve a draft: call before task before application."""
        if draft.options is NOTHING and not draft.then:  # most enqueues say nothing, and most tasks little
            task = self.find_task(draft.task)
            if task is not None and task.bounds is None:
                return self._usual_job(draft, task)
        return self._new_job(draft, ())

    def _usual_job(self, draft: Draft[Any], task: AnyTask) -> NewJob:
        settings, payload = self.settings, draft.payload
        if payload is None:
            payload = codec.encode(draft.arguments, task=draft.task, what="payload", limit=settings.payload_limit)
        task.codec.check(payload)
        carried = loaded(None, self.carried, None)
        queue = task.queue or settings.queue
        holds, gates = ((), ()) if task.plain else self._flow(draft, task, queue, payload)
        return NewJob(
            task=task.name,
            queue=queue,
            payload=payload,
            priority=task.priority,
            max_attempts=task.max_attempts or settings.max_attempts,
            tags=task.tags,
            meta=None if carried is None else self._encoded_meta(carried, draft.task),
            holds=holds,
            gates=gates,
        )

    def _encoded_meta(self, meta: Mapping[str, Any], task: str) -> bytes:
        return codec.encode(dict(meta), task=task, what="meta", limit=self.settings.payload_limit)

    def _new_job(self, draft: Draft[Any], previous: tuple[str, ...]) -> NewJob:
        """Resolve a draft; *previous* are the parameters that the step before will give."""
        task, given = self.find_task(draft.task), draft.options
        most = given.max_attempts or (task.max_attempts if task else None)
        payload = draft.payload
        if payload is None:
            arguments = {**draft.arguments, **dict.fromkeys(previous)} if previous else draft.arguments
            limit = self.settings.payload_limit
            payload = codec.encode(arguments, task=draft.task, what="payload", limit=limit)
        if task is not None and not previous:
            task.codec.check(payload)
        carried = loaded(given.meta, self.carried, given.correlation_id)
        meta = None if carried is None else self._encoded_meta(carried, draft.task)
        tags = given.tags if given.tags is not None else (task.tags if task else ())
        queue = given.queue or (task.queue if task else None) or self.settings.queue
        holds, gates = self._flow(draft, task, queue, payload)
        return NewJob(
            task=task.name if task else draft.task,
            queue=queue,
            payload=payload,
            priority=given.priority if given.priority is not None else (task.priority if task else 0),
            max_attempts=most if most or task is None else self.settings.max_attempts,
            timeout=given.timeout,
            delay=given.delay or 0.0,
            run_at=given.run_at,
            tags=tags,
            origin=given.origin,
            meta=meta,
            batch_id=given.batch_id,
            idempotency_key=given.idempotency_key,
            holds=holds,
            gates=gates,
            terms=self._terms(draft, task),
        )

    def _flow(
        self, draft: Draft[Any], task: AnyTask | None, queue: str, payload: bytes
    ) -> tuple[tuple[Hold, ...], tuple[Gate, ...]]:
        """Return the keys that a job holds and the gates that it brings."""
        unique = _unique(draft, task)
        limits = task.limits if task is not None else ()
        fair = task.fair if task is not None else None
        if unique is None and not limits and fair is None:
            return (), ()
        arguments = task.codec.named(payload) if task is not None else msgspec.json.decode(payload)
        name = task.name if task is not None else draft.task
        holds = () if unique is None else (unique.hold(name, queue, arguments),)
        turns = () if fair is None else (turn(fair, name, arguments),)
        return holds, (*gates_of(limits, name, arguments), *turns)

    def _terms(self, draft: Draft[Any], task: AnyTask | None) -> bytes | None:
        """Return what a job carries for those who run it: call before task, and the later steps of its chain."""
        given, of_task = draft.options, task.bounds if task is not None else None
        if given.bounds is None and of_task is None and not draft.then:
            return None
        resolved = bounds.resolve(given.bounds, of_task)
        bounds.check_start(resolved, given.delay, given.run_at, task=draft.task)
        steps = [(step, previous_of(step)) for step in draft.then]
        chain = tuple(terms.link(self._new_job(*step), step[1]) for step in steps)
        return terms.encode(msgspec.structs.replace(resolved, chain=chain))

    def enqueue_draft(self, draft: Draft[Any], *, connection: Any = None) -> Job:
        """Store one draft."""
        if connection is not None and not self._ignores_connections:
            return self._insert([draft], connection)[0]
        job = self.new_job(draft)
        try:
            records = self.driver.insert([job])
        except UniqueConflictError as error:
            raise self.shown(error) from None
        return self._enqueued(self._reconciled([draft], [job], records) if records[0].found else records)[0]

    async def aenqueue_draft(self, draft: Draft[Any], *, connection: Any = None) -> Job:
        """Await :meth:`enqueue_draft`; a ``connection`` stays on the caller's loop."""
        return (await self._ainsert([draft], connection))[0]

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
        correlation_id: str | None = None,
        meta: Mapping[str, Any] | None = None,
        unique: Any = None,
        idempotency_key: str | None = None,
        expires: Until | None = None,
        deadline: Until | None = None,
        on_crash: OnCrash | None = None,
        keep: Keep | None = None,
        connection: Any = None,
    ) -> Job:
        """Enqueue by name: for a task that another process knows, or with a payload that is JSON already.

        *payload* is the object of named parameters (or any JSON value for a raw task). It is checked when the task is
        known here. Durations are ``timedelta`` or seconds and count from the store's clock.

        Raises:
            PayloadError: the payload does not fit, or cannot be stored.
            UniqueConflictError: its unique key is held, and ``on_conflict`` is ``"raise"``.
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
            correlation_id=correlation_id,
            meta=meta,
            unique=unique,
            idempotency_key=idempotency_key,
            expires=expires,
            deadline=deadline,
            on_crash=on_crash,
            keep=keep,
        )
        return self.enqueue_draft(self.named(name, payload, given), connection=connection)

    async def aenqueue(
        self, name: str, payload: Any = None, *, connection: Any = None, **given: Unpack[EnqueueOptions]
    ) -> Job:
        """Await :meth:`enqueue`; ``connection`` must be an async one and is used on this loop."""
        return await self.aenqueue_draft(self.named(name, payload, options(**given)), connection=connection)

    def named(self, name: str, payload: Any, given: Options) -> Draft[Any]:
        """Return a call of a task by name, its payload checked as far as that can be done here."""
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
        return self._insert([self._checked(draft) for draft in drafts], connection)

    async def aenqueue_many(self, drafts: Iterable[Draft[Any]], *, connection: Any = None) -> list[Job]:
        """Await :meth:`enqueue_many`."""
        return await self._ainsert([self._checked(draft) for draft in drafts], connection)

    def _checked(self, draft: Draft[Any]) -> Draft[Any]:
        if not isinstance(draft, Draft):
            raise TypeError(f"enqueue_many takes task.job(...) values, not {draft!r}")
        return draft

    def _insert(self, drafts: list[Draft[Any]], connection: Any) -> list[Job]:
        if not drafts:
            return []
        foreign = connection is not None and not self._ignores_connections
        jobs = [self._admitted(draft, foreign=foreign) for draft in drafts]
        with self._conflicts():
            records = insert_on(self.driver, connection, jobs) if foreign else self.driver.insert(jobs)
        if any(record.found for record in records):
            records = self._reconciled(drafts, jobs, records)
        return self._enqueued(records)

    async def _ainsert(self, drafts: list[Draft[Any]], connection: Any) -> list[Job]:
        if not drafts:
            return []
        foreign = connection is not None and not self._ignores_connections
        jobs = [self._admitted(draft, foreign=foreign) for draft in drafts]
        with self._conflicts():
            if foreign:
                records = await ainsert_on(self.driver, connection, jobs)
            else:
                records = await run_blocking(self.executor, lambda: self.driver.insert(jobs))
        if any(record.found for record in records):
            records = await run_blocking(self.executor, lambda: self._reconciled(drafts, jobs, records))
        return self._enqueued(records)

    def _admitted(self, draft: Draft[Any], *, foreign: bool) -> NewJob:
        """Resolve a draft for an insert, which the caller's own transaction may be."""
        job = self.new_job(draft)
        if foreign and job.holds:
            unique = _unique(draft, self.find_task(draft.task))
            if unique is not None and unique.on_conflict in ("replace", "reschedule"):
                raise NotSupportedError(
                    f"on_conflict={unique.on_conflict!r} changes a job outside of the caller's transaction; "
                    "leave connection= out, or use 'return' or 'raise'"
                )
        return job

    @contextmanager
    def _conflicts(self) -> Iterator[None]:
        """Show the job that holds the key as users know it."""
        try:
            yield
        except UniqueConflictError as error:
            raise self.shown(error) from None

    def _reconciled(self, drafts: list[Draft[Any]], jobs: list[NewJob], records: list[Record]) -> list[Record]:
        """Do to the jobs that were found what the drafts say."""
        return [
            self._met(draft, job, record) if record.found else record
            for draft, job, record in zip(drafts, jobs, records, strict=True)
        ]

    def _met(self, draft: Draft[Any], job: NewJob, found: Record) -> Record:
        """Return the job that stands for a new one whose key is held: changed, if it waits and the draft says so."""
        unique = _unique(draft, self.find_task(draft.task))
        named = job.idempotency_key is not None and found.idempotency_key == job.idempotency_key
        if unique is None or named or unique.on_conflict in ("return", "raise"):
            return found

        def decide(record: Record, now: float) -> Transition:
            newer = first_record(job, 0, now)
            if unique.on_conflict == "reschedule":
                return lifecycle.reschedule(record, newer.run_at, now=now)
            return lifecycle.replace(record, newer, now=now)

        [changed] = self.driver.change([found.id], decide)
        if changed.before is None:  # deleted in between: the key is free again
            [record] = self.driver.insert([job])
            return record
        record = self.driver.get(found.id) or found
        return msgspec.structs.replace(record, found=True)

    def _enqueued(self, records: list[Record]) -> list[Job]:
        holder = cast("Holder", self)
        jobs = [
            Job(record, holder)
            if not record.found
            else Job(msgspec.structs.replace(record, found=False), holder, created=False)
            for record in records
        ]
        if self.hub.wants(JobEnqueued):
            for job in jobs:
                if job.created:
                    self.hub.emit(JobEnqueued(job=job))
        return jobs


def _unique(draft: Draft[Any], task: AnyTask | None) -> Unique | None:
    """Return how a job of a draft is unique: call before task."""
    own = draft.options.unique
    if own is None:
        return task.unique if task is not None else None
    return own or None
