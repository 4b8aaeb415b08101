"""``@app.schedule`` and ``app.schedules``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack

from windlass.client.schedules import Schedules
from windlass.client.sending import Sending
from windlass.errors import ConfigurationError
from windlass.schedule import CATCH_UP
from windlass.task import Task

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Sequence
    from datetime import datetime, timedelta

    from windlass.client.scheduling import TickJobOptions
    from windlass.settings import Settings
    from windlass.task import AnyTask
    from windlass.times import Duration

AnyTaskT = TypeVar("AnyTaskT", bound="AnyTask")


class Declaring(Sending):
    """Schedules by code."""

    schedules: Schedules
    """All that can be done with schedules."""

    def __init__(self, settings: Settings, *, logger: logging.Logger) -> None:
        super().__init__(settings, logger=logger)
        self.schedules = Schedules(self)

    def schedule(
        self,
        spec: str | timedelta | float | None = None,
        *,
        name: str | None = None,
        every: Duration | None = None,
        anchor: datetime | None = None,
        timezone: str | None = None,
        and_days: bool = False,
        queue: str | Sequence[str] | None = None,
        payload: Any = None,
        missed: Literal["latest", "all", "skip"] = "latest",
        overlap: Literal["skip", "allow", "queue"] | None = None,
        catch_up: int = CATCH_UP,
        jitter: Duration = 0,
        start: datetime | None = None,
        end: datetime | None = None,
        runs: int | None = None,
        version: int = 0,
        **job: Unpack[TickJobOptions],
    ) -> Callable[[AnyTaskT], AnyTaskT]:
        """Enqueue a task at certain times: ``@app.schedule("0 2 * * *", timezone="Europe/Berlin")`` above ``@app.task``.

        Any number of workers fire each tick once, in whichever of them comes first. The store keeps it under its name;
        ``app.schedules`` looks after it.

        Args:
            spec: a cron expression, as :class:`windlass.cron.Cron` reads it.
            name: its own, for good; default the task's. Needed for a second schedule of one task.
            every: instead of *spec* an interval: ticks are at *anchor* and whole steps from it.
            anchor: an instant at which an interval ticks; default 1970-01-01 00:00 UTC.
            timezone: IANA name of the zone of a cron expression; default UTC.
            and_days: days must fit the day of month and the day of week; default, as in cron: one of them.
            queue: where the jobs go, default as for the task; with several, each tick enqueues a job in each.
            payload: the arguments, a mapping (any JSON for a raw task).
            missed: what becomes of ticks that came when no worker was there: ``"latest"`` fires the newest, ``"all"``
                each of them, ``"skip"`` none that is more than a minute late.
            overlap: what becomes of a tick while the job of an earlier one has not ended: ``"skip"``, ``"allow"``, or
                ``"queue"``: it waits for the other to end. Default ``"skip"``, and ``"queue"`` with ``missed="all"``.
            catch_up: how many missed ticks are looked at one by one, at most 1000; those before them are left out.
            jitter: a job starts up to so much later, the same for each tick wherever it is computed.
            start: no tick is before it.
            end: no tick is after it.
            runs: how many ticks fire at most.
            version: a definition with a lower one than the store knows changes nothing, during a deploy for instance.
            **job: of the jobs, as for ``task.using``: ``priority``, ``max_attempts``, ``timeout``, ``tags``, ``origin``,
                ``meta``, ``unique``, ``expires``, ``deadline``, ``on_crash`` and ``keep``.

        Raises:
            ConfigurationError: it would never run, cannot be right, or its name is taken.
            PayloadError: the payload does not fit the task.
        """
        if callable(spec):
            raise ConfigurationError("say when: @app.schedule('0 2 * * *') or @app.schedule(every=...)")
        given: dict[str, Any] = {
            "every": every, "anchor": anchor, "timezone": timezone, "and_days": and_days, "queue": queue,
            "payload": payload, "missed": missed, "overlap": overlap, "catch_up": catch_up, "jitter": jitter,
            "start": start, "end": end, "runs": runs, "version": version, **job,
        }  # fmt: skip

        def decorate(task: AnyTaskT) -> AnyTaskT:
            if not isinstance(task, Task) or task.host != self:
                raise ConfigurationError("@app.schedule(...) stands above @app.task, of the same application")
            self.schedules.declare(task, spec, name, given)
            return task

        return decorate
