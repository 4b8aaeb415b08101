"""What has been observed: failures by cause, history, histograms, who did what; and orders to workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from windlass import measures, observed
from windlass.client.filters import check_text, whole
from windlass.client.handle import Handle
from windlass.errors import ConfigurationError, WorkerNotFoundError
from windlass.job import Failure
from windlass.observed import AUDIT, AUDIT_KEPT, LEVELS, ORDERS, Action, FailureGroup
from windlass.offload import offload
from windlass.times import instant

if TYPE_CHECKING:
    from datetime import datetime

    from windlass.observed import Level, Order, Sample

_failure = msgspec.json.Decoder(Failure).decode
MOST = 1000
"""Groups, samples or actions returned at once."""


class Observing(Handle):
    """Every question about what has been observed, with its twin."""

    def failures(self, *, limit: int = 50) -> list[FailureGroup]:
        """Return dead and retrying jobs in groups of one cause, that with the newest job first.

        ``app.jobs(error=group.fingerprint)`` lists a group, ``app.retry_many(error=group.fingerprint)`` retries it. The
        cost depends on the number of groups, not on that of the jobs.
        """
        found = []
        for fault in self.driver.faults(_bounded(limit)):
            record = self.driver.get(fault.newest)
            if record is None or record.error is None:
                continue  # it has gone meanwhile
            error = _failure(record.error)
            found.append(
                FailureGroup(
                    fingerprint=fault.fingerprint,
                    type=error.type,
                    message=error.message,
                    dead=fault.dead,
                    retrying=fault.retrying,
                    newest=self.wrap(record),
                )
            )
        return found

    afailures = offload(failures)

    def measures(self) -> list[measures.Measure]:
        """Return how long jobs have waited and run since the store was made, as histograms by queue and task.

        Workers write what they see with every heartbeat.
        """
        return measures.read(self.driver.measures())

    ameasures = offload(measures)

    def samples(
        self, level: Level = "minute", *, limit: int | None = None, before: datetime | None = None
    ) -> list[Sample]:
        """Return how the queues stood at the end of each minute or hour, oldest first.

        A day of minutes and 90 days of hours are kept; there is none for a time in which no worker ran. Totals never
        fall, so that the difference of two samples is what happened between them.
        """
        name = observed.journal(level)
        step, kept = LEVELS[level]
        number = None if before is None else int(instant(before, name="before") // step)
        entries = self.driver.entries(name, kept if limit is None else _bounded(limit, kept), number)
        return [observed.sample(entry, level) for entry in reversed(entries)]

    asamples = offload(samples)

    def audit(self, *, limit: int = 50, before: int | None = None) -> list[Action]:
        """Return what was done by hand through the dashboard and its API, newest first; the last 10,000 are kept."""
        if before is not None and not whole(before):
            raise ConfigurationError(f"before must be the number of an action, not {before!r}")
        return [observed.action(entry) for entry in self.driver.entries(AUDIT, _bounded(limit), before)]

    aaudit = offload(audit)

    def record_action(
        self, actor: str, action: str, target: str, *, done: int = 1, refused: int = 0, detail: str = ""
    ) -> None:
        """Write into the audit that somebody did something; for tools that change jobs on behalf of a person."""
        for name, text in (("actor", actor), ("action", action), ("target", target), ("detail", detail)):
            check_text(name, text)
        what = Action(actor=actor, action=action, target=target, done=done, refused=refused, detail=detail)
        self.driver.write(AUDIT, observed.encoded(what), keep=AUDIT_KEPT)

    arecord_action = offload(record_action)

    def order(self, worker: str, what: Order) -> None:
        """Tell a worker to go ``"quiet"`` (claim nothing more), to ``"resume"``, or to ``"stop"`` as after SIGTERM.

        It obeys within a second. One that is stopped ends its process if it is one of ``windlass worker``; whoever
        supervises it may start it again.

        Raises:
            WorkerNotFoundError: there is no such worker, or it does not live.
        """
        if what not in ORDERS:
            raise ConfigurationError(f"an order is one of {', '.join(ORDERS)}, not {what!r}")
        if not self.driver.order(check_text("worker", worker), ORDERS[what]):
            raise WorkerNotFoundError(worker)

    aorder = offload(order)


def _bounded(limit: int, most: int = MOST) -> int:
    if not whole(limit) or not 1 <= limit <= most:
        raise ConfigurationError(f"limit must be a whole number from 1 to {most}, not {limit!r}")
    return limit
