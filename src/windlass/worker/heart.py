"""The heart: writes the worker's heartbeat from a thread of its own.

A lease must never depend on the health of the loop that runs handlers: measured, three jobs ran ten times where it did.
The heart also knows how far its own view can be trusted: whoever has been cut off must not judge others by their
silence, and must stop believing in its own leases before the store does.
"""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING

import msgspec

from windlass import rescuer
from windlass.drivers.base import Worker as Card
from windlass.worker.service import Service

if TYPE_CHECKING:
    from collections.abc import Callable

    from windlass.app import Windlass
    from windlass.drivers.base import Driver

RESTING = 30 * 86400.0
"""The ``lost_after`` of a worker that has gone quiet: it holds nothing that others would have to wait for."""
DISBELIEVE = 0.9
"""The part of ``lost_after`` without a good beat after which the worker gives its leases up by itself."""


class Heart:
    """Beats."""

    def __init__(
        self,
        app: Windlass,
        *,
        card: Callable[[], Card],
        on_lost: Callable[[], None],
        on_cut_off: Callable[[], None],
    ) -> None:
        self._driver: Driver = app.driver
        self._beat_every = app.settings.beat
        self._lost_after = app.settings.lost_after
        self._card = card
        self._on_lost = on_lost
        self._on_cut_off = on_cut_off
        self.last_good = time.monotonic()
        self._good_since = self.last_good
        self._skew: float | None = None
        self._cut_off = False
        self.resting = False
        """Whether nothing is written until there is work: in quiet mode, so that the database may sleep."""
        self._beats = Service("heart", self._tick, interval=self._beat_every)
        # Apart from the beats: one that hangs on a locked store must not keep the worker from noticing.
        self._doubts = Service("doubt", self._doubt, interval=min(self._beat_every / 4, 1.0))

    def start(self) -> None:
        """Beat once, so that the worker is known before it claims, and go on beating."""
        self.beat()
        self._beats.start()
        self._doubts.start()

    def stop(self) -> None:
        """Stop beating."""
        self._doubts.stop()
        self._beats.stop()

    def rest(self) -> None:
        """Say goodnight: no more beats until :meth:`wake`. Only for a worker that holds no lease."""
        self._driver.beat(msgspec.structs.replace(self._card(), lost_after=RESTING))
        self.resting = True

    def wake(self) -> None:
        """Beat again; to be called before anything is claimed."""
        self.beat()
        self.resting = False

    def soon(self) -> None:
        """Beat as soon as may be: the card has changed in a way that people wait to see."""
        self._beats.wake()

    def _tick(self) -> None:
        if not self.resting:
            self.beat()

    @property
    def trusted(self) -> bool:
        """Whether this worker has seen the store long enough to judge others by their silence."""
        now = time.monotonic()
        return now - self._good_since >= self._lost_after and now - self.last_good <= 2 * self._beat_every

    @property
    def age(self) -> float:
        """Seconds since the last good beat."""
        return 0.0 if self.resting else time.monotonic() - self.last_good

    def _doubt(self) -> None:
        """Give the leases up when the beats have failed for too long."""
        if self.age > self._lost_after * DISBELIEVE and not self._cut_off:
            self._cut_off = True
            self._on_cut_off()

    def beat(self) -> None:
        """Write one heartbeat."""
        known = self._driver.beat(self._card())
        now = time.monotonic()
        # The store's clock against ours: a jump makes everybody else look silent.
        skew = self._driver.now() - now
        jumped = self._skew is not None and abs(skew - self._skew) > self._beat_every
        self._skew = skew
        if now - self.last_good > 2.5 * self._beat_every or jumped:
            self._good_since = now
        self.last_good = now
        self._cut_off = False
        if not known:
            self._on_lost()


def new_card(app: Windlass, *, worker: str, bell: str, concurrency: int, queues: tuple[str, ...] | None) -> Card:
    """Describe this process as a worker."""
    return Card(
        id=worker,
        host=socket.gethostname(),
        pid=os.getpid(),
        place=rescuer.place(),
        pid_start=rescuer.process_start(os.getpid()),
        started_at=app.driver.now(),
        lost_after=app.settings.lost_after,
        queues=queues,
        tasks=app.task_names(),
        concurrency=concurrency,
        bell=bell,
    )
