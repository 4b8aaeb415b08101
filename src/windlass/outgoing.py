"""A job on its way to the store, as ``around_enqueue`` hooks see it: they may change it, or refuse it."""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from windlass.task import options
from windlass.times import moment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from windlass.client.handle import Handle
    from windlass.job import Job
    from windlass.task import Draft

CHANGEABLE = (
    "queue",
    "priority",
    "max_attempts",
    "timeout",
    "delay",
    "run_at",
    "tags",
    "origin",
    "meta",
    "correlation_id",
)

EnqueueHook: TypeAlias = "Callable[[Outgoing], AbstractContextManager[Any]]"


class Outgoing:
    """What is about to be enqueued: by the call's options, else the task's, else the application's.

    A hook may set ``queue``, ``priority``, ``max_attempts``, ``timeout``, ``delay`` (or ``run_at``), ``tags``, ``origin``,
    ``meta`` and ``correlation_id``; they are checked like options. The arguments are there to look at.
    """

    __slots__ = ("_before", "_draft", "job", *CHANGEABLE)

    def __init__(self, draft: Draft[Any], app: Handle) -> None:
        task, given = app.find_task(draft.task), draft.options
        self._draft = draft
        self.job: Job | None = None
        """The job, once it is stored."""
        self.queue: str = given.queue or (task.queue if task else None) or app.settings.queue
        self.priority: int = given.priority if given.priority is not None else (task.priority if task else 0)
        self.max_attempts: int = (
            given.max_attempts or (task.max_attempts if task else None) or app.settings.max_attempts
        )
        self.timeout: Any = given.timeout if given.timeout is not None else (task.timeout if task else None)
        self.delay: Any = given.delay
        self.run_at: Any = moment(given.run_at)
        self.tags: list[str] = list(given.tags if given.tags is not None else (task.tags if task else ()))
        self.origin = given.origin
        self.meta: dict[str, Any] = dict(given.meta or {})
        self.correlation_id = given.correlation_id
        self._before = {name: copy.deepcopy(getattr(self, name)) for name in CHANGEABLE}

    def __repr__(self) -> str:
        """Show the task."""
        return f"<Outgoing {self.task}>"

    @property
    def task(self) -> str:
        """The task's name."""
        return self._draft.task

    @property
    def arguments(self) -> Any:
        """What the task is called with, as it was given."""
        draft = self._draft
        return draft.arguments if draft.payload is None else msgspec.json.decode(draft.payload)

    def changed(self) -> Draft[Any]:
        """Return the call with what hooks have set.

        Raises:
            ConfigurationError: one of them cannot be right.
        """
        given = {name: value for name in CHANGEABLE if (value := getattr(self, name)) != self._before[name]}
        if not given:
            return self._draft
        checked = options(**given)
        taken = {name: getattr(checked, name) for name in given}
        if "delay" in given or "run_at" in given:
            taken.update(delay=checked.delay, run_at=checked.run_at)
        draft = copy.copy(self._draft)
        draft.options = msgspec.structs.replace(draft.options, **taken)
        return draft


@contextmanager
def around(
    hooks: Sequence[EnqueueHook], app: Handle, drafts: Sequence[Draft[Any]]
) -> Iterator[tuple[list[Draft[Any]], Callable[[Sequence[Job]], None]]]:
    """Enter the hooks of several calls; yield the calls as the hooks want them, and what is to be told of the jobs.

    What the block raises reaches the hooks, and passes whatever they do.
    """
    outgoing = [Outgoing(draft, app) for draft in drafts]

    def stored(jobs: Sequence[Job]) -> None:
        for one, job in zip(outgoing, jobs, strict=True):
            one.job = job

    failed: BaseException | None = None
    with ExitStack() as stack:
        for one in outgoing:
            for hook in hooks:
                stack.enter_context(hook(one))
        changed = [one.changed() for one in outgoing]
        try:
            yield changed, stored
        except BaseException as error:
            failed = error
            raise
    if failed is not None:
        raise failed
