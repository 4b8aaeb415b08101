"""A dashboard that is really served, and browsers of several people."""

from __future__ import annotations

import re
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import uvicorn

from tests.waiting import until
from windlass import Windlass
from windlass.dashboard import Dashboard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PASSWORDS = {"reader": ("r-secret", "read"), "operator": ("o-secret", "operate"), "admin": ("a-secret", "admin")}
TOKENS = {f"{name}-token": (name, role) for name, (_, role) in PASSWORDS.items()}


@contextmanager
def served(application: Any) -> Iterator[str]:
    """Serve an ASGI application on a free port; yields its address."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(application, log_level="warning", lifespan="off", timeout_graceful_shutdown=1, ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    until(lambda: server.started)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


class Browser(httpx.Client):
    """Keeps cookies, and knows the sign that forms carry."""

    def sign(self, path: str = "/login") -> str:
        """Return the sign of a page's forms."""
        found = re.search(r'name="csrf" value="(\w+)"', self.get(path).text)
        assert found is not None, path
        return found[1]

    def enter(self, name: str, password: str | None = None) -> httpx.Response:
        """Log in."""
        password = PASSWORDS[name][0] if password is None else password
        return self.post("/login", data={"csrf": self.sign(), "name": name, "password": password, "to": ""})

    def act(self, path: str, **fields: Any) -> httpx.Response:
        """Press a button."""
        return self.post(path, data={"csrf": self.sign("/jobs"), **fields})


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Windlass]:
    """An application on a file."""
    with Windlass(f"sqlite:///{tmp_path}/jobs.db", durability="relaxed", backoff=0, poll=0.05, grace=5) as app:
        yield app


@pytest.fixture
def site(app: Windlass) -> Dashboard:
    """Its dashboard, with somebody of each role."""
    return Dashboard(app, users=PASSWORDS, tokens=TOKENS)


@pytest.fixture
def address(site: Dashboard) -> Iterator[str]:
    """Where it is served."""
    with served(site) as address:
        yield address


@pytest.fixture
def browser(address: str) -> Iterator[Callable[..., Browser]]:
    """Open browsers; with a name they are logged in."""
    opened: list[Browser] = []

    def make(name: str | None = None, **given: Any) -> Browser:
        one = Browser(base_url=address, follow_redirects=False, timeout=20, **given)
        opened.append(one)
        if name is not None:
            assert one.enter(name).status_code == 303
        return one

    yield make
    for one in opened:
        one.close()
