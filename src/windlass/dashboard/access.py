"""Who may do what: roles, people with passwords, programs with tokens, and whoever the host application vouches for."""

from __future__ import annotations

import enum
import hashlib
import hmac
import secrets
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

import msgspec

from windlass.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.requests import Request


class Role(enum.IntEnum):
    """What somebody may do; each may do what those before it may."""

    NOBODY = 0
    READ = 1
    """Look at everything."""
    OPERATE = 2
    """Retry, cancel, run now, enqueue, pause, resume, trigger, send a worker to rest."""
    ADMIN = 3
    """Delete, change limits, stop workers."""


class Visitor(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who asks."""

    name: str
    role: Role
    by_token: bool = False
    """A program; no browser sends its token without being told, so it needs no other sign that it means it."""


LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
"""The names under which an insecure dashboard answers: a page elsewhere may lead its own name to this machine."""
NOBODY = Visitor(name="", role=Role.NOBODY)
FREE, SPAN, MOST = 5, 60.0, 10_000
"""Failed logins of one address within so many seconds; addresses that are remembered."""


class Access:
    """What opens the dashboard.

    Args:
        password: of the user ``admin``, who may do everything.
        users: name to ``(password, role)``.
        tokens: token to role, or to ``(name, role)``, for programs: ``Authorization: Bearer TOKEN``.
        identify: asks the host application who a request is from: a ``Visitor``, or ``None`` for nobody.
        insecure: let everybody do everything.

    Raises:
        ConfigurationError: nothing of it is given, or something cannot be right.
    """

    def __init__(
        self,
        *,
        password: str | None = None,
        users: Mapping[str, tuple[str, str | Role]] | None = None,
        tokens: Mapping[str, str | Role | tuple[str, str | Role]] | None = None,
        identify: Callable[[Request], Visitor | None] | None = None,
        insecure: bool = False,
    ) -> None:
        given = dict(users or {})
        if password is not None:
            given.setdefault("admin", (password, Role.ADMIN))
        if not (given or tokens or identify or insecure):
            raise ConfigurationError(
                "the dashboard is closed until somebody may enter: give password=, users=, tokens= or identify="
            )
        self._users: dict[str, tuple[bytes, Role]] = {}
        for name, (word, role) in given.items():
            if not word:
                raise ConfigurationError(f"the password of {name!r} is empty")
            self._users[name] = (_digest(word), role_of(role))
        self._tokens: dict[bytes, Visitor] = {}
        for number, (token, held) in enumerate((tokens or {}).items(), 1):
            if not token:
                raise ConfigurationError("a token is empty")
            name, role = held if isinstance(held, tuple) else (f"token {number}", held)
            self._tokens[_digest(token)] = Visitor(name=name, role=role_of(role), by_token=True)
        self._identify = identify
        self.insecure = insecure
        self.has_users = bool(self._users)

    def secret(self) -> bytes:
        """Return a key that all processes with these passwords and tokens share; without any, one of this process."""
        known = sorted([digest for digest, _ in self._users.values()] + list(self._tokens))
        if not known:
            return secrets.token_bytes(32)
        # Slow on purpose: whoever has a cookie, and the login form gives one to everybody, could else try words on it.
        return hashlib.scrypt(b"".join(known), salt=b"windlass dashboard", n=2**14, r=8, p=2, dklen=32)

    def by_token(self, token: str) -> Visitor | None:
        """Return whose token this is."""
        digest = _digest(token)
        return next((who for known, who in self._tokens.items() if hmac.compare_digest(known, digest)), None)

    def by_password(self, name: str, password: str) -> Visitor | None:
        """Return the user, if the password is right; takes as long for a name that there is not."""
        known, role = self._users.get(name, (b"", Role.NOBODY))
        right = hmac.compare_digest(known or _digest(""), _digest(password))
        return Visitor(name=name, role=role) if right and known else None

    def by_name(self, name: str) -> Visitor | None:
        """Return a user who has logged in before, with the role of now."""
        found = self._users.get(name)
        return None if found is None else Visitor(name=name, role=found[1])

    def by_host(self, request: Request) -> Visitor | None:
        """Return whom the host application vouches for; everybody, where that was asked for."""
        found = self._identify(request) if self._identify is not None else None
        return found or (Visitor(name="anyone", role=Role.ADMIN) if self.insecure else None)


class Attempts:
    """Slows down who guesses: after a few wrong passwords an address has to wait."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failed: OrderedDict[str, list[float]] = OrderedDict()

    def wait(self, address: str) -> float:
        """Return the seconds until this address may try again; 0 = now, and then the try counts until it succeeds.

        Counted beforehand: else a hundred guesses sent at once would all be heard.
        """
        with self._lock:
            now, recent = self._clock(), self._recent(address)
            if len(recent) >= FREE:
                return max(0.0, recent[0] + SPAN - now)
            self._failed[address] = [*recent, now]
            self._failed.move_to_end(address)
            while len(self._failed) > MOST:
                self._failed.popitem(last=False)
        return 0.0

    def succeeded(self, address: str) -> None:
        """Forget what went wrong."""
        with self._lock:
            self._failed.pop(address, None)

    def _recent(self, address: str) -> list[float]:
        since = self._clock() - SPAN
        return [at for at in self._failed.get(address, ()) if at > since]


def role_of(role: str | Role) -> Role:
    """Return a role by its name."""
    if isinstance(role, Role) and role is not Role.NOBODY:
        return role
    names = {known.name.lower(): known for known in Role if known is not Role.NOBODY}
    if not isinstance(role, str) or role.lower() not in names:
        raise ConfigurationError(f"a role is one of {', '.join(names)}, not {role!r}")
    return names[role.lower()]


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
