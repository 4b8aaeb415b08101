"""Listening to what is published: a subscribed connection and a thread of its own.

That somebody listens is noted on the server for less than a minute at a time, so that a listener whose process has died is
forgotten. What is published while the connection is down is lost; the thread connects again by itself.
"""

from __future__ import annotations

import logging
import queue
import random
import threading
import time
import uuid
from typing import TYPE_CHECKING

from windlass.drivers.inbox import fetch
from windlass.drivers.redis.wire import MovedError
from windlass.errors import ConnectionLostError, WindlassError

if TYPE_CHECKING:
    from windlass.drivers.redis.database import Database
    from windlass.drivers.redis.wire import Wire

log = logging.getLogger(__name__)

NOTED = 45.0
"""Seconds for which it is noted that somebody listens."""
SIGN = 15.0
"""Seconds between signs of life, to the server and from it."""
AWAY = 2.0
"""Seconds between tries to reach a server that is away, at most."""


class Ear:
    """One listener."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._name = f"e-{uuid.uuid4().hex[:16]}"
        self._inbox: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._signed = 0.0
        self._wire: Wire | None = self._subscribe()
        self._thread = threading.Thread(target=self._run, name="windlass-ear", daemon=True)
        self._thread.start()

    def get(self, timeout: float) -> list[bytes]:
        """Return what has come, waiting for the first."""
        return fetch(self._inbox, timeout)

    def close(self) -> None:
        """Stop listening."""
        if self._stop.is_set():
            return
        self._stop.set()
        if (wire := self._wire) is not None:
            wire.abort()
        if self._thread is not threading.current_thread():
            self._thread.join(SIGN)
        try:
            self._database.run("hear", self._name, 0)
        except WindlassError:  # it is forgotten by itself
            return

    # ------------------------------------------------------------------ the thread

    def _subscribe(self) -> Wire:
        wire = self._database.connector.connect(patience=SIGN)
        try:
            wire.ask("SUBSCRIBE", self._database.channel)
            self._sign()
        except BaseException:
            wire.close()
            raise
        return wire

    def _sign(self) -> None:
        self._database.run("hear", self._name, NOTED)
        self._signed = time.monotonic()

    def _run(self) -> None:
        failures = 0
        while not self._stop.is_set():
            try:
                wire = self._wire or self._subscribe()
                self._wire = wire
                failures = 0
                self._listen(wire)
            except Exception as error:  # noqa: BLE001 - it is tried again
                if self._stop.is_set():
                    break
                failures = self._trouble(error, failures)
            finally:
                if self._wire is not None:
                    self._wire.close()
                self._wire = None

    def _trouble(self, error: Exception, failures: int) -> int:
        if isinstance(error, MovedError):
            self._database.connector.moved(error)
            return failures
        if not failures:
            log.warning("what is published is not heard for now (%s)", error)
        self._stop.wait(min(AWAY, 0.05 * 2.0 ** min(failures, 10)) * random.uniform(0.5, 1.0))  # noqa: S311
        return failures + 1

    def _listen(self, wire: Wire) -> None:
        """Take what comes, until the connection breaks or does not answer."""
        asked = False
        while not self._stop.is_set():
            if not wire.waits(SIGN):
                if asked:
                    raise ConnectionLostError("the server does not answer")
                wire.say("PING")
                asked = True
            else:
                for kind, *rest in wire.arrived():
                    if kind == b"message":
                        self._inbox.put(rest[1])
                asked = False
            if time.monotonic() - self._signed >= SIGN:
                self._sign()
