"""What stands before every endpoint: who asks, may they, do they mean it; and what every answer says about itself."""

from __future__ import annotations

import json
import logging
from contextlib import nullcontext
from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from windlass.dashboard.access import LOCAL_NAMES, NOBODY
from windlass.dashboard.call import Call
from windlass.dashboard.problems import Problem, of_error
from windlass.dashboard.sessions import FIELD, HEADER, SAFE
from windlass.dashboard.table import TABLE, Entry
from windlass.drivers.patience import WATCHED, at_most
from windlass.errors import WindlassError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.datastructures import FormData
    from starlette.requests import Request

    from windlass.dashboard.access import Visitor
    from windlass.dashboard.sessions import Session
    from windlass.dashboard.site import Dashboard

log = logging.getLogger(__name__)

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
LARGEST = 2 << 20
"""Bytes of a request's body."""


def routes(site: Dashboard) -> list[Route | Mount]:
    """Return the table as Starlette's routes."""
    found: list[Route | Mount] = [
        Route(entry.path, _guarded(site, entry), methods=[entry.method], name=entry.name) for entry in TABLE
    ]
    return [*found, Mount("/static", StaticFiles(packages=[("windlass.dashboard", "static")]), name="static")]


def no_route(site: Dashboard) -> Callable[[Request, Exception], Response]:
    """Return what answers a request that no route is for."""

    def answer(request: Request, error: Exception) -> Response:
        path = request.url.path.removeprefix(request.scope.get("root_path", ""))
        problem = Problem(getattr(error, "status_code", 404), "there is nothing here")
        return _headed(_told(site, request, problem, page=not path.startswith("/api/")))

    return answer


def _guarded(site: Dashboard, entry: Entry) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        session = site.sessions.read(request)
        try:
            call = await _let_in(site, entry, request, session)
            response = await entry.answer(call) if entry.streams else await run_in_threadpool(_answered, entry, call)
        except Problem as problem:
            response = _refused(site, entry, request, problem)
        else:
            if session is None and not call.who.by_token and entry.page:
                site.sessions.write(request, response, call.session)
        return _headed(response)

    return answer


def _headed(response: Response) -> Response:
    response.headers.update({name: value for name, value in HEADERS.items() if name not in response.headers})
    return response


def _answered(entry: Entry, call: Call) -> Response:
    try:
        # What acts on many jobs takes its time: giving up half-way would leave people guessing.
        with at_most(WATCHED) if entry.method in SAFE else nullcontext():
            answer: Response = entry.answer(call)
    except WindlassError as error:
        raise of_error(error) from error
    return answer


async def _let_in(site: Dashboard, entry: Entry, request: Request, session: Session | None) -> Call:
    """Check everything before anything is done."""
    if site.access.insecure and (request.url.hostname or "") not in LOCAL_NAMES:
        raise Problem(403, "an insecure dashboard answers only to this machine's own name")
    who = await run_in_threadpool(_identified, site, request, session)
    if who.role < entry.role:
        if who.role:
            raise Problem(403, f"{who.name} may not do that: it takes the role {entry.role.name.lower()}")
        raise Problem(401, "log in, or send a token")
    body = await _body(request) if entry.method not in SAFE else b""
    form = await _form(request) if entry.page and body else None
    if entry.method not in SAFE and not who.by_token:
        field = form.get(FIELD, "") if form is not None else ""
        sign = request.headers.get(HEADER, "") or (field if isinstance(field, str) else "")
        if not site.sessions.meant(request, session, sign):
            raise Problem(403, "this did not come from a page of the dashboard; reload the page and try again")
    return Call(site=site, request=request, who=who, session=session or site.sessions.new(), form=form, body=body)


def _identified(site: Dashboard, request: Request, session: Session | None) -> Visitor:
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return site.access.by_token(token.strip()) or NOBODY
    found = site.access.by_name(session.user) if session is not None and session.user else None
    return found or site.access.by_host(request) or NOBODY


async def _body(request: Request) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > LARGEST:
            raise Problem(413, f"a request may have {LARGEST} bytes")
        parts.append(part)
    request._body = b"".join(parts)  # noqa: SLF001 - where starlette looks for it when it reads the form
    return request._body  # noqa: SLF001


async def _form(request: Request) -> FormData:
    try:
        return await request.form(max_files=0, max_fields=5000)
    except Exception as error:
        raise Problem(400, "the form cannot be read") from error


def _refused(site: Dashboard, entry: Entry, request: Request, problem: Problem) -> Response:
    if entry.page and problem.status == 401 and entry.method in SAFE:
        to = quote(request.url.path)
        return RedirectResponse(f"{site.path_of(request, 'login')}?to={to}", status_code=303)
    response = _told(site, request, problem, page=entry.page)
    if problem.status == 401:
        response.headers["www-authenticate"] = "Bearer"
    if problem.wait:
        response.headers["retry-after"] = str(int(problem.wait) + 1)
    return response


def _told(site: Dashboard, request: Request, problem: Problem, *, page: bool) -> Response:
    if page:
        call = Call(site=site, request=request, who=NOBODY, session=site.sessions.new())
        html = site.render(call, "problem.html", problem=problem)
        return Response(html, status_code=problem.status, media_type="text/html")
    body = json.dumps(problem.as_json())
    return Response(body, status_code=problem.status, media_type="application/problem+json")
