"""The peers that are measured."""

from benchmarks.peers import newer_python
from benchmarks.peers.contender import Peer, contender

PROCRASTINATE = contender(
    Peer(
        name="procrastinate",
        unfinished="SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing')",
    )
)
PGQUEUER = contender(
    Peer(
        name="pgqueuer",
        unfinished="SELECT count(*) FROM pgqueuer",  # what has finished is in its log
    )
)
CHANCY = contender(
    Peer(
        name="chancy",
        unfinished="SELECT count(*) FROM chancy_jobs WHERE state NOT IN ('succeeded', 'failed')",
    )
)
SAQ = contender(
    Peer(
        name="saq",
        unfinished="SELECT count(*) FROM saq_jobs WHERE status IN ('new', 'deferred', 'queued', 'active')",
        bulk=20_000,  # a commit for each
    )
)
OBAN = contender(
    Peer(
        name="oban",
        unfinished="SELECT count(*) FROM oban_jobs WHERE state IN ('available', 'scheduled', 'executing', 'retryable')",
        python=newer_python.environment,
    ),
    missing=newer_python.missing,
)
