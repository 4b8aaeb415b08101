"""Oban: 100 jobs at once, its default pool of 10, uvloop and orjson as its command line has them. Needs Python 3.12."""

import asyncio
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import orjson
from oban import Job, Oban, worker
from oban.schema import install as install_schema
from psycopg.types.json import set_json_dumps, set_json_loads

from benchmarks import probe
from benchmarks.peers import Payload

UVLOOP = True
CONCURRENCY = 100

set_json_dumps(orjson.dumps)
set_json_loads(orjson.loads)


class SendEmail:
    """Does nothing with a payload of the usual size."""

    async def process(self, job: Job) -> None:
        """Run the job."""


class NoteRun:
    """Notes that the job runs."""

    async def process(self, job: Job) -> None:
        """Run the job."""
        probe.ran()


class NoteDelay:
    """Notes how long the job was under way."""

    async def process(self, job: Job) -> None:
        """Run the job."""
        probe.started(job.args["sent"])


TASKS = {
    name: worker(queue="default")(task)
    for name, task in (("send_email", SendEmail), ("note_run", NoteRun), ("note_delay", NoteDelay))
}


@asynccontextmanager
async def opened(url: str, **queues: int) -> AsyncIterator[Oban]:
    """Start an instance with these queues, or one that only enqueues."""
    pool = await Oban.create_pool(url)
    try:
        async with Oban(pool=pool, queues=queues) as oban:
            yield oban
    finally:
        await pool.close()


async def install(url: str) -> None:
    """Make the tables."""
    pool = await Oban.create_pool(url)
    await install_schema(pool)
    await pool.close()


class Client:
    """Enqueues by `enqueue` and `enqueue_many`."""

    def __init__(self, oban: Oban) -> None:
        """Keep the instance."""
        self.oban = oban

    async def enqueue(self, task: str, payload: Payload) -> None:
        """Enqueue one job."""
        await self.oban.enqueue(TASKS[task].new(dict(payload)))

    async def enqueue_many(self, task: str, payloads: Sequence[Payload]) -> None:
        """Enqueue all jobs by one call."""
        await self.oban.enqueue_many([TASKS[task].new(dict(payload)) for payload in payloads])


@asynccontextmanager
async def client(url: str) -> AsyncIterator[Client]:
    """Connect, to enqueue."""
    async with opened(url) as oban:
        yield Client(oban)


async def work(url: str) -> None:
    """Run its worker as its command line does."""
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, over.set)
    async with opened(url, default=CONCURRENCY):
        await over.wait()
