"""What a handler raises to choose its outcome: control flow, not errors.

Returning means *completed* and any other exception means *failed*; these say the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from windlass.times import Duration


class Retry(Exception):  # noqa: N818 - reads as an instruction, which it is
    """Fail this attempt and try again after a delay of its own instead of the back-off's.

    ``after`` is a ``timedelta`` or seconds; ``None`` leaves the delay to the back-off. It counts as a failure.
    """

    def __init__(self, reason: str = "retry requested", *, after: Duration | None = None) -> None:
        from windlass.times import seconds

        self.after = None if after is None else seconds(after, name="after")
        super().__init__(reason)


class Snooze(Exception):  # noqa: N818
    """Run again after ``delay`` (``timedelta`` or seconds); not a failure, counts nothing."""

    def __init__(self, delay: Duration) -> None:
        from windlass.times import seconds

        self.delay = seconds(delay, name="delay")
        super().__init__(f"snoozed for {self.delay:g} s")

    def __reduce__(self) -> tuple[type[Snooze], tuple[float]]:
        """Travel from a child process with the delay, not with the text made of it."""
        return type(self), (self.delay,)


class Discard(Exception):  # noqa: N818
    """Give the job up: dead at once, whatever tries are left; counts one failure."""

    def __init__(self, reason: str = "discarded by its handler") -> None:
        super().__init__(reason)


class Cancel(Exception):  # noqa: N818
    """End the job as cancelled."""

    def __init__(self, reason: str = "cancelled by its handler") -> None:
        super().__init__(reason)


class Interrupted(BaseException):
    """Raised *in* a handler that must stop: its time is up, it was cancelled, or its worker is leaving.

    Derives from ``BaseException`` so that a handler's ``except Exception`` does not swallow it.
    """
