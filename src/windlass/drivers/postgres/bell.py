"""The doorbell: ``LISTEN`` on a connection of its own, which must prove again and again that it still hears.

A listener can go deaf without an error: a half-open socket after a failover, or a pooler that lends every transaction
another session. So it checks its own session (``pg_listening_channels``) and sends itself a ping through another
connection; when the ping does not arrive it is deaf: waiters poll as often as without it, and that is logged once.

A ring may come before the jobs it stands for can be seen (see the function ``ring``), so every wake is followed by three
later looks.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import socket
import threading
import time
import weakref
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from windlass.drivers.postgres.connect import translated
from windlass.errors import ConnectionLostError, WindlassError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from windlass.drivers.postgres.connect import Connection, Connector

log = logging.getLogger(__name__)

LATER = (0.005, 0.02, 0.05)
"""Seconds after a wake at which to look again."""
PROOF = 10.0
"""Seconds between proofs that the listener hears."""
ANSWER = 3.0
"""Seconds within which a ping must come back."""
TRUSTED = 5.0
"""Seconds between an idle worker's own looks while the listener hears, ± a tenth."""
AWAY = 4.0
"""Seconds between tries to reach a server that is away, at most."""
DEAF = 30.0
"""The same where the server is there and notifications do not arrive, as behind a pooler."""
QUIET = 3600.0
"""The same in quiet mode, for databases that are billed while they are awake."""


class ListenBell:
    """A bell rung by notifications, and by this process."""

    address = ""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._rung = threading.Event()
        self._later: list[float] = []

    def wait(self, timeout: float) -> bool:
        """Sleep until rung, at most *timeout* seconds."""
        deadline = time.monotonic() + max(0.0, timeout)
        while True:
            later = self._later
            until = min(deadline, later[0]) if later else deadline
            if self._rung.wait(max(0.0, until - time.monotonic())):
                self._rung.clear()
                return True
            now = time.monotonic()
            if later and later[0] <= now:
                later.pop(0)
                return True
            if now >= deadline:  # else a notification has just set new times for later looks
                return False

    def ring(self) -> None:
        """Wake the waiter."""
        self._rung.set()

    def notified(self) -> None:
        """Wake the waiter now and three times more: what was announced may not be visible yet."""
        now = time.monotonic()
        self._later = [now + pause for pause in LATER]
        self._rung.set()

    @property
    def patience(self) -> float | None:
        """How many seconds a waiter may rely on being rung; ``None`` when it cannot."""
        return self._listener.patience

    def close(self) -> None:
        """Hear nothing more."""
        self._rung.set()
        self._listener.leave(self)


class Listener:
    """One listening connection for all bells of a process, on a thread of its own while there is a bell."""

    def __init__(
        self,
        connector: Connector,
        channel: str,
        ping: Callable[[str], None],
        *,
        quiet: bool = False,
    ) -> None:
        self._connector = connector
        self._channel = channel
        self._ping = ping
        self._quiet = quiet
        self._bells: weakref.WeakSet[ListenBell] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stop, self._begun = threading.Event(), threading.Event()
        self._connection: Connection | None = None
        self.hears = False
        """Whether the last proof succeeded."""
        self.trouble = ""
        """Why not, in a few words."""

    @property
    def patience(self) -> float | None:
        """See :attr:`ListenBell.patience`."""
        if not self.hears:
            return None
        return QUIET if self._quiet else TRUSTED * random.uniform(0.9, 1.1)  # noqa: S311 - spreads the fleet

    def bell(self) -> ListenBell:
        """Return a new bell; from here on it is rung, unless listening fails."""
        bell = ListenBell(self)
        with self._lock:
            self._bells.add(bell)
            if self._thread is None:
                self._stop, self._begun = threading.Event(), threading.Event()
                self._thread = threading.Thread(
                    target=self._run, args=(self._stop,), name="windlass-listener", daemon=True
                )
                self._thread.start()
        self._begun.wait(ANSWER)
        return bell

    def leave(self, bell: ListenBell) -> None:
        """Forget a bell; without bells the thread ends."""
        with self._lock:
            self._bells.discard(bell)
            if self._bells:
                return
        self.close()

    def close(self) -> None:
        """End the thread."""
        with self._lock:
            thread, self._thread = self._thread, None
        self._stop.set()
        self.hears = False
        if thread is not None and thread is not threading.current_thread():
            self._hang_up()
            thread.join(ANSWER)

    def check(self) -> str:
        """Say what is wrong, or nothing; without a bell to tell, this listens for a moment to find out."""
        if self._thread is not None:
            return self.trouble
        try:
            connection = self._connector.connect(patience=ANSWER)
            try:
                connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self._channel)), prepare=False)
                self._prove(connection, threading.Event())
            finally:
                self.hears = False
                connection.close()
        except (psycopg.Error, WindlassError, OSError) as error:
            return str(error).partition("\n")[0]
        return ""

    def _hang_up(self) -> None:
        """Wake the thread, which waits for the socket."""
        with contextlib.suppress(Exception):  # it may be closed, or opened, just now
            if self._connection is not None:
                with socket.socket(fileno=os.dup(self._connection.fileno())) as copy:
                    copy.shutdown(socket.SHUT_RDWR)

    def _run(self, stop: threading.Event) -> None:
        failures = 0
        while not stop.is_set():
            try:
                self._listen(stop)
                failures = 0
            except (psycopg.Error, WindlassError, OSError) as error:
                if stop.is_set():
                    return
                self._begun.set()
                was = self.hears
                self.hears = False
                self.trouble = str(error).partition("\n")[0]
                if was or failures == 0:
                    log.warning("no notifications from PostgreSQL (%s); polling until they work", self.trouble)
                failures = 0 if was else failures + 1
                slowest = AWAY if isinstance(error, ConnectionLostError) else DEAF
                stop.wait(min(slowest, 0.1 * 2.0 ** min(failures, 10)) * random.uniform(0.5, 1.0))  # noqa: S311

    def _listen(self, stop: threading.Event) -> None:
        connection = self._connection = self._connector.connect(patience=ANSWER)
        try:
            connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self._channel)), prepare=False)
            self._begun.set()
            self._prove(connection, stop)
            next_proof = time.monotonic() + PROOF
            while not stop.is_set():
                if self._hear(connection, 1.0):
                    self._tell()
                if not self._quiet and time.monotonic() >= next_proof:
                    self._prove(connection, stop)
                    next_proof = time.monotonic() + PROOF
        finally:
            self._connection = None
            connection.close()

    def _hear(self, connection: Connection, timeout: float) -> bool:
        """Wait for notifications; tell whether there was one that is not a ping."""
        found = False
        with translated():
            for notification in connection.notifies(timeout=timeout, stop_after=1):
                found = found or not notification.payload
        return found

    def _prove(self, connection: Connection, stop: threading.Event) -> None:
        """Check that this session listens and that a notification sent elsewhere arrives."""
        with translated():
            channels = connection.execute("SELECT pg_listening_channels()", prepare=False).fetchall()
        if (self._channel,) not in channels:
            raise WindlassError("the session that listened is gone, as behind a pooler in transaction mode")
        token = f"{random.getrandbits(64):016x}"
        self._ping(token)
        deadline = time.monotonic() + ANSWER
        rung = False
        for payloads in self._payloads(connection, deadline, stop):
            rung = rung or "" in payloads
            if token in payloads:
                break
        else:
            if stop.is_set():
                return
            raise WindlassError("a notification sent to ourselves did not arrive")
        if self.trouble:
            log.warning("notifications from PostgreSQL work again")
            rung = True  # the server is back: whoever waits to try again need not wait longer
        self.hears, self.trouble = True, ""
        if rung:
            self._tell()

    def _payloads(self, connection: Connection, deadline: float, stop: threading.Event) -> Iterator[list[str]]:
        """Yield what arrives at once as a whole: psycopg forgets the rest of it when one breaks off in the middle."""
        while time.monotonic() < deadline and not stop.is_set():
            with translated():
                yield [notification.payload for notification in connection.notifies(timeout=0.1, stop_after=1)]

    def _tell(self) -> None:
        with contextlib.suppress(RuntimeError):  # a bell that goes away meanwhile
            for bell in list(self._bells):
                bell.notified()
