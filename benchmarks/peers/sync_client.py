"""Enqueuing by a peer that blocks and has no bulk call, or none that was given."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from benchmarks.peers import Payload


class SyncClient:
    """Calls a task's own function, once for each job."""

    def __init__(self, tasks: Mapping[str, Callable[..., object]]) -> None:
        """Keep what enqueues a job of each task."""
        self.tasks = tasks

    async def enqueue(self, task: str, payload: Payload) -> None:
        """Enqueue one job."""
        self.tasks[task](**payload)

    async def enqueue_many(self, task: str, payloads: Sequence[Payload]) -> None:
        """Enqueue one after the other."""
        enqueue = self.tasks[task]
        for payload in payloads:
            enqueue(**payload)


def sync_client(
    tasks: Mapping[str, Callable[..., object]],
) -> Callable[[str], AbstractAsyncContextManager[SyncClient]]:
    """Return the `client` of a peer's module, which connects by itself."""

    @asynccontextmanager
    async def client(_url: str) -> AsyncIterator[SyncClient]:
        yield SyncClient(tasks)

    return client
