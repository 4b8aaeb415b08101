"""Storing new jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack, cast

from windlass import codec
from windlass.carrying import loaded
from windlass.drivers.sql import ainsert_on, insert_on
from windlass.errors import (
    PayloadError,
)
from windlass.events import JobEnqueued
from windlass.job import Job, NewJob, Record
from windlass.offload import run_blocking
from windlass.settings import check_name
from windlass.task import Draft, EnqueueOptions, Options, options

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from windlass.job import Holder
    from windlass.times import Duration

from windlass.client.handle import Handle


class Enqueuing(Handle):
    """Every way to enqueue, with its twin."""

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
        carried = loaded(given.meta, self.carried, given.correlation_id)
        meta = None
        if carried is not None:
            meta = codec.encode(dict(carried), task=draft.task, what="meta", limit=self.settings.payload_limit)
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
        correlation_id: str | None = None,
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
            correlation_id=correlation_id,
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
        holder = cast("Holder", self)
        jobs = [Job(record, holder) for record in records]
        if self.hub.wants(JobEnqueued):
            for job in jobs:
                self.hub.emit(JobEnqueued(job=job))
        return jobs
