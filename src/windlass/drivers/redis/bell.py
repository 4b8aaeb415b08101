"""The doorbell: a blocking pop of a marker, on a connection and a thread of its own.

Markers say "look", never "this job": a job is taken by a turn, or it stays where it is. Workers that take from the same
queues and tasks are a class and share one list, which holds one marker at most; who pops it turns, and a turn that leaves
work behind puts it there again, so that workers wake one after another and only as long as there is work. A second list is
the bell's own, for signals to its worker.

A busy worker must not take the marker from an idle one: a bell whose worker has no free slot puts it back and pops no more
until a turn leaves slots free. A bell whose worker has not turned yet is a class of its own, which takes everything.

Each pop ends after a second, marker or not: a connection that has gone deaf is noticed when the answer does not come.
"""

from __future__ import annotations

import logging
import random
import threading
import time
import uuid
from typing import TYPE_CHECKING

from windlass.drivers.redis.wire import MovedError
from windlass.errors import WindlassError

if TYPE_CHECKING:
    from windlass.drivers.redis.database import Database
    from windlass.drivers.redis.wire import Wire

log = logging.getLogger(__name__)

POP = 1.0
"""Seconds that one blocking pop lasts."""
ANSWER = POP + 2.0
"""Seconds within which it must be answered."""
TRUSTED = 5.0
"""Seconds between an idle worker's own looks while pops are answered, ± a tenth."""
AWAY = 2.0
"""Seconds between tries to reach a server that is away, at most."""
SIGN = 60.0
"""Seconds between signs that a bell of its own class is still there."""


class PopBell:
    """A bell rung by markers, and by this process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.address = f"b-{uuid.uuid4().hex[:16]}"
        self._class: str | None = None
        self._free = threading.Event()
        self._free.set()
        self._rung = threading.Event()
        self._stop = threading.Event()
        self._wire: Wire | None = None
        self._thread: threading.Thread | None = None
        self._hears = False
        self._trouble = False
        self._signed = -SIGN
        self._sign()

    def wait(self, timeout: float) -> bool:
        """Sleep until rung, at most *timeout* seconds."""
        if self._thread is None and not self._stop.is_set():
            self._thread = threading.Thread(target=self._run, name="windlass-bell", daemon=True)
            self._thread.start()
        if not self._rung.wait(max(0.0, timeout)):
            return False
        self._rung.clear()
        return True

    def ring(self) -> None:
        """Wake the waiter."""
        if not self._rung.is_set():
            self._rung.set()

    @property
    def patience(self) -> float | None:
        """How many seconds a waiter may rely on being rung; ``None`` when it cannot."""
        return TRUSTED * random.uniform(0.9, 1.1) if self._hears else None  # noqa: S311 - spreads the fleet

    def turned(self, name: str, *, free: bool) -> None:
        """Learn the class of the worker, and whether it could take more."""
        if self._class != name:
            own = self._class is None
            self._class = name
            if own:
                self._leave_own_class()
            if self._wire is not None:
                self._wire.abort()  # it pops from the wrong list
        if free:
            self._free.set()
        else:
            self._free.clear()

    def close(self) -> None:
        """Hear nothing more."""
        self._stop.set()
        self._hears = False
        self._free.set()
        self._rung.set()
        if self._wire is not None:
            self._wire.abort()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(ANSWER)
        if self._class is None:
            self._leave_own_class()

    def _sign(self) -> None:
        """Keep the class of its own known."""
        if self._class is None and time.monotonic() - self._signed >= SIGN:
            self._database.run("enroll", "class", self.address, "*")
            self._signed = time.monotonic()

    def _leave_own_class(self) -> None:
        try:
            self._database.run("enroll", "class", self.address, "")
        except WindlassError:  # it is forgotten by tidying
            return

    # ------------------------------------------------------------------ the thread

    def _run(self) -> None:
        failures = 0
        while not self._stop.is_set():
            popped_from = self._class
            try:
                self._listen()
                failures = 0
            except Exception as error:  # noqa: BLE001 - the worker polls meanwhile
                if self._stop.is_set():
                    return
                if popped_from != self._class:
                    continue  # it was hung up on purpose
                if isinstance(error, MovedError):
                    self._database.connector.moved(error)
                    continue
                self._database.connector.lost()
                self._hears = False
                if not self._trouble:
                    log.warning("Redis does not ring (%s); polling until it does", error)
                    self._trouble = True
                failures += 1
                self._stop.wait(min(AWAY, 0.05 * 2.0 ** min(failures, 10)) * random.uniform(0.5, 1.0))  # noqa: S311

    def _listen(self) -> None:
        wire = self._database.connector.connect(patience=ANSWER)
        self._wire = wire
        key = self._database.key
        try:
            while not self._stop.is_set():
                if not self._free.is_set():
                    self._free.wait()
                    continue
                own, shared = key(f"bell:{self.address}"), self._class
                keys = [own] if shared is None else [own, key(f"bell:{shared}")]
                self._sign()
                found = wire.ask("BLPOP", *keys, POP)
                self._heard()
                if found is None:
                    continue
                if found[0] != own.encode() and not self._free.is_set():
                    wire.ask("RPUSH", found[0], 1)
                else:
                    self._rung.set()
        finally:
            self._wire = None
            wire.close()

    def _heard(self) -> None:
        if self._trouble:
            log.warning("Redis rings again")
            self._trouble = False
            self._rung.set()  # whoever waits to try again need not wait longer
        self._hears = True
