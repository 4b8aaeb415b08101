"""Those who listen to what is published: a datagram socket each, its address in a table.

An ear's own thread empties its socket, because the system keeps only a few datagrams, and renews the row, so that a
listener whose process has died is forgotten within a minute. What comes while an ear is full, or is lost on the way, is
lost for good: whoever needs all of it looks in the store.

A message goes in numbered pieces, because a datagram is bounded: ``id of the message, number, how many, bytes``.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import socket
import struct
import sys
import tempfile
import threading
import time
import uuid
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from windlass.drivers.sqlite.bell import target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

KEPT = 60.0
"""Seconds that an ear counts after its last renewal."""
RENEW = 20.0
"""Seconds between renewals."""
PIECE = 8192 if sys.platform == "linux" else 1024
"""Bytes of a message in one datagram; macOS takes 2048 in all."""
MOST = 10_000
"""Messages that wait in one ear at most; then the oldest go."""
PATIENCE = 0.2
"""Seconds that a publisher waits for an ear whose socket is full, before it goes on without it."""
DEAF = 5.0
"""Seconds for which such an ear is passed over."""

_HEAD = struct.Struct(">QII")


class Ear:
    """One listener."""

    def __init__(self, register: Callable[[str, Callable[[], bool]], None], forget: Callable[[str], None]) -> None:
        self._register = register
        self._forget = forget
        self._closed = False
        self._pid = os.getpid()
        self._inbox: deque[bytes] = deque(maxlen=MOST)
        self._some = threading.Condition()
        self._pieces: dict[int, list[bytes]] = {}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        name = f"windlass-ear-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self.address = f"@{name}" if sys.platform == "linux" else str(Path(tempfile.gettempdir()) / name)
        try:
            self._socket.bind(target(self.address))
            register(self.address, self._is_open)
        except BaseException:
            self._hang_up()
            raise
        threading.Thread(target=self._run, name="windlass-ear", daemon=True).start()

    def get(self, timeout: float) -> list[bytes]:
        """Return what has come, waiting for the first."""
        with self._some:
            self._some.wait_for(lambda: self._inbox or self._closed, max(0.0, timeout))
            found = list(self._inbox)
            self._inbox.clear()
        return found

    def close(self) -> None:
        """Stop listening."""
        if self._pid != os.getpid():  # a forked child's copy: the ear is its parent's
            return
        with self._some:
            if self._closed:
                return
            self._closed = True
            self._some.notify_all()
        with contextlib.suppress(OSError):
            self._socket.sendto(b"", target(self.address))  # wakes the thread, which hangs up
        self._forget(self.address)

    def _is_open(self) -> bool:
        return not self._closed

    def _hang_up(self) -> None:
        self._socket.close()
        if not self.address.startswith("@"):
            Path(self.address).unlink(missing_ok=True)

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        renew_at = time.monotonic() + RENEW
        while not self._closed:
            rest = renew_at - time.monotonic()
            if rest <= 0:
                renew_at = time.monotonic() + RENEW
                with contextlib.suppress(Exception):  # the store is away: the next time, perhaps
                    self._register(self.address, self._is_open)
            elif poll.poll(rest * 1000):
                self._listen()
        self._hang_up()

    def _listen(self) -> None:
        """Take in all that has come."""
        with contextlib.suppress(OSError), self._some:
            while True:
                whole = self._put_together(self._socket.recv(_HEAD.size + PIECE))
                if whole is not None:
                    self._inbox.append(whole)
                    self._some.notify_all()

    def _put_together(self, datagram: bytes) -> bytes | None:
        """Return a message whose last piece this is."""
        if len(datagram) < _HEAD.size:
            return None
        message, number, pieces = _HEAD.unpack_from(datagram)
        piece = datagram[_HEAD.size :]
        if pieces == 1:
            return piece
        found = self._pieces.setdefault(message, []) if number == 0 else self._pieces.get(message)
        if found is None or len(found) != number:
            self._pieces.pop(message, None)  # one was lost
            return None
        found.append(piece)
        if len(found) == pieces:
            return b"".join(self._pieces.pop(message))
        if len(self._pieces) > MOST:
            self._pieces.pop(next(iter(self._pieces)))
        return None


_deaf: dict[str, float] = {}
_numbers = itertools.count(int.from_bytes(os.urandom(7)) & ~0xFFFFFF)


def tell(addresses: Sequence[str], messages: Sequence[bytes]) -> None:
    """Send messages to ears; whoever cannot hear does not."""
    now = time.monotonic()
    for address in [address for address, until in _deaf.items() if until <= now]:
        _deaf.pop(address, None)
    datagrams = [datagram for message in messages for datagram in _pieces(message)]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _interval(PATIENCE))
        for address in addresses:
            if address not in _deaf:
                _send(out, address, datagrams)


def _send(out: socket.socket, address: str, datagrams: Sequence[bytes]) -> None:
    try:
        for datagram in datagrams:
            out.sendto(datagram, target(address))
    except BlockingIOError:
        _deaf[address] = time.monotonic() + DEAF
    except OSError:
        return  # it has gone; its row is forgotten in time


def _pieces(message: bytes) -> Iterator[bytes]:
    number = next(_numbers)
    pieces = max(1, -(-len(message) // PIECE))
    for piece in range(pieces):
        yield _HEAD.pack(number, piece, pieces) + message[piece * PIECE : (piece + 1) * PIECE]


def _interval(seconds: float) -> bytes:
    """Spell a time as the system's ``struct timeval``."""
    return struct.pack("ll", int(seconds), int(seconds % 1 * 1_000_000))
