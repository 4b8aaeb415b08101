"""The doorbell: a datagram socket per worker, rung after commit.

The address is written in the worker's row, so whoever commits knows whom to ring. A bell that cannot be rung (another
network namespace, a full buffer, a dead process) is no error: the worker looks by itself every ``poll`` seconds.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
import tempfile
import threading
import uuid
from pathlib import Path


class DatagramBell:
    """A bell that other processes on this machine can ring."""

    patience = None  # a datagram may be dropped

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        name = f"windlass-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        # Linux's abstract names need no file and vanish with the process.
        self.address = f"@{name}" if sys.platform == "linux" else str(Path(tempfile.gettempdir()) / name)
        self._socket.bind(target(self.address))
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)

    def wait(self, timeout: float) -> bool:
        """Sleep until rung, at most *timeout* seconds."""
        if not self._poll.poll(max(0.0, timeout) * 1000):
            return False
        with contextlib.suppress(OSError):
            while True:  # a hundred rings are one
                self._socket.recv(16)
        return True

    def ring(self) -> None:
        """Wake the waiter."""
        ring_all([self.address])

    def close(self) -> None:
        """Give the address up."""
        self._socket.close()
        if not self.address.startswith("@"):
            Path(self.address).unlink(missing_ok=True)


def target(address: str) -> str:
    """Spell a socket's address as the system does."""
    return "\0" + address[1:] if address.startswith("@") else address


_out: dict[int, socket.socket] = {}
_making = threading.Lock()


def ring_all(addresses: list[str]) -> None:
    """Ring the bells at *addresses*, never waiting."""
    out = _out.get(os.getpid()) or _socket()
    if out is None:  # no file descriptor left; what was committed is committed
        return
    for address in addresses:
        with contextlib.suppress(OSError):
            out.sendto(b"!", target(address))


def _socket() -> socket.socket | None:
    """Make this process's socket: it must not be shared with a parent."""
    pid = os.getpid()
    with _making:
        if pid not in _out:
            try:
                made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            except OSError:
                return None
            made.setblocking(False)
            _out.clear()
            _out[pid] = made
        return _out[pid]
