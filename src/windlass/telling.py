"""Telling what became of a job, once it is stored: from a settlement, or a change by hand, to its events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from windlass.errors import StoreError
from windlass.events import (
    JobCancelled,
    JobCompleted,
    JobDead,
    JobDeleted,
    JobEvent,
    JobFailed,
    JobRescued,
    JobSnoozed,
)
from windlass.job import FINISHED, Failure, Outcome, Status
from windlass.lifecycle import Settlement
from windlass.uniqueness import enters, flow_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from windlass.drivers.base import Changed, Driver
    from windlass.events import Hub
    from windlass.job import Job, Record
    from windlass.lifecycle import Transition

KINDS = (JobCompleted, JobFailed, JobDead, JobCancelled, JobSnoozed, JobRescued)


class Speaker(Protocol):
    """What telling needs of an application."""

    hub: Hub

    @property
    def driver(self) -> Driver:
        """The store."""

    def wrap(self, record: Record) -> Job:
        """Show a record as a job."""


def wanted(hub: Hub) -> bool:
    """Whether anybody listens to how jobs end."""
    return any(hub.wants(kind) for kind in KINDS)


def tell(app: Speaker, settlement: Settlement, exception: BaseException | None = None) -> None:
    """Emit the events of a settlement that the store has accepted."""
    stored = _look(app, settlement) if contested(settlement) else None
    if stored is not None and stored.status is Status.CANCELLED:
        _tell_superseded(app, app.wrap(stored), settlement, exception)
        return
    for event in _events(app.wrap(after(settlement)), settlement, exception):
        app.hub.emit(event)


def _look(app: Speaker, settlement: Settlement) -> Record | None:
    try:
        return app.driver.get(settlement.record.id)
    except StoreError:  # what is told is as good as it can be; the turn goes on
        return None


def contested(settlement: Settlement) -> bool:
    """Whether the job had to take a unique key to go on: only the store knows whether another had it."""
    record, status = settlement.record, settlement.transition.status
    if record.flow is None or status is None:
        return False
    return any(enters(hold, Status.RUNNING, status) for hold in flow_of(record.flow).holds)


def _tell_superseded(app: Speaker, job: Job, settlement: Settlement, exception: BaseException | None) -> None:
    """Another job had its key: whatever it wanted, it was cancelled."""
    failure = _failure(settlement.transition)
    if settlement.transition.outcome is Outcome.FAILED and failure is not None:
        app.hub.emit(JobFailed(job=job, error=failure, will_retry=False, exception=exception))
    app.hub.emit(JobCancelled(job=job))


def tell_changes(app: Speaker, changes: Iterable[Changed]) -> None:
    """Emit the events of changes by hand; the job is shown as the change has made it."""
    if not (app.hub.wants(JobCancelled) or app.hub.wants(JobDeleted)):
        return
    now = None
    for changed in changes:
        record, transition = changed.before, changed.transition
        if record is None or transition is None:
            continue
        if transition.status is None:
            app.hub.emit(JobDeleted(job=app.wrap(record)))
        elif transition.status is Status.CANCELLED:
            now = now if now is not None else app.driver.now()
            app.hub.emit(JobCancelled(job=app.wrap(after(Settlement(record, transition, now)))))


def _failure(transition: Transition) -> Failure | None:
    return None if transition.error is None else msgspec.json.decode(transition.error, type=Failure)


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
        cancel=False,
    )


def _events(job: Job, settlement: Settlement, exception: BaseException | None) -> list[JobEvent]:
    record, transition = settlement.record, settlement.transition
    started = record.started_at or settlement.finished_at
    failure = _failure(transition)
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
