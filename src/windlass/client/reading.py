"""Asking about jobs, queues and workers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Unpack

import msgspec

from windlass.drivers.base import Filter
from windlass.errors import ConfigurationError, JobNotFoundError
from windlass.job import Attempt, Failure, Job, Line, Outcome, Record, Status
from windlass.limits import FAIR, fair_key, has_room
from windlass.offload import offload
from windlass.report import Count, Page, Queue, Shut, Stats, Throughput, Why, explain
from windlass.times import Duration, moment, seconds
from windlass.uniqueness import flow_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from windlass.drivers.base import Finding, Worker

from windlass.client.filters import Filters, check_id, check_text, known_key, select, whole
from windlass.client.handle import Handle
from windlass.client.limiting import HOLDERS

PAGE = 50
LARGEST_PAGE = 1000
COUNTED = 10_000
"""Filters that no counter answers are counted exactly up to here."""


class Reading(Handle):
    """Every question, with its twin."""

    def get(self, job_id: int | None = None, *, key: str | None = None) -> Job:
        """Return a job by id or idempotency key.

        Raises:
            JobNotFoundError: there is none.
        """
        if (job_id is None) == (key is None):
            raise TypeError("get() takes an id or key=, one of them")
        if key is None:
            record = self.driver.get(check_id(job_id))
        else:
            record = self.driver.by_key(key) if known_key(key) else None
        if record is None:
            raise JobNotFoundError(job_id if job_id is not None else str(key))
        return self.wrap(record)

    aget = offload(get)

    def history(self, job_id: int) -> list[Attempt]:
        """Return the ended attempts of a job, oldest first."""
        return [
            Attempt(
                number=row.number,
                worker=row.worker,
                started_at=moment(row.started_at),
                finished_at=moment(row.finished_at),
                outcome=Outcome(row.outcome),
                error=None if row.error is None else msgspec.json.decode(row.error, type=Failure),
            )
            for row in self.driver.history(check_id(job_id))
        ]

    ahistory = offload(history)

    def lines(self, job_id: int, *, after: int = 0) -> list[Line]:
        """Return the lines of a job's own log after line number *after*, oldest first; the last 1,000 are kept."""
        if not whole(after) or after < 0:
            raise ConfigurationError(f"after must be the number of a line, not {after!r}")
        return [
            Line(number, datetime.fromtimestamp(at, UTC), text)
            for number, at, text in self.driver.lines(check_id(job_id), after)
        ]

    alines = offload(lines)

    def jobs(
        self,
        *,
        status: str | Status | Collection[str | Status] | None = None,
        queue: str | None = None,
        task: str | None = None,
        tag: str | None = None,
        origin: str | None = None,
        batch: int | None = None,
        worker: str | None = None,
        error: str | type[BaseException] | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        started_before: datetime | None = None,
        limit: int = PAGE,
        offset: int = 0,
        after: int | None = None,
    ) -> Page:
        """Return matching jobs, newest first, and a cursor: pass ``page.next`` as ``after=`` for the next page.

        ``status`` may be several; ``"failed"`` means retrying and dead. ``error`` is an exception type, its stored
        name, or a fingerprint. At most 1,000 a page.
        """
        if not whole(limit) or not 1 <= limit <= LARGEST_PAGE:
            raise ConfigurationError(f"limit must be a whole number from 1 to {LARGEST_PAGE}, not {limit!r}")
        if not whole(offset) or not 0 <= offset < 1 << 63:
            raise ConfigurationError(f"offset must be a whole number that is not negative, not {offset!r}")
        if after is not None and (not whole(after) or not -(1 << 63) <= after < 1 << 63):
            raise ConfigurationError(f"after must be the cursor of a page, not {after!r}")
        which = select(
            status=status, queue=queue, task=task, tag=tag, origin=origin, batch=batch, worker=worker, error=error,
            created_after=created_after, created_before=created_before, started_before=started_before,
        )  # fmt: skip
        records = self.driver.find(which, limit=limit + 1, offset=offset, before=after)
        more = len(records) > limit
        found = [self.wrap(record) for record in records[:limit]]
        return Page(found, next=found[-1].id if more else None)

    ajobs = offload(jobs)

    def count(self, /, **filters: Unpack[Filters]) -> Count:
        """Count the jobs that match the filters of :meth:`jobs`: an ``int`` with ``.exact``.

        By status, queue and task it is read from counters; other filters are exact up to 10,000 and stop there.
        """
        which = select(**filters)
        number = self.driver.count(which, most=COUNTED)
        counters_only = which == Filter(statuses=which.statuses, queue=which.queue, task=which.task)
        return Count(number) if counters_only or number <= COUNTED else Count(COUNTED, exact=False)

    acount = offload(count)

    def stats(self) -> Stats:
        """Return the number of jobs in each status, per queue and task too, and totals that never fall."""
        return Stats.of(self.driver.tallies())

    astats = offload(stats)

    def throughput(self, queue: str | None = None, window: Duration = 60) -> Throughput:
        """Return how many jobs were processed and failed in the last *window* (at most an hour), over all processes."""
        length = seconds(window, name="window")
        if not 1 <= length <= 3600:
            raise ConfigurationError(f"window must be from 1 second to 1 hour, not {window!r}")
        now = self.driver.now()
        if queue is not None:
            check_text("queue", queue)
        return Throughput.of(self.driver.rates(now - length, queue), window=length)

    athroughput = offload(throughput)

    def queues(self) -> list[Queue]:
        """Return the queues, by name."""
        driver = self.driver
        stats, pauses, now = Stats.of(driver.tallies()), driver.pauses(), driver.now()
        names = set(stats.queues) | {name for kind, name in pauses if kind == "queue"}
        found = []
        for name in sorted(names):
            oldest = driver.oldest(name)
            age = None if oldest is None else max(0.0, now - oldest)
            found.append(Queue.of(name, stats, paused=("queue", name) in pauses, oldest=age))
        return found

    aqueues = offload(queues)

    def workers(self) -> list[Worker]:
        """Return the workers that live, and those lost or stopped within the last hour."""
        return self.driver.workers()

    aworkers = offload(workers)

    def why(self, job_id: int) -> Why:
        """Say why a job is not running (or that it is, or how it ended).

        Raises:
            JobNotFoundError: there is no such job.
        """
        driver = self.driver
        record = driver.get(check_id(job_id))
        if record is None:
            raise JobNotFoundError(job_id)
        turn = None if record.flow is None else fair_key(flow_of(record.flow).gates)
        ahead = 0
        if record.status is Status.PENDING:
            ahead = max(0, driver.count(Filter(statuses=(Status.PENDING,), queue=record.queue), most=COUNTED) - 1)
        return explain(
            self.wrap(record),
            pauses=driver.pauses(),
            workers=driver.workers(),
            queued=ahead,
            now=driver.now(),
            shut=self._shut(record) if record.status is Status.PENDING else (),
            turn=None if turn is None else turn.removeprefix(FAIR),
        )

    awhy = offload(why)

    def _shut(self, record: Record) -> list[Shut]:
        """Return the gates that let this job not start now."""
        driver = self.driver
        own = () if record.flow is None else flow_of(record.flow).gates
        names = (f"queue:{record.queue}", f"task:{record.task}")
        keys = {gate.key for gate in own} | {f"{kind}:{name}" for kind in ("limit", "rate") for name in names}
        now = driver.now()
        return [
            Shut(passage, () if passage.gate.per else driver.holders(passage.gate.key, HOLDERS))
            for passage in driver.passages(keys)
            if not has_room(passage.gate, used=passage.used, opens=passage.free_at, now=now)
        ]

    def diagnose(self) -> list[Finding]:
        """Look for what is wrong with the store and its workers; what ``windlass doctor`` prints."""
        from windlass.doctor import examine

        return examine(self.driver)

    adiagnose = offload(diagnose)
