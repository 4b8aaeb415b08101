"""The worker's ledger: how long its jobs waited and ran, written now and then."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from windlass.measures import Tape

if TYPE_CHECKING:
    from windlass.drivers.base import Driver
    from windlass.job import Record


class Ledger:
    """Adds up and writes."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._lock = threading.Lock()
        self._tape = Tape()
        self._left: dict[str, int] = {}
        """What could not be written yet."""

    def enter(self, record: Record, finished_at: float) -> None:
        """Take down an attempt that has ended."""
        started = record.started_at
        if started is not None:
            with self._lock:
                self._tape.add(record.queue, record.task, max(0.0, started - record.run_at), finished_at - started)

    def write(self) -> None:
        """Add what has been taken down to the store's sums; what fails is written the next time.

        Where only the answer got lost it is added twice: these are statistics, and not worth a transaction with each job.
        """
        with self._lock:
            tape, self._tape = self._tape, Tape()
        additions = tape.additions()
        for name, value in self._left.items():
            additions[name] = additions.get(name, 0) + value
        self._left = additions
        if not additions:
            return
        self._driver.measure(additions)
        self._left = {}
