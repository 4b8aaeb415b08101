"""The queues and tasks, what is paused, and the limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from windlass.dashboard.pages.overview import RECENT, health_of
from windlass.job import Status

if TYPE_CHECKING:
    from starlette.responses import Response

    from windlass.dashboard.call import Call


def page(call: Call) -> Response:
    """Show them."""
    app = call.app
    samples, workers, stats = app.samples("minute", limit=RECENT + 1), app.workers(), app.stats()
    paused = {name for kind, name in app.driver.pauses() if kind == "task"}
    names = sorted({*stats.tasks, *paused})
    return call.page(
        "queues.html",
        health=[health_of(queue, samples, workers) for queue in app.queues()],
        tasks=[(name, stats.tasks.get(name), name in paused) for name in names],
        limits=[(one, app.holders(one.key) if one.kind == "limit" else []) for one in app.limits()],
        statuses=list(Status),
    )
