"""A background loop: a named thread that ticks, survives its errors and backs off while they last."""

from __future__ import annotations

import logging
import random
import threading
from typing import TYPE_CHECKING

from windlass.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

SLOWEST = 10.0
LEAVE = 2.0
"""Seconds that a stopping thread gets for what it has in hand."""


class Backoff:
    """Waits 0.1 → 10 s with jitter while something fails, and logs once per change of state."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._failures = 0

    @property
    def failing(self) -> bool:
        """Whether the last try failed."""
        return self._failures > 0

    def failed(self, error: Exception) -> float:
        """Note a failure; return the seconds to wait."""
        if not self._failures:
            if isinstance(error, StoreError):
                log.warning("%s: the store is away (%s); trying again", self._what, error)
            else:
                log.error("%s failed; trying again", self._what, exc_info=error)
        self._failures += 1
        pause = min(SLOWEST, 0.1 * 2.0 ** min(self._failures - 1, 10))
        return pause * random.uniform(0.5, 1.0)  # noqa: S311 - spreads the fleet, guards nothing

    def succeeded(self) -> None:
        """Note a success."""
        if self._failures:
            log.warning("%s: the store is back after %d failed tries", self._what, self._failures)
            self._failures = 0


class Service:
    """Calls ``tick`` every *interval* seconds on a thread of its own until stopped; the first time after one, or at once.

    An interval that is a function is asked after each tick.
    """

    def __init__(
        self, name: str, tick: Callable[[], None], *, interval: float | Callable[[], float], at_once: bool = False
    ) -> None:
        self._tick = tick
        self._interval = interval
        self._first = 0.0 if at_once else self._rest()
        self._woken = threading.Event()
        self._stopped = False
        self._backoff = Backoff(name)
        self._thread = threading.Thread(target=self._run, name=f"windlass-{name}", daemon=True)

    def start(self) -> None:
        """Start ticking."""
        self._thread.start()

    def wake(self) -> None:
        """Tick now; while ticks fail, when it is time to try again."""
        if not self._backoff.failing:
            self._woken.set()

    def stop(self) -> None:
        """Stop, and wait for a tick in hand; not for ever: it may hang on a store that is locked."""
        self._stopped = True
        self._woken.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(LEAVE)

    def _rest(self) -> float:
        return self._interval() if callable(self._interval) else self._interval

    def _run(self) -> None:
        pause = self._first
        while True:
            self._woken.wait(pause)
            self._woken.clear()
            if self._stopped:
                return
            try:
                self._tick()
            except Exception as error:  # noqa: BLE001 - a service outlives its errors; Backoff logs them
                pause = self._backoff.failed(error)
            else:
                self._backoff.succeeded()
                pause = self._rest()
