"""The health probe for containers: ``GET /healthz`` answers 200 while the heart beats and the pump turns, else 503.

A server of its own thread, so that it answers while handlers keep everything else busy; the body is the snapshot.
"""

from __future__ import annotations

import contextlib
import logging
import re
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

import msgspec

from windlass.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

PATIENCE = 5.0
"""Seconds that a client may take for its request."""
_LARGEST = 0xFFFF
_ADDRESS = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([^:\[\]]*)):(\d{1,5})")


class Health:
    """Serves the probe from construction until ``close``; also a context manager.

    Args:
        address: ``host:port``; an empty host is every address, port 0 picks a free one.
        look: returns whether all is well, and what to show as JSON.

    Raises:
        ConfigurationError: the address cannot be used.
    """

    def __init__(self, address: str, look: Callable[[], tuple[bool, Any]]) -> None:
        host, port = parse(address)
        try:
            self._server = _Server((host, port), look)
        except (OSError, OverflowError) as error:
            raise ConfigurationError(f"cannot listen on {address!r}: {error}") from error
        self.address: tuple[str, int] = self._server.server_address[:2]  # type: ignore[assignment]
        """Where it listens."""
        self._thread = threading.Thread(target=self._server.serve_forever, name="windlass-health", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        """Return the running server."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Stop serving and give the port up."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def parse(address: str) -> tuple[str, int]:
    """Split ``host:port``; an IPv6 host stands in brackets.

    Raises:
        ConfigurationError: it is not one.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None or int(match[3]) > _LARGEST:
        raise ConfigurationError(f"{address!r} is not HOST:PORT, such as 127.0.0.1:8080 or [::1]:8080")
    return match[1] or match[2] or "", int(match[3])


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], look: Callable[[], tuple[bool, Any]]) -> None:
        self.look = look
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("a health check from %s went wrong", client_address, exc_info=True)  # noqa: LOG014 - called in one


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = PATIENCE
    server_version = "windlass"
    sys_version = ""

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        if self.path.partition("?")[0] != "/healthz":
            code, content = 404, b'{"error":"only /healthz is served here"}'
        else:
            well, shown = self._look()
            code, content = 200 if well else 503, msgspec.json.encode(shown)
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if body:
            with contextlib.suppress(OSError):
                self.wfile.write(content)

    def _look(self) -> tuple[bool, Any]:
        try:
            return self.server.look()
        except Exception as error:
            log.exception("the health probe failed")
            return False, {"error": str(error)}

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's own word
        """Stay silent: probes come every few seconds."""
