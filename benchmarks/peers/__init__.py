"""The peers on PostgreSQL and Redis, each run as its documentation says, at the settings found best for it.

A peer is a module here that keeps the promises of `Peer`. It runs in processes of its own, by `python -m benchmarks.peers`,
which may be another Python than the one that measures: so this package needs nothing but the standard library and the
peer. `contender` is the other side, which starts those processes and reads the store.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NoReturn, Protocol, TypeAlias

Payload: TypeAlias = Mapping[str, object]

PAYLOAD: Payload = {"user_id": 12345, "email": "someone@example.com", "template": "welcome"}
URL = "BENCH_URL"
"""Names the store, in the environment, for peers that want to know it as soon as they are imported."""


class Client(Protocol):
    """Enqueues by the peer's own API, for the tasks `send_email(**PAYLOAD)`, `note_run(**PAYLOAD)`, `note_delay(sent)`."""

    async def enqueue(self, task: str, payload: Payload) -> object:
        """Enqueue one job; it is committed on return."""

    async def enqueue_many(self, task: str, payloads: Sequence[Payload]) -> object:
        """Enqueue all by the peer's bulk call, or by the closest it has; they are committed on return."""


class Peer(Protocol):
    """What a module of this package has: functions, no state."""

    UVLOOP: bool
    """Whether the peer prefers uvloop where that is installed."""

    async def install(self, url: str) -> None:
        """Make the peer's tables, or what else it wants to be there, in an empty store."""

    def client(self, url: str) -> AbstractAsyncContextManager[Client]:
        """Connect, to enqueue."""

    async def work(self, url: str) -> None:
        """Run a worker in this process until SIGINT, then end in order."""


def become(*words: str) -> NoReturn:
    """Go on as another program of Python's, as the peer's own command line: `become("celery", "worker")`."""
    os.execv(sys.executable, [sys.executable, "-m", *words])
