"""Coming in and going out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import RedirectResponse

from windlass.dashboard.problems import Problem

if TYPE_CHECKING:
    from starlette.responses import Response

    from windlass.dashboard.call import Call


def form(call: Call) -> Response:
    """Ask for name and password."""
    return call.page("login.html", to=_inside(call, call.query.get("to", "")), wrong=False)


def enter(call: Call) -> Response:
    """Let in whoever knows a password; an address that guesses has to wait."""
    site, address = call.site, _address(call)
    wait = site.attempts.wait(address)
    if wait:
        raise Problem(429, f"too many wrong passwords; try again in {wait:.0f} s", wait=wait)
    who = site.access.by_password(call.field("name") or "admin", call.field("password"))
    to = _inside(call, call.field("to"))
    if who is None:
        return call.page("login.html", 401, to=to, wrong=True)
    site.attempts.succeeded(address)
    response = RedirectResponse(to or call.url("overview"), status_code=303)
    site.sessions.write(call.request, response, site.sessions.new(who.name))
    return response


def leave(call: Call) -> Response:
    """End the session."""
    response = RedirectResponse(call.url("login"), status_code=303)
    call.site.sessions.end(call.request, response)
    return response


def _address(call: Call) -> str:
    """Return where a request comes from; under WSGI some servers name the host and no port, which is then not passed on."""
    request = call.request
    return request.client.host if request.client else str(request.scope.get("wsgi_environ", {}).get("REMOTE_ADDR", ""))


def _inside(call: Call, path: str) -> str:
    """Return a path if it is one of ours: nobody is to be led elsewhere after the login."""
    root = call.request.scope.get("root_path", "")
    ours = path.startswith(f"{root}/") and not path.startswith(("//", "/\\"))
    return path if ours and path.isprintable() and "\\" not in path else ""
