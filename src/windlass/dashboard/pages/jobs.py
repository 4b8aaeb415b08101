"""The jobs: found by filters, a page at a time; and one of them with all that is known of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from windlass.client.filters import Filters
from windlass.dashboard.problems import Problem
from windlass.drivers.patience import at_most
from windlass.errors import BatchNotFoundError, ConfigurationError, QueryTimeoutError, WindlassError
from windlass.job import FINISHED, Status
from windlass.terms import terms_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.datastructures import FormData, QueryParams
    from starlette.responses import Response

    from windlass.dashboard.call import Call
    from windlass.job import Job

TEXTS = ("queue", "task", "tag", "origin", "worker", "error")
TIMES = ("created_after", "created_before", "started_before")
NAMES = ("status", *TEXTS, "batch", *TIMES)
PAGE = 50
COUNTING = 3.0
"""Seconds that counting what matches may take; a page goes without the number rather than not at all."""
LINES = 200
"""Lines of a job's log that are shown, the newest."""


def filters(given: QueryParams | FormData) -> Filters:
    """Read the filters of a query or form.

    Raises:
        ConfigurationError: one of them cannot be right.
    """
    found: dict[str, Any] = {}
    statuses = [str(value) for value in given.getlist("status") if value]
    if statuses:
        found["status"] = statuses
    for name in TEXTS:
        if value := str(given.get(name, "")).strip():
            found[name] = value
    if batch := str(given.get("batch", "")).strip():
        if not batch.isascii() or not batch.isdigit():
            raise ConfigurationError(f"batch must be a number, not {batch!r}")
        found["batch"] = int(batch)
    for name in TIMES:
        if value := str(given.get(name, "")).strip():
            found[name] = _instant(name, value)
    return cast("Filters", found)


def _instant(name: str, value: str) -> datetime:
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        raise ConfigurationError(f"{name} must be a time such as 2030-01-31T08:00, not {value!r}") from None
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)  # as the pages show it


def listed(call: Call) -> Response:
    """Show a page of those that match."""
    app = call.app
    words = {name: call.query.getlist(name) if name == "status" else call.query.get(name, "") for name in NAMES}
    wrong, found, count, which = "", None, None, Filters()
    try:
        which = filters(call.query)
        after = call.query.get("after", "")
        found = app.jobs(**which, limit=PAGE, after=int(after) if after.isdigit() and after.isascii() else None)
        count = counted(call, which)
    except ConfigurationError as error:
        wrong = str(error)
    stats = app.stats()
    return call.page(
        "jobs.html",
        400 if wrong else 200,
        jobs=found or [],
        next=call.url("jobs", {**words, "after": found.next}) if found is not None and found.next else None,
        count=count,
        words=words,
        wrong=wrong,
        statuses=list(Status),
        stats=stats,
        queues=sorted(stats.queues),
        tasks=sorted(stats.tasks),
        filtered=bool(which),
    )


def counted(call: Call, which: Filters) -> int | None:
    """Return how many match; ``None``: it takes too long to say."""
    try:
        with at_most(COUNTING):
            return call.app.count(**which)
    except QueryTimeoutError:
        return None


def shown(call: Call) -> Response:
    """Show one."""
    app = call.app
    job = app.get(call.path["id"])
    attempts = job.history()
    lines = job.lines()
    batch = None
    if job.batch_id is not None:
        try:
            batch = app.get_batch(job.batch_id)
        except BatchNotFoundError:
            batch = None
    hide = call.site.redact
    return call.page(
        "job.html",
        job=job,
        attempts=attempts,
        lines=lines[-LINES:],
        left_out=max(0, len(lines) - LINES),
        batch=batch,
        why=() if job.status in FINISHED else app.why(job.id).reasons,
        payload=hide(job.task, job.payload),
        result=hide(job.task, job.result),
        meta=hide(job.task, job.meta),
        data=hide(job.task, job.error.data) if job.error is not None else None,
        others=_others(call, job),
        following=[link.task for link in terms_of(job.record).chain],
    )


def _others(call: Call, job: Job) -> list[Job]:
    """Return jobs that come from the same origin, before and after."""
    if job.origin is None:
        return []
    try:
        return [other for other in call.app.jobs(origin=job.origin, limit=11) if other.id != job.id][:10]
    except WindlassError:
        return []


def words_of(which: Mapping[str, Any]) -> str:
    """Return filters as text, for the audit."""
    parts = []
    for name, value in which.items():
        shown = (
            ",".join(value) if isinstance(value, list) else value.isoformat() if isinstance(value, datetime) else value
        )
        parts.append(f"{name}={shown}")
    return " ".join(parts) or "all"


def number(text: str) -> int:
    """Read a job's number out of a form."""
    if not (text.isascii() and text.isdigit()):
        raise Problem(400, f"{text!r} is not a job's number")
    return int(text)
