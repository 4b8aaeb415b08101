"""The doorbell: a blocking pop of a marker, on a connection of its own, read by whoever waits.

Markers say "look", never "this job": a job is taken by a turn, or it stays where it is. Workers that take from the same
queues and tasks are a class and share one list, which holds one marker at most; who pops it turns, and a turn that leaves
work behind puts it there again, so that workers wake one after another and only as long as there is work. A second list is
the bell's own, for signals to its worker.

A busy worker must not take the marker from an idle one: a bell whose worker has no free slot puts it back and pops no more
until a turn leaves slots free. A bell whose worker has not turned yet is a class of its own, which takes everything.

The waiter itself watches the connection: a thread in between would cost a second awakening for each marker, which is most of
what a lone job waits for. A pop outlives the waiting it was sent in, and its answer is met by the next. Only connecting, which
may take long, is left to a thread.

Each pop ends after a second, marker or not: a connection that has gone deaf is noticed when the answer does not come.
"""

from __future__ import annotations

import contextlib
import logging
import random
import select
import socket
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

from windlass.drivers.redis.wire import MovedError, raised
from windlass.errors import ConnectionLostError, WindlassError

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
    """A bell rung by markers, and by this process. One thread waits."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.address = f"b-{uuid.uuid4().hex[:16]}"
        self._class: str | None = None
        self._free = True
        self._rung = False
        self._closed = False
        self._inside, self._outside = socket.socketpair()
        for end in (self._inside, self._outside):
            end.setblocking(False)
        self._waiting = threading.Lock()
        self._wire: Wire | None = None
        self._connecting: threading.Thread | None = None
        self._asked: float | None = None
        """When the pop was sent whose answer has not come."""
        self._own = b""
        self._hears = False
        self._trouble = False
        self._failures = 0
        self._next_try = 0.0
        self._signed = -SIGN
        self._sign()

    def wait(self, timeout: float) -> bool:
        """Sleep until rung, at most *timeout* seconds."""
        deadline = time.monotonic() + max(0.0, timeout)
        with self._waiting:
            while True:
                if self._called():
                    return True
                pause = min(deadline, self._tend()) - time.monotonic()
                if self._look(max(0.0, pause)):
                    return True
                if time.monotonic() >= deadline:
                    return self._called()

    def ring(self) -> None:
        """Wake the waiter."""
        if not self._rung:
            self._rung = True
            self._nudge()

    def _nudge(self) -> None:
        with contextlib.suppress(OSError):  # it is full, so there is a nudge in it; or closed
            self._outside.send(b"!")

    def _called(self) -> bool:
        """Whether there is no reason to wait: rung by this process, or closed."""
        if self._rung:  # cleared only if it was seen: another thread may ring at any time
            self._rung = False
            return True
        return self._closed

    @property
    def patience(self) -> float | None:
        """How many seconds a waiter may rely on being rung; ``None`` when it cannot."""
        return TRUSTED * random.uniform(0.9, 1.1) if self._hears else None  # noqa: S311 - spreads the fleet

    def turned(self, name: str, *, free: bool) -> None:
        """Learn the class of the worker, and whether it could take more. Called by the thread that waits."""
        self._free = free
        if self._class == name:
            return
        own = self._class is None
        self._class = name
        if own:
            self._leave_own_class()
        if self._asked is not None:  # it pops from the wrong list
            self._hang_up()

    def close(self) -> None:
        """Hear nothing more."""
        self._closed = True
        self._hears = False
        self._nudge()
        with self._waiting:
            self._hang_up()
            self._inside.close()
            self._outside.close()
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

    # ------------------------------------------------------------------ what the waiter does

    def _tend(self) -> float:
        """See to it that a pop is under way if one should be; return when to see again."""
        now = time.monotonic()
        if self._wire is None:
            if self._connecting is None and now >= self._next_try:
                self._connecting = threading.Thread(target=self._connect, name="windlass-bell", daemon=True)
                self._connecting.start()
            return now + POP if self._connecting is not None else self._next_try
        if self._asked is None:
            if not self._free:
                return now + POP
            try:
                self._pop(self._wire)
            except WindlassError as error:
                self._lost(error)
                return self._next_try
        assert self._asked is not None
        return self._asked + ANSWER

    def _pop(self, wire: Wire) -> None:
        key = self._database.key
        self._own, shared = key(f"bell:{self.address}").encode(), self._class
        self._sign()
        wire.say("BLPOP", *([self._own] if shared is None else [self._own, key(f"bell:{shared}")]), POP)
        self._asked = time.monotonic()

    def _look(self, pause: float) -> bool:
        """Wait for the answer, for a nudge, or for so many seconds; tell whether the answer was a marker for us."""
        wire = self._wire if self._asked is not None else None
        poll = select.poll()
        poll.register(self._inside.fileno(), select.POLLIN)
        if wire is not None:
            poll.register(wire.fileno(), select.POLLIN)
        ready = {number for number, _ in poll.poll(pause * 1000)}
        if self._inside.fileno() in ready:
            with contextlib.suppress(OSError):
                self._inside.recv(64)
        if wire is None or self._closed:
            return False
        try:
            if wire.fileno() in ready:
                return self._answered(wire, raised(wire.receive()))
            if self._asked is not None and time.monotonic() >= self._asked + ANSWER:
                raise ConnectionLostError(f"no answer for {ANSWER:g} s")
        except WindlassError as error:
            self._lost(error)
        return False

    def _answered(self, wire: Wire, found: Any) -> bool:
        """Take the end of a pop: a marker goes back if there is no slot for what it means."""
        self._asked = None
        self._failures = 0
        rings = self._heard()
        if found is None:
            return rings
        if found[0] != self._own and not self._free:
            wire.ask("RPUSH", found[0], 1)
            return rings
        return True

    def _heard(self) -> bool:
        """Note that Redis answers; tell whether it had not: whoever waits to try again need not wait longer."""
        before, self._trouble, self._hears = self._trouble, False, True
        if before:
            log.warning("Redis rings again")
        return before

    # ------------------------------------------------------------------ the connection

    def _connect(self) -> None:
        """Make the connection, and hand it to the waiter."""
        try:
            wire = self._database.connector.connect(patience=ANSWER)
        except Exception as error:  # noqa: BLE001 - the worker polls meanwhile
            self._lost(error)
        else:
            self._wire = wire
            if self._closed:
                self._hang_up()
        self._connecting = None
        self._nudge()

    def _lost(self, error: Exception) -> None:
        """Do without for a while."""
        self._hang_up()
        if self._closed:
            return
        if isinstance(error, MovedError):
            self._database.connector.moved(error)
            return
        self._database.connector.lost()
        self._hears = False
        if not self._trouble:
            log.warning("Redis does not ring (%s); polling until it does", error)
            self._trouble = True
        self._failures += 1
        pause = min(AWAY, 0.05 * 2.0 ** min(self._failures, 10)) * random.uniform(0.5, 1.0)  # noqa: S311
        self._next_try = time.monotonic() + pause

    def _hang_up(self) -> None:
        wire, self._wire, self._asked = self._wire, None, None
        if wire is not None:
            wire.close()
