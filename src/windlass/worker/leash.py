"""The child's end of the line to its supervisor.

The line is a socket pair. The child tells what it is doing in JSON lines; the supervisor says nothing, but when its end
is closed it is gone, and the child stops gracefully. On Linux the kernel sends that SIGTERM, at once and even to a child
whose interpreter is stuck; a second one from here would mean "at once", so it is sent from here only elsewhere. What has
not ended ``LAST`` seconds later is ended by force.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import sys
import sysconfig
import threading
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

VARIABLE = "WINDLASS_SUPERVISOR"
"""``fd:pid of the supervisor:name``."""
RECYCLED = 90
"""Exit code of a worker that reached ``max_jobs`` or ``max_memory``."""
LAST = 60.0
_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15


class Leash:
    """The line of a supervised worker process."""

    def __init__(self, fd: int, parent: int, name: str) -> None:
        self.name = name
        """What the supervisor calls this process."""
        os.set_inheritable(fd, False)  # what the handlers start must not hold the line
        self._line = socket.socket(fileno=fd)
        self._told: frozenset[str] = frozenset()
        self._unsent = b""
        self._kernel = _tie(name)
        if os.getppid() != parent:
            os._exit(1)  # it died before the kernel was told to watch it
        threading.Thread(target=self._watch, name="windlass-leash", daemon=True).start()

    def tell(self, **message: Any) -> None:
        """Tell the supervisor something. Never blocks: when it does not listen, newer messages are dropped."""
        if not self._unsent:
            self._unsent = msgspec.json.encode(message) + b"\n"
        with contextlib.suppress(OSError):
            while self._unsent:
                self._unsent = self._unsent[self._line.send(self._unsent, socket.MSG_DONTWAIT) :]

    def tell_files(self, files: Iterable[str]) -> None:
        """Tell which files this process was made of, when there are new ones."""
        found = frozenset(files)
        if found - self._told:
            self._told |= found
            self.tell(files=sorted(found))

    def _watch(self) -> None:
        with contextlib.suppress(OSError):
            while self._line.recv(64):
                pass
        if not self._kernel:
            os.kill(os.getpid(), signal.SIGTERM)
        if not threading.Event().wait(LAST):
            os._exit(1)


def attach() -> Leash | None:
    """Return the line to the supervisor that started this process, if one did."""
    given = os.environ.pop(VARIABLE, None)  # not for the processes that handlers start
    if given is None:
        return None
    fd, parent, name = given.split(":", 2)
    return Leash(int(fd), int(parent), name)


def project_files() -> set[str]:
    """Return the source files of imported modules, but for Python's own and those of installed packages."""
    paths = sysconfig.get_paths()
    installed = tuple(
        {os.path.realpath(paths[name]) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    )
    named = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    return set(own_files([name for name in named if isinstance(name, str)], installed))


def own_files(names: Iterable[str], installed: tuple[str, ...] = ()) -> list[str]:
    """Return those of *names* that are Python sources outside of the *installed* folders."""
    real = {os.path.realpath(name) for name in names}
    return sorted(n for n in real if n.endswith(".py") and not n.startswith(installed) and "site-packages" not in n)


def _tie(name: str) -> bool:
    """Ask the kernel for SIGTERM when the supervisor dies; tell whether it will. Name the process for ``ps``."""
    if sys.platform != "linux":
        return False
    try:
        prctl = ctypes.CDLL(None, use_errno=True).prctl
    except (OSError, AttributeError):
        return False
    prctl(_PR_SET_NAME, f"windlass-{name}"[:15].encode(), 0, 0, 0)
    return bool(prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) == 0)
