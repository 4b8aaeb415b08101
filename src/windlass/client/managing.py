"""Changing jobs by hand: one, many, and whole queues."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from windlass import lifecycle, rescuer, telling
from windlass.errors import (
    ConfigurationError,
    JobNotFoundError,
    JobStateError,
)
from windlass.events import QueuePaused, QueueResumed
from windlass.offload import offload
from windlass.report import Done
from windlass.settings import check_name
from windlass.times import Duration, instant, seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from datetime import datetime

    from windlass.job import Job, Record, Status
    from windlass.lifecycle import RetryMode, Transition

from windlass.client.filters import Filters, check_id, check_statuses, select
from windlass.client.handle import Handle

BULK = 500
"""Jobs changed in one transaction."""


class Managing(Handle):
    """Every change by hand, with its twin."""

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
            UniqueConflictError: another job has its unique key now.
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
        changed = self.driver.change([check_id(job_id)], decide)[0]
        telling.tell_changes(self, [changed])
        if changed.before is None:
            if missing_ok:
                return None
            raise JobNotFoundError(job_id)
        if changed.error is not None and not (state_ok and isinstance(changed.error, JobStateError)):
            raise self.shown(changed.error)
        record = self.driver.get(changed.job_id)
        return None if record is None else self.wrap(record)

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
        check_statuses(status)
        if not failed_ok and "failed" in ((status,) if isinstance(status, str) else status or ()):
            raise ConfigurationError("'failed' is ambiguous here: say status='retrying' or status='dead'")
        done: list[int] = []
        refused: dict[int, Exception] = {}
        for batch in self._batches(ids, filters):
            changes = self.driver.change(batch, decide)
            telling.tell_changes(self, changes)
            for changed in changes:
                if changed.before is None:
                    refused[changed.job_id] = JobNotFoundError(changed.job_id)
                elif changed.error is not None:
                    refused[changed.job_id] = self.shown(changed.error)
                else:
                    done.append(changed.job_id)
        return Done(done, refused)

    def _batches(self, ids: Collection[int] | None, filters: Filters) -> Iterator[list[int]]:
        if ids is not None:
            listed = list(dict.fromkeys(check_id(job_id) for job_id in ids))
            for start in range(0, len(listed), BULK):
                yield listed[start : start + BULK]
            return
        which = select(**filters)
        before: int | None = None
        while records := self.driver.find(which, limit=BULK, before=before):
            before = records[-1].id
            yield [record.id for record in records]

    def purge(
        self,
        older_than: Duration,
        statuses: Collection[str | Status] = ("completed", "cancelled"),
        *,
        queue: str | None = None,
    ) -> int:
        """Delete finished jobs with ``finished_at <= now - older_than``, in small batches; return how many."""
        wanted = check_statuses(statuses, purge=True)
        age = seconds(older_than, name="older_than")
        ages = dict.fromkeys(wanted, age)
        total = 0
        while deleted := self.driver.purge(ages, BULK, queue=queue):
            total += deleted
        return total

    apurge = offload(purge)

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

    def migrate(self) -> list[str]:
        """Bring the store's schema up to date; return what was done."""
        return self.driver.migrate()


def _cancel(record: Record, _now: float) -> Transition:
    return lifecycle.cancel(record)
