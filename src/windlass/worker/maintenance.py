"""Maintenance: every worker takes back lost jobs, deletes what was kept long enough, takes samples, tidies the store.

No leader is needed: each step is a small conditional write, and doing it twice changes nothing.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from windlass import failures, lifecycle, rescuer, telling
from windlass.drivers.base import Filter
from windlass.events import JobDead, WorkerLost
from windlass.job import Failure, Status
from windlass.worker.sampler import Sampler
from windlass.worker.service import Service

if TYPE_CHECKING:
    from collections.abc import Callable

    from windlass.app import Windlass
    from windlass.job import Record
    from windlass.lifecycle import Transition
    from windlass.worker.ledger import Ledger

log = logging.getLogger(__name__)

RESCUE = 1.0
RETENTION = 30.0
TIDY = 60.0
SLICE = 500
"""Jobs deleted in one transaction at most: the store's writer is not held for long."""
SLICES = 20


class Maintenance:
    """Looks after the store."""

    def __init__(
        self,
        app: Windlass,
        *,
        worker: Callable[[], str],
        trusted: Callable[[], bool],
        resting: Callable[[], bool],
        ledger: Ledger,
        queues: tuple[str, ...] | None = None,
    ) -> None:
        self._app = app
        self._ledger = ledger
        self._sampler = Sampler(app.driver)
        self._queues = queues
        self._warned: set[str] = set()
        self._worker = worker
        self._trusted = trusted
        self._resting = resting
        self._kept = {status: age for status, age in app.settings.retention.items() if age is not None}
        self._at_once = {status: age for status, age in self._kept.items() if age == 0}
        now = time.monotonic()
        self._next_purge = now + RETENTION / 10
        self._next_tidy = now + TIDY
        self._next_entry = now + app.settings.beat
        # At once: a worker that never lives for a second must rescue its predecessor's jobs all the same.
        self._service = Service("maintenance", self.tick, interval=RESCUE, at_once=True)

    def start(self) -> None:
        """Start looking."""
        self._service.start()

    def stop(self) -> None:
        """Stop looking."""
        self._service.stop()

    def tick(self) -> None:
        """Do what is due."""
        if self._resting():
            return
        self.rescue()
        self._unknown()
        now = time.monotonic()
        if self._at_once:
            self._purge(self._at_once)
        if now >= self._next_purge:
            # With more to delete it goes on in the next tick: ten thousand a second keep up with any rate of finishing.
            self._next_purge = now + (RETENTION if self._purge(self._kept) else 0.0)
        self._sampler.tick()
        if now >= self._next_entry:
            self._next_entry = now + self._app.settings.beat
            self._ledger.write()
        if now >= self._next_tidy:
            self._next_tidy = now + TIDY
            self._app.driver.tidy()

    def rescue(self) -> None:
        """Take back one batch of jobs after another from lost workers."""
        app = self._app
        while True:
            lost, rescued = rescuer.rescue(
                app.driver,
                worker=self._worker(),
                max_crashes=app.settings.max_crashes,
                overdue=self._trusted(),
            )
            for worker in lost:
                app.hub.emit(WorkerLost(worker=worker))
            if telling.wanted(app.hub):
                for settlement in rescued:
                    telling.tell(app, settlement)
            if len(rescued) < rescuer.BATCH:
                return

    def _unknown(self) -> None:
        """Warn of waiting jobs that no worker knows, once for each task; or end them, where that was asked for."""
        app = self._app
        own = set(app.task_names())
        waiting = {
            tally.task
            for tally in app.driver.tallies()
            if tally.counts[Status.PENDING] and (self._queues is None or tally.queue in self._queues)
        } - own
        self._warned &= waiting
        if not waiting - self._warned and not (waiting and app.settings.unknown == "dead"):
            return
        known = {name for worker in app.driver.workers() if worker.status == "running" for name in worker.tasks}
        for task in sorted(waiting - known):
            if app.settings.unknown == "dead":
                self._end_unknown(task)
            elif task not in self._warned:
                self._warned.add(task)
                log.warning("jobs of task %r wait, but no worker knows it; they stay until one does", task)

    def _end_unknown(self, task: str) -> None:
        error = failures.encode(Failure(type="windlass.UnknownTaskError", message=f"no worker knows task {task!r}"))

        def decide(record: Record, _now: float) -> Transition:
            return lifecycle.give_up(record, error)

        app = self._app
        records = app.driver.find(Filter(statuses=(Status.PENDING,), task=task), limit=SLICE)
        for changed in app.driver.change([record.id for record in records], decide):
            if changed.transition is not None and app.hub.wants(JobDead):
                job = app.get(changed.job_id)
                if job.error is not None:
                    app.hub.emit(JobDead(job=job, error=job.error))

    def _purge(self, kept: dict[Status, float]) -> bool:
        """Delete a bounded number of jobs; tell whether all are gone that were to go."""
        return any(self._app.driver.purge(kept, SLICE) < SLICE for _ in range(SLICES))
