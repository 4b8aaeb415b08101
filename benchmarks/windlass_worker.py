"""The application and worker process that are measured: `python -m benchmarks.windlass_worker URL CONCURRENCY [QUEUE ...]`."""

import sys

from benchmarks import probe
from windlass import Windlass


def send_email(user_id: int, email: str, template: str) -> None:
    """Do nothing with a payload of the usual size."""


async def note_run(user_id: int, email: str, template: str) -> None:
    """Note that the job runs, on the event loop."""
    probe.ran()


def note_run_in_thread(user_id: int, email: str, template: str) -> None:
    """Note that the job runs, in a thread."""
    probe.ran()


async def note_delay(sent: float) -> None:
    """Note how long the job was under way."""
    probe.started(sent)


def application(url: str) -> Windlass:
    """Return an application with these tasks, at its default settings."""
    app = Windlass(url)
    for function in (send_email, note_run, note_run_in_thread, note_delay):
        app.task(function)
    return app


if __name__ == "__main__":
    application(sys.argv[1]).run(concurrency=int(sys.argv[2]), queues=sys.argv[3:] or None)
