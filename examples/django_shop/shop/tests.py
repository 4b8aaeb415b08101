"""The project's own tests: `python manage.py test`."""

import datetime as dt
import threading

from django.core.checks import run_checks
from django.db import connection, transaction
from django.test import TestCase, TransactionTestCase, override_settings
from django_tasks import TaskResultStatus, task
from django_tasks.exceptions import InvalidTaskError, TaskResultDoesNotExist, TaskResultMismatch
from django_tasks.signals import task_enqueued, task_finished, task_started

from shop.models import Letter, Order
from shop.tasks import confirm, remind
from windlass.contrib.django import app
from windlass.contrib.django.testcases import WindlassTestMixin


@task(takes_context=True, priority=5)
def counted(context, *, times: int = 1) -> list[int]:
    """Return its attempt and what it was given."""
    return [context.attempt, times]


@task(max_attempts=2, timeout=30, tags=("slow",))
def fails() -> None:
    """Fail."""
    raise ValueError("no")


@task
async def later(*, number: int) -> int:
    """Double."""
    return 2 * number


@task
def odd() -> object:
    """Return what is no JSON."""
    return object()


class ShopTests(WindlassTestMixin, TestCase):
    """The view and its job, without a worker."""

    def test_an_order_is_confirmed(self) -> None:
        """By the job that the view has enqueued."""
        answer = self.client.get("/order/rope").json()
        self.assertEnqueued(confirm, order_id=answer["order"])
        self.windlass.drain()
        assert Letter.objects.count() == 1


class TransactionTests(TransactionTestCase):
    """Jobs and rows in one transaction, on the real store."""

    def test_a_commit_leaves_one_job_and_a_rollback_none(self) -> None:
        """Nested blocks too."""
        before = app.stats().pending
        with transaction.atomic():
            made = Order.objects.create(item="rope")
            confirm.enqueue(made.id)
            with self.assertRaises(ZeroDivisionError), transaction.atomic():
                confirm.enqueue(made.id)
                _ = 1 // 0
        assert app.stats().pending == before + 1
        with self.assertRaises(ZeroDivisionError), transaction.atomic():
            Order.objects.create(item="rope")
            confirm.enqueue(made.id)
            remind.enqueue("ada")
            _ = 1 // 0
        assert app.stats().pending == before + 1
        assert Order.objects.count() == 1

    def test_signals(self) -> None:
        """Enqueued, started, finished, each once: by a real worker."""
        seen = []
        ended = threading.Event()
        for signal in (task_enqueued, task_started, task_finished):

            def note(task_result, name=signal, **_) -> None:
                seen.append((name, task_result.status))
                if name is task_finished:
                    ended.set()

            signal.connect(note, weak=False)
            self.addCleanup(signal.disconnect, note)
        with app.worker(queues=["mail"]):
            remind.enqueue("ada")
            assert ended.wait(30)
        assert seen == [
            (task_enqueued, TaskResultStatus.READY),
            (task_started, TaskResultStatus.RUNNING),
            (task_finished, TaskResultStatus.SUCCESSFUL),
        ]


class BackendTests(WindlassTestMixin, TestCase):
    """What django.tasks expects of a backend."""

    def test_enqueue_and_get_result(self) -> None:
        """READY, then SUCCESSFUL with its value."""
        result = remind.enqueue("ada")
        assert (result.status, result.args, result.backend) == (TaskResultStatus.READY, ["ada"], "default")
        with self.assertRaisesMessage(ValueError, "not finished"):
            _ = result.return_value
        self.assertEnqueued(remind)
        self.windlass.drain()
        result.refresh()
        assert result.is_finished
        assert result.return_value == "dear ada"
        assert remind.get_result(result.id) == result
        assert result.attempts == 1
        assert result.started_at is not None
        assert result.finished_at is not None
        assert result.errors == []

    async def test_async_enqueue_and_get_result(self) -> None:
        """The same for coroutines."""
        result = await later.aenqueue(number=21)
        await app.astats()
        self.windlass.drain()
        await result.arefresh()
        assert result.return_value == 42
        assert (await later.aget_result(result.id)).status == TaskResultStatus.SUCCESSFUL

    def test_takes_context(self) -> None:
        """And knows its attempt; priority reaches the job."""
        result = counted.enqueue(times=3)
        assert app.get(int(result.id)).priority == 5
        self.windlass.drain()
        result.refresh()
        assert result.return_value == [1, 3]

    def test_retries_then_fails(self) -> None:
        """READY between tries; FAILED after the last, with each error."""
        result = fails.enqueue()
        job = app.get(int(result.id))
        assert (job.max_attempts, job.timeout, job.tags) == (2, 30.0, ("slow",))
        self.windlass.drain()
        result.refresh()
        assert result.status == TaskResultStatus.READY
        self.windlass.advance(600)
        self.windlass.drain()
        result.refresh()
        assert result.status == TaskResultStatus.FAILED
        assert result.attempts == len(result.errors) == 2
        assert result.errors[0].exception_class is ValueError
        assert "no" in result.errors[0].traceback
        with self.assertRaisesMessage(ValueError, "failed"):
            _ = result.return_value

    def test_run_after(self) -> None:
        """Not before its time."""
        result = remind.using(run_after=self.windlass.now + dt.timedelta(hours=1)).enqueue("ada")
        self.windlass.drain()
        result.refresh()
        assert result.status == TaskResultStatus.READY
        self.windlass.advance(3601)
        self.windlass.drain()
        result.refresh()
        assert result.status == TaskResultStatus.SUCCESSFUL

    def test_a_value_that_is_no_json_fails(self) -> None:
        """As an argument it is refused at once."""
        result = odd.enqueue()
        self.windlass.drain()
        self.windlass.advance(3600)
        self.windlass.drain()
        self.windlass.advance(3600)
        self.windlass.drain()
        result.refresh()
        assert result.errors[0].exception_class is TypeError
        with self.assertRaises(TypeError):
            remind.enqueue(object())

    def test_invalid_tasks(self) -> None:
        """Nested functions, unknown queues, priorities out of range."""

        def nested() -> None: ...

        for given, changed in ((nested, {}), (remind.func, {"queue_name": "no"}), (remind.func, {"priority": 101})):
            with self.assertRaises(InvalidTaskError):
                task(given, **changed)

    def test_results_that_are_not_there(self) -> None:
        """Unknown ids, other tasks' results, and jobs that are none of Django's."""
        for result_id in ("123456", "no"):
            with self.assertRaises(TaskResultDoesNotExist):
                remind.get_result(result_id)
        with self.assertRaises(TaskResultMismatch):
            later.get_result(remind.enqueue("ada").id)
        with self.assertRaises(TaskResultDoesNotExist):
            remind.get_result(str(confirm.enqueue(1).id))


class SettingsTests(TestCase):
    """Mistakes are told by `manage.py check`."""

    def test_mistakes_are_told(self) -> None:
        """Each in words."""
        assert run_checks() == []
        for wrong, words in (
            ({"SPEED": 1}, "no option"),
            ({"DATABASE": "other"}, "not one of"),
            ({"URL": "memory://", "DATABASE": "default"}, "one of them"),
        ):
            with override_settings(WINDLASS=wrong):
                [error] = run_checks()
                assert words in error.msg

    def test_the_store_is_the_projects_own(self) -> None:
        """So that one transaction spans both."""
        app.stats()
        assert str(connection.settings_dict["NAME"]) in app.settings.url
