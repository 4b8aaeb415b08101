"""The process lane: each attempt in a child process that can be killed.

A child serves one attempt after another and is made anew when it dies. Whatever it does to itself (a segmentation
fault, ``os._exit``, holding the GIL for a minute) is a crash of its own job and nobody else's. Children die with the
worker.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from multiprocessing import connection, spawn
from typing import TYPE_CHECKING, Any

import msgspec

from windlass.errors import StoreError
from windlass.outcomes import Interrupted
from windlass.worker import wire
from windlass.worker.execution import NO_ROOM, ChildCrashedError
from windlass.worker.lanes import ThreadLane

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from windlass.notes import Scribe
    from windlass.worker.execution import Execution

log = logging.getLogger(__name__)

LOOK = 1.0
"""Seconds between looks at whether a busy child lives."""


class Child:
    """One child process and the line to it."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        # Not multiprocessing.Process: at exit it would wait for children that wait for us.
        self.process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-c", f"from windlass.worker.child import main; main({theirs.fileno()}, {os.getpid()})"],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
        )
        theirs.close()
        self.line: connection.Connection[Any, Any] = connection.Connection(ours.detach())
        # How multiprocessing makes a spawned child see the parent's sys.path and main module.
        prepared = spawn.get_preparation_data("windlass-child")
        prepared.pop("authkey", None)  # refuses to be pickled outside of a spawning, and nobody needs it here
        try:
            self.line.send(prepared)
        except OSError:  # it is dead already; `run` will say so
            log.warning("a child process died at once")
        except BaseException:
            self.kill()
            raise

    def run(self, execution: Execution) -> Any:
        """Send one attempt and wait for its end."""
        function, chunk = execution.task.function, execution.context.chunk
        if chunk:
            execution.arguments()  # the jobs whose payloads do not fit fail here, by themselves
            chunk = execution.context.chunk
        try:
            self.line.send((function.__module__, function.__qualname__, execution.task.name, execution.record, chunk))
            kind, ended, value = self._answer(execution)
        except (EOFError, OSError) as error:
            raise ChildCrashedError(self._epitaph()) from error
        execution.context.ended = ended
        if kind == "error":
            raise value
        if isinstance(value, list):
            return [None if each is None else msgspec.Raw(each) for each in value]
        return None if value is None else msgspec.Raw(value)

    def _answer(self, execution: Execution) -> tuple[str, bool, Any]:
        """Take down what the handler tells, until its end."""
        context = execution.context
        records, scribe = context.chunk or (execution.record,), context.scribe
        while True:
            self._await_message()
            message: tuple[str, bool, Any] = self.line.recv()
            if message[0] not in (wire.TOLD, wire.FLUSH):
                return message
            if message[0] == wire.TOLD:
                if scribe is not None:
                    wire.hear(scribe, records, message[2], execution.app.driver.now())
            else:
                self._flush(scribe, execution.record.lease)
                self.line.send(wire.FLUSHED)

    @staticmethod
    def _flush(scribe: Scribe | None, lease: int) -> None:
        try:
            if scribe is not None:
                scribe.flush([lease])
        except StoreError as error:  # the child will see for itself that the store is away
            log.warning("what a handler has told cannot be written yet: %s", error)

    def _await_message(self) -> None:
        # The end of the line is not enough: a process that the handler has forked may hold its copy for ever.
        while not self.line.poll(LOOK):
            if not self.alive and not self.line.poll():
                raise EOFError

    def _epitaph(self) -> str:
        code = self.process.wait()
        if code >= 0:
            return f"the child process that ran it exited with code {code}"
        with contextlib.suppress(ValueError):
            return f"the child process that ran it died of {signal.Signals(-code).name}"
        return f"the child process that ran it died of signal {-code}"

    @property
    def alive(self) -> bool:
        """Whether it can take another attempt."""
        return self.process.poll() is None

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()
        self.line.close()


class ProcessLane(ThreadLane):
    """A thread for each child, which waits for it."""

    name = "process"

    def __init__(self, finished: Callable[[Sequence[Execution]], None], *, size: int) -> None:
        super().__init__(finished, size=size)
        self._children: dict[int, Child] = {}

    def _work(self) -> None:
        try:
            super()._work()
        finally:
            child = self._children.pop(threading.get_ident(), None)
            if child is not None:
                child.kill()

    def _call(self, execution: Execution) -> Any:
        ident = threading.get_ident()
        child = self._children.get(ident)
        if child is None or not child.alive:
            if child is not None:
                child.kill()
            try:
                child = self._children[ident] = Child()
            except OSError:  # no memory or file descriptor left: the job is not to blame
                log.exception("no child process can be started; job %d is given back", execution.record.id)
                execution.give_back(NO_ROOM)
                return None
        if execution.cause is not None:
            raise Interrupted("stopped before it began")
        try:
            return child.run(execution)
        except ChildCrashedError:
            self._children.pop(ident).kill()
            raise

    def _send(self, execution: Execution, number: signal.Signals) -> None:
        execution.context.cancelled.set()
        with self._lock:
            child = self._children.get(execution.handle) if execution.handle is not None else None
            if child is not None and not execution.finished and child.alive:
                child.process.send_signal(number)

    def interrupt(self, execution: Execution) -> None:
        """Send TERM: the handler sees ``ctx.cancelled`` and ``Interrupted`` is raised in it."""
        self._send(execution, signal.SIGTERM)

    def force(self, execution: Execution) -> bool:
        """Send KILL."""
        self._send(execution, signal.SIGKILL)
        return True

    def close(self) -> None:
        """Let the threads go and end the children."""
        super().close()
        for child in list(self._children.values()):
            child.process.kill()
