"""One conversation with a server: commands out, answers in, and what goes wrong in Windlass's words.

redis-py opens the connection (TLS, passwords, database); after that this talks over its socket by itself, packed and parsed
by hiredis: half the time of redis-py's own way, which is made for more than one kind of answer.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
import time
from typing import TYPE_CHECKING, Any

from windlass.errors import (
    ConfigurationError,
    ConnectionLostError,
    StoreError,
    StoreFullError,
    WindlassError,
)


def needed(missing: ImportError) -> ConfigurationError:
    """Return the error for a library that cannot be imported."""
    return ConfigurationError(
        f"Redis needs redis and hiredis, which cannot be imported ({missing}): pip install 'windlass[redis]'"
    )


try:
    import hiredis
except ImportError as missing:
    raise needed(missing) from missing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from redis.connection import AbstractConnection

    from windlass.drivers.redis.scripts import Script

PATIENCE = 30.0
"""Seconds that one answer may take."""
_READ = 1 << 16

Word = bytes | str | int | float
_pack: Callable[[tuple[Word, ...]], bytes] = hiredis.pack_command  # type: ignore[assignment]  # its stubs know one word


class MovedError(ConnectionLostError):
    """Another node has the slot."""

    def __init__(self, message: str, *, host: str, port: int) -> None:
        self.host, self.port = host, port
        super().__init__(message)


class NoScriptError(StoreError):
    """The server does not know the script."""


class ReadOnlyError(ConnectionLostError):
    """The connection is of no use: its server does not write."""


class Wire:
    """An open connection that does not wait for ever."""

    def __init__(self, connection: AbstractConnection, *, patience: float = PATIENCE) -> None:
        self._connection = connection
        raw: Any = connection
        self._socket: socket.socket = raw._sock  # noqa: SLF001 - redis-py has no other name for it
        self.patience = patience
        self.opened = time.monotonic()
        self.host, self.port = getattr(connection, "host", ""), getattr(connection, "port", 0)
        _bound(self._socket, patience)
        self._reader = hiredis.Reader()
        self._poll = select.poll()
        self._poll.register(self._socket.fileno(), select.POLLIN)
        self.broken = False

    def ask(self, *words: Word) -> Any:
        """Send one command and return its answer."""
        return self.ask_packed(_pack(words))

    def ask_packed(self, packed: bytes) -> Any:
        """Send a packed command and return its answer."""
        self.send(packed)
        return raised(self.receive())

    def ask_all(self, commands: Sequence[Sequence[Word]]) -> list[Any]:
        """Send several commands at once and return their answers; errors among them are raised when all are there."""
        self.send(b"".join(_pack(tuple(words)) for words in commands))
        return [raised(answer) for answer in [self.receive() for _ in commands]]

    def run(self, script: Script, keys: Sequence[Word], words: Sequence[Word] = ()) -> Any:
        """Run a script by its digest, or by its text where the server does not know it, which then does."""
        try:
            return self.ask("EVALSHA", script.digest, len(keys), *keys, *words)
        except NoScriptError:  # loading it first would leave a moment in which it may be flushed again
            return self.ask("EVAL", script.text, len(keys), *keys, *words)

    def say(self, *words: Word) -> None:
        """Send one command, whose answer is among what arrives."""
        self.send(_pack(words))

    def send(self, packed: bytes) -> None:
        """Send what is packed already."""
        self.broken = True  # until the answer is there: an interrupt in between leaves the conversation in the middle
        try:
            self._socket.sendall(packed)
        except OSError as error:
            raise self._lost(error) from error

    def receive(self) -> Any:
        """Wait for the next answer; errors are returned, not raised."""
        reader = self._reader
        answer = reader.gets()
        try:
            while answer is False:
                data = self._socket.recv(_READ)
                if not data:
                    raise ConnectionResetError("the server has closed the connection")
                reader.feed(data)
                answer = reader.gets()
        except (OSError, hiredis.ProtocolError) as error:
            raise self._lost(error) from error
        self.broken = False
        return answer

    def _lost(self, error: Exception) -> ConnectionLostError:
        self.close()
        if isinstance(error, TimeoutError | BlockingIOError):
            return ConnectionLostError(f"Redis has not answered for {self.patience:g} s; the connection was given up")
        return ConnectionLostError(f"the connection to Redis was lost: {error}")

    def fileno(self) -> int:
        """Return what to watch for an answer."""
        return self._socket.fileno()

    def waits(self, seconds: float) -> bool:
        """Wait for something to come that was not asked for; tell whether it has."""
        return bool(self._poll.poll(seconds * 1000))

    def arrived(self) -> list[Any]:
        """Return all answers that are there; at least one has begun to come."""
        found = [self.receive()]
        while (answer := self._reader.gets()) is not False:
            found.append(answer)
        return found

    def alive(self) -> bool:
        """Tell whether an idle connection is still good: a server never speaks unasked, but says goodbye."""
        return not self.broken and not self._poll.poll(0)

    def close(self) -> None:
        """Hang up."""
        self.broken = True
        self._connection.disconnect()  # type: ignore[no-untyped-call]

    def abort(self) -> None:
        """Hang up from another thread, which wakes the one that waits for an answer."""
        self.broken = True
        try:
            self._socket.shutdown(2)
        except OSError:
            return


def _bound(sock: socket.socket, patience: float) -> None:
    """Let nothing on *sock* take longer than *patience* seconds.

    By the kernel where it can: Python's own time-out costs a second system call for every send and every receive.
    """
    if isinstance(sock, ssl.SSLSocket):
        sock.settimeout(patience)
        return
    sock.settimeout(None)
    span = struct.pack("ll", int(patience), int(patience % 1 * 1_000_000))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, span)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, span)


def raised(answer: Any) -> Any:
    """Return the answer, or raise it when it is an error."""
    if isinstance(answer, hiredis.ReplyError):
        raise translate(str(answer))
    if isinstance(answer, list) and answer and isinstance(answer[0], hiredis.ReplyError):
        raise translate(str(answer[0]))
    return answer


_AWAY = {
    **dict.fromkeys(
        ("LOADING", "MASTERDOWN", "CLUSTERDOWN", "BUSY", "NOREPLICAS", "UNKILLABLE"), "Redis does not work now"
    ),
    # Not followed: only some of the keys are there.
    **dict.fromkeys(("ASK", "TRYAGAIN"), "the cluster is moving our keys to another node"),
}


def translate(text: str) -> WindlassError:
    """Return the Windlass error that says what Redis's error means here."""
    kind = text.partition(" ")[0]
    if kind == "ERR" and "script" in text and (nested := _nested(text)):  # Redis 6 wraps what a script met
        kind, text = nested.partition(" ")[0].removeprefix("-"), nested
    match kind:
        case "MOVED":
            host, _, port = text.split()[2].rpartition(":")
            return MovedError(text, host=host, port=int(port))
        case "NOSCRIPT":
            return NoScriptError(text)
        case "READONLY":
            return ReadOnlyError("the server is read-only: a replica that has not been promoted")
        case "OOM":
            return StoreFullError("Redis has reached its maxmemory and takes no new jobs; those there go on")
        case "MISCONF":
            return StoreFullError(f"Redis cannot write to its disk and takes no writes: {text}")
        case "NOAUTH" | "WRONGPASS":
            return StoreError(f"Redis does not let us in; check user and password in the URL: {text}")
        case "NOPERM":
            return StoreError(f"this Redis user may not do that: {text}")
    if kind in _AWAY:
        return ConnectionLostError(f"{_AWAY[kind]}: {text}")
    return StoreError(text)


def _nested(text: str) -> str:
    """Return the error inside "ERR Error running script (call to f_…): @user_script: 12: -OOM command not allowed …"."""
    for kind in ("-OOM", "-READONLY", "-MISCONF", "-LOADING", "-NOPERM", "-NOREPLICAS"):
        at = text.find(kind)
        if at >= 0:
            return text[at + 1 :]
    return ""
