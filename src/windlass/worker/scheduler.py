"""The worker's part in schedules: fire what is due, at the tick.

Every worker knows all schedules and sleeps until the next tick of any: while none is due the store is not asked for
them. It looks at them anew when a turn of the pump says that some have changed. Of several workers that wake at a tick
each first reads which of the due ones are still due and takes them in an order of its own, so they seldom try the same.

One bad schedule is told of once, and tried again after a while; it never stops the others.
"""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING

from windlass import schedule as rules
from windlass.errors import ConnectionLostError
from windlass.worker.service import Service

if TYPE_CHECKING:
    from windlass.app import Windlass
    from windlass.drivers.base import Turned
    from windlass.drivers.ticking import ScheduleRecord

log = logging.getLogger(__name__)

LONGEST = 3600.0
"""Seconds between looks at the clock."""
SOON = 0.05
"""Seconds after which a tick is tried again that the store says has not come."""
AGAIN = 60.0
"""Seconds after which a schedule that failed is tried again."""


class Scheduler:
    """Fires schedules."""

    def __init__(self, app: Windlass) -> None:
        self._app = app
        self._records: dict[str, ScheduleRecord] = {}
        self._next: dict[str, float] = {}
        """When each has to be looked at."""
        self._bad: dict[str, int] = {}
        """Schedules that failed, with the revision that did."""
        self._stamp: int | None = None
        self._read: int | None = None
        """The stamp as it was when all schedules were read."""
        self._known = -1
        """The version of this process's own declarations then."""
        self._wake_at = float("-inf")
        self._service = Service("scheduler", self._tick, interval=self._pause, at_once=True)

    def start(self) -> None:
        """Start firing."""
        self._service.start()

    def stop(self) -> None:
        """Stop firing."""
        self._service.stop()

    def told(self, turned: Turned) -> None:
        """Learn from a turn whether schedules have changed, and what time it is: a store's clock may have jumped."""
        stamp, self._stamp = self._stamp, turned.stamp
        if stamp != turned.stamp or turned.now >= self._wake_at or self._known != self._app.schedules.version:
            self._service.wake()

    def _pause(self) -> float:
        return min(LONGEST, max(0.0005, self._wake_at - self._app.driver.now()))

    # ------------------------------------------------------------------ a tick

    def _tick(self) -> None:
        if self._read is None or self._read != self._stamp or self._known != self._app.schedules.version:
            self._look()
        due = self._due()
        if due:
            # Others may have been here: what they have fired is due no more.
            fresh = {record.name: record for record in self._app.driver.schedules(due)}
            for name in due:
                self._learn(name, fresh.get(name))
            due = self._due()
            random.shuffle(due)
            for name in due:
                self._fire(name)
        self._wake_at = min(self._next.values(), default=float("inf"))

    def _look(self) -> None:
        """Read all schedules that this worker fires: those that were added, and of the declared ones its code's own."""
        stamp, known = self._stamp, self._app.schedules.version
        self._app.schedules.sync()
        records = {record.name: record for record in self._app.driver.schedules()}
        for name in self._records.keys() - records.keys():
            self._learn(name, None)
        for name, record in records.items():
            self._learn(name, record)
        # The first time no turn may have told a stamp yet, and the one it tells by now may be of a change that was not read: then
        # it is looked at again.
        self._read, self._known = stamp, known

    def _learn(self, name: str, record: ScheduleRecord | None) -> None:
        before = self._records.get(name)
        if record is None:
            self._forget(name)
            return
        if name in self._bad and self._bad[name] == record.revision:
            return
        if before == record and name in self._next:
            return
        self._forget(name)
        self._records[name] = record
        try:
            if not rules.definition_of(record).declared or name in self._app.schedules.declared:
                self._wait_for(name, rules.next_at(record))
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it is its own
            self._failed(name, record, error)

    def _forget(self, name: str) -> None:
        for known in (self._records, self._next, self._bad):
            known.pop(name, None)

    def _wait_for(self, name: str, at: float | None) -> None:
        if at is None:
            self._next.pop(name, None)
        else:
            self._next[name] = at

    def _due(self) -> list[str]:
        now = self._app.driver.now()
        return [name for name, at in self._next.items() if at <= now]

    def _fire(self, name: str) -> None:
        record = self._records[name]
        try:
            changed = self._app.schedules.fire(record, self._app.driver.now())
            after = record if changed is None else changed.record
            self._bad.pop(name, None)
            if after is None:
                self._forget(name)
                return
            self._records[name] = after
            at = rules.next_at(after)
            if (
                at is not None and after.watermark == record.watermark
            ):  # the store's clock is behind what we took it for
                at = max(at, self._app.driver.now() + SOON)
            self._wait_for(name, at)
        except ConnectionLostError:
            raise
        except Exception as error:  # noqa: BLE001 - the others must not suffer
            self._failed(name, record, error)

    def _failed(self, name: str, record: ScheduleRecord, error: Exception) -> None:
        if self._bad.get(name) != record.revision:
            log.error("schedule %s cannot fire; it is tried again, without another word", name, exc_info=error)
        self._bad[name] = record.revision
        self._next[name] = self._app.driver.now() + AGAIN
