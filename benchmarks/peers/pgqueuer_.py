"""PgQueuer: batches of 100 (its default is 10), on asyncpg and uvloop, durable tables, its log of finished jobs on."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import asyncpg
import pgqueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries

from benchmarks import probe
from benchmarks.peers import Payload

UVLOOP = True
BATCH = 100


async def send_email(job: Job) -> None:
    """Do nothing with a payload of the usual size."""
    json.loads(job.payload or b"")


async def note_run(job: Job) -> None:
    """Note that the job runs."""
    json.loads(job.payload or b"")
    probe.ran()


async def note_delay(job: Job) -> None:
    """Note how long the job was under way."""
    probe.started(json.loads(job.payload or b"")["sent"])


@asynccontextmanager
async def queries(url: str) -> AsyncIterator[Queries]:
    """Connect, to send its statements."""
    connection = await asyncpg.connect(url)
    try:
        yield Queries(AsyncpgDriver(connection))
    finally:
        await connection.close()


async def install(url: str) -> None:
    """Make the tables."""
    async with queries(url) as opened:
        await opened.install()


class Client:
    """Enqueues by `enqueue`, which takes one job or lists."""

    def __init__(self, opened: Queries) -> None:
        """Keep the connection."""
        self.queries = opened

    async def enqueue(self, task: str, payload: Payload) -> None:
        """Enqueue one job."""
        await self.queries.enqueue(task, json.dumps(payload).encode())

    async def enqueue_many(self, task: str, payloads: Sequence[Payload]) -> None:
        """Enqueue a thousand jobs a call."""
        for start in range(0, len(payloads), 1_000):
            encoded = [json.dumps(payload).encode() for payload in payloads[start : start + 1_000]]
            await self.queries.enqueue([task] * len(encoded), encoded, [0] * len(encoded))


@asynccontextmanager
async def client(url: str) -> AsyncIterator[Client]:
    """Connect, to enqueue."""
    async with queries(url) as opened:
        yield Client(opened)


async def work(url: str) -> None:
    """Run its worker as its command line does."""

    @asynccontextmanager
    async def factory() -> AsyncIterator[pgqueuer.PgQueuer]:
        connection = await asyncpg.connect(url)
        worker = pgqueuer.PgQueuer.from_asyncpg_connection(connection)
        for function in (send_email, note_run, note_delay):
            worker.entrypoint(function.__name__)(function)
        try:
            yield worker
        finally:
            await connection.close()

    await pgqueuer.run(factory, batch_size=BATCH)
