"""A relay in front of PostgreSQL that counts round trips: how often a client asks the server to answer before it goes on.

A client ends each request of the extended protocol by a `Sync` and sends each simple one as a `Query`; statements that go
out together in a pipeline share one `Sync`, and are one round trip. See "Message Formats" in PostgreSQL's documentation.
"""

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit

ENCRYPTION = frozenset({80877103, 80877104})  # SSLRequest, GSSENCRequest
COUNTED = frozenset(b"QS")


class RoundTrips:
    """Counts what the clients of a relay have asked for so far, over all connections."""

    def __init__(self) -> None:
        """Begin with none."""
        self.count = 0
        self._lock = threading.Lock()

    def asked(self, times: int) -> None:
        """Count some more."""
        with self._lock:
            self.count += times


class Messages:
    """Cuts what one client sends into messages; those before the session begins have no type."""

    def __init__(self) -> None:
        """Begin before the session does."""
        self._rest = b""
        self._begun = False

    def requests(self, data: bytes) -> int:
        """Return how many round trips end in these bytes."""
        self._rest += data
        asked = at = 0
        while len(self._rest) - at >= (5 if self._begun else 8):
            start = at + self._begun  # of the length, which counts itself but not the type
            length = int.from_bytes(self._rest[start : start + 4]) + self._begun
            if len(self._rest) - at < length:
                break
            if self._begun:
                asked += self._rest[at] in COUNTED
            else:
                self._begun = int.from_bytes(self._rest[at + 4 : at + 8]) not in ENCRYPTION
            at += length
        self._rest = self._rest[at:]
        return asked


@contextmanager
def relay(url: str) -> Iterator[tuple[str, RoundTrips]]:
    """Listen in front of the server of `url`; yield the URL to use instead, and the count."""
    parts = urlsplit(url)
    trips = RoundTrips()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        behind = (parts.hostname or "127.0.0.1", parts.port or 5432)
        threading.Thread(target=accept, args=(listener, behind, trips), name="relay", daemon=True).start()
        credentials = parts.netloc.rpartition("@")[0]
        address = f"{credentials}@127.0.0.1:{listener.getsockname()[1]}"
        try:
            yield urlunsplit(parts._replace(netloc=address.removeprefix("@"))), trips
        finally:
            listener.shutdown(socket.SHUT_RDWR)


def accept(listener: socket.socket, behind: tuple[str, int], trips: RoundTrips) -> None:
    """Connect each client through to the server, until the listener is shut down."""
    with contextlib.suppress(OSError):
        while True:
            client, _ = listener.accept()
            server = socket.create_connection(behind)
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            messages = Messages()
            for pair in ((client, server, messages), (server, client, None)):
                threading.Thread(target=pump, args=(*pair, trips), name="relay", daemon=True).start()


def pump(source: socket.socket, sink: socket.socket, messages: Messages | None, trips: RoundTrips) -> None:
    """Pass on what one side sends until it ends; count, if that is the client."""
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            if messages:
                trips.asked(messages.requests(data))
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
