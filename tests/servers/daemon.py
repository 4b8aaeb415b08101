"""A private server of any kind: a folder with a short path, a port of its own, a process, and an end to all three.

Its programs run under `account`; `reaper` sees to the end when the tests cannot.
"""

import shutil
import signal
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from typing import Self

import psutil

from tests.servers import account
from tests.servers.ports import free_port
from tests.servers.reaper import reaper
from tests.waiting import until


class Daemon:
    """Starts and ends; a context manager that does both. What kind of server it is, subclasses say."""

    def __init__(self, prefix: str) -> None:
        self.port = 0
        """The same for life, so that clients find it again after a restart."""
        self.folder = account.private_folder(prefix)
        reaper().made(self.folder)
        self.log = self.folder / "log"
        self.process: subprocess.Popen[bytes] | None = None

    # -- what subclasses say

    def prepare(self) -> None:
        """Write what the program reads; called before each start."""
        raise NotImplementedError

    def command(self) -> list[str]:
        """Return the words that start the program, in the foreground."""
        raise NotImplementedError

    def ready(self) -> bool:
        """Whether the process that was started lets clients in."""
        raise NotImplementedError

    # -- life

    def __enter__(self) -> Self:
        try:
            return self if self.running else self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def said(self) -> str:
        """What the log says since the last start."""
        with suppress(FileNotFoundError), self.log.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")
        return ""

    def start(self) -> Self:
        """Start it, for the first time or again, and return when it lets clients in."""
        assert not self.running, "it runs"
        for _ in range(5):
            first = not self.port
            self.port = self.port or free_port()
            self.prepare()
            if self._launch():
                return self
            if not (first and "Address already in use" in self.said):
                break
            self.port = 0
        raise RuntimeError(f"{type(self).__name__} did not start:\n{self.said[-3000:]}")

    def end(self, number: int) -> None:
        """Send a signal that ends it, and wait for that."""
        assert self.process is not None
        self.process.send_signal(number)
        self._gone()

    def kill(self) -> None:
        """End all its processes at once with SIGKILL."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)  # it starts no others meanwhile
        family = self._family()
        _send(family, signal.SIGKILL)
        self._gone()
        until(lambda: not any(map(_alive, family)), every=0.002)

    def pause(self) -> None:
        """Stop all its processes where they are, with SIGSTOP: connections stay open, nobody answers."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        _send(self._family(), signal.SIGSTOP)

    def resume(self) -> None:
        """Let all its processes go on after a pause."""
        _send(reversed(self._family()), signal.SIGCONT)

    def close(self) -> None:
        """Kill it and remove all that it had."""
        if self.running:
            self.kill()
        shutil.rmtree(self.folder)
        reaper().removed(self.folder)

    # -- inside

    _log_start = 0

    def _launch(self) -> bool:
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            self.process = subprocess.Popen(
                self.command(),
                cwd=self.folder,
                env=account.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the tests
                **account.privileges(),
            )
        reaper().started(self.process.pid)
        until(lambda: not self.running or self.ready(), timeout=60, every=0.005)
        if not self.running:
            self._gone()
            return False
        return True

    def _gone(self) -> None:
        assert self.process is not None
        self.process.wait(60)
        reaper().ended(self.process.pid)

    def _family(self) -> list[psutil.Process]:
        assert self.process is not None
        head = psutil.Process(self.process.pid)
        return [head, *head.children(recursive=True)]


def _send(processes: Iterable[psutil.Process], number: int) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE  # where nobody collects orphans they stay as such
    except psutil.NoSuchProcess:
        return False
