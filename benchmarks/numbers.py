"""The numbers to reach: each work of ours against a peer, a limit of the machine, or a plain bound."""

from dataclasses import dataclass
from typing import Literal

Unit = Literal["jobs/s", "ms", "MB", "%", "commits/job"]
UNITS: dict[str, Unit] = {
    "latency.p50": "ms",
    "latency.p99": "ms",
    "idle.cpu": "%",
    "idle.rss": "MB",
    "idle.import": "ms",
    "commits": "commits/job",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What `work` must reach and aims for, as a multiple of the figure `against`, or outright if that is None.

    A figure outright is a ceiling: the lower, the better.
    """

    work: str
    must: float | None
    aim: float | None
    against: str | None = None

    def met(self, measured: float, bound: float | None) -> bool:
        """Tell whether a ratio (or a figure, for a ceiling) is within the bound."""
        return bound is None or (measured <= bound if self.against is None else measured >= bound)


GOALS = (
    Goal(work="windlass.enqueue_one", against="raw.enqueue_one", must=0.6, aim=0.9),
    Goal(work="windlass.enqueue_32_threads", against="raw.enqueue_one", must=2.5, aim=4),
    Goal(work="windlass.enqueue_many", against="raw.enqueue_many", must=0.22, aim=0.4),
    Goal(work="windlass.drain", against="huey.drain", must=3, aim=6),
    Goal(work="windlass.drain", against="raw.claim_complete", must=None, aim=0.25),
    Goal(work="windlass.drain_threads", against="huey.drain", must=2.5, aim=5),
    Goal(work="windlass.drain_2_processes", against="windlass.drain", must=1.2, aim=1.6),
    Goal(work="windlass.drain_memory", against="raw.thread_pool", must=0.3, aim=0.6),
    Goal(work="windlass.latency.p50", must=5, aim=2.5),
    Goal(work="windlass.latency.p99", must=15, aim=8),
    Goal(work="windlass.idle.cpu", must=0.5, aim=0.1),
    Goal(work="windlass.idle.rss", must=36, aim=30),
    Goal(work="windlass.idle.import", must=120, aim=60),
    Goal(work="windlass.commits", must=0.05, aim=0.01),
)


def unit(figure: str) -> Unit:
    """Return the unit of a figure, named `contender.work` or `contender.work.part`."""
    return UNITS.get(figure.partition(".")[2], "jobs/s")
