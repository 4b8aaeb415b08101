"""taskiq: one worker process, 100 jobs at once and 100 prefetched, a stream read 100 messages at a time, uvloop.

A stream is what it acknowledges on; with its list a crash loses jobs.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from taskiq import TaskiqEvents, TaskiqState
from taskiq_redis import RedisStreamBroker

from benchmarks import probe
from benchmarks.peers import URL, Payload, become

UVLOOP = True
CONCURRENCY = "100"
GATHERED = 100

broker = RedisStreamBroker(os.environ[URL], xread_count=100)


@broker.task(task_name="send_email")  # type: ignore[untyped-decorator]
async def send_email(user_id: int, email: str, template: str) -> None:
    """Do nothing with a payload of the usual size."""


@broker.task(task_name="note_run")  # type: ignore[untyped-decorator]
async def note_run(user_id: int, email: str, template: str) -> None:
    """Note that the job runs."""
    probe.ran()


@broker.task(task_name="note_delay")  # type: ignore[untyped-decorator]
async def note_delay(sent: float) -> None:
    """Note how long the job was under way."""
    probe.started(sent)


TASKS = {task.task_name: task for task in (send_email, note_run, note_delay)}


@broker.on_event(TaskiqEvents.WORKER_SHUTDOWN)  # type: ignore[untyped-decorator]
async def write_notes(state: TaskiqState) -> None:
    """Write the notes of a worker process, which ends without Python's own end."""
    probe.write()


async def install(url: str) -> None:
    """Make the stream and its group."""
    await broker.startup()
    await broker.shutdown()


class Client:
    """Enqueues by `kiq`."""

    async def enqueue(self, task: str, payload: Payload) -> None:
        """Enqueue one job."""
        await TASKS[task].kiq(**payload)

    async def enqueue_many(self, task: str, payloads: Sequence[Payload]) -> None:
        """Enqueue 100 jobs at once, each by a call of its own: there is none for several."""
        for start in range(0, len(payloads), GATHERED):
            await asyncio.gather(*(self.enqueue(task, payload) for payload in payloads[start : start + GATHERED]))


@asynccontextmanager
async def client(url: str) -> AsyncIterator[Client]:
    """Connect, to enqueue."""
    await broker.startup()
    try:
        yield Client()
    finally:
        await broker.shutdown()


async def work(url: str) -> None:
    """Run its worker."""
    at_once = ("--max-async-tasks", CONCURRENCY, "--max-prefetch", CONCURRENCY)
    become("taskiq", "worker", "benchmarks.peers.taskiq_:broker", "--workers", "1", *at_once, "--log-level", "WARNING")
