"""Stopping handlers: asked once, then insisted, then called stuck. Used by the pump's thread only."""

from __future__ import annotations

import heapq
import itertools
import logging
import time
from typing import TYPE_CHECKING

from windlass.worker.execution import Cause

if TYPE_CHECKING:
    from collections.abc import Mapping

    from windlass.worker.execution import Execution
    from windlass.worker.lanes import Lane

log = logging.getLogger(__name__)

INSIST = 2.0
"""Seconds between asking a handler to stop and insisting."""
AGAIN = 0.02
"""Seconds until insisting is tried again at a better moment."""
STUCK = 3.0
"""Seconds after insisting when a handler that goes on is called stuck."""
WATCHED = 1_000
"""Deadlines kept beyond those that run, before the ended ones are swept out."""
_LIMIT, _ASKED, _INSISTED = range(3)


class Stopper:
    """Watches time limits, and sees to it that handlers stop."""

    def __init__(self) -> None:
        self.lanes: Mapping[str, Lane] = {}
        self.stuck: dict[int, Execution] = {}
        """Handlers that do not stop, by job."""
        self._watch: list[tuple[float, int, Execution, int]] = []
        self._order = itertools.count()

    @property
    def next_at(self) -> float | None:
        """When there is something to do, by the monotonic clock."""
        return self._watch[0][0] if self._watch else None

    def limit(self, execution: Execution, running: int) -> None:
        """Watch the time limit of one that starts, if it has one; *running* = how many run."""
        if execution.deadline is not None:
            if len(self._watch) > WATCHED + 2 * running:  # most are of jobs that ended long before their deadline
                self._watch = [entry for entry in self._watch if not entry[2].finished]
                heapq.heapify(self._watch)
            self._push(execution.deadline, execution, _LIMIT)

    def interrupt(self, execution: Execution, cause: Cause) -> None:
        """Ask a handler to stop, unless it has ended or was asked before."""
        if execution.finished or execution.cause is not None:
            return
        call = execution.told(cause)
        if call is not None:
            self.lanes[call.task.lane].interrupt(call)
            self._push(time.monotonic() + INSIST, call, _ASKED)

    def check(self) -> None:
        """Do what is due."""
        now = time.monotonic()
        while self._watch and self._watch[0][0] <= now:
            _, _, execution, stage = heapq.heappop(self._watch)
            if execution.finished:
                continue
            if stage == _LIMIT:
                self.interrupt(execution, Cause.TIMEOUT)
            elif stage == _ASKED:
                if self.lanes[execution.task.lane].force(execution):
                    self._push(now + STUCK, execution, _INSISTED)
                else:
                    self._push(now + AGAIN, execution, _ASKED)
            else:
                self.stuck[execution.record.id] = execution
                log.error(
                    "job %d %s does not stop although %s; it keeps its lease and slot until it ends",
                    execution.record.id, execution.record.task, execution.cause.value if execution.cause else "asked",
                )  # fmt: skip

    def _push(self, when: float, execution: Execution, stage: int) -> None:
        heapq.heappush(self._watch, (when, next(self._order), execution, stage))
