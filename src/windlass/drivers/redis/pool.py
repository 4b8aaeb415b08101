"""A handful of open connections, lent one at a time; in a forked child it starts anew."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from windlass import shield
from windlass.drivers.redis.wire import PATIENCE, MovedError, ReadOnlyError
from windlass.errors import ClosedError, ConnectionLostError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from windlass.drivers.redis.connect import Connector
    from windlass.drivers.redis.scripts import Script
    from windlass.drivers.redis.wire import Wire, Word

REDIRECTS = 5
"""How often an answer may point to another node before it is an error."""


class Pool:
    """At most *size* connections at once."""

    def __init__(self, connector: Connector, *, size: int, patience: float = PATIENCE) -> None:
        self._connector = connector
        self._size = size
        self._patience = patience
        self._abandoned: list[list[Wire]] = []
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._idle: list[Wire] = []
        self._lent = 0
        self._returned = threading.Condition(threading.Lock())
        self._closed = False

    def open(self) -> None:
        """Lend again, after a close."""
        self._closed = False

    def close(self) -> None:
        """Close what is idle now, and what is lent when it comes back."""
        self._closed = True
        if self._pid == os.getpid():
            with self._returned:
                while self._idle:
                    self._idle.pop().close()
                self._returned.notify_all()

    def run(self, script: Script, keys: Sequence[Word], words: Sequence[Word] = ()) -> Any:
        """Run a script on the node that has its keys."""
        return self.do(lambda wire: wire.run(script, keys, words))

    def ask(self, *words: Word) -> Any:
        """Send one command."""
        return self.do(lambda wire: wire.ask(*words))

    def do(self, talk: Callable[[Wire], Any]) -> Any:
        """Hold a conversation on a lent connection; follow to another node where the answer says so: nothing was done then."""
        for _ in range(REDIRECTS):
            wire = self._acquire()
            try:
                return talk(wire)
            except MovedError as moved:
                self._connector.moved(moved)
            except ReadOnlyError:
                wire.close()
                self._connector.lost()
                raise
            except ConnectionLostError:
                if wire.broken:
                    self._connector.lost()
                raise
            finally:
                self._release(wire)
        raise ConnectionLostError("the nodes of the cluster point to each other; try again")

    def _acquire(self) -> Wire:
        if self._pid != os.getpid():
            # The parent's connections are kept, never closed: closing would say goodbye in the parent's name.
            self._abandoned.append(self._idle)
            self._reset()
        with self._returned:
            while self._lent >= self._size and not self._closed:
                self._returned.wait()
            if self._closed:
                raise ClosedError
            self._lent += 1
            while self._idle:
                wire = self._idle.pop()
                if wire.opened > self._connector.silent_at and wire.alive():
                    return wire
                wire.close()
        try:
            with shield.mine():  # an interrupted handler must not lose what it has just opened
                return self._connector.connect(patience=self._patience)
        except BaseException:
            with self._returned:
                self._lent -= 1
                self._returned.notify()
            raise

    def _release(self, wire: Wire) -> None:
        if self._pid != os.getpid():  # lent before a fork
            return
        with self._returned:
            self._lent -= 1
            if self._closed or wire.broken:
                wire.close()
            else:
                self._idle.append(wire)
            self._returned.notify()
