"""RQ: a `SimpleWorker`, which runs what it takes in its own process, and no results kept.

Its default worker forks for each job, which is several times as slow.
"""

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from redis import Redis
from rq import Queue

from benchmarks import probe
from benchmarks.peers import URL, Payload, become

UVLOOP = False
CHUNK = 1_000


def send_email(user_id: int, email: str, template: str) -> None:
    """Do nothing with a payload of the usual size."""


def note_run(user_id: int, email: str, template: str) -> None:
    """Note that the job runs."""
    probe.ran()


def note_delay(sent: float) -> None:
    """Note how long the job was under way."""
    probe.started(sent)


TASKS = {function.__name__: function for function in (send_email, note_run, note_delay)}


async def install(url: str) -> None:
    """Make nothing: it makes its keys as it needs them."""


class Client:
    """Enqueues by `enqueue` and `enqueue_many`."""

    def __init__(self, queue: Queue) -> None:
        """Keep the queue."""
        self.queue = queue

    async def enqueue(self, task: str, payload: Payload) -> None:
        """Enqueue one job."""
        self.queue.enqueue(TASKS[task], kwargs=dict(payload), result_ttl=0)

    async def enqueue_many(self, task: str, payloads: Sequence[Payload]) -> None:
        """Enqueue a thousand jobs a call."""
        for start in range(0, len(payloads), CHUNK):
            chosen = payloads[start : start + CHUNK]
            jobs = [Queue.prepare_data(TASKS[task], kwargs=dict(payload), result_ttl=0) for payload in chosen]
            self.queue.enqueue_many(jobs)


@asynccontextmanager
async def client(url: str) -> AsyncIterator[Client]:
    """Connect, to enqueue."""
    with Redis.from_url(url) as connection:
        yield Client(Queue("default", connection=connection))


async def work(url: str) -> None:
    """Run its worker."""
    become("rq.cli", "worker", "--url", os.environ[URL], "--worker-class", "rq.SimpleWorker", "--quiet", "default")
