"""Taking jobs by hand."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from windlass import ending, telling
from windlass.claims import Claim
from windlass.drivers.base import Turn
from windlass.errors import (
    ConfigurationError,
)
from windlass.lifecycle import Settlement
from windlass.offload import offload
from windlass.settings import check_name
from windlass.times import Duration, seconds

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable


from windlass.client.handle import Handle


class Claiming(Handle):
    """Claims by hand, with their twin."""

    def claim(
        self,
        queue: str = "default",
        wait: Duration = 0,
        lease: Duration = 300,
        tasks: Collection[str] | None = None,
    ) -> Claim | None:
        """Take one job of a queue, waiting at most *wait* for one; ``None`` when there is none.

        The claim lives for *lease*, whatever becomes of this process; past that the job goes to somebody else and the
        attempt counts as a crash. Jobs that have expired or missed their deadline are passed over. ``tasks`` limits which tasks are taken; by default any.
        """
        length = seconds(lease, name="lease")
        if length <= 0:
            raise ConfigurationError("lease must be more than 0")
        holder = f"hand:{uuid.uuid4().hex}"
        deadline = self.driver.now() + seconds(wait, name="wait")
        bell = None
        late: list[Settlement] = []
        try:
            while True:
                turned = self.driver.exchange(
                    Turn(
                        worker=holder,
                        settlements=late,
                        limit=1,
                        start=1,
                        queues=(check_name("queue", queue),),
                        tasks=self._claimable(queue, tasks),
                        deadline=length,
                    )
                )
                self._tell_late(late)
                late = []
                for record in turned.claims:
                    refused = ending.refusal(record, turned.now)
                    if refused is None:
                        return Claim(self, record, holder)
                    late.append(Settlement(record, refused, turned.now))
                if late:
                    continue
                left = deadline - turned.now
                if left <= 0:
                    return None
                if turned.due is not None:
                    left = min(left, max(0.0, turned.due - turned.now))
                bell = bell or self.driver.bell()
                bell.wait(min(left, bell.patience or self.settings.poll))
        finally:
            if bell is not None:
                bell.close()

    aclaim = offload(claim)

    def _tell_late(self, settlements: Iterable[Settlement]) -> None:
        if telling.wanted(self.hub):
            for settlement in settlements:
                telling.tell(self, settlement)

    def _claimable(self, queue: str, tasks: Collection[str] | None) -> tuple[str, ...]:
        if tasks is None:
            return tuple({tally.task for tally in self.driver.tallies() if tally.queue == queue})
        if isinstance(tasks, str):
            raise ConfigurationError(f"tasks must be a list of names, not the text {tasks!r}")
        names: list[str] = []
        for name in tasks:
            task = self.find_task(name)
            names.extend((task.name, *task.aliases) if task is not None else (check_name("a task's name", name),))
        return tuple(dict.fromkeys(names))
