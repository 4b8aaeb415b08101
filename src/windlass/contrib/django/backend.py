"""A backend for ``django.tasks`` (Django 6, or the ``django-tasks`` backport).

::

    TASKS = {"default": {"BACKEND": "windlass.contrib.django.backend.WindlassBackend"}}

Its task class takes more than Django's: ``@task(max_attempts=5, timeout=30, unique=True, tags=["mail"])``. A result's id is
the job's. A task that will be tried again is READY; it is FAILED when its job is dead or cancelled.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from datetime import datetime
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async

from windlass.context import current
from windlass.contrib.django.compat import (
    BaseTaskBackend,
    Task,
    TaskContext,
    TaskError,
    TaskResult,
    TaskResultDoesNotExist,
    TaskResultStatus,
    normalize_json,
    task_backends,
    task_enqueued,
    task_finished,
    task_started,
)
from windlass.contrib.django.configured import application
from windlass.errors import JobNotFoundError
from windlass.events import JobCancelled, JobCompleted, JobDead
from windlass.job import Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from windlass.contrib.django.configured import DjangoWindlass
    from windlass.job import Attempt, Job

_STATUS = {
    Status.RUNNING: TaskResultStatus.RUNNING,
    Status.COMPLETED: TaskResultStatus.SUCCESSFUL,
    Status.DEAD: TaskResultStatus.FAILED,
    Status.CANCELLED: TaskResultStatus.FAILED,
}
"""All others are READY."""
MARK = "django"
"""In the ``meta`` of jobs that are Django's tasks: the alias of the backend, through which the job was enqueued."""
AFTER = "run_after"
_TASKS: dict[str, Any] = {}
"""Django's tasks that workers in this process can run, whatever backend they were made for, by the path of their function."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WindlassTask(Task):  # type: ignore[misc]  # Django has no types
    """A task with what Windlass adds."""

    max_attempts: int | None = None
    timeout: float | None = None
    unique: Any = None
    tags: tuple[str, ...] = ()

    def extra(self) -> dict[str, Any]:
        """Return what was given of it."""
        given = {
            "max_attempts": self.max_attempts, "timeout": self.timeout, "unique": self.unique, "tags": list(self.tags),
        }  # fmt: skip
        return {name: value for name, value in given.items() if value not in (None, [])}


class WindlassBackend(BaseTaskBackend):  # type: ignore[misc]
    """Runs Django's tasks as jobs."""

    task_class = WindlassTask
    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        super().__init__(alias, params)
        self.app = application()
        _listen(self.app)

    def validate_task(self, task: Any) -> None:
        """Check a task, and register it: from now on workers in this process run it."""
        super().validate_task(task)
        known = _TASKS.get(task.module_path)
        if known is None or known.func is not task.func:
            _TASKS[task.module_path] = task
            self.app.register(task.module_path, _runner(task), raw=True, replace=True)

    # ------------------------------------------------------------------ enqueue and look

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        """Store a job; inside ``atomic`` of the shared database, with it."""
        self.validate_task(task)
        payload = {"args": normalize_json(list(args)), "kwargs": normalize_json(dict(kwargs))}
        extra = task.extra() if isinstance(task, WindlassTask) else {}
        job = self.app.enqueue(
            task.module_path, payload, queue=task.queue_name, priority=task.priority, run_at=task.run_after,
            meta=self._meta(task), **extra,
        )  # fmt: skip
        result = self._result(job, [])
        task_enqueued.send(type(self), task_result=result)
        return result

    def get_result(self, result_id: str) -> Any:
        """Return what became of a task.

        Raises:
            TaskResultDoesNotExist: there is no such job, or it is not one of Django's tasks.
        """
        try:
            job = self.app.get(int(result_id))
        except (ValueError, TypeError, JobNotFoundError) as error:
            raise TaskResultDoesNotExist(result_id) from error
        return self._known(job, job.history())

    def _meta(self, task: Any) -> dict[str, Any]:
        after = {} if task.run_after is None else {AFTER: task.run_after.isoformat()}
        return {MARK: self.alias, **after}

    def _is_own(self, job: Job) -> bool:
        return job.task in _TASKS and job.meta.get(MARK) == self.alias

    def _known(self, job: Job, history: list[Attempt]) -> Any:
        if not self._is_own(job):
            raise TaskResultDoesNotExist(str(job.id))
        return self._result(job, history)

    def _task(self, job: Job) -> Any:
        """Return the task as it was when it was enqueued."""
        after = job.meta.get(AFTER)
        return replace(
            _TASKS[job.task],
            backend=self.alias,
            priority=job.priority,
            queue_name=job.queue,
            run_after=None if after is None else datetime.fromisoformat(after),
        )

    def _result(self, job: Job, history: list[Attempt]) -> Any:
        payload = job.payload
        workers = [one.worker for one in history if one.worker is not None]
        if job.status is Status.RUNNING and job.worker is not None:
            workers.append(job.worker)
        first = history[0].started_at if history else None
        result = TaskResult(
            task=self._task(job),
            id=str(job.id),
            status=_STATUS.get(job.status, TaskResultStatus.READY),
            enqueued_at=job.created_at,
            started_at=first or job.started_at,
            finished_at=job.finished_at,
            last_attempted_at=job.started_at,
            args=payload["args"],
            kwargs=payload["kwargs"],
            backend=self.alias,
            errors=[_error(one) for one in history if one.error is not None],
            worker_ids=workers,
        )
        object.__setattr__(result, "_return_value", job.result)
        return result

    # ------------------------------------------------------------------ in the worker

    def started(self) -> Any:
        """Tell that the attempt that runs here has started; return its result as it is now."""
        job = current().job
        result = self._known(job, job.history())
        task_started.send(type(self), task_result=result)
        return result


@functools.cache
def _listen(app: DjangoWindlass) -> None:
    """Send ``task_finished`` when a job has ended for good. Once: Django makes a backend for each thread."""
    for event in (JobCompleted, JobDead, JobCancelled):
        app.on(event)(_finished)


def _finished(event: JobCompleted | JobDead | JobCancelled) -> None:
    alias = event.job.meta.get(MARK)
    if event.job.task in _TASKS and alias is not None:
        backend = task_backends[alias]
        task_finished.send(type(backend), task_result=backend.get_result(str(event.job.id)))


def _backend() -> Any:
    """Return the backend through which the job that runs here was enqueued."""
    return task_backends[current().job.meta[MARK]]


def _runner(task: Any) -> Callable[..., Any]:
    """Return the handler of a task's jobs."""
    function = task.func

    def arguments(value: Any, result: Any) -> tuple[list[Any], dict[str, Any]]:
        context = [TaskContext(task_result=result)] if task.takes_context else []
        return [*context, *value["args"]], value["kwargs"]

    if iscoroutinefunction(function):

        async def run_async(value: Any) -> Any:
            result = await sync_to_async(lambda: _backend().started())()
            args, kwargs = arguments(value, result)
            return normalize_json(await function(*args, **kwargs))

        return run_async

    def run(value: Any) -> Any:
        args, kwargs = arguments(value, _backend().started())
        return normalize_json(function(*args, **kwargs))

    return run


def _error(attempt: Attempt) -> Any:
    assert attempt.error is not None
    kind = attempt.error.type
    path = kind if "." in kind else f"builtins.{kind}"
    return TaskError(exception_class_path=path, traceback=attempt.error.traceback or str(attempt.error))
