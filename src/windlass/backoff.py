"""How long to wait before a failed job is tried again.

A policy is any callable ``(job, error) -> delay | datetime | None``: a delay is a ``timedelta`` or seconds, a
``datetime`` the instant itself, ``None`` leaves it to the default. The classes here are such callables, pure but for
their jitter. A policy that raises or returns nonsense never costs a job: the default takes over and it is logged.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeAlias

from windlass.errors import ConfigurationError
from windlass.times import Duration, instant, seconds

if TYPE_CHECKING:
    from windlass.job import Job

log = logging.getLogger(__name__)

Backoff: TypeAlias = Callable[["Job", BaseException], Any]
"""``(job, error) -> timedelta | seconds | datetime | None``; ``job.failures`` counts this failure already."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """The same delay each time."""

    delay: Duration

    def __post_init__(self) -> None:
        seconds(self.delay, name="delay")

    def __call__(self, job: Job, error: BaseException) -> float:
        """Return the delay in seconds."""
        return seconds(self.delay, name="delay")


@dataclass(frozen=True, slots=True)
class Linear:
    """``delay`` × failures: 30 s, 60 s, 90 s and so on."""

    delay: Duration
    cap: Duration | None = None

    def __post_init__(self) -> None:
        seconds(self.delay, name="delay")

    def __call__(self, job: Job, error: BaseException) -> float:
        """Return the delay in seconds."""
        wait = seconds(self.delay, name="delay") * max(1, job.failures)
        return wait if self.cap is None else min(wait, seconds(self.cap, name="cap"))


@dataclass(frozen=True, slots=True)
class Exponential:
    """``base`` × ``factor`` ** (failures − 1), at most ``cap``, shifted at random by up to ± ``jitter`` of itself."""

    base: Duration = 5.0
    factor: float = 2.0
    cap: Duration = 300.0
    jitter: float = 0.1

    def __post_init__(self) -> None:
        seconds(self.base, name="base")
        seconds(self.cap, name="cap")
        if self.factor < 1:
            raise ConfigurationError(f"factor must be at least 1, not {self.factor!r}")
        if not 0 <= self.jitter <= 1:
            raise ConfigurationError(f"jitter must be between 0 and 1, not {self.jitter!r}")

    def __call__(self, job: Job, error: BaseException) -> float:
        """Return the delay in seconds."""
        base, cap = seconds(self.base, name="base"), seconds(self.cap, name="cap")
        # 1,000 doublings overflow a float; long before that the cap has decided.
        wait = min(cap, base * self.factor ** min(max(0, job.failures - 1), 256))
        return wait * (1 + random.uniform(-self.jitter, self.jitter)) if self.jitter else wait  # noqa: S311


@dataclass(frozen=True, slots=True)
class Delays:
    """The delays of a list in turn; the last one repeats."""

    delays: Sequence[Duration]

    def __post_init__(self) -> None:
        if not self.delays:
            raise ConfigurationError("Delays needs at least one delay")
        for delay in self.delays:
            seconds(delay, name="delay")

    def __call__(self, job: Job, error: BaseException) -> float:
        """Return the delay in seconds."""
        place = min(max(1, job.failures), len(self.delays)) - 1
        return seconds(self.delays[place], name="delay")


DEFAULT = Exponential()


def wait(policy: Backoff | None, job: Job, error: BaseException, *, now: float) -> float:
    """Ask *policy* for the delay in seconds from *now*; fall back to the default when it fails or does not say."""
    answer: Any = None
    if policy is not None:
        try:
            answer = policy(job, error)
            if isinstance(answer, datetime):
                return max(0.0, instant(answer, name="back-off") - now)
            if answer is not None:
                return seconds(answer, name="back-off")
        except Exception:
            log.exception("the back-off of task %r failed on job %d; using the default", job.task, job.id)
    return DEFAULT(job, error)
