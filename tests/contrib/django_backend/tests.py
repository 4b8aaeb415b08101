"""Behaviours that Django's own tests of task backends expect, under the names that they have there, written anew.

`python tools/django_tasks_report.py` prints the list.
"""

import dataclasses
import datetime as dt

import given
from django.test import SimpleTestCase, override_settings
from django.utils import timezone
from django.utils.module_loading import import_string
from django_tasks import TaskResultStatus, default_task_backend, task, task_backends
from django_tasks.base import Task
from django_tasks.exceptions import (
    InvalidTaskBackendError,
    InvalidTaskError,
    TaskResultDoesNotExist,
    TaskResultMismatch,
)

from windlass.contrib.django import app
from windlass.contrib.django.backend import WindlassBackend
from windlass.contrib.django.testcases import WindlassTestMixin


def ended(result, status) -> None:
    """Check what is true of everything that has ended."""
    result.refresh()
    assert result.status == status
    assert result.is_finished
    assert result.enqueued_at <= result.started_at <= result.finished_at
    assert result.last_attempted_at is not None
    assert result.attempts == 1


class Running(WindlassTestMixin, SimpleTestCase):
    """As of the immediate backend; here a worker runs the task a little later."""

    def run_all(self) -> None:
        """Run what is due."""
        self.windlass.drain()

    def test_using_correct_backend(self):
        assert task_backends["default"] == default_task_backend
        assert isinstance(task_backends["default"], WindlassBackend)
        assert (default_task_backend.alias, default_task_backend.options) == ("default", {})

    def test_enqueue_task(self):
        for one in (given.noop_task, given.noop_task_async):
            result = one.enqueue(1, two=3)
            assert (result.status, result.task, result.args, result.kwargs) == (
                TaskResultStatus.READY,
                one,
                [1],
                {"two": 3},
            )
            self.run_all()
            ended(result, TaskResultStatus.SUCCESSFUL)
            assert result.return_value is None

    async def test_enqueue_task_async(self):
        for one in (given.noop_task, given.noop_task_async):
            result = await one.aenqueue()
            assert (result.status, result.args, result.kwargs) == (TaskResultStatus.READY, [], {})

    def test_complex_exception(self):
        result = given.complex_error.enqueue()
        self.run_all()
        ended(result, TaskResultStatus.FAILED)
        assert result._return_value is None
        assert result.errors[0].exception_class is ValueError
        assert 'ValueError("inside")' in result.errors[0].traceback

    def test_complex_return_value(self):
        result = given.complex_value.enqueue()
        self.run_all()
        ended(result, TaskResultStatus.FAILED)
        assert result.errors[0].exception_class is TypeError
        assert "Unsupported type" in result.errors[0].traceback

    def test_result(self):
        result = given.answer.enqueue()
        self.run_all()
        ended(result, TaskResultStatus.SUCCESSFUL)
        assert result.return_value == 42

    def test_takes_context(self):
        result = given.own_id.enqueue()
        self.run_all()
        ended(result, TaskResultStatus.SUCCESSFUL)
        assert result.return_value == result.id

    def test_context(self):
        result = given.looks.enqueue(1)
        self.run_all()
        ended(result, TaskResultStatus.SUCCESSFUL)

    def test_enqueue_logs(self):
        with self.assertLogs("django_tasks", "DEBUG") as logs:
            result = given.plain.enqueue()
            self.run_all()
        assert "enqueued" in logs.output[0]
        assert "state=RUNNING" in logs.output[1]
        assert all(result.id in line for line in logs.output)
        assert not any("NoneType" in line for line in logs.output)

    def test_validate_on_enqueue(self):
        elsewhere = given.noop_task.using(queue_name="unknown")
        with self.assertRaisesMessage(InvalidTaskError, "Queue 'unknown' is not valid"):
            default_task_backend.enqueue(elsewhere, (), {})

    async def test_validate_on_aenqueue(self):
        elsewhere = given.noop_task.using(queue_name="unknown")
        with self.assertRaisesMessage(InvalidTaskError, "Queue 'unknown' is not valid"):
            await default_task_backend.aenqueue(elsewhere, (), {})


class Told(SimpleTestCase):
    """What a real worker tells in the end."""

    def setUp(self):
        self.stored = app.stats()  # the store is open

    def logged(self, one) -> list[str]:
        with self.assertLogs("django_tasks", "DEBUG") as logs, app.worker():
            job = app.get(int(one.enqueue().id))
            while not job.refresh().finished or len(logs.output) < 3:
                pass
        return logs.output

    def test_catches_exception(self):
        for one, kind in ((given.raises_value_error, ValueError), (given.raises_system_exit, SystemExit)):
            self.logged(one)
            result = one.get_result(str(app.jobs()[0].id))
            ended(result, TaskResultStatus.FAILED)
            with self.assertRaisesMessage(ValueError, "Task failed"):
                _ = result.return_value
            assert result.errors[0].exception_class is kind
            assert result.errors[0].traceback.endswith(f"{kind.__name__}: it failed with a {kind.__name__}\n")

    def test_successful_task_no_none_type_in_logs(self):
        said = self.logged(given.plain)
        assert "state=SUCCESSFUL" in said[2], said
        assert not any("NoneType" in line for line in said)

    def test_failed_logs(self):
        said = self.logged(given.raises_value_error)
        assert "state=RUNNING" in said[1]
        assert "state=FAILED" in said[2]


class Tasks(WindlassTestMixin, SimpleTestCase):
    """As of tasks in general."""

    def test_task_decorator(self):
        assert all(isinstance(one, Task) for one in (given.noop_task, given.noop_task_async, given.plain))

    def test_enqueue_with_invalid_argument(self):
        with self.assertRaisesMessage(TypeError, "Unsupported type"):
            given.noop_task.enqueue(dt.datetime.now(dt.UTC))

    async def test_aenqueue_with_invalid_argument(self):
        with self.assertRaisesMessage(TypeError, "Unsupported type"):
            await given.noop_task.aenqueue(dt.datetime.now(dt.UTC))

    def test_using_priority(self):
        assert (given.plain.priority, given.plain.using(priority=1).priority) == (0, 1)

    def test_using_queue_name(self):
        assert given.plain.using(queue_name="queue_1").queue_name == "queue_1"
        assert given.plain.queue_name == "default"

    def test_using_run_after(self):
        now = timezone.now()
        assert given.plain.using(run_after=now).run_after == now
        assert given.plain.run_after is None

    def test_using_unknown_backend(self):
        with self.assertRaisesMessage(InvalidTaskBackendError, "'unknown' doesn't exist"):
            given.plain.using(backend="unknown")

    def test_using_missing_backend(self):
        with self.assertRaisesMessage(InvalidTaskBackendError, "Could not find backend 'does.not.exist'"):
            given.plain.using(backend="missing")

    def test_using_creates_new_instance(self):
        assert given.plain.using() == given.plain
        assert given.plain.using() is not given.plain

    def test_chained_using(self):
        now = timezone.now()
        one = given.plain.using(run_after=now).using(priority=10)
        assert (one.priority, one.run_after) == (10, now)

    async def test_refresh_result(self):
        result = await given.plain.aenqueue()
        before = dataclasses.asdict(result)
        await result.arefresh()
        assert dataclasses.asdict(result) == before

    def test_naive_datetime(self):
        with self.assertRaisesMessage(InvalidTaskError, "run_after must be an aware datetime."):
            given.plain.using(run_after=dt.datetime(2030, 1, 1))

    def test_invalid_priority(self):
        for priority in (-101, 101, 3.1):
            with self.assertRaisesMessage(InvalidTaskError, "priority must be a whole number between -100 and 100."):
                given.plain.using(priority=priority)
        for priority in (100, -100, 0):
            given.plain.using(priority=priority).enqueue()

    def test_unknown_queue_name(self):
        with self.assertRaisesMessage(InvalidTaskError, "Queue 'queue-2' is not valid for backend."):
            given.plain.using(queue_name="queue-2")
        assert given.plain.using(queue_name="queue-2", backend="any").queue_name == "queue-2"

    def test_call_task(self):
        assert given.answer.call() == 42

    async def test_call_task_async(self):
        assert await given.answer.acall() == 42

    async def test_call_async_task(self):
        assert await given.noop_task_async.acall() is None

    def test_call_async_task_sync(self):
        assert given.noop_task_async.call() is None

    def test_get_result(self):
        result = default_task_backend.enqueue(given.plain, (), {})
        assert given.plain.get_result(result.id) == result

    async def test_get_result_async(self):
        result = await default_task_backend.aenqueue(given.plain, (), {})
        assert await given.plain.aget_result(result.id) == result

    async def test_get_missing_result(self):
        with self.assertRaises(TaskResultDoesNotExist):
            await given.plain.aget_result("123")

    def test_get_incorrect_result(self):
        result = given.answer.enqueue()
        with self.assertRaisesMessage(TaskResultMismatch, "Task does not match"):
            given.plain.get_result(result.id)

    async def test_get_incorrect_result_async(self):
        result = await given.answer.aenqueue()
        with self.assertRaisesMessage(TaskResultMismatch, "Task does not match"):
            await given.plain.aget_result(result.id)

    def test_invalid_function(self):
        for function in (any, self.test_invalid_function):
            with self.assertRaisesMessage(InvalidTaskError, "Task function must be defined at a module level."):
                task()(function)

    def test_get_backend(self):
        assert given.plain.get_backend().alias == "default"
        assert given.plain.using(backend="any").get_backend().alias == "any"

    def test_name(self):
        assert given.plain.name == "plain"

    def test_module_path(self):
        assert given.plain.module_path == "given.plain"
        assert import_string(given.plain.module_path) is given.plain

    @override_settings(TASKS={})
    def test_no_backends(self):
        with self.assertRaises(InvalidTaskBackendError):
            given.plain.enqueue()

    def failed(self):
        result = given.raises_value_error.enqueue()
        self.windlass.drain()
        result.refresh()
        [error] = result.errors
        return error

    def test_task_error_invalid_exception(self):
        error = dataclasses.replace(self.failed(), exception_class_path="subprocess.run")
        with self.assertRaisesMessage(ValueError, "'subprocess.run' does not reference a valid exception."):
            _ = error.exception_class

    def test_task_error_unknown_module(self):
        error = dataclasses.replace(self.failed(), exception_class_path="does.not.exist")
        with self.assertRaises(ImportError):
            _ = error.exception_class

    def test_takes_context_without_taking_context(self):
        with self.assertRaisesMessage(InvalidTaskError, "does not have a first argument of 'context'"):
            task(takes_context=True)(given.answer.func)
