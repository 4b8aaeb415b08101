"""SAQ: 20 jobs at once on PostgreSQL, 10 on Redis (its default), finished jobs kept for 600 s (its default).

It has no bulk call: as in its own benchmark, calls of `enqueue` are gathered.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from saq import Queue, Worker

from benchmarks import probe
from benchmarks.peers import Payload

UVLOOP = False
CONCURRENCY = {"redis": 10, "postgresql": 20}
GATHERED = 500


async def send_email(_context: object, *, user_id: int, email: str, template: str) -> None:
    """Do nothing with a payload of the usual size."""


async def note_run(_context: object, *, user_id: int, email: str, template: str) -> None:
    """Note that the job runs."""
    probe.ran()


async def note_delay(_context: object, *, sent: float) -> None:
    """Note how long the job was under way."""
    probe.started(sent)


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Queue]:
    """Connect; the first to do so makes the tables, where there are any."""
    queue = Queue.from_url(url)
    await queue.connect()
    try:
        yield queue
    finally:
        await queue.disconnect()


async def install(url: str) -> None:
    """Make the tables."""
    async with opened(url):
        pass


class Client:
    """Enqueues by `enqueue`."""

    def __init__(self, queue: Queue) -> None:
        """Keep the open queue."""
        self.queue = queue

    async def enqueue(self, task: str, payload: Payload) -> None:
        """Enqueue one job."""
        await self.queue.enqueue(task, **payload)

    async def enqueue_many(self, task: str, payloads: Sequence[Payload]) -> None:
        """Enqueue 500 jobs at once, each by a call of its own: there is none for several."""
        for start in range(0, len(payloads), GATHERED):
            await asyncio.gather(*(self.enqueue(task, payload) for payload in payloads[start : start + GATHERED]))


@asynccontextmanager
async def client(url: str) -> AsyncIterator[Client]:
    """Connect, to enqueue."""
    async with opened(url) as queue:
        yield Client(queue)


async def work(url: str) -> None:
    """Run its worker as its command line does."""
    async with opened(url) as queue:
        at_once = CONCURRENCY[url.partition(":")[0]]
        await Worker(queue, [send_email, note_run, note_delay], concurrency=at_once).start()
