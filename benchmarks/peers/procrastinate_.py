"""Procrastinate: 20 jobs at once, a pool as large, LISTEN/NOTIFY on, finished jobs kept (its default)."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from procrastinate import App, PsycopgConnector

from benchmarks import probe
from benchmarks.peers import Payload

UVLOOP = False
CONCURRENCY = 20


async def send_email(user_id: int, email: str, template: str) -> None:
    """Do nothing with a payload of the usual size."""


async def note_run(user_id: int, email: str, template: str) -> None:
    """Note that the job runs."""
    probe.ran()


async def note_delay(sent: float) -> None:
    """Note how long the job was under way."""
    probe.started(sent)


def application(url: str) -> App:
    """Return an application with these tasks."""
    app = App(connector=PsycopgConnector(conninfo=url, max_size=CONCURRENCY + 2))
    for function in (send_email, note_run, note_delay):
        app.task(name=function.__name__)(function)
    return app


async def install(url: str) -> None:
    """Make the tables."""
    app = application(url)
    async with app.open_async():
        await app.schema_manager.apply_schema_async()


class Client:
    """Enqueues by `defer_async` and `batch_defer_async`."""

    def __init__(self, app: App) -> None:
        """Keep the open application."""
        self.app = app

    async def enqueue(self, task: str, payload: Payload) -> None:
        """Enqueue one job."""
        await self.app.tasks[task].defer_async(**payload)

    async def enqueue_many(self, task: str, payloads: Sequence[Payload]) -> None:
        """Enqueue a thousand jobs a call."""
        for start in range(0, len(payloads), 1_000):
            await self.app.tasks[task].batch_defer_async(*payloads[start : start + 1_000])


@asynccontextmanager
async def client(url: str) -> AsyncIterator[Client]:
    """Connect, to enqueue."""
    async with application(url).open_async() as app:
        yield Client(app)


async def work(url: str) -> None:
    """Run its worker."""
    async with application(url).open_async() as app:
        await app.run_worker_async(concurrency=CONCURRENCY)
