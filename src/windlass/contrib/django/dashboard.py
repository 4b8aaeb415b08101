"""The dashboard under Django's own login.

In ``urls.py``::

    from windlass.contrib.django.dashboard import dashboard

    urlpatterns = [path("admin/jobs/", dashboard), path("admin/jobs/<path:path>", dashboard), ...]

Staff may operate, superusers may do everything, everybody else is led to the admin's login.
"""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any

from asgiref.sync import async_to_sync
from django.http import HttpResponse
from django.shortcuts import resolve_url
from django.views.decorators.csrf import csrf_exempt

from windlass.contrib.django.configured import application
from windlass.dashboard import Dashboard, Role, Visitor

if TYPE_CHECKING:
    from django.http import HttpRequest

LOGIN = "admin:login"
"""Where whoever is not staff is led to."""
_VISITOR = "windlass.visitor"


@csrf_exempt  # type: ignore[untyped-decorator]  # the dashboard has a sign of its own, bound to its own session
def dashboard(request: HttpRequest, path: str = "") -> HttpResponse:
    """Answer with a page of the dashboard."""
    user = request.user
    if not (user.is_active and user.is_staff):
        from django.contrib.auth.views import redirect_to_login

        return redirect_to_login(request.get_full_path(), resolve_url(LOGIN))
    role = Role.ADMIN if user.is_superuser else Role.OPERATE
    root = request.path.removesuffix(path).rstrip("/")
    visitor = Visitor(name=user.get_username(), role=role)
    return async_to_sync(_answered)(_scope(request, root, f"/{path}", visitor), request.body)


@functools.cache
def _site() -> Dashboard:
    from django.conf import settings

    def identify(request: Any) -> Visitor | None:
        found: Visitor | None = request.scope.get(_VISITOR)
        return found

    return Dashboard(application(), identify=identify, secret=f"windlass {settings.SECRET_KEY}", live="poll")


def _scope(request: HttpRequest, root: str, path: str, visitor: Visitor) -> dict[str, Any]:
    host, _, port = request.get_host().partition(":")
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": request.scheme,
        "path": f"{root}{path}",
        "root_path": root,
        "query_string": request.META.get("QUERY_STRING", "").encode("latin-1"),
        "headers": [
            (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in request.headers.items()
        ],
        "client": (request.META.get("REMOTE_ADDR", ""), 0),
        "server": (host, int(port or (443 if request.is_secure() else 80))),
        _VISITOR: visitor,
    }


async def _answered(scope: dict[str, Any], body: bytes) -> HttpResponse:
    """Ask the ASGI application and gather what it sends."""
    start: dict[str, Any] = {}
    parts: list[bytes] = []

    given = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if not given:  # whoever asks again wants to know when the visitor goes: not before the answer is there
            await asyncio.Event().wait()
        return given.pop()

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            start.update(message)
        elif message["type"] == "http.response.body":
            parts.append(message.get("body", b""))

    await _site()(scope, receive, send)  # type: ignore[arg-type]  # a scope is a mapping
    response = HttpResponse(b"".join(parts), status=start["status"])
    del response.headers["Content-Type"]
    for name, value in start["headers"]:
        if name == b"set-cookie":
            response.cookies.load(value.decode("latin-1"))
        else:
            response.headers[name.decode("latin-1")] = value.decode("latin-1")
    return response
