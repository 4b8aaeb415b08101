"""Batches and their members."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.responses import Response

    from windlass.dashboard.call import Call

PAGE, MEMBERS = 50, 50


def listed(call: Call) -> Response:
    """Show a page of them, newest first."""
    after = call.query.get("after", "")
    found = call.app.batches(limit=PAGE + 1, after=int(after) if after.isascii() and after.isdigit() else None)
    shown = found[:PAGE]
    following = call.url("batches", {"after": shown[-1].id}) if len(found) > PAGE else None
    return call.page("batches.html", batches=[(batch, batch.progress()) for batch in shown], next=following)


def shown(call: Call) -> Response:
    """Show one with its newest members."""
    batch = call.app.get_batch(call.path["id"])
    members = call.app.jobs(batch=batch.id, limit=MEMBERS)
    return call.page("batch.html", batch=batch, progress=batch.progress(), members=members)
