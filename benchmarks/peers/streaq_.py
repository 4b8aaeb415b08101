"""streaQ: 32 jobs at once, uvloop, its client's checks off as in its own benchmark, no results kept."""

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import coredis
from streaq import Worker

from benchmarks import probe
from benchmarks.peers import URL, Payload

UVLOOP = True
CONCURRENCY = 32
CHUNK = 1_000

coredis.Config.optimized = True
worker = Worker(redis_url=os.environ[URL], concurrency=CONCURRENCY)


@worker.task(name="send_email", silent=True, ttl=0)  # type: ignore[untyped-decorator]
async def send_email(user_id: int, email: str, template: str) -> None:
    """Do nothing with a payload of the usual size."""


@worker.task(name="note_run", silent=True, ttl=0)  # type: ignore[untyped-decorator]
async def note_run(user_id: int, email: str, template: str) -> None:
    """Note that the job runs."""
    probe.ran()


@worker.task(name="note_delay", silent=True, ttl=0)  # type: ignore[untyped-decorator]
async def note_delay(sent: float) -> None:
    """Note how long the job was under way."""
    probe.started(sent)


TASKS = {"send_email": send_email, "note_run": note_run, "note_delay": note_delay}


async def install(url: str) -> None:
    """Make nothing: it makes its stream as it needs it."""


class Client:
    """Enqueues by `enqueue` and `enqueue_many`."""

    async def enqueue(self, task: str, payload: Payload) -> None:
        """Enqueue one job."""
        await TASKS[task].enqueue(**payload)

    async def enqueue_many(self, task: str, payloads: Sequence[Payload]) -> None:
        """Enqueue a thousand jobs a call."""
        for start in range(0, len(payloads), CHUNK):
            await worker.enqueue_many([TASKS[task].enqueue(**payload) for payload in payloads[start : start + CHUNK]])


@asynccontextmanager
async def client(url: str) -> AsyncIterator[Client]:
    """Connect, to enqueue."""
    async with worker:
        yield Client()


async def work(url: str) -> None:
    """Run its worker."""
    await worker.run_async()
