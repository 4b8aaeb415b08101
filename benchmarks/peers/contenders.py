"""The peers that are measured, and how each tells what is not finished yet."""

from functools import partial

from benchmarks import postgres, redis_server
from benchmarks.contender import Place
from benchmarks.peers import environment
from benchmarks.peers.contender import Peer, Unfinished, contender

ON_POSTGRES = Place(store="postgres", open=postgres.database, settle=postgres.settle)
ON_REDIS = Place(store="redis", open=redis_server.database, settle=redis_server.settle)


def rows(query: str) -> Unfinished:
    """Count by a query of PostgreSQL."""
    return partial(postgres.counting, query)


def keys(*commands: tuple[str, str]) -> Unfinished:
    """Count by commands of Redis, whose answers are added up."""
    return partial(redis_server.counting, commands)


PROCRASTINATE = contender(
    Peer(
        name="procrastinate",
        package="procrastinate",
        place=ON_POSTGRES,
        unfinished=rows("SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing')"),
    )
)
PGQUEUER = contender(
    Peer(
        name="pgqueuer",
        package="pgqueuer",
        place=ON_POSTGRES,
        unfinished=rows("SELECT count(*) FROM pgqueuer"),  # what has finished is in its log
    )
)
CHANCY = contender(
    Peer(
        name="chancy",
        package="chancy",
        place=ON_POSTGRES,
        unfinished=rows("SELECT count(*) FROM chancy_jobs WHERE state NOT IN ('succeeded', 'failed')"),
    )
)
SAQ = contender(
    Peer(
        name="saq",
        package="saq",
        place=ON_POSTGRES,
        unfinished=rows("SELECT count(*) FROM saq_jobs WHERE status IN ('new', 'deferred', 'queued', 'active')"),
        bulk=20_000,  # a commit for each
    )
)
OBAN = contender(
    Peer(
        name="oban",
        package="oban",
        place=ON_POSTGRES,
        unfinished=rows(
            "SELECT count(*) FROM oban_jobs WHERE state IN ('available', 'scheduled', 'executing', 'retryable')"
        ),
        python=environment.OBAN.python,
    ),
    missing=environment.OBAN.missing,
)
CELERY = contender(
    Peer(
        name="celery",
        package="celery",
        place=ON_REDIS,
        unfinished=keys(("LLEN", "celery"), ("HLEN", "unacked")),
        bulk=20_000,  # one by one
    )
)
RQ = contender(
    Peer(
        name="rq",
        package="rq",
        place=ON_REDIS,
        unfinished=keys(("LLEN", "rq:queue:default"), ("ZCARD", "rq:wip:default")),
    )
)
DRAMATIQ = contender(
    Peer(
        name="dramatiq",
        package="dramatiq",
        place=ON_REDIS,
        unfinished=keys(("HLEN", "dramatiq:default.msgs")),
        bulk=20_000,  # one by one
    )
)
ARQ = contender(
    Peer(
        name="arq",
        package="arq",
        place=ON_REDIS,
        unfinished=keys(("ZCARD", "arq:queue")),
        bulk=20_000,  # one by one
        python=environment.ARQ.python,
    ),
    missing=environment.ARQ.missing,
)
SAQ_REDIS = contender(
    Peer(
        name="saq_redis",
        package="saq",
        place=ON_REDIS,
        unfinished=keys(("ZCARD", "saq:default:incomplete")),
        bulk=20_000,  # one by one
        python=environment.SAQ.python,
    ),
    missing=environment.SAQ.missing,
)
TASKIQ = contender(
    Peer(
        name="taskiq",
        package="taskiq_redis",
        module="taskiq_",
        place=ON_REDIS,
        unfinished=partial(redis_server.counting_stream, "taskiq"),
        bulk=20_000,  # one by one
    )
)
HUEY_REDIS = contender(
    Peer(
        name="huey_redis",
        package="huey",
        place=ON_REDIS,
        unfinished=keys(("LLEN", "huey.redis.bench")),
        bulk=20_000,  # one by one
    )
)
STREAQ = contender(
    Peer(
        name="streaq",
        package="streaq",
        place=ON_REDIS,
        unfinished=keys(("XLEN", "streaq:default:queues:normal")),
    )
)
