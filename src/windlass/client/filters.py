"""Which jobs are meant: what users say, checked and turned into what drivers take."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypedDict

from windlass.drivers.base import Filter
from windlass.errors import (
    ConfigurationError,
)
from windlass.fingerprint import is_fingerprint
from windlass.job import FINISHED, Status
from windlass.times import instant

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime


class Filters(TypedDict, total=False):
    """Which jobs: the filters of :meth:`Client.jobs`; every given one must match."""

    status: str | Status | Collection[str | Status] | None
    queue: str | None
    task: str | None
    tag: str | None
    origin: str | None
    batch: int | None
    worker: str | None
    error: str | type[BaseException] | None
    created_after: datetime | None
    created_before: datetime | None
    started_before: datetime | None


def select(
    *,
    status: str | Status | Collection[str | Status] | None = None,
    queue: str | None = None,
    task: str | None = None,
    tag: str | None = None,
    origin: str | None = None,
    batch: int | None = None,
    worker: str | None = None,
    error: str | type[BaseException] | None = None,
    created_after: datetime | None = None,
    created_before: datetime | None = None,
    started_before: datetime | None = None,
) -> Filter:
    """Check the filters and turn them into a driver's."""
    if isinstance(error, type):
        cls = error
        error = (
            cls.__qualname__ if cls.__module__ in ("builtins", "__main__") else f"{cls.__module__}.{cls.__qualname__}"
        )
    texts = {"queue": queue, "task": task, "tag": tag, "origin": origin, "worker": worker, "error": error}
    for name, value in texts.items():
        if value is not None:
            check_text(name, value)
    is_print = error is not None and is_fingerprint(error)
    if batch is not None and not whole(batch):
        raise ConfigurationError(f"batch must be a whole number, not {batch!r}")
    return Filter(
        statuses=check_statuses(status),
        queue=queue,
        task=task,
        tag=tag,
        origin=origin,
        batch=None if batch is None else check_id(batch),
        worker=worker,
        error=None if is_print else error,
        fingerprint=error if is_print else None,
        created_after=None if created_after is None else instant(created_after, name="created_after"),
        created_before=None if created_before is None else instant(created_before, name="created_before"),
        started_before=None if started_before is None else instant(started_before, name="started_before"),
    )


def check_text(name: str, value: Any) -> str:
    """Check that a value is text that every store can compare with: no U+0000, no half of a surrogate pair."""
    if not isinstance(value, str) or not _storable(value):
        raise ConfigurationError(f"{name} must be text without U+0000 and lone surrogates, not {value!r}")
    return value


def _storable(value: str) -> bool:
    return "\0" not in value and not any("\ud800" <= character <= "\udfff" for character in value)


def known_key(key: Any) -> bool:
    """Whether a job may have this idempotency key."""
    return isinstance(key, str) and _storable(key)


def whole(value: Any) -> bool:
    """Whether a value is a whole number, and not a bool."""
    return isinstance(value, int) and not isinstance(value, bool)


def check_id(value: Any) -> int:
    """Check a job's id; one that no store can hold becomes 0, which no job has."""
    if not whole(value):
        raise TypeError(f"a job's id is a whole number, not {value!r}")
    return value if -(1 << 63) <= value < 1 << 63 else 0


def check_statuses(
    status: str | Status | Collection[str | Status] | None, *, purge: bool = False
) -> tuple[Status, ...]:
    """Turn a status or several into what drivers take; ``failed`` means retrying and dead."""
    if status is None:
        return ()
    names: Iterable[str | Status] = (status,) if isinstance(status, str) else status
    if not isinstance(names, Iterable):
        raise ConfigurationError(
            f"status must be one or several of {', '.join(s.value for s in Status)}, not {status!r}"
        )
    found: list[Status] = []
    for name in names:
        if name == "failed" and not purge:
            found += [Status.RETRYING, Status.DEAD]
            continue
        try:
            found.append(Status(name))
        except ValueError:
            hint = "; 'failed' is ambiguous here: say 'dead'" if name == "failed" else ""
            known = ", ".join(s.value for s in Status)
            raise ConfigurationError(f"{name!r} is not a status ({known}){hint}") from None
    if purge and (wrong := [s for s in found if s not in FINISHED]):
        raise ConfigurationError(f"only finished jobs can be purged, not {wrong[0].value} ones")
    return tuple(dict.fromkeys(found))
