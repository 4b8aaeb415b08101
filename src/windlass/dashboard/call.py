"""One request as an endpoint gets it, after the guard has let it in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from starlette.responses import HTMLResponse, RedirectResponse, Response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.datastructures import FormData, QueryParams
    from starlette.requests import Request

    from windlass.app import Windlass
    from windlass.dashboard.access import Role, Visitor
    from windlass.dashboard.sessions import Session
    from windlass.dashboard.site import Dashboard


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """Who asks for what."""

    site: Dashboard
    request: Request
    who: Visitor
    session: Session
    form: FormData | None = None
    body: bytes = b""

    @property
    def app(self) -> Windlass:
        """The application whose store this is about."""
        return self.site.app

    @property
    def path(self) -> Mapping[str, Any]:
        """What the route's pattern has found."""
        return self.request.path_params

    @property
    def query(self) -> QueryParams:
        """What stands behind the question mark."""
        return self.request.query_params

    def field(self, name: str, default: str = "") -> str:
        """Return a text field of the form."""
        value = self.form.get(name, default) if self.form is not None else default
        return value if isinstance(value, str) else default

    def may(self, role: Role) -> bool:
        """Whether whoever asks has a role."""
        return self.who.role >= role

    def url(self, route: str, query: Mapping[str, Any] | None = None, /, **path: Any) -> str:
        """Return the path of a route, wherever the dashboard is mounted."""
        spelt = {key: quote(value, safe="/") if isinstance(value, str) else value for key, value in path.items()}
        found = self.site.path_of(self.request, route, **spelt)
        words = {key: value for key, value in (query or {}).items() if value not in (None, "", [])}
        return f"{found}?{urlencode(words, doseq=True)}" if words else found

    def page(self, template: str, status: int = 200, **given: Any) -> Response:
        """Return a page."""
        html = self.site.render(self, template, **given)
        response = HTMLResponse(html, status_code=status)
        if self.request.cookies.get("windlass_said"):
            self.site.sessions.forget_said(self.request, response)
        return response

    def back(self, said: str, *, to: str) -> Response:
        """Answer a form: lead to a page, which says what was done."""
        response = RedirectResponse(to, status_code=303)
        self.site.sessions.say(self.request, response, said)
        return response
