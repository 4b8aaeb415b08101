"""Ends the servers of a test run that was ended itself before it could stop them.

A process of its own, which reads from a pipe what was started and what has ended. When the pipe closes, whatever
killed the process at its other end, it stops what is left and removes the folders. Fixtures stop their servers
themselves; this is for Ctrl-C in a parallel run, a crash, ``kill -9``.
"""

import atexit
import functools
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path


class Reaper:
    """Our end of the pipe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__],
            stdin=subprocess.PIPE,
            cwd="/",
            text=True,
            start_new_session=True,  # Ctrl-C is for the tests
        )
        atexit.register(self._close)

    def started(self, pid: int) -> None:
        self._say(f"+process {pid}")

    def ended(self, pid: int) -> None:
        self._say(f"-process {pid}")

    def made(self, folder: Path) -> None:
        self._say(f"+folder {folder}")

    def removed(self, folder: Path) -> None:
        self._say(f"-folder {folder}")

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        with self._lock:
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()

    def _close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)


@functools.cache
def reaper() -> Reaper:
    """Return the reaper of this process."""
    return Reaper()


def _alive(pid: int) -> bool:
    with suppress(FileNotFoundError, ProcessLookupError):  # also where there is no /proc
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return False  # nobody has collected it, or ever will
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _end(pids: list[int]) -> None:
    # SIGQUIT is PostgreSQL's immediate shutdown, which takes the children along, and ends anything else as well.
    for number in (signal.SIGCONT, signal.SIGQUIT, signal.SIGKILL):
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + (0 if number == signal.SIGCONT else 8)
        while time.monotonic() < deadline and any(map(_alive, pids)):
            time.sleep(0.02)


def _watch() -> None:
    left: dict[str, list[str]] = {"process": [], "folder": []}
    for line in sys.stdin:
        kind, _, name = line.rstrip("\n").partition(" ")
        if kind[0] == "+":
            left[kind[1:]].append(name)
        else:
            left[kind[1:]].remove(name)
    _end([int(name) for name in left["process"]])
    for name in left["folder"]:
        shutil.rmtree(name, ignore_errors=True)


if __name__ == "__main__":
    _watch()
