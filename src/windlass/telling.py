"""Telling what became of a job, once it is stored: from a settlement to its events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from windlass.events import JobCancelled, JobCompleted, JobDead, JobEvent, JobFailed, JobRescued, JobSnoozed
from windlass.job import FINISHED, Failure, Outcome, Status

if TYPE_CHECKING:
    from windlass.events import Hub
    from windlass.job import Job, Record
    from windlass.lifecycle import Settlement

KINDS = (JobCompleted, JobFailed, JobDead, JobCancelled, JobSnoozed, JobRescued)


class Speaker(Protocol):
    """What telling needs of an application."""

    hub: Hub

    def wrap(self, record: Record) -> Job:
        """Show a record as a job."""


def wanted(hub: Hub) -> bool:
    """Whether anybody listens to how jobs end."""
    return any(hub.wants(kind) for kind in KINDS)


def tell(app: Speaker, settlement: Settlement, exception: BaseException | None = None) -> None:
    """Emit the events of a settlement that the store has accepted."""
    for event in _events(app.wrap(after(settlement)), settlement, exception):
        app.hub.emit(event)


def after(settlement: Settlement) -> Record:
    """Return the record as it is once the settlement is written."""
    record, transition = settlement.record, settlement.transition
    return msgspec.structs.replace(
        record,
        status=transition.status or record.status,
        attempt=transition.attempt,
        failures=transition.failures,
        crashes=transition.crashes,
        run_at=transition.run_at if transition.run_at is not None else record.run_at,
        finished_at=settlement.finished_at if transition.status in FINISHED else None,
        error=transition.error if transition.error is not None else record.error,
        result=transition.result,
        lease=0,
    )


def _events(job: Job, settlement: Settlement, exception: BaseException | None) -> list[JobEvent]:
    record, transition = settlement.record, settlement.transition
    started = record.started_at or settlement.finished_at
    failure = None if transition.error is None else msgspec.json.decode(transition.error, type=Failure)
    dead = transition.status is Status.DEAD
    events: list[JobEvent] = []
    match transition.outcome:
        case Outcome.COMPLETED:
            events.append(JobCompleted(job=job, duration=max(0.0, settlement.finished_at - started)))
        case Outcome.FAILED if failure is not None:
            events.append(JobFailed(job=job, error=failure, will_retry=not dead, exception=exception))
        case Outcome.SNOOZED:
            events.append(JobSnoozed(job=job))
        case Outcome.LOST:
            events.append(JobRescued(job=job))
    if transition.status is Status.CANCELLED:
        events.append(JobCancelled(job=job))
    if dead and failure is not None:
        events.append(JobDead(job=job, error=failure, exception=exception))
    return events
