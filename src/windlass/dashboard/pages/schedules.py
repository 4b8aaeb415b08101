"""Schedules: when they tick, and what became of their ticks."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.responses import Response

    from windlass.dashboard.call import Call

TICKS, NEXT = 100, 5


def listed(call: Call) -> Response:
    """Show all."""
    return call.page("schedules.html", schedules=call.app.schedules.all())


def shown(call: Call) -> Response:
    """Show one with its ticks to come and those that were."""
    schedule = call.app.schedules.get(call.path["name"])
    return call.page("schedule.html", schedule=schedule, coming=schedule.next(NEXT), ticks=schedule.history(TICKS))
