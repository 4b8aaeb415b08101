"""A TCP proxy with switches, to put bad networks between a client and a server.

One thread moves bytes in both directions of every connection. Each direction is a flow: it reads when it has nothing
to write, so that pressure passes back. A frozen flow is neither read nor written, and not looked at: ends and resets
do not pass either, which is what a half-open connection is. Switches work at once: when one returns, no byte passes
that it forbids.
"""

import select
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal, Self
from urllib.parse import urlsplit, urlunsplit

from tests.servers.ports import free_port

Direction = Literal["requests", "replies", "both"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What has passed so far."""

    connections: int = 0
    request_bytes: int = 0
    reply_bytes: int = 0
    exchanges: int = 0
    """How often a client spoke after it was answered, or for the first time: round trips."""
    resets: int = 0
    """Connections that were reset because a reply was dropped or a request cut."""

    def __sub__(self, earlier: Self) -> "Counts":
        return Counts(**{name: getattr(self, name) - getattr(earlier, name) for name in self.__slots__})


class _Flow:
    def __init__(self, source: socket.socket, target: socket.socket, *, frozen: bool) -> None:
        self.source = source
        self.target = target
        self.frozen = frozen
        self.pending = b""
        self.ended = False


class _Link:
    def __init__(self, client: socket.socket, server: socket.socket, *, frozen: Direction | None) -> None:
        self.client = client
        self.server = server
        self.requests = _Flow(client, server, frozen=frozen in {"requests", "both"})
        self.replies = _Flow(server, client, frozen=frozen in {"replies", "both"})
        self.asked = False  # the client spoke last
        self.tail = b""  # of the requests, where what to wait for may have begun
        self.cut = False  # no more of the requests is passed on, and then the connection is reset
        self.dropping = False  # replies are thrown away from here on, but for so many bytes:
        self.keep = 0
        self.dropped = False  # one was: the requests end when all are passed on

    def end(self, *, reset: bool) -> None:
        for end in (self.client, self.server):
            if reset:  # closing without lingering sends RST
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            end.close()


def _ending(link: _Link) -> bool:
    """Whether the end of the requests is to be passed on as soon as there are no more."""
    return link.dropped and not link.requests.ended and not link.requests.frozen


def _found(marker: bytes, tail: bytes, data: bytes) -> int:
    """Return by which byte of *data* there has been *marker*, which may have begun in the *tail* before; else 0."""
    seen = tail + data
    start = seen.find(marker, max(0, len(tail) - len(marker) + 1))
    return 0 if start < 0 else start + len(marker) - len(tail)


class Proxy:
    """Listens on ``port`` and passes everything on to the server at *port*, until told otherwise."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._server = (host, port)
        self._changes: deque[tuple[Callable[[], None], Future[None]]] = deque()
        self._links: list[_Link] = []
        self._frozen: Direction | None = None  # what new connections are
        self._drop: bytes | None = None
        self._keep = 0
        self._drops_left = 0
        self._cut: bytes | None = None
        self._cuts_left = 0
        self._counts = Counts()
        self._closed = False
        self._listener: socket.socket | None = None
        self.port = 0
        while self._listener is None:
            self.port = free_port()
            with suppress(OSError):
                self._listen()
        self._bell, self._button = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def through(self, url: str) -> str:
        """Return *url* with this proxy in the place of its server."""
        parts = urlsplit(url)
        login, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{login}{at}127.0.0.1:{self.port}"))

    @property
    def counts(self) -> Counts:
        return self._counts

    # -- switches

    def freeze(self, direction: Direction = "both", *, new: Literal["hang", "work"] = "hang") -> None:
        """Let no byte pass on the connections there are; new ones can be made and *hang* as well, or *work*."""

        def change() -> None:
            self._frozen = direction if new == "hang" else None
            for link in self._links:
                link.requests.frozen |= direction in {"requests", "both"}
                link.replies.frozen |= direction in {"replies", "both"}

        self._do(change)

    def drop_replies(self, *, after: bytes = b"", keep: int = 0, times: int = 1) -> None:
        """Let a request be done whose client never learns of it: it gets a reset in the place of the reply.

        The request is the next one that contains *after*, on any connection, as sent. The server gets all that the
        client has sent up to the reply, then the end of the stream, and is listened to until it closes. Of the reply
        *keep* bytes are passed on; one that is no longer passes whole, and what follows is dropped. After *times* such
        requests everything passes again.
        """

        def change() -> None:
            self._drop, self._keep, self._drops_left = after, keep, times

        self._do(change)

    def cut_requests(self, *, after: bytes, times: int = 1) -> None:
        """Pass the next request on up to and with *after*, on any connection, and then reset it at both ends.

        The server has half a request and does nothing. After *times* such requests everything passes again.
        """

        def change() -> None:
            self._cut, self._cuts_left = after, times

        self._do(change)

    def reset(self) -> None:
        """Break all connections, with RST at both ends."""

        def change() -> None:
            for link in list(self._links):
                self._end(link, reset=True)

        self._do(change)

    def refuse(self) -> None:
        """Stop listening; connections that were made stay."""

        def change() -> None:
            if self._listener is not None:
                self._listener.close()
                self._listener = None

        self._do(change)

    def thaw(self) -> None:
        """Forward again: what was held back passes, nothing is dropped or cut, new connections are accepted."""

        def change() -> None:
            self._frozen = self._drop = self._cut = None
            for link in self._links:
                link.requests.frozen = link.replies.frozen = False
            if self._listener is None:
                self._listen()

        self._do(change)

    def close(self) -> None:
        """Break everything and stop."""
        self.refuse()
        self.reset()
        self._do(lambda: setattr(self, "_closed", True))
        self._thread.join(10)
        self._bell.close()
        self._button.close()

    # -- inside

    def _listen(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=512)
        self._listener.setblocking(False)

    def _do(self, change: Callable[[], None]) -> None:
        """Have the thread make a change, between two polls: what is polled is not closed before the poll is over."""
        done: Future[None] = Future()
        self._changes.append((change, done))
        self._button.send(b"!")
        done.result(10)

    def _run(self) -> None:
        while not self._closed:
            poll = select.poll()
            for number, events in self._wanted():
                poll.register(number, events)
            found = dict(poll.poll(0 if any(map(_ending, self._links)) else None))
            if self._bell.fileno() in found:
                self._bell.recv(4096)
                self._change()
            else:
                self._move(found)

    def _change(self) -> None:
        while self._changes:
            change, done = self._changes.popleft()
            try:
                change()
            except Exception as error:
                done.set_exception(error)
            else:
                done.set_result(None)

    def _wanted(self) -> Iterator[tuple[int, int]]:
        yield self._bell.fileno(), select.POLLIN
        if self._listener is not None:
            yield self._listener.fileno(), select.POLLIN
        wanted: dict[int, int] = {}
        for link in self._links:
            for flow in (link.requests, link.replies):
                if not flow.frozen and not flow.ended:
                    end, event = (flow.target, select.POLLOUT) if flow.pending else (flow.source, select.POLLIN)
                    wanted[end.fileno()] = wanted.get(end.fileno(), 0) | event
        yield from wanted.items()

    def _move(self, found: dict[int, int]) -> None:
        for link in list(self._links):
            try:
                for flow in (link.requests, link.replies):
                    self._flow(link, flow, found)
            except BlockingIOError:
                continue
            except OSError:
                self._end(link, reset=True)
        if self._listener is not None and self._listener.fileno() in found:
            self._accept(self._listener)

    def _accept(self, listener: socket.socket) -> None:
        try:
            client, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        try:
            server = socket.create_connection(self._server, timeout=5)
        except OSError:
            server = socket.socket()
            _Link(client, server, frozen=None).end(reset=True)
            return
        for end in (client, server):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._links.append(_Link(client, server, frozen=self._frozen))
        self._count(connections=1)

    def _flow(self, link: _Link, flow: _Flow, found: dict[int, int]) -> None:
        if flow.frozen or flow.ended:
            return
        if not flow.pending and flow.source.fileno() in found:
            data = flow.source.recv(65536)
            if not data:
                self._finish(link, flow)
                return
            flow.pending = self._see(link, flow, data)
        elif link.dropped and flow is link.requests and not flow.pending:
            self._finish(link, flow)
            return
        if flow.pending:
            flow.pending = flow.pending[flow.target.send(flow.pending) :]
        if link.cut and flow is link.requests and not flow.pending:
            link.replies.ended = True
            self._count(resets=1)
            self._end(link, reset=True)

    def _finish(self, link: _Link, flow: _Flow) -> None:
        """Pass the end of a stream on."""
        flow.ended = True
        if flow is link.replies and link.dropped:
            self._count(resets=1)
            self._end(link, reset=True)
            return
        with suppress(OSError):  # it is gone already
            flow.target.shutdown(socket.SHUT_WR)
        if link.requests.ended and link.replies.ended:
            self._end(link, reset=False)

    def _see(self, link: _Link, flow: _Flow, data: bytes) -> bytes:
        """Count *data*, and return what of it is to be passed on."""
        if flow is link.replies:
            link.asked = False
            self._count(reply_bytes=len(data))
            if not link.dropping:
                return data
            link.dropped = len(data) > link.keep
            data = data[: link.keep]
            link.keep -= len(data)
            return data
        self._count(request_bytes=len(data), exchanges=not link.asked)
        link.asked = True
        if self._drop is not None and not link.dropping and _found(self._drop, link.tail, data):
            link.dropping, link.keep = True, self._keep
            self._drops_left -= 1
            if not self._drops_left:
                self._drop = None
        if self._cut is not None and (end := _found(self._cut, link.tail, data)):
            link.cut, data = True, data[:end]
            self._cuts_left -= 1
            if not self._cuts_left:
                self._cut = None
        link.tail = (link.tail + data)[-256:]
        return data

    def _end(self, link: _Link, *, reset: bool) -> None:
        self._links.remove(link)
        link.end(reset=reset)

    def _count(self, **more: int) -> None:
        self._counts = replace(self._counts, **{name: getattr(self._counts, name) + n for name, n in more.items()})
