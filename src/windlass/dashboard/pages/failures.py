"""What fails, by cause."""

from __future__ import annotations

from typing import TYPE_CHECKING

from windlass.drivers.base import FAULTS

if TYPE_CHECKING:
    from starlette.responses import Response

    from windlass.dashboard.call import Call

GROUPS = 100


def page(call: Call) -> Response:
    """Show the groups, that with the newest job first."""
    return call.page("failures.html", groups=call.app.failures(limit=GROUPS), most=FAULTS)
