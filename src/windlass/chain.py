"""Chains: jobs that follow one another, each enqueued when the one before has completed.

Theory: the first job carries the later ones (:class:`windlass.terms.Link`). The step that completes a job enqueues the
next in the same write, so a chain neither stops half-way nor goes on twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

from windlass.errors import ConfigurationError
from windlass.task import Draft, Task

if TYPE_CHECKING:
    from windlass.task import AnyTask


@final
class _Previous:
    """The result of the step before; the type of ``PREVIOUS``."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "PREVIOUS"


PREVIOUS: Final[Any] = _Previous()
"""Stands for the result of the step before, as an argument of a later step: ``parse.job(PREVIOUS, strict=True)``."""


def chain(first: Draft[Any] | AnyTask, *later: Draft[Any] | AnyTask) -> Draft[Any]:
    """Return a call that is followed by others: ``chain(fetch.job(url), parse.job(PREVIOUS), store).enqueue()``.

    A bare task stands for ``task.job(PREVIOUS)``, the first for ``task.job()``. A step that dies or is cancelled ends the
    chain; retried by hand, it goes on. Each step has its own options, retries and result; in a batch all steps are members.

    Raises:
        ConfigurationError: the first step waits for a step before it, or something is no call of a task.
    """
    draft = first.job() if isinstance(first, Task) else _step(first)
    steps = [*draft.then]
    for one in later:
        step = _step(one)
        steps += [_alone(step), *step.then]
    if previous_of(draft):
        raise ConfigurationError("the first step of a chain has no step before it; PREVIOUS is for later ones")
    return Draft(draft.task, draft.host, draft.options, draft.arguments, draft.payload, then=tuple(steps))


def previous_of(draft: Draft[Any]) -> tuple[str, ...]:
    """Return the parameters that get the result of the step before."""
    if not isinstance(draft.arguments, dict):
        return ()
    return tuple(name for name, value in draft.arguments.items() if value is PREVIOUS)


def _step(one: Draft[Any] | AnyTask) -> Draft[Any]:
    if isinstance(one, Task):
        return one.job(PREVIOUS)
    if not isinstance(one, Draft):
        raise ConfigurationError(f"a step of a chain is task.job(...) or a task, not {one!r}")
    return one


def _alone(draft: Draft[Any]) -> Draft[Any]:
    return Draft(draft.task, draft.host, draft.options, draft.arguments, draft.payload)
