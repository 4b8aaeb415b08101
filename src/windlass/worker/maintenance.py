"""Maintenance: every worker takes back lost jobs, deletes what has been kept long enough, and tidies the store.

No leader is needed: each step is a small conditional write, and doing it twice changes nothing.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from windlass import rescuer
from windlass.events import JobRescued, WorkerLost
from windlass.worker.service import Service

if TYPE_CHECKING:
    from collections.abc import Callable

    from windlass.app import Windlass
    from windlass.job import Status

RESCUE = 1.0
RETENTION = 30.0
TIDY = 60.0
SLICE = 500
"""Jobs deleted in one transaction at most: the store's writer is not held for long."""
SLICES = 20


class Maintenance:
    """Looks after the store."""

    def __init__(self, app: Windlass, *, worker: Callable[[], str], trusted: Callable[[], bool]) -> None:
        self._app = app
        self._worker = worker
        self._trusted = trusted
        self._kept = {status: age for status, age in app.settings.retention.items() if age is not None}
        self._at_once = {status: age for status, age in self._kept.items() if age == 0}
        now = time.monotonic()
        self._next_purge = now + RETENTION / 10
        self._next_tidy = now + TIDY
        self._service = Service("maintenance", self.tick, interval=RESCUE)

    def start(self) -> None:
        """Start looking."""
        self._service.start()

    def stop(self) -> None:
        """Stop looking."""
        self._service.stop()

    def tick(self) -> None:
        """Do what is due."""
        self.rescue()
        now = time.monotonic()
        if self._at_once:
            self._purge(self._at_once)
        if now >= self._next_purge:
            self._next_purge = now + RETENTION
            self._purge(self._kept)
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
            if app.hub.wants(JobRescued):
                for record in rescued:
                    current = app.driver.get(record.id)
                    if current is not None:
                        app.hub.emit(JobRescued(job=app.wrap(current)))
            if len(rescued) < rescuer.BATCH:
                return

    def _purge(self, kept: dict[Status, float]) -> None:
        for _ in range(SLICES):
            if self._app.driver.purge(kept, SLICE) < SLICE:
                return
