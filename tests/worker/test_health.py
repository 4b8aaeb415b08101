import json
import socket
import urllib.error
import urllib.request
from typing import Any

import pytest

from windlass.errors import ConfigurationError
from windlass.worker.health import Health, parse


def ask(health: Health, path: str = "/healthz", method: str = "GET") -> tuple[int, Any]:
    host, port = health.address
    request = urllib.request.Request(f"http://{host}:{port}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            body = answer.read()
            return answer.status, json.loads(body) if body else None
    except urllib.error.HTTPError as error:
        with error:
            body = error.read()
            return error.code, json.loads(body) if body else None


def test_a_healthy_worker_answers_200_with_its_snapshot() -> None:
    """What is shown is what was seen at that moment."""
    with Health("127.0.0.1:0", lambda: (True, {"running": 3})) as health:
        assert ask(health) == (200, {"running": 3})
        assert ask(health, method="HEAD") == (200, None)


def test_an_unhealthy_worker_answers_503() -> None:
    """An orchestrator replaces it then."""
    with Health("127.0.0.1:0", lambda: (False, {"healthy": False})) as health:
        assert ask(health) == (503, {"healthy": False})


def test_a_probe_that_fails_answers_503() -> None:
    """Not knowing is not health."""

    def look() -> tuple[bool, Any]:
        raise RuntimeError("no snapshot")

    with Health("127.0.0.1:0", look) as health:
        assert ask(health) == (503, {"error": "no snapshot"})


def test_nothing_else_is_served() -> None:
    """One path, one question."""
    with Health("127.0.0.1:0", lambda: (True, {})) as health:
        assert ask(health, "/metrics")[0] == 404
        assert ask(health, "/healthz?verbose")[0] == 200


def test_a_silent_client_holds_up_nobody() -> None:
    """Each request has a thread of its own, and a time limit."""
    with Health("127.0.0.1:0", lambda: (True, {})) as health, socket.create_connection(health.address):
        assert ask(health)[0] == 200


def test_the_port_is_free_again_after_close() -> None:
    """A worker that is restarted at once can listen again."""
    with Health("127.0.0.1:0", lambda: (True, {})) as health:
        host, port = health.address
    with Health(f"{host}:{port}", lambda: (True, {})):
        pass


def test_an_address_in_use_is_a_clear_error() -> None:
    """With the address in it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigurationError, match="cannot listen on '127"):
            Health(f"127.0.0.1:{taken.getsockname()[1]}", lambda: (True, {}))


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:80", ("127.0.0.1", 80)),
        (":8080", ("", 8080)),
        ("[::1]:8080", ("::1", 8080)),
        ("localhost:0", ("localhost", 0)),
    ],
)
def test_an_address_is_host_and_port(text: str, address: tuple[str, int]) -> None:
    """An empty host is every address."""
    assert parse(text) == address


@pytest.mark.parametrize("text", ["", "8080", "host", "host:", "host:port", "host:99999", "::1:80"])
def test_what_is_no_address_is_refused(text: str) -> None:
    """Before anything is started."""
    with pytest.raises(ConfigurationError, match="HOST:PORT"):
        parse(text)
