"""The worker's own telling: counts for the heartbeat, and events. Only what is stored is told."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from windlass import telling
from windlass.events import JobCompleted, JobStarted, LeaseLost
from windlass.job import Outcome, Status

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from windlass.app import Windlass
    from windlass.lifecycle import Settlement
    from windlass.worker.execution import Execution
    from windlass.worker.ledger import Ledger


class Teller:
    """Counts and tells."""

    def __init__(self, app: Windlass, ledger: Ledger) -> None:
        self._app = app
        self._ledger = ledger
        self._hub = app.hub
        self.processed = 0
        self.failed = 0
        self.refused = 0
        self.ended = 0

    def started(self, executions: Sequence[Execution]) -> None:
        """Tell that attempts reach their handlers."""
        if self._hub.wants(JobStarted):
            for execution in executions:
                self._hub.emit(JobStarted(job=self._app.wrap(execution.record)))

    def settled(
        self, settlements: Sequence[Settlement], ended: Mapping[int, Execution], refused: set[tuple[int, int]]
    ) -> None:
        """Tell how attempts have ended."""
        wanted = telling.wanted(self._hub)
        for settlement in settlements:
            record, transition = settlement.record, settlement.transition
            if transition.outcome is None:
                if wanted and transition.status is Status.CANCELLED and (record.id, record.lease) not in refused:
                    telling.tell(self._app, settlement)  # it has expired
                continue
            self.ended += 1
            if refused and (record.id, record.lease) in refused:
                self.refused += 1
                self._hub.emit(LeaseLost(job=self._app.wrap(record)))
                continue
            self._ledger.enter(record, settlement.finished_at)
            if transition.outcome is Outcome.COMPLETED:
                self.processed += 1
            elif transition.outcome is Outcome.FAILED:
                self.failed += 1
            if wanted:
                execution = ended.get(record.lease)
                telling.tell(self._app, settlement, execution.error if execution is not None else None)

    def completed_in_transaction(self, execution: Execution) -> None:
        """Tell that an attempt was completed by its own transaction."""
        self.ended += 1
        self.processed += 1
        duration = time.monotonic() - execution.started
        started = execution.record.started_at
        if started is not None:
            self._ledger.enter(execution.record, started + duration)
        if self._hub.wants(JobCompleted):
            record = msgspec.structs.replace(execution.record, status=Status.COMPLETED, lease=0)
            # Its result went by: only the store has it.
            self._hub.emit(JobCompleted(job=self._app.wrap(record), duration=duration, cut=("result",)))
