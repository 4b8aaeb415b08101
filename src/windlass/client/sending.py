"""Middleware around every way to enqueue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from windlass.client.enqueuing import Enqueuing
from windlass.outgoing import around

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from contextlib import AbstractContextManager

    from windlass.job import Job
    from windlass.task import Draft


class Sending(Enqueuing):
    """The same calls, inside the application's hooks; without any they cost nothing."""

    def sending(
        self, drafts: Sequence[Draft[Any]]
    ) -> AbstractContextManager[tuple[list[Draft[Any]], Callable[[Sequence[Job]], None]]]:
        """Enter the hooks for a block that stores these calls."""
        return around(self.enqueue_hooks, self, drafts)

    def enqueue_draft(self, draft: Draft[Any], *, connection: Any = None) -> Job:
        """Store one draft."""
        if not self.enqueue_hooks:
            return super().enqueue_draft(draft, connection=connection)
        with self.sending([draft]) as (changed, stored):
            job = super().enqueue_draft(changed[0], connection=connection)
            stored([job])
        return job

    async def aenqueue_draft(self, draft: Draft[Any], *, connection: Any = None) -> Job:
        """Await :meth:`enqueue_draft`; hooks are entered on the caller's loop."""
        if not self.enqueue_hooks:
            return await super().aenqueue_draft(draft, connection=connection)
        with self.sending([draft]) as (changed, stored):
            job = await super().aenqueue_draft(changed[0], connection=connection)
            stored([job])
        return job

    def enqueue_many(self, drafts: Iterable[Draft[Any]], *, connection: Any = None) -> list[Job]:
        """Store many jobs, ``task.job(...)`` each: all or none on SQL stores. Returns them in order."""
        if not self.enqueue_hooks:
            return super().enqueue_many(drafts, connection=connection)
        with self.sending([self._checked(draft) for draft in drafts]) as (changed, stored):
            jobs = super().enqueue_many(changed, connection=connection)
            stored(jobs)
        return jobs

    async def aenqueue_many(self, drafts: Iterable[Draft[Any]], *, connection: Any = None) -> list[Job]:
        """Await :meth:`enqueue_many`; hooks are entered on the caller's loop."""
        if not self.enqueue_hooks:
            return await super().aenqueue_many(drafts, connection=connection)
        with self.sending([self._checked(draft) for draft in drafts]) as (changed, stored):
            jobs = await super().aenqueue_many(changed, connection=connection)
            stored(jobs)
        return jobs
