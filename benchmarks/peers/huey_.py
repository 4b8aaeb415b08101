"""huey on Redis: one thread, no results kept.

It takes a job off the store before it runs it, so a crash loses it: at most once.
"""

import os

from huey import RedisHuey

from benchmarks import probe
from benchmarks.peers import URL, become
from benchmarks.peers.sync_client import sync_client

UVLOOP = False

queue = RedisHuey("bench", url=os.environ[URL], results=False)


@queue.task()  # type: ignore[untyped-decorator]
def send_email(user_id: int, email: str, template: str) -> None:
    """Do nothing with a payload of the usual size."""


@queue.task()  # type: ignore[untyped-decorator]
def note_run(user_id: int, email: str, template: str) -> None:
    """Note that the job runs."""
    probe.ran()


@queue.task()  # type: ignore[untyped-decorator]
def note_delay(sent: float) -> None:
    """Note how long the job was under way."""
    probe.started(sent)


async def install(url: str) -> None:
    """Make nothing: it makes its list as it needs it."""


client = sync_client({"send_email": send_email, "note_run": note_run, "note_delay": note_delay})


async def work(url: str) -> None:
    """Run its worker."""
    consumer = ("--workers", "1", "--worker-type", "thread", "--no-periodic", "--quiet")
    become("huey.bin.huey_consumer", "benchmarks.peers.huey_.queue", *consumer)
