"""One place in the supervisor's fleet: a worker process, and the next one when it has ended."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import time
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import msgspec

from windlass.worker.leash import RECYCLED, VARIABLE

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logging.getLogger(__name__)

SHORTEST, LONGEST = 0.1, 10.0
"""Seconds of back-off."""
SOUND = 10.0
"""Seconds after which a process that dies did not die quickly."""
USAGE = 2
"""Exit code of a command that was given wrongly: trying again cannot help."""
STALE = 10.0
"""Seconds without a word after which a process is not healthy."""


class End(StrEnum):
    """How a process ended."""

    WANTED = "wanted"
    """It was asked to."""
    RECYCLED = "recycled"
    """It had done its share."""
    REFUSED = "refused"
    """It could not start, and would not next time."""
    DIED = "died"
    """Anything else."""


class Message(msgspec.Struct, frozen=True):
    """What a process says on its line."""

    files: list[str] = []
    snapshot: dict[str, Any] = {}


class Member:
    """A worker process under supervision."""

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name = name
        self.ready = False
        """Whether the present process has begun to work."""
        self.was_ready = False
        """Whether any process of this place ever had."""
        self.held = False
        """Not to be started before something changes."""
        self.due = 0.0
        """When to start the next process (monotonic)."""
        self.snapshot: dict[str, Any] = {}
        self.files: list[str] = []
        """Source files it has told of since they were last taken."""
        self.line: socket.socket | None = None
        self._command = list(command)
        self._process: subprocess.Popen[bytes] | None = None
        self._asked = False
        self._pause = 0.0
        self._began = self._heard = 0.0
        self._buffer = b""

    @property
    def alive(self) -> bool:
        """Whether there is a process."""
        return self._process is not None

    @property
    def pid(self) -> int | None:
        """Its process id."""
        return self._process.pid if self._process is not None else None

    @property
    def healthy(self) -> bool:
        """Whether the process said so lately."""
        return bool(self.alive and self.snapshot.get("healthy")) and time.monotonic() - self._heard < STALE

    def start(self) -> None:
        """Start a process.

        In a session of its own: Ctrl-C in a terminal reaches every process of the group, and with the signal that the
        supervisor passes on would count twice.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            given = {**os.environ, VARIABLE: f"{theirs.fileno()}:{os.getpid()}:{self.name}"}
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                self._command, env=given, pass_fds=(theirs.fileno(),), start_new_session=True, stdin=subprocess.DEVNULL
            )
        ours.setblocking(False)
        self.line = ours
        self.ready = self._asked = False
        self.snapshot, self._buffer = {}, b""
        self._began = time.monotonic()
        log.debug("worker %s is process %d", self.name, self._process.pid)

    @property
    def working(self) -> bool:
        """Whether the process works, and was not asked to end."""
        return self.alive and self.ready and not self._asked

    def ask(self) -> None:
        """Ask the process to end, once: a worker takes a second SIGTERM for "at once"."""
        if not self._asked:
            self.send(signal.SIGTERM)

    def send(self, number: int) -> None:
        """Send a signal that ends the process, if there is one."""
        if self._process is not None:
            self._asked = True
            self._process.send_signal(number)

    def listen(self) -> None:
        """Take in what the process has said."""
        if self.line is None:
            return
        with contextlib.suppress(BlockingIOError, ConnectionResetError):
            while data := self.line.recv(1 << 16):
                self._buffer += data
            self._hang_up()  # closed at the other end; it would be readable for ever
        *lines, self._buffer = self._buffer.split(b"\n")
        for said in lines:
            try:
                message = msgspec.json.decode(said, type=Message)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue  # a handler wrote to a descriptor that was not its own
            self.files += message.files
            if message.snapshot:
                self.snapshot, self._heard = message.snapshot, time.monotonic()
                self.ready = self.was_ready = True

    def reap(self) -> End | None:
        """Return how the process has ended, or ``None`` when it lives; plan when to start the next."""
        if self._process is None or (code := self._process.poll()) is None:
            return None
        self.listen()
        lived = time.monotonic() - self._began
        end = self._judge(code)
        self._hang_up()
        self._process = None
        self.snapshot = {}
        if end is End.DIED:
            self._pause = SHORTEST if lived > SOUND or not self._pause else min(LONGEST, 2 * self._pause)
            log.error("worker %s %s; starting it again in %.1f s", self.name, _describe(code), self._pause)
        else:
            self._pause = 0.0
        self.due = time.monotonic() + self._pause
        return end

    def _hang_up(self) -> None:
        if self.line is not None:
            self.line.close()
            self.line = None

    def _judge(self, code: int) -> End:
        if self._asked:
            return End.WANTED
        if code == RECYCLED:
            return End.RECYCLED
        return End.REFUSED if code == USAGE and not self.ready else End.DIED


def _describe(code: int) -> str:
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
