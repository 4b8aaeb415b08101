"""Jobs over HTTP: one, many, new ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from windlass.dashboard.acting import act
from windlass.dashboard.api.views import (
    AttemptView,
    BulkBody,
    CountView,
    DoneView,
    EnqueueBody,
    ErrorView,
    JobsQuery,
    JobsView,
    JobView,
    LineView,
    ReasonView,
    RetryBody,
    Told,
    Which,
)
from windlass.dashboard.pages.bulk import matching
from windlass.dashboard.pages.jobs import words_of
from windlass.dashboard.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from windlass.dashboard.call import Call
    from windlass.job import Job


def view(call: Call, job: Job) -> JobView:
    """Show a job as this visitor may see it."""
    return JobView.of(job, call.site.redact)


def listed(call: Call, query: JobsQuery, _body: None) -> JobsView:
    """Return a page."""
    page = call.app.jobs(**query.filters(), limit=query.limit, after=query.after)
    return JobsView([view(call, job) for job in page], page.next)


def count(call: Call, query: Which, _body: None) -> CountView:
    """Count."""
    found = call.app.count(**query.filters())
    return CountView(int(found), found.exact)


def shown(call: Call, _query: None, _body: None) -> JobView:
    """Return one."""
    return view(call, call.app.get(call.path["id"]))


def why(call: Call, _query: None, _body: None) -> list[ReasonView]:
    """Say why it is where it is."""
    return [ReasonView(code, text) for code, text in call.app.why(call.path["id"]).reasons]


def history(call: Call, _query: None, _body: None) -> list[AttemptView]:
    """Return its tries."""
    job = call.app.get(call.path["id"])
    return [
        AttemptView(
            number=one.number, worker=one.worker, started_at=one.started_at, finished_at=one.finished_at,
            outcome=one.outcome.value, error=ErrorView.of(one.error, job.task, call.site.redact),
        )
        for one in job.history()
    ]  # fmt: skip


def lines(call: Call, _query: None, _body: None) -> list[LineView]:
    """Return its log."""
    job = call.app.get(call.path["id"])
    return [LineView(line.number, line.at, line.text) for line in job.lines()]


def enqueue(call: Call, _query: None, body: EnqueueBody) -> JobView:
    """Store a new one."""
    given = msgspec.structs.asdict(body)
    task, payload = given.pop("task"), given.pop("payload")
    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}

    def do() -> Job:
        try:
            return call.app.enqueue(task, payload, **options)
        except (TypeError, ValueError) as error:
            raise Problem(422, str(error)) from error

    return view(call, act(call, "enqueue", f"task {task}", do))


def _one(call: Call, action: str, do: Callable[[int], Any]) -> JobView:
    job_id = call.path["id"]
    act(call, action, f"job {job_id}", lambda: do(job_id))
    return view(call, call.app.get(job_id))


def retry(call: Call, _query: None, body: RetryBody) -> JobView:
    """Try again."""
    given = msgspec.structs.asdict(body)
    return _one(call, "retry", lambda job_id: call.app.retry(job_id, **given))


def cancel(call: Call, _query: None, _body: None) -> JobView:
    """Cancel."""
    return _one(call, "cancel", call.app.cancel)


def run_now(call: Call, _query: None, _body: None) -> JobView:
    """Make available at once."""
    return _one(call, "run now", call.app.run_now)


def delete(call: Call, _query: None, _body: None) -> Told:
    """Delete."""
    job_id = call.path["id"]
    act(call, "delete", f"job {job_id}", lambda: call.app.delete(job_id))
    return Told()


def _many(call: Call, action: str, body: BulkBody, do: Callable[..., Any]) -> DoneView:
    which = body.filter.filters() if body.filter is not None else None
    if (body.ids is None) == (which is None):
        raise Problem(422, "give ids or filter, one of them")
    ids, more = (list(body.ids or ()), False) if which is None else matching(call, which)  # type: ignore[arg-type]
    detail = ", ".join(map(str, ids[:50])) if which is None else words_of(which)
    done = act(call, action, f"{len(ids)} jobs", lambda: do(ids=ids), detail=detail)
    return DoneView(done.ids, {str(job_id): str(error) for job_id, error in done.refused.items()}, more)


def retry_many(call: Call, _query: None, body: BulkBody) -> DoneView:
    """Try many again."""
    return _many(call, "retry", body, call.app.retry_many)


def cancel_many(call: Call, _query: None, body: BulkBody) -> DoneView:
    """Cancel many."""
    return _many(call, "cancel", body, call.app.cancel_many)


def delete_many(call: Call, _query: None, body: BulkBody) -> DoneView:
    """Delete many."""
    return _many(call, "delete", body, call.app.delete_many)
