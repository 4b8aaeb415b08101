"""The numbers to reach: each work of ours against the best peer, a limit of the machine, or a plain bound."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from benchmarks.contender import Store

Unit = Literal["jobs/s", "ms", "MB", "%", "commits/job", "round trips/job", "bytes/job", "µs/job"]
UNITS: dict[str, Unit] = {
    "latency.p50": "ms",
    "latency.p99": "ms",
    "idle.cpu": "%",
    "idle.rss": "MB",
    "idle.import": "ms",
    "commits": "commits/job",
    "round_trips": "round trips/job",
    "wal.without_images": "bytes/job",
    "wal.with_images": "bytes/job",
    "script_time": "µs/job",
    "memory.waiting": "bytes/job",
    "memory.finished": "bytes/job",
}
POSTGRES_PEERS = ("procrastinate", "pgqueuer", "chancy", "saq", "oban")
REDIS_PEERS = ("celery", "rq", "dramatiq", "arq", "saq_redis", "taskiq", "huey_redis", "streaq")


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What `work` must reach and aims for: a multiple of the best of the figures `against`, or outright if there is none.

    Of jobs per second more is better, and the bounds are floors; of everything else less is better, and they are ceilings.
    """

    work: str
    must: float | None
    aim: float | None
    against: tuple[str, ...] = ()

    @property
    def more_is_better(self) -> bool:
        """Whether the bounds are floors."""
        return unit(self.work) == "jobs/s"

    def best(self, figures: Mapping[str, float]) -> str | None:
        """Return the name of the best of these figures, if there is one."""
        choose = max if self.more_is_better else min
        return choose(figures, key=lambda name: figures[name], default=None)

    def met(self, measured: float, bound: float | None) -> bool:
        """Tell whether what was measured is within the bound."""
        return bound is None or (measured >= bound if self.more_is_better else measured <= bound)


def peers(work: str) -> tuple[str, ...]:
    """Return the figures of all peers on PostgreSQL for a work."""
    return tuple(f"{peer}.{work}" for peer in POSTGRES_PEERS)


def redis_peers(work: str) -> tuple[str, ...]:
    """Return the figures of all peers on Redis for a work."""
    return tuple(f"{peer}.{work}" for peer in REDIS_PEERS)


SQLITE = (
    Goal(work="windlass.enqueue_one", against=("raw.enqueue_one",), must=0.6, aim=0.9),
    Goal(work="windlass.enqueue_32_threads", against=("raw.enqueue_one",), must=2.5, aim=4),
    Goal(work="windlass.enqueue_many", against=("raw.enqueue_many",), must=0.22, aim=0.4),
    Goal(work="windlass.drain", against=("huey.drain",), must=3, aim=6),
    Goal(work="windlass.drain", against=("raw.claim_complete",), must=None, aim=0.25),
    Goal(work="windlass.drain_threads", against=("huey.drain",), must=2.5, aim=5),
    Goal(work="windlass.drain_2_processes", against=("windlass.drain",), must=1.2, aim=1.6),
    Goal(work="windlass.drain_memory", against=("raw.thread_pool",), must=0.3, aim=0.6),
    Goal(work="windlass.latency.p50", must=5, aim=2.5),
    Goal(work="windlass.latency.p99", must=15, aim=8),
    Goal(work="windlass.idle.cpu", must=0.5, aim=0.1),
    Goal(work="windlass.idle.rss", must=36, aim=30),
    Goal(work="windlass.idle.import", must=120, aim=60),
    Goal(work="windlass.commits", must=0.05, aim=0.01),
)
POSTGRES = (
    Goal(work="windlass_postgres.enqueue_one", against=peers("enqueue_one"), must=1.1, aim=None),
    Goal(work="windlass_postgres.enqueue_one", against=("raw_postgres.enqueue_one",), must=0.6, aim=0.85),
    # As many connections as Windlass keeps for those who enqueue.
    Goal(work="windlass_postgres.enqueue_32_threads", against=("raw_postgres.pgbench_4",), must=0.4, aim=0.8),
    Goal(work="windlass_postgres.enqueue_many", against=peers("enqueue_many"), must=1.5, aim=3),
    Goal(work="windlass_postgres.drain", against=peers("drain"), must=1.4, aim=2.5),
    Goal(work="windlass_postgres.drain_2_processes", against=peers("drain_2_processes"), must=1.4, aim=2.5),
    Goal(work="windlass_postgres.latency.p50", against=peers("latency.p50"), must=1, aim=None),
    Goal(work="windlass_postgres.latency.p50", must=None, aim=2.5),
    Goal(work="windlass_postgres.latency.p99", against=peers("latency.p99"), must=1, aim=None),
    Goal(work="windlass_postgres.latency.p99", must=None, aim=8),
    Goal(work="windlass_postgres.wal.without_images", must=1_100, aim=700),
    Goal(work="windlass_postgres.round_trips", must=0.05, aim=0.01),
    Goal(work="windlass_postgres.commits", must=0.05, aim=0.01),
    Goal(
        work="windlass_postgres.drain_full_store.full",
        against=("windlass_postgres.drain_full_store.empty",),
        must=0.8,
        aim=0.95,
    ),
    # The last turns may take half as long again as the first.
    Goal(work="windlass_postgres.pinned.last", against=("windlass_postgres.pinned.first",), must=0.67, aim=None),
)
REDIS = (
    Goal(work="windlass_redis.enqueue_one", against=redis_peers("enqueue_one"), must=1, aim=None),
    Goal(work="windlass_redis.enqueue_one", against=("raw_redis.enqueue_one",), must=None, aim=0.7),
    Goal(work="windlass_redis.enqueue_many", against=redis_peers("enqueue_many"), must=4, aim=8),
    Goal(work="windlass_redis.drain", against=redis_peers("drain"), must=3.5, aim=7),
    Goal(work="windlass_redis.drain_2_processes", against=redis_peers("drain_2_processes"), must=2.5, aim=5),
    Goal(work="windlass_redis.latency.p50", must=2, aim=1.2),
    Goal(work="windlass_redis.latency.p99", must=5, aim=3),
    Goal(work="windlass_redis.script_time", must=10, aim=4),
    # The bounds above were set where the two scripts of the limit take 5.3 µs a job.
    Goal(work="windlass_redis.script_time", against=("raw_redis.script_time",), must=10 / 5.3, aim=4 / 5.3),
    Goal(work="windlass_redis.memory.waiting", must=450, aim=250),
)
GOALS: Mapping[Store, tuple[Goal, ...]] = {"sqlite": SQLITE, "postgres": POSTGRES, "redis": REDIS}


def unit(figure: str) -> Unit:
    """Return the unit of a figure, named `contender.work` or `contender.work.part`."""
    return UNITS.get(figure.partition(".")[2], "jobs/s")
