"""Closed by default; and for every route, who may what, made from the table of the routes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from windlass import ConfigurationError, Windlass
from windlass.dashboard import Dashboard, Role, Visitor
from windlass.dashboard.access import FREE, SPAN, Access, Attempts
from windlass.dashboard.sessions import SAFE
from windlass.dashboard.table import TABLE, Entry

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.dashboard.conftest import Browser

ROLES = {"reader": Role.READ, "operator": Role.OPERATE, "admin": Role.ADMIN}
ACTING = [entry for entry in TABLE if entry.method not in SAFE]
HOLDS = {"name": "n", "id": "1", "fingerprint": "0" * 16}


def path_of(entry: Entry) -> str:
    """Fill the holes of a route's pattern in."""
    path = entry.path.replace(":int", "").replace(":path", "")
    return path.format(**HOLDS)


def signed(sign: str, **headers: str) -> dict[str, object]:
    """The sign as forms carry it, and as scripts do."""
    return {"data": {"csrf": sign}, "headers": {"x-csrf-token": sign, **headers}}


def status(one: Browser, entry: Entry, **given: object) -> int:
    """Ask, and read no further than the head of the answer."""
    with one.stream(entry.method, path_of(entry), **given) as response:  # type: ignore[arg-type]
        return response.status_code


@pytest.fixture
def seen(browser: Callable[..., Browser]) -> dict[str, Browser]:
    """A browser of each."""
    return {name: browser(name) for name in ROLES} | {"nobody": browser()}


def test_every_route_takes_its_role(browser: Callable[..., Browser], seen: dict[str, Browser]) -> None:
    """Nobody, wrong tokens, and each role by password and by token."""
    wrong = {"authorization": "Bearer wrong"}
    for entry in TABLE:
        if entry.role is Role.NOBODY or entry.name == "logout":
            continue
        closed = 303 if entry.page and entry.method in SAFE else 401
        assert status(seen["nobody"], entry) == closed, entry
        assert status(browser(), entry, headers=wrong) == closed, entry
        for name, role in ROLES.items():
            fields = signed(seen[name].sign("/jobs")) if entry.method not in SAFE else {}
            by_token = {"headers": {"authorization": f"Bearer {name}-token"}}
            for given, one in ((fields, seen[name]), (by_token, browser())):
                found = status(one, entry, **given)
                if role >= entry.role:
                    assert found in {200, 204, 303, 400, 404, 409, 415, 422}, (entry, name, found)
                else:
                    assert found == 403, (entry, name, found)


def test_whatever_acts_has_to_be_meant(seen: dict[str, Browser]) -> None:
    """Without the sign, with another's, or from another site it is refused, whoever asks."""
    for entry in ACTING:
        for name, role in ROLES.items():
            if role < entry.role:
                continue
            one = seen[name]
            good = one.sign("/jobs")
            other = seen["nobody"].sign()
            assert status(one, entry) == 403, entry
            assert status(one, entry, **signed("")) == 403, entry
            assert status(one, entry, **signed(other)) == 403, entry
            for header in ({"origin": "https://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}):
                assert status(one, entry, **signed(good, **header)) == 403, (entry, header)


def test_every_answer_is_guarded(seen: dict[str, Browser]) -> None:
    """No script but ours, no frame, nothing kept by caches."""
    for entry in TABLE:
        if entry.method not in SAFE or entry.streams:
            continue
        response = seen["admin"].get(path_of(entry))
        assert "default-src 'none'" in response.headers["content-security-policy"]
        assert "unsafe" not in response.headers["content-security-policy"]
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["cache-control"] == "no-store"
        assert "<script>" not in response.text
        assert " style=" not in response.text


def test_it_is_closed_until_somebody_may_enter(app: Windlass) -> None:
    for given in ({}, {"users": {}}, {"tokens": {}}):
        with pytest.raises(ConfigurationError, match="closed"):
            Dashboard(app, **given)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="role"):
        Dashboard(app, users={"a": ("b", "boss")})
    with pytest.raises(ConfigurationError, match="empty"):
        Dashboard(app, users={"a": ("", "read")})


def test_a_wrong_password_lets_nobody_in(browser: Callable[..., Browser]) -> None:
    one = browser()
    assert one.enter("admin", "wrong").status_code == 401
    assert one.enter("nobody", "").status_code == 401
    assert one.get("/").status_code == 303


def test_who_guesses_has_to_wait(browser: Callable[..., Browser]) -> None:
    one = browser()
    for _ in range(FREE):
        assert one.enter("admin", "wrong").status_code == 401
    refused = one.enter("admin")
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) > 0


def test_attempts_are_forgotten() -> None:
    now = [0.0]
    attempts = Attempts(lambda: now[0])
    for _ in range(FREE):
        assert attempts.wait("a") == 0.0
    assert attempts.wait("a") == SPAN
    assert attempts.wait("b") == 0.0
    attempts.succeeded("b")
    now[0] = SPAN + 1
    assert attempts.wait("a") == 0.0


def test_the_way_back_leads_nowhere_else(browser: Callable[..., Browser]) -> None:
    for to, leads in (("/jobs", "/jobs"), ("//evil.example/", "/"), ("https://evil.example", "/"), ("/\\evil", "/")):
        one = browser()
        fields = {"csrf": one.sign(), "name": "admin", "password": "a-secret", "to": to}
        assert one.post("/login", data=fields).headers["location"] == leads


def test_a_session_that_was_planted_is_worth_nothing_after_the_login(browser: Callable[..., Browser]) -> None:
    one = browser()
    before = one.sign()
    assert one.enter("admin").status_code == 303
    assert one.sign("/jobs") != before
    one.act("/logout")
    assert one.get("/").status_code == 303


def test_cookies_are_for_the_server_alone(browser: Callable[..., Browser]) -> None:
    one = browser()
    cookie = one.get("/login").headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie


def test_the_host_application_can_vouch(app: Windlass) -> None:
    def identify(request: object) -> Visitor | None:
        return Visitor(name="ada", role=Role.READ)

    access = Access(identify=identify)
    found = access.by_host(None)  # type: ignore[arg-type]
    assert found is not None
    assert found.name == "ada"


def test_a_secret_is_shared_by_processes_with_the_same_passwords(app: Windlass) -> None:
    first, second, other = (Access(password=word).secret() for word in ("a", "a", "b"))
    assert first == second != other
