"""A schedule as users hold it, and a row of its history."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

import msgspec

from windlass import schedule as rules
from windlass.schedule import TickOutcome
from windlass.times import moment

if TYPE_CHECKING:
    from windlass.client.schedules import Schedules
    from windlass.drivers.ticking import ScheduleRecord, TickRecord
    from windlass.job import Job

_REASONS = {
    TickOutcome.MISSED: "it came when no worker was there",
    TickOutcome.OVERLAP: "the job of an earlier tick had not ended",
    TickOutcome.PAUSED: "the schedule was paused",
    TickOutcome.HELD: "another job had the unique key of its job",
}


class Tick(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one tick in one queue, or of several that were skipped together."""

    number: int
    """From 1; the next row of the same schedule is higher."""
    at: datetime
    """The tick's instant; of several the last."""
    considered_at: datetime
    """When a worker dealt with it."""
    outcome: TickOutcome
    queue: str = ""
    """Empty: all queues of the schedule."""
    job_id: int | None = None
    """The job that was enqueued for it."""
    other_job_id: int | None = None
    """The job because of which it was skipped."""
    count: int | None = 1
    """How many ticks these are; ``None`` = more than were counted."""
    first: datetime | None = None
    """The first of several."""

    @property
    def fired(self) -> bool:
        """Whether a job was enqueued."""
        return self.job_id is not None

    @property
    def late(self) -> float:
        """Seconds between the tick and when it was considered."""
        return (self.considered_at - self.at).total_seconds()

    @property
    def reason(self) -> str | None:
        """Why no job was enqueued; ``None``: one was."""
        if self.outcome not in _REASONS:
            return None
        named = f" (job {self.other_job_id})" if self.other_job_id is not None else ""
        return f"{_REASONS[self.outcome]}{named}"

    def __str__(self) -> str:
        """Return one line for people."""
        at = self.at.isoformat(" ", "seconds" if not self.at.microsecond else "auto")
        if self.first is not None:
            many = "many" if self.count is None else str(self.count)
            return f"{many} ticks up to {at}: skipped, {self.reason}"
        where = f" in {self.queue}" if self.queue else ""
        what = f"{self.outcome}, job {self.job_id}, {self.late:.3g} s late" if self.fired else f"skipped, {self.reason}"
        return f"{at}{where}: {what}"


def tick_of(row: TickRecord) -> Tick:
    """Show a row of history."""
    return Tick(
        number=row.number,
        at=cast("datetime", moment(row.tick)),
        considered_at=cast("datetime", moment(row.at)),
        outcome=TickOutcome(row.outcome),
        queue=row.queue,
        job_id=row.job_id,
        other_job_id=row.other,
        count=row.count,
        first=moment(row.first),
    )


class Schedule:
    """A schedule as it was when it was read; ``refresh()`` returns a newer view."""

    def __init__(self, schedules: Schedules, record: ScheduleRecord) -> None:
        self._schedules = schedules
        self._record = record
        self._definition = rules.definition_of(record)

    def __repr__(self) -> str:
        """Show what matters most."""
        return f"<Schedule {self.name!r} {self.words}{' (paused)' if self.paused else ''}>"

    def __str__(self) -> str:
        """Return it in words."""
        return self.words

    def __eq__(self, other: object) -> bool:
        """Compare what is stored."""
        return self._record == other._record if isinstance(other, Schedule) else NotImplemented

    def __hash__(self) -> int:
        """Hash by name."""
        return hash(self.name)

    # ------------------------------------------------------------------ what it is

    @property
    def name(self) -> str:
        """What it is called; the same for as long as it lives."""
        return self._record.name

    @property
    def words(self) -> str:
        """When it ticks, for people: ``every weekday at 02:00, Europe/Berlin``."""
        from windlass.wording import cron_in_words, interval_in_words  # loads what only schedules need

        one = self._definition
        if one.cron:
            return cron_in_words(one.cron, one.timezone, and_days=one.and_days)
        anchor = moment(one.anchor) if one.anchor else None
        return interval_in_words(one.every, anchor.strftime("%Y-%m-%d %H:%M:%S UTC") if anchor else "")

    @property
    def cron(self) -> str | None:
        """The cron expression; ``None`` for intervals."""
        return self._definition.cron or None

    @property
    def every(self) -> float | None:
        """Seconds between two ticks of an interval."""
        return self._definition.every or None

    @property
    def timezone(self) -> str:
        """The zone of a cron expression."""
        return self._definition.timezone

    @property
    def task(self) -> str:
        """The task whose jobs it enqueues."""
        return self._definition.job.task

    @property
    def queues(self) -> tuple[str, ...]:
        """Where each tick enqueues a job."""
        return self._definition.queues

    @property
    def payload(self) -> Any:
        """The arguments of its jobs."""
        return msgspec.json.decode(bytes(self._definition.job.payload))

    @property
    def missed(self) -> str:
        """What becomes of ticks that came when no worker was there: ``latest``, ``all`` or ``skip``."""
        return self._definition.missed

    @property
    def overlap(self) -> str:
        """What becomes of a tick while an earlier one's job has not ended: ``skip``, ``allow`` or ``queue``."""
        return self._definition.overlap

    @property
    def declared(self) -> bool:
        """Whether it was declared in code, by ``@app.schedule``."""
        return self._definition.declared

    @property
    def version(self) -> int:
        """The version that was given to its definition."""
        return self._definition.version

    @property
    def revision(self) -> int:
        """How often it has been declared anew, paused and resumed, and 1."""
        return self._record.revision

    @property
    def paused(self) -> bool:
        """Whether its ticks are skipped."""
        return self._record.paused_at is not None

    @property
    def paused_at(self) -> datetime | None:
        """Since when it is paused."""
        return moment(self._record.paused_at)

    @property
    def created_at(self) -> datetime:
        """When it was declared first."""
        return cast("datetime", moment(self._record.created_at))

    @property
    def watermark(self) -> datetime:
        """Up to when its ticks have been considered."""
        return cast("datetime", moment(self._record.watermark))

    @property
    def fired(self) -> int:
        """How many ticks have fired."""
        return self._record.fired

    @property
    def next_at(self) -> datetime | None:
        """The next tick; ``None``: it is paused, or over."""
        return next(iter(self._schedules.ticks_after(self._record, 1)), None)

    @property
    def last_jobs(self) -> dict[str, int]:
        """The id of the last job of each queue."""
        return dict(self._record.jobs)

    # ------------------------------------------------------------------ what can be done with it

    def refresh(self) -> Schedule:
        """Return it as it is now.

        Raises:
            ScheduleNotFoundError: it was removed.
        """
        return self._schedules.get(self.name)

    def next(self, n: int = 5) -> list[datetime]:
        """Return the next *n* ticks from now on, in its own zone; none while it is paused."""
        return self._schedules.next(self.name, n)

    def history(self, limit: int = 50, *, before: int | None = None) -> list[Tick]:
        """Return what became of its ticks, the newest first."""
        return self._schedules.history(self.name, limit, before=before)

    def pause(self) -> Schedule:
        """Skip its ticks from now on, for everybody."""
        return self._schedules.pause(self.name)

    def resume(self) -> Schedule:
        """Fire again from the next tick on."""
        return self._schedules.resume(self.name)

    def trigger(self, *, force: bool = False) -> list[Job]:
        """Enqueue its jobs now."""
        return self._schedules.trigger(self.name, force=force)

    def remove(self) -> None:
        """Forget it, with its history; its jobs stay."""
        self._schedules.remove(self.name)
