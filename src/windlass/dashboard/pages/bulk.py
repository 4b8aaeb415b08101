"""Many jobs at once: first what would happen to how many, then, on a second click, that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from windlass.dashboard.access import Role
from windlass.dashboard.acting import act
from windlass.dashboard.pages.jobs import NAMES, counted, filters, number, words_of
from windlass.dashboard.problems import Problem
from windlass.drivers.patience import WATCHED, at_most
from windlass.job import FINISHED, Status

if TYPE_CHECKING:
    from starlette.responses import Response

    from windlass.client.filters import Filters
    from windlass.dashboard.call import Call
    from windlass.report import Done

MOST = 10_000
"""Jobs changed by one request; the page says that there are more."""
SAMPLE = 20
ACTIONS: dict[str, tuple[str, Role, frozenset[Status]]] = {
    "retry": ("retried", Role.OPERATE, frozenset({Status.DEAD, Status.CANCELLED, Status.RETRYING})),
    "cancel": ("cancelled", Role.OPERATE, frozenset(Status) - frozenset(FINISHED)),
    "delete": ("deleted", Role.ADMIN, frozenset(Status) - {Status.RUNNING}),
}
"""What can be done, what it is called when it is done, the role it takes, and the statuses that allow it."""


def bulk(call: Call) -> Response:
    """Show what would happen, or do it."""
    action = call.field("action")
    if action not in ACTIONS:
        raise Problem(400, f"{action!r} is not one of {', '.join(ACTIONS)}")
    if not call.may(ACTIONS[action][1]):
        raise Problem(403, f"to {action} takes the role {ACTIONS[action][1].name.lower()}")
    assert call.form is not None
    which: Filters | None = filters(call.form) if call.field("all") else None
    ids = [] if which is not None else [number(str(value)) for value in call.form.getlist("id")]
    if which is None and not ids:
        return call.back("Nothing was selected.", to=call.url("jobs", _words(call)))
    if not call.field("confirmed"):
        return _preview(call, action, which, ids)
    return _done(call, action, which, ids)


def _preview(call: Call, action: str, which: Filters | None, ids: list[int]) -> Response:
    allowed = ACTIONS[action][2]
    if which is not None:
        count = counted(call, which)
        with at_most(WATCHED):
            jobs = list(call.app.jobs(**which, limit=SAMPLE))
    else:
        count, jobs = len(ids), [job for job in map(_found(call), ids[:SAMPLE]) if job is not None]
    return call.page(
        "bulk.html",
        action=action,
        count=count,
        jobs=jobs,
        refused=[job for job in jobs if job.status not in allowed],
        ids=ids,
        words=_words(call),
        everything=which is not None,
        most=MOST,
    )


def _found(call: Call) -> Any:
    def get(job_id: int) -> Any:
        found = call.app.driver.get(job_id)
        return None if found is None else call.app.wrap(found)

    return get


def _done(call: Call, action: str, which: Filters | None, ids: list[int]) -> Response:
    app = call.app
    more = False
    if which is not None:
        ids, more = matching(call, which)
    do = {"retry": app.retry_many, "cancel": app.cancel_many, "delete": app.delete_many}[action]
    detail = words_of(which) if which is not None else ", ".join(map(str, ids[:50]))
    done: Done = act(call, action, f"{len(ids)} jobs", lambda: do(ids=ids), detail=detail)
    said = f"{len(done.ids)} {ACTIONS[action][0]}"
    if done.refused:
        job_id, error = next(iter(done.refused.items()))
        said += f", {len(done.refused)} refused (#{job_id}: {error})"
    if more:
        said += f"; there are more: {MOST:,} are changed at once, do it again for the others"
    return call.back(said + ".", to=call.url("jobs", _words(call)))


def matching(call: Call, which: Filters) -> tuple[list[int], bool]:
    """Return the ids of what matches, as many as are changed at once, and whether there are more."""
    ids: list[int] = []
    after = None
    while len(ids) < MOST:
        page = call.app.jobs(**which, limit=1000, after=after)
        ids += [job.id for job in page]
        after = page.next
        if after is None:
            return ids, False
    return ids, True


def _words(call: Call) -> dict[str, Any]:
    assert call.form is not None
    return {name: call.form.getlist(name) if name == "status" else call.field(name) for name in NAMES}
