"""Sessions of browsers, and the sign that a request was meant: both signed, neither stored.

A session is a cookie with who it is and a random number. What acts carries a second value, made of that number by our key,
in the form or in a header: another site can make a browser send the cookie, but cannot know the value.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec
from itsdangerous import BadData, URLSafeTimedSerializer

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

COOKIE, SAID = "windlass_session", "windlass_said"
LASTS = 12 * 3600
"""Seconds after which somebody has to log in again."""
FIELD, HEADER = "csrf", "x-csrf-token"
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class Session(msgspec.Struct, frozen=True):
    """What the cookie says."""

    number: str
    user: str | None = None


class Sessions:
    """Makes and reads them."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._signer = URLSafeTimedSerializer(secret, salt="windlass session")
        self._said = URLSafeTimedSerializer(secret, salt="windlass said")

    def read(self, request: Request) -> Session | None:
        """Return the session of a request."""
        try:
            value = self._signer.loads(request.cookies.get(COOKIE, ""), max_age=LASTS)
            return msgspec.convert(value, Session)
        except (BadData, msgspec.ValidationError):
            return None

    def new(self, user: str | None = None) -> Session:
        """Begin one; with a new number, so that one that was planted before a login is worth nothing."""
        return Session(secrets.token_urlsafe(16), user)

    def write(self, request: Request, response: Response, session: Session) -> None:
        """Put a session into an answer."""
        _set(request, response, COOKIE, self._signer.dumps(msgspec.to_builtins(session)), LASTS)

    def end(self, request: Request, response: Response) -> None:
        """Take it away."""
        response.delete_cookie(COOKIE, path=_path(request))

    def sign(self, session: Session) -> str:
        """Return what has to come with whatever acts."""
        return hmac.new(self._secret, b"csrf" + session.number.encode(), hashlib.sha256).hexdigest()

    def meant(self, request: Request, session: Session | None, sign: str) -> bool:
        """Whether a request that acts comes from a page of ours."""
        if foreign(request):
            return False
        return session is not None and hmac.compare_digest(self.sign(session).encode(), sign.encode("utf-8", "replace"))

    def say(self, request: Request, response: Response, text: str) -> None:
        """Leave a line that the next page shows."""
        _set(request, response, SAID, self._said.dumps(text[:500]), 60)

    def said(self, request: Request) -> str:
        """Return the line that was left."""
        try:
            return str(self._said.loads(request.cookies.get(SAID, ""), max_age=60))
        except BadData:
            return ""

    def forget_said(self, request: Request, response: Response) -> None:
        """Show it once."""
        response.delete_cookie(SAID, path=_path(request))


def foreign(request: Request) -> bool:
    """Whether a browser says that a request comes from another site; no browser: it says nothing."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return True
    origin = request.headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != request.headers.get("host", "")


def _path(request: Request) -> str:
    return request.scope.get("root_path", "") or "/"


def _set(request: Request, response: Response, name: str, value: Any, lasts: int) -> None:
    response.set_cookie(
        name,
        value,
        max_age=lasts,
        path=_path(request),
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
    )
