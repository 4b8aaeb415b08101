"""The verbs of these tests: hold a handler, wait for a job."""

import threading
from collections.abc import Callable
from subprocess import Popen

from tests.waiting import until
from windlass import Job, Status, Windlass

Open = Callable[..., Windlass]
Spawn = Callable[..., Popen[str]]


class Gate:
    """Holds handlers: they tell that they have come, and wait to be let through."""

    def __init__(self) -> None:
        self._come = threading.Semaphore(0)
        self._open = threading.Event()

    def pass_through(self) -> None:
        """Called by a handler."""
        self._come.release()
        assert self._open.wait(20), "nobody opened the gate"

    def wait_for(self, number: int = 1) -> None:
        """Wait until so many more handlers have come."""
        for _ in range(number):
            assert self._come.acquire(timeout=20), "no handler came"

    def open(self) -> None:
        """Let all through, from now on."""
        self._open.set()


def ended(job: Job) -> Job:
    """Wait until a job is completed, dead or cancelled; return it as it is then."""
    until(lambda: job.refresh().finished)
    return job.refresh()


def becomes(job: Job, status: str) -> Job:
    """Wait until a job has that status."""
    until(lambda: job.refresh().status is Status(status))
    return job.refresh()


def busy(app: Windlass, task: str, *, seconds: float) -> None:
    """Have jobs of *task* done, one after another, for so long."""
    begun = app.driver.now()
    while app.driver.now() < begun + seconds:
        ended(app.enqueue(task))
