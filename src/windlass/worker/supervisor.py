"""The supervisor: keeps a number of worker processes running.

It never imports the application, so it has nothing to leak and nothing to reload. It starts a dead child again, backing
off when it dies quickly; at once when it was recycled. Signals:

=================  ======================================================================
SIGTERM, SIGINT    stop: first gracefully, the second time at once, the third by SIGKILL
SIGHUP             rolling restart: one after the other, each when the one before works
=================  ======================================================================
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from windlass.worker.member import USAGE, End, Member
from windlass.worker.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

log = logging.getLogger(__name__)

TICK = 1.0
"""Seconds between looks at files and health."""
_HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


class Supervisor:
    """Runs *processes* times *command*, which must attach to its :class:`~windlass.worker.leash.Leash`.

    Args:
        command: the program and arguments of one worker process.
        processes: how many.
        watch: restart them when a source file that they have told of changes.
        on_tick: called about once a second with the members.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        processes: int,
        watch: bool = False,
        on_tick: Callable[[list[Member]], None] | None = None,
    ) -> None:
        self.members = [Member(str(number), command) for number in range(1, processes + 1)]
        self._watch = watch
        self._watcher = Watcher()
        self._on_tick = on_tick
        self._signals: deque[int] = deque()
        self._stops = 0
        self._rolling: deque[Member] = deque()
        self._rolled: Member | None = None
        self._code = 0
        self._ticked = 0.0
        self._terminal = _has_terminal()

    def health(self) -> tuple[bool, Any]:
        """Say whether all processes are well, and show their snapshots; for the health probe."""
        well = all(member.healthy for member in self.members) and not self._stops
        shown = [{"name": m.name, "pid": m.pid, "healthy": m.healthy, "snapshot": m.snapshot} for m in self.members]
        return well, {"healthy": well, "processes": shown}

    def run(self) -> int:
        """Supervise until told to stop; return the exit code. Call it in the main thread."""
        with self._listening() as wake:
            try:
                while not self._done():
                    self._start_due()
                    self._wait(wake)
                    self._obey()
                    for member in self.members:
                        self._look_after(member)
                    self._roll()
                    self._tick()
            finally:
                for member in self.members:
                    member.ask()
        return self._code

    def _done(self) -> bool:
        return bool(self._stops) and not any(member.alive for member in self.members)

    def _start_due(self) -> None:
        now = time.monotonic()
        for member in self.members:
            if not (member.alive or member.held or self._stops) and member.due <= now:
                member.start()

    def _wait(self, wake: socket.socket) -> None:
        """Sleep until a signal, a word of a child, or the next thing to do."""
        starts = [m.due - time.monotonic() for m in self.members if not (m.alive or m.held or self._stops)]
        with selectors.DefaultSelector() as selector:
            selector.register(wake, selectors.EVENT_READ)
            for member in self.members:
                if member.line is not None:
                    selector.register(member.line, selectors.EVENT_READ)
            selector.select(max(0.01, min([TICK, *starts])))
        with contextlib.suppress(BlockingIOError):
            while wake.recv(4096):
                pass

    def _obey(self) -> None:
        while self._signals:
            number = self._signals.popleft()
            if number == signal.SIGHUP and (not self._terminal or _has_terminal()):
                log.info("restarting the workers, one after the other")
                self._rolling = deque(self.members)
            elif number != signal.SIGCHLD:
                self._stop()

    def _stop(self) -> None:
        self._stops += 1
        self._rolling.clear()
        log.info("stopping%s", ("", " at once", " by force")[min(self._stops, 3) - 1])
        for member in self.members:
            match self._stops:
                case 1:
                    member.ask()
                case 2:
                    member.send(signal.SIGTERM)
                case _:
                    member.send(signal.SIGKILL)

    def _look_after(self, member: Member) -> None:
        member.listen()
        end = member.reap()
        self._watcher.add(member.files)
        member.files.clear()
        if end is None or self._stops:
            return
        if end is End.RECYCLED:
            log.info("worker %s has done its share; starting another", member.name)
        if self._rolled is member and end in (End.DIED, End.REFUSED) and not member.ready:
            log.error("worker %s does not start; the other workers are left as they are", member.name)
            self._rolling.clear()
            self._rolled = None
        if end is End.REFUSED:
            self._refused(member)

    def _refused(self, member: Member) -> None:
        """Treat a process that cannot start: wait for a change of its files, or give up if none ever could."""
        if self._watch:
            member.held = True
            log.error("worker %s cannot start; waiting for a change", member.name)
        elif any(m.was_ready for m in self.members):
            member.due = time.monotonic() + 10.0
            log.error("worker %s cannot start; trying again in 10 s", member.name)
        else:
            self._code = USAGE
            self._stop()

    def _roll(self) -> None:
        if self._rolled is not None and not self._rolled.working:
            return
        self._rolled = None
        if self._rolling and not self._stops:
            self._rolled = self._rolling.popleft()
            self._rolled.held = False
            self._rolled.ask()

    def _tick(self) -> None:
        now = time.monotonic()
        if now - self._ticked < TICK:
            return
        self._ticked = now
        if self._watch and not self._stops and (changed := self._watcher.changed()):
            log.info("%s changed; restarting", ", ".join(map(os.path.basename, changed[:3])))
            for member in self.members:
                member.held = False
                member.due = 0.0
                member.ask()
        if self._on_tick is not None:
            self._on_tick(self.members)

    @contextlib.contextmanager
    def _listening(self) -> Iterator[socket.socket]:
        """Take signals as bytes on a socket; nothing is done inside a handler."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        # nohup's wish to survive the terminal stands.
        wanted = [n for n in _HANDLED if n != signal.SIGHUP or signal.getsignal(n) is not signal.SIG_IGN]
        before = {number: signal.signal(number, lambda n, _: self._signals.append(n)) for number in wanted}
        old = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        try:
            yield ours
        finally:
            signal.set_wakeup_fd(old)
            for number, handler in before.items():
                signal.signal(number, handler)
            ours.close()
            theirs.close()


def _has_terminal() -> bool:
    """Whether there is a terminal to be hung up by: SIGHUP means "it is gone" only then."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
