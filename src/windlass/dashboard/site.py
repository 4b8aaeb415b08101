"""``Dashboard``: the ASGI application, put together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from windlass.dashboard.access import Access, Attempts
from windlass.dashboard.guard import no_route, routes
from windlass.dashboard.live import Live
from windlass.dashboard.redaction import Redactor
from windlass.dashboard.sessions import Sessions
from windlass.errors import ConfigurationError

try:
    import jinja2
    import python_multipart  # noqa: F401 - starlette reads forms with it
    from starlette.applications import Starlette
except ImportError as missing:
    raise ConfigurationError(
        f"the dashboard needs what cannot be imported ({missing}): pip install 'windlass[dashboard]'"
    ) from missing

from windlass.dashboard import showing

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from windlass.app import Windlass
    from windlass.dashboard.access import Role, Visitor
    from windlass.dashboard.call import Call


class Dashboard:
    """Pages, API and metrics of one application's store; an ASGI application that can be mounted anywhere.

    Args:
        app: the application; its tasks need not be imported here, but then payloads are not checked on enqueue.
        password: of the user ``admin``, who may do everything.
        users: name to ``(password, role)``; a role is ``"read"``, ``"operate"`` or ``"admin"``.
        tokens: token to role, or to ``(name, role)``, for programs that send ``Authorization: Bearer TOKEN``.
        identify: asks the host application who a Starlette ``Request`` is from: a ``Visitor``, or ``None`` for nobody.
            Under WSGI the host's own environment is ``request.scope["wsgi_environ"]``.
        insecure: everybody may do everything; refused for requests that do not come to this very machine's own name.
        secret: signs sessions; default: made of the passwords and tokens, so that several processes agree.
        redact: names of payload keys to hide beside the usual ones.
        hook: gets ``(task, value)`` of every payload and result that is about to be shown, and returns what is.
        title: what the pages are headed with.
        live: ``"events"`` streams the numbers, ``"poll"`` has browsers ask every 2 s, for servers that hold a thread per
            connection.

    Raises:
        ConfigurationError: nobody could enter, or the extra is missing.
    """

    def __init__(
        self,
        app: Windlass,
        *,
        password: str | None = None,
        users: Mapping[str, tuple[str, str | Role]] | None = None,
        tokens: Mapping[str, str | Role | tuple[str, str | Role]] | None = None,
        identify: Callable[[Request], Visitor | None] | None = None,
        insecure: bool = False,
        secret: str | bytes | None = None,
        redact: Collection[str] = (),
        hook: Callable[[str, Any], Any] | None = None,
        title: str = "Windlass",
        live: str = "events",
    ) -> None:
        if live not in ("events", "poll"):
            raise ConfigurationError(f"live is 'events' or 'poll', not {live!r}")
        self.app = app
        self.title = title
        self.updates = live
        self.access = Access(password=password, users=users, tokens=tokens, identify=identify, insecure=insecure)
        self.attempts = Attempts()
        self.sessions = Sessions(secret.encode() if isinstance(secret, str) else secret or self.access.secret())
        self.redact = Redactor(redact, hook)
        self.live = Live(app)
        self._pages = jinja2.Environment(
            loader=jinja2.PackageLoader("windlass.dashboard"), autoescape=True, undefined=jinja2.StrictUndefined,
            trim_blocks=True, lstrip_blocks=True,
        )  # fmt: skip
        self._pages.filters.update(showing.FILTERS)
        self._starlette = Starlette(routes=routes(self), exception_handlers=dict.fromkeys((404, 405), no_route(self)))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        await self._starlette(scope, receive, send)

    def path_of(self, request: Request, route: str, **path: Any) -> str:
        """Return the path of a route: below wherever this is mounted, which the router outside does not know."""
        return f"{request.scope.get('root_path', '')}{self._starlette.url_path_for(route, **path)}"

    def wsgi(self) -> Any:
        """Return the same as a WSGI application, for Flask and Django; browsers then ask instead of listening."""
        from a2wsgi import ASGIMiddleware

        self.updates = "poll"
        return ASGIMiddleware(self)  # type: ignore[arg-type]  # the two libraries spell a scope differently

    def render(self, call: Call, template: str, **given: Any) -> str:
        """Fill a template in."""
        return self._pages.get_template(template).render(
            call=call,
            site=self,
            csrf=self.sessions.sign(call.session),
            said=self.sessions.said(call.request),
            **given,
        )
