"""For Django's test cases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from windlass.contrib.django.configured import application
from windlass.testing import testing

if TYPE_CHECKING:
    from windlass.job import Job
    from windlass.testing import Harness


class WindlassTestMixin:
    """Each test gets an empty store in memory and a clock that moves when told: ``self.windlass.drain()``.

    Put it before ``TestCase`` or ``TransactionTestCase``.
    """

    windlass: Harness

    def setUp(self) -> None:
        """Swap the store."""
        super().setUp()  # type: ignore[misc]
        swapped = testing(application())
        self.windlass = swapped.__enter__()
        self.addCleanup(swapped.__exit__, None, None, None)  # type: ignore[attr-defined]

    def assertEnqueued(self, task: Any, /, **arguments: Any) -> Job:  # noqa: N802
        """Return the newest job of a task with these arguments, or fail and list what there is."""
        if not hasattr(task, "module_path"):
            return self.windlass.assert_enqueued(task, **arguments)
        jobs = [job for job in self.windlass.jobs if job.task == task.module_path]
        for job in reversed(jobs):
            if arguments.items() <= job.payload["kwargs"].items():
                return job
        raise AssertionError(f"no {task.module_path} with {arguments} was enqueued, but {[j.payload for j in jobs]}")
