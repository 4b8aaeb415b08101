"""Chancy: 500 jobs at once on its `AsyncExecutor`, eager polling, default plugins.

It writes what has finished once a second, in batches.
"""

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from chancy import Chancy, Job, Queue, Worker

from benchmarks import probe
from benchmarks.peers import Payload

UVLOOP = False
CONCURRENCY = 500


async def send_email(user_id: int, email: str, template: str) -> None:
    """Do nothing with a payload of the usual size."""


async def note_run(user_id: int, email: str, template: str) -> None:
    """Note that the job runs."""
    probe.ran()


async def note_delay(sent: float) -> None:
    """Note how long the job was under way."""
    probe.started(sent)


TASKS = {function.__name__: function for function in (send_email, note_run, note_delay)}


def application(url: str) -> Chancy:
    """Return an application that logs warnings only."""
    return Chancy(url, log=logging.getLogger("chancy"))


async def install(url: str) -> None:
    """Make the tables and the queue."""
    async with application(url) as app:
        await app.migrate()
        await app.declare(
            Queue("default", concurrency=CONCURRENCY, executor=Chancy.Executor.Async, eager_polling=True), upsert=True
        )


class Client:
    """Enqueues by `push` and `push_many`."""

    def __init__(self, app: Chancy) -> None:
        """Keep the open application."""
        self.app = app

    async def enqueue(self, task: str, payload: Payload) -> None:
        """Enqueue one job."""
        await self.app.push(Job.from_func(TASKS[task], kwargs=dict(payload)))

    async def enqueue_many(self, task: str, payloads: Sequence[Payload]) -> None:
        """Enqueue all jobs by one call, which commits each thousand."""
        jobs = [Job.from_func(TASKS[task], kwargs=dict(payload)) for payload in payloads]
        async for _ in self.app.push_many(jobs):
            pass


@asynccontextmanager
async def client(url: str) -> AsyncIterator[Client]:
    """Connect, to enqueue."""
    async with application(url) as app:
        yield Client(app)


async def work(url: str) -> None:
    """Run its worker."""
    async with application(url) as app, Worker(app) as worker:
        await worker.wait_for_shutdown()
