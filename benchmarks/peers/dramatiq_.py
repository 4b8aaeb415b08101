"""Dramatiq: one process with 16 threads (its default is 8 in each of as many processes as there are cores)."""

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from benchmarks import probe
from benchmarks.peers import URL, become
from benchmarks.peers.sync_client import sync_client

UVLOOP = False
THREADS = "16"


class Notes(dramatiq.Middleware):  # type: ignore[misc]
    """Writes the notes of a worker process, which ends without Python's own end."""

    def after_worker_shutdown(self, broker: object, worker: object) -> None:
        """Write what was noted."""
        probe.write()


broker = RedisBroker(url=os.environ[URL])
broker.add_middleware(Notes())
dramatiq.set_broker(broker)


@dramatiq.actor  # type: ignore[untyped-decorator]
def send_email(user_id: int, email: str, template: str) -> None:
    """Do nothing with a payload of the usual size."""


@dramatiq.actor  # type: ignore[untyped-decorator]
def note_run(user_id: int, email: str, template: str) -> None:
    """Note that the job runs."""
    probe.ran()


@dramatiq.actor  # type: ignore[untyped-decorator]
def note_delay(sent: float) -> None:
    """Note how long the job was under way."""
    probe.started(sent)


async def install(url: str) -> None:
    """Make nothing: it makes its keys as it needs them."""


client = sync_client({actor.actor_name: actor.send for actor in (send_email, note_run, note_delay)})


async def work(url: str) -> None:
    """Run its worker."""
    become("dramatiq", "benchmarks.peers.dramatiq_", "--processes", "1", "--threads", THREADS)
