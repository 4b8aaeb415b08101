"""Celery: one process that runs what it takes itself (`solo`), 100 jobs prefetched, no results, no gossip.

It acknowledges a job before it runs it, which is its default.
"""

import os

from celery import Celery

from benchmarks import probe
from benchmarks.peers import URL, become
from benchmarks.peers.sync_client import sync_client

UVLOOP = False
QUIET = ("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "WARNING")

app = Celery("bench", broker=os.environ[URL])
app.conf.update(
    task_ignore_result=True,
    worker_prefetch_multiplier=100,
    worker_enable_remote_control=False,
    broker_connection_retry_on_startup=True,
)


@app.task  # type: ignore[untyped-decorator]
def send_email(user_id: int, email: str, template: str) -> None:
    """Do nothing with a payload of the usual size."""


@app.task  # type: ignore[untyped-decorator]
def note_run(user_id: int, email: str, template: str) -> None:
    """Note that the job runs."""
    probe.ran()


@app.task  # type: ignore[untyped-decorator]
def note_delay(sent: float) -> None:
    """Note how long the job was under way."""
    probe.started(sent)


async def install(url: str) -> None:
    """Make nothing: it makes its lists as it needs them."""


client = sync_client({task.__name__: task.delay for task in (send_email, note_run, note_delay)})


async def work(url: str) -> None:
    """Run its worker."""
    become("celery", "-A", "benchmarks.peers.celery_", "worker", "--pool", "solo", *QUIET)
