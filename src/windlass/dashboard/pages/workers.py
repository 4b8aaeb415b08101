"""Workers, the store, and who did what."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.responses import Response

    from windlass.dashboard.call import Call

RUNNING, ACTIONS = 200, 100


def page(call: Call) -> Response:
    """Show the workers and what they run."""
    app = call.app
    running = app.jobs(status="running", limit=RUNNING)
    return call.page("workers.html", workers=app.workers(), running=running, now=app.driver.now())


def store(call: Call) -> Response:
    """Show what the doctor says."""
    return call.page("store.html", findings=call.app.diagnose(), driver=call.app.driver.name)


def audit(call: Call) -> Response:
    """Show what was done by hand, newest first."""
    before = call.query.get("before", "")
    found = call.app.audit(limit=ACTIONS + 1, before=int(before) if before.isascii() and before.isdigit() else None)
    actions = found[:ACTIONS]
    following = call.url("audit", {"before": actions[-1].number}) if len(found) > ACTIONS else None
    return call.page("audit.html", actions=actions, next=following)
