"""What happens, told in process.

``app.on(JobDead)`` registers a listener. A listener that raises is logged and hurts nobody. Every log line about jobs is
made by one listener of these events, :class:`LogSubscriber`; another hands them to the fleet (:mod:`.publisher`).
"""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from windlass.job import Failure, Job

if TYPE_CHECKING:
    from collections.abc import Callable


log = logging.getLogger(__name__)


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something happened."""


class JobEvent(Event, frozen=True, kw_only=True):
    """Something happened to a job, which is shown as it then was."""

    job: Job
    cut: tuple[str, ...] = ()
    """Fields of the job that were too long to be told to other processes; ``job.refresh()`` has them."""


class JobEnqueued(JobEvent, frozen=True, kw_only=True):
    """A job was stored."""


class JobStarted(JobEvent, frozen=True, kw_only=True):
    """An attempt reached its handler."""


class JobCompleted(JobEvent, frozen=True, kw_only=True):
    """A job's handler returned, and this is stored."""

    duration: float


class JobFailed(JobEvent, frozen=True, kw_only=True):
    """An attempt failed, and this is stored."""

    error: Failure
    will_retry: bool
    exception: BaseException | None = None


class JobDead(JobEvent, frozen=True, kw_only=True):
    """A job failed for good."""

    error: Failure
    exception: BaseException | None = None


class JobCancelled(JobEvent, frozen=True, kw_only=True):
    """A job was cancelled."""


class JobSnoozed(JobEvent, frozen=True, kw_only=True):
    """A handler asked to be run later."""


class JobRescued(JobEvent, frozen=True, kw_only=True):
    """A job was taken back from a lost worker."""


class LeaseLost(JobEvent, frozen=True, kw_only=True):
    """A write of this worker was refused because the job has moved on."""


class JobDeleted(JobEvent, frozen=True, kw_only=True):
    """A job was deleted by hand; what retention deletes is not told."""


class BatchFinished(Event, frozen=True, kw_only=True):
    """All jobs of a batch have ended, and those of the batches in it."""

    batch_id: int
    name: str
    completed: int = 0
    dead: int = 0
    cancelled: int = 0


class ScheduleTicked(Event, frozen=True, kw_only=True):
    """A tick of a schedule was considered: its job was enqueued, or it was skipped."""

    name: str
    outcome: str
    """``fired``, ``triggered``, ``missed``, ``overlap``, ``paused`` or ``held``."""
    tick: float
    """The tick's instant, epoch seconds."""
    queue: str = ""
    job_id: int | None = None
    late: float = 0.0
    """Seconds between the tick and when it was considered."""


class WorkerStarted(Event, frozen=True, kw_only=True):
    """A worker of this process started."""

    worker: str


class WorkerStopped(Event, frozen=True, kw_only=True):
    """A worker of this process stopped."""

    worker: str


class WorkerLost(Event, frozen=True, kw_only=True):
    """Another worker was declared lost."""

    worker: str


class QueuePaused(Event, frozen=True, kw_only=True):
    """A queue or task was paused from this process."""

    kind: str
    name: str


class QueueResumed(Event, frozen=True, kw_only=True):
    """A queue or task was resumed from this process."""

    kind: str
    name: str


def _open() -> bool:
    return True


Pair: TypeAlias = "tuple[Callable[[Any], object], Callable[[], bool]]"
"""A listener and its gate."""


class Hub:
    """Hands events to their listeners."""

    def __init__(self) -> None:
        self._listeners: dict[type[Event], list[Pair]] = {}
        self._heard: dict[type[Event], tuple[Pair, ...]] = {}
        """The listeners of each kind with those of the kinds it is derived from, as far as anybody has asked."""

    def add(self, kind: type[Event], listener: Callable[[Any], object], *, gate: Callable[[], bool] = _open) -> None:
        """Call *listener* with every event of *kind* (or derived from it) while *gate* says yes."""
        self._listeners.setdefault(kind, []).append((listener, gate))
        self._heard = {}

    def remove(self, kind: type[Event], listener: Callable[[Any], object]) -> None:
        """Stop calling *listener*; unknown ones are ignored."""
        kept = [pair for pair in self._listeners.get(kind, []) if pair[0] is not listener]
        self._listeners[kind] = kept
        self._heard = {}

    def wants(self, kind: type[Event]) -> bool:
        """Whether anybody listens, so that an event nobody wants is never made."""
        for _, gate in self._pairs(kind):  # noqa: SIM110 - asked several times for each job; a generator costs twice as much
            if gate():
                return True
        return False

    def emit(self, event: Event) -> None:
        """Tell the listeners."""
        for listener, gate in self._pairs(type(event)):
            try:
                if gate():
                    listener(event)
            except Exception:
                log.exception("a listener of %s failed", type(event).__name__)

    def _pairs(self, kind: type[Event]) -> tuple[Pair, ...]:
        heard = self._heard
        pairs = heard.get(kind)
        if pairs is None:
            pairs = heard[kind] = tuple(pair for base in kind.__mro__ for pair in self._listeners.get(base, ()))
        return pairs


class LogSubscriber:
    """Writes the log lines about jobs."""

    def __init__(self, hub: Hub, logger: logging.Logger) -> None:
        self._log = logger
        lines: dict[type[Event], tuple[int, Callable[[Any], None]]] = {
            JobEnqueued: (logging.DEBUG, lambda e: self._log.debug("job %d %s enqueued", e.job.id, e.job.task)),
            JobStarted: (logging.DEBUG, self._started),
            JobCompleted: (logging.INFO, self._completed),
            JobFailed: (logging.WARNING, self._failed),
            JobDead: (logging.ERROR, self._dead),
            JobCancelled: (logging.INFO, lambda e: self._log.info("job %d %s cancelled", e.job.id, e.job.task)),
            JobSnoozed: (logging.INFO, self._snoozed),
            JobRescued: (logging.WARNING, self._rescued),
            LeaseLost: (logging.WARNING, self._lease_lost),
            BatchFinished: (logging.INFO, self._batch_finished),
            ScheduleTicked: (logging.INFO, self._ticked),
            WorkerStarted: (logging.INFO, lambda e: self._log.info("worker %s started", e.worker)),
            WorkerStopped: (logging.INFO, lambda e: self._log.info("worker %s stopped", e.worker)),
            WorkerLost: (logging.WARNING, lambda e: self._log.warning("worker %s is lost", e.worker)),
            QueuePaused: (logging.INFO, lambda e: self._log.info("%s %s paused", e.kind, e.name)),
            QueueResumed: (logging.INFO, lambda e: self._log.info("%s %s resumed", e.kind, e.name)),
        }
        for kind, (level, line) in lines.items():
            # The level is asked each time: logging is often set up after the application was made.
            hub.add(kind, line, gate=functools.partial(logger.isEnabledFor, level))

    def _started(self, event: JobStarted) -> None:
        self._log.debug("job %d %s started, attempt %d", event.job.id, event.job.task, event.job.attempt)

    def _completed(self, event: JobCompleted) -> None:
        self._log.info("job %d %s completed in %.3f s", event.job.id, event.job.task, event.duration)

    def _failed(self, event: JobFailed) -> None:
        if event.will_retry:
            job = event.job
            self._log.warning(
                "job %d %s failed (%d of %d), will retry: %s",
                job.id, job.task, job.failures, job.max_attempts, event.error,
            )  # fmt: skip

    def _dead(self, event: JobDead) -> None:
        self._log.error("job %d %s is dead: %s", event.job.id, event.job.task, event.error)

    def _snoozed(self, event: JobSnoozed) -> None:
        self._log.info("job %d %s snoozed until %s", event.job.id, event.job.task, event.job.run_at)

    def _rescued(self, event: JobRescued) -> None:
        self._log.warning("job %d %s was taken back from a lost worker", event.job.id, event.job.task)

    def _batch_finished(self, event: BatchFinished) -> None:
        self._log.info(
            "batch %d %s finished: %d completed, %d dead, %d cancelled",
            event.batch_id, event.name, event.completed, event.dead, event.cancelled,
        )  # fmt: skip

    def _ticked(self, event: ScheduleTicked) -> None:
        if event.job_id is not None:
            self._log.info("schedule %s %s: job %d, %.3f s late", event.name, event.outcome, event.job_id, event.late)
        else:
            self._log.info("schedule %s: a tick was skipped (%s)", event.name, event.outcome)

    def _lease_lost(self, event: LeaseLost) -> None:
        self._log.warning(
            "job %d %s has moved on: what lease %d wanted to write was refused",
            event.job.id, event.job.task, event.job.lease,
        )  # fmt: skip
