"""Assertions about the jobs that were enqueued."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from windlass.task import Task

if TYPE_CHECKING:
    from windlass.job import Job


class Looking:
    """For whatever has ``jobs``."""

    @property
    def jobs(self) -> list[Job]:
        """The jobs, in the order in which they were enqueued."""
        raise NotImplementedError

    def assert_enqueued(self, task: str | Task[..., Any], /, **arguments: Any) -> Job:
        """Return the newest job of *task* whose payload has these arguments.

        Raises:
            AssertionError: there is none; the message lists what there is.
        """
        name = task.name if isinstance(task, Task) else task
        wanted = msgspec.to_builtins(arguments)
        of_task = [job for job in self.jobs if job.task == name]
        for job in reversed(of_task):
            payload = job.payload if isinstance(job.payload, dict) else {}
            if all(key in payload and payload[key] == value for key, value in wanted.items()):
                return job
        listed = "\n".join(f"  {job.task} {job.payload}" for job in of_task or self.jobs) or "  (none at all)"
        raise AssertionError(f"no {name} job with {wanted} was enqueued; there are:\n{listed}")

    def assert_not_enqueued(self, task: str | Task[..., Any], /, **arguments: Any) -> None:
        """Check that no job of *task* has these arguments.

        Raises:
            AssertionError: there is one.
        """
        try:
            job = self.assert_enqueued(task, **arguments)
        except AssertionError:
            return
        raise AssertionError(f"job {job.id} {job.task} {job.payload} was enqueued")
