"""The dashboard: pages, a JSON API and metrics over one application's store, as an ASGI application.

Theory: everything that can be asked for is a row of one table (:mod:`.table`), with the role it takes; one guard
(:mod:`.guard`) stands before all of them. An endpoint is a plain function of a :class:`~.call.Call`, run in a thread, so
that it may block. Pages are HTML that needs no script to be read and forms that need none to act.

Rules: closed by default. Nothing reads more than a page of anything. What acts goes through :mod:`.acting`, which writes
the audit.
"""

from windlass.dashboard.access import Role, Visitor
from windlass.dashboard.site import Dashboard

__all__ = ["Dashboard", "Role", "Visitor"]
