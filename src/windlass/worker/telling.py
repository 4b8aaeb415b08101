"""Telling what happened: counts for the heartbeat, events for listeners. Only what is stored is told."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from windlass.events import (
    JobCancelled,
    JobCompleted,
    JobDead,
    JobEvent,
    JobFailed,
    JobSnoozed,
    JobStarted,
    LeaseLost,
)
from windlass.job import Failure, Outcome, Status

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from windlass.app import Windlass
    from windlass.job import Job
    from windlass.lifecycle import Settlement
    from windlass.worker.execution import Execution


class Teller:
    """Counts and tells."""

    def __init__(self, app: Windlass) -> None:
        self._app = app
        self._hub = app.hub
        self.processed = 0
        self.failed = 0
        self.refused = 0
        self.ended = 0

    def started(self, executions: Sequence[Execution]) -> None:
        """Tell that attempts reach their handlers."""
        if self._hub.wants(JobStarted):
            for execution in executions:
                self._hub.emit(JobStarted(job=self._app.wrap(execution.record)))

    def settled(
        self, settlements: Sequence[Settlement], ended: Mapping[int, Execution], refused: set[tuple[int, int]]
    ) -> None:
        """Tell how attempts have ended."""
        wanted = any(self._hub.wants(kind) for kind in (JobCompleted, JobFailed, JobDead, JobCancelled, JobSnoozed))
        for settlement in settlements:
            record, transition = settlement.record, settlement.transition
            if transition.outcome is None:
                continue
            self.ended += 1
            if refused and (record.id, record.lease) in refused:
                self.refused += 1
                self._hub.emit(LeaseLost(job=self._app.wrap(record)))
                continue
            if transition.outcome is Outcome.COMPLETED:
                self.processed += 1
            elif transition.outcome is Outcome.FAILED:
                self.failed += 1
            if wanted:
                self._tell(settlement, ended.get(record.lease))

    def completed_in_transaction(self, execution: Execution) -> None:
        """Tell that an attempt was completed by its own transaction."""
        self.ended += 1
        self.processed += 1
        if self._hub.wants(JobCompleted):
            record = msgspec.structs.replace(execution.record, status=Status.COMPLETED, lease=0)
            duration = time.monotonic() - execution.started
            self._hub.emit(JobCompleted(job=self._app.wrap(record), duration=duration))

    def _tell(self, settlement: Settlement, execution: Execution | None) -> None:
        record, transition = settlement.record, settlement.transition
        status = transition.status
        assert status is not None
        finished = status in (Status.COMPLETED, Status.DEAD, Status.CANCELLED)
        job = self._app.wrap(
            msgspec.structs.replace(
                record,
                status=status,
                attempt=transition.attempt,
                failures=transition.failures,
                crashes=transition.crashes,
                run_at=transition.run_at if transition.run_at is not None else record.run_at,
                finished_at=settlement.finished_at if finished else None,
                error=transition.error if transition.error is not None else record.error,
                result=transition.result,
                lease=0,
            )
        )
        for event in self._events(job, settlement, execution):
            self._hub.emit(event)

    def _events(self, job: Job, settlement: Settlement, execution: Execution | None) -> list[JobEvent]:
        record, transition = settlement.record, settlement.transition
        started = record.started_at or settlement.finished_at
        exception = execution.error if execution is not None else None
        failure = msgspec.json.decode(transition.error, type=Failure) if transition.error is not None else None
        dead = transition.status is Status.DEAD
        events: list[JobEvent] = []
        match transition.outcome:
            case Outcome.COMPLETED:
                events.append(JobCompleted(job=job, duration=max(0.0, settlement.finished_at - started)))
            case Outcome.FAILED if failure is not None:
                events.append(JobFailed(job=job, error=failure, will_retry=not dead, exception=exception))
            case Outcome.SNOOZED:
                events.append(JobSnoozed(job=job))
            case Outcome.CANCELLED:
                events.append(JobCancelled(job=job))
        if dead and failure is not None:
            events.append(JobDead(job=job, error=failure, exception=exception))
        return events
