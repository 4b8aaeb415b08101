"""The tasks of these tests."""

from typing import Any

from django_tasks import task


@task(backend="any", queue_name="other")
def noop_task(*args: Any, **kwargs: Any) -> None:
    """Do nothing."""


@task(backend="any")
async def noop_task_async(*args: Any, **kwargs: Any) -> None:
    """Do nothing on a loop."""


@task
def plain() -> None:
    """Do nothing, without arguments."""


@task()
def answer() -> int:
    """Return a number."""
    return 42


@task
def raises_value_error() -> None:
    """Fail."""
    raise ValueError("it failed with a ValueError")


@task
def raises_system_exit() -> None:
    """Fail worse."""
    raise SystemExit("it failed with a SystemExit")


@task
def complex_error() -> None:
    """Fail with what no JSON is."""
    raise ValueError(ValueError("inside"))


@task
def complex_value() -> Any:
    """Return what no JSON is."""
    return {"when": object()}


@task(takes_context=True)
def own_id(context: Any) -> str:
    """Return the id of its result."""
    return str(context.task_result.id)


@task(takes_context=True)
def looks(context: Any, number: int) -> None:
    """Look at its context."""
    assert isinstance(number, int)
    assert context.attempt == 1
