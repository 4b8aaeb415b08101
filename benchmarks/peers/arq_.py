"""arq: 500 jobs at once (its default is 10, and it takes five times as many each time it polls), no results kept.

It polls twice a second. It needs an older client than the others, so it has an environment of its own.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from arq import ArqRedis, Worker, create_pool, func
from arq.connections import RedisSettings

from benchmarks import probe
from benchmarks.peers import Payload

UVLOOP = False
CONCURRENCY = 500
GATHERED = 500


async def send_email(_context: object, *, user_id: int, email: str, template: str) -> None:
    """Do nothing with a payload of the usual size."""


async def note_run(_context: object, *, user_id: int, email: str, template: str) -> None:
    """Note that the job runs."""
    probe.ran()


async def note_delay(_context: object, *, sent: float) -> None:
    """Note how long the job was under way."""
    probe.started(sent)


async def install(url: str) -> None:
    """Make nothing: it makes its keys as it needs them."""


class Client:
    """Enqueues by `enqueue_job`."""

    def __init__(self, pool: ArqRedis) -> None:
        """Keep the connections."""
        self.pool = pool

    async def enqueue(self, task: str, payload: Payload) -> None:
        """Enqueue one job."""
        await self.pool.enqueue_job(task, **payload)

    async def enqueue_many(self, task: str, payloads: Sequence[Payload]) -> None:
        """Enqueue 500 jobs at once, each by a call of its own: there is none for several."""
        for start in range(0, len(payloads), GATHERED):
            await asyncio.gather(*(self.enqueue(task, payload) for payload in payloads[start : start + GATHERED]))


@asynccontextmanager
async def client(url: str) -> AsyncIterator[Client]:
    """Connect, to enqueue."""
    pool = await create_pool(RedisSettings.from_dsn(url))
    try:
        yield Client(pool)
    finally:
        await pool.aclose()


async def work(url: str) -> None:
    """Run its worker as its command line does."""
    functions = [func(function, keep_result=0) for function in (send_email, note_run, note_delay)]
    await Worker(functions, redis_settings=RedisSettings.from_dsn(url), max_jobs=CONCURRENCY, keep_result=0).async_run()
