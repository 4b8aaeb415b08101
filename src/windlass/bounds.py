"""What a call or its task may say of a job's terms, checked at the door.

Rule: a call goes before its task, term by term. What nobody has said costs nothing: no terms are stored then.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, TypeAlias

import msgspec

from windlass.errors import ConfigurationError
from windlass.terms import NONE, Terms
from windlass.times import Duration, instant, seconds

Until: TypeAlias = "Duration | datetime"
"""A duration from the job's creation, or an instant."""
OnCrash: TypeAlias = Literal["retry", "dead"]
Keep: TypeAlias = "bool | Literal[0]"


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """Terms as they were said; ``None`` leaves one to the task, or to what is usual."""

    expires: dict[str, float] | None = None
    """The fields of ``Terms`` that say it."""
    deadline: dict[str, float] | None = None
    on_crash: OnCrash | None = None
    keep: bool | None = None


def bounds_of(
    *,
    expires: Until | None = None,
    deadline: Until | None = None,
    on_crash: OnCrash | None = None,
    keep: Keep | None = None,
) -> Bounds | None:
    """Check what was said; ``None``: nothing was.

    Raises:
        ConfigurationError: one of them cannot be right.
    """
    if expires is None and deadline is None and on_crash is None and keep is None:
        return None
    if on_crash not in (None, "retry", "dead"):
        raise ConfigurationError(f"on_crash must be 'retry' or 'dead', not {on_crash!r}")
    return Bounds(
        expires=None if expires is None else _until("expires", expires),
        deadline=None if deadline is None else _until("deadline", deadline),
        on_crash=on_crash,
        keep=None if keep is None else _keep(keep),
    )


def resolve(call: Bounds | None, task: Bounds | None) -> Terms:
    """Return the terms of a job: call before task."""
    if call is None and task is None:
        return NONE
    said: dict[str, Any] = {}
    for bounds in (task, call):
        if bounds is None:
            continue
        for name in ("expires", "deadline"):
            until = getattr(bounds, name)
            if until is not None:
                said.pop(name, None)
                said.pop(f"{name}_at", None)
                said.update(until)
        if bounds.on_crash is not None:
            said["on_crash"] = bounds.on_crash
        if bounds.keep is not None:
            said["keep"] = bounds.keep
    return Terms(**said)


def check_start(terms: Terms, delay: float | None, run_at: float | None, *, task: str) -> None:
    """Refuse a job that could not start before it has expired or missed its deadline.

    Raises:
        ConfigurationError: it could not.
    """
    for name in ("expires", "deadline"):
        after, at = getattr(terms, name), getattr(terms, f"{name}_at")
        if (delay and after is not None and delay >= after) or (run_at is not None and at is not None and run_at >= at):
            raise ConfigurationError(f"{name}: a job of task {task!r} would be over before it is to start")


def _until(name: str, value: Any) -> dict[str, float]:
    if isinstance(value, datetime):
        return {f"{name}_at": instant(value, name=name)}
    length = seconds(value, name=name)
    if not length:
        raise ConfigurationError(f"{name} must be above 0")
    return {name: length}


def _keep(value: Any) -> bool:
    if value not in (0, False, True) or isinstance(value, float):
        raise ConfigurationError(f"keep must be True, or False (or 0) for no trace of a completed job, not {value!r}")
    return bool(value)
