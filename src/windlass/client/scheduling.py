"""What may be said of a schedule, and the checks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypedDict

from windlass import terms
from windlass.errors import ConfigurationError
from windlass.schedule import CATCH_UP, Definition, timing_of
from windlass.settings import MOST, check_name
from windlass.task import Draft, Options, options
from windlass.times import instant, seconds
from windlass.timing import Interval

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from windlass.bounds import Keep, OnCrash, Until
    from windlass.job import NewJob
    from windlass.times import Duration

MISSED = ("latest", "all", "skip")
OVERLAP = ("skip", "allow", "queue")


class TickJobOptions(TypedDict, total=False):
    """The options of the jobs that ticks enqueue, as for ``task.using``."""

    priority: int | None
    max_attempts: int | None
    timeout: Duration | None
    tags: Sequence[str] | None
    origin: str | None
    meta: Mapping[str, Any] | None
    unique: Any
    expires: Until | None
    deadline: Until | None
    on_crash: OnCrash | None
    keep: Keep | None


class ScheduleOptions(TickJobOptions, total=False):
    """The options of ``app.schedule`` and ``app.schedules.add``."""

    every: Duration | None
    anchor: datetime | None
    timezone: str | None
    and_days: bool
    queue: str | Sequence[str] | None
    payload: Any
    missed: Literal["latest", "all", "skip"]
    overlap: Literal["skip", "allow", "queue"] | None
    catch_up: int
    jitter: Duration
    start: datetime | None
    end: datetime | None
    runs: int | None
    version: int


class Resolves(Protocol):
    """What makes jobs of calls."""

    def named(self, name: str, payload: Any, given: Options) -> Draft[Any]:
        """Return a call by name."""

    def new_job(self, draft: Draft[Any]) -> NewJob:
        """Resolve a call."""


def define(app: Resolves, task: str, spec: Any, given: Mapping[str, Any]) -> Definition:
    """Check what is said of a schedule, and return it as it is stored.

    Raises:
        ConfigurationError: it cannot be right, or would never tick.
        PayloadError: the payload does not fit the task.
    """
    unknown = set(given) - set(ScheduleOptions.__annotations__) - {"declared"}
    if unknown:
        raise TypeError(f"a schedule has no option {min(unknown)!r}")
    chosen = options(**{name: given[name] for name in TickJobOptions.__annotations__ if name in given})
    job = app.new_job(app.named(task, given.get("payload"), chosen))
    missed = _choice("missed", given.get("missed", "latest"), MISSED)
    overlap = given.get("overlap")
    # What must not be left out must not be skipped either.
    overlap = overlap if overlap is not None else ("queue" if missed == "all" else "skip")
    definition = Definition(
        **_times(spec, given),
        start=_instant("start", given),
        end=_instant("end", given),
        runs=None if given.get("runs") is None else check_whole("runs", given["runs"], 1, MOST),
        missed=missed,
        overlap=_choice("overlap", overlap, OVERLAP),
        catch_up=check_whole("catch_up", given.get("catch_up", CATCH_UP), 1, 1000),
        jitter=seconds(given.get("jitter", 0), name="jitter"),
        queues=_queues(given.get("queue"), job.queue),
        job=terms.link(job, ()),
        declared=given.get("declared", False),
        version=check_whole("version", given.get("version", 0), 0, MOST),
    )
    _check(definition)
    return definition


def _times(spec: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    every, anchor = given.get("every"), given.get("anchor")
    if spec is not None and every is not None:
        raise ConfigurationError("give a cron expression or every=, not both")
    if isinstance(spec, timedelta | int | float) and not isinstance(spec, bool):
        spec, every = None, spec
    if every is not None:
        if given.get("timezone") is not None or given.get("and_days"):
            raise ConfigurationError("timezone and and_days belong to cron expressions; an interval has anchor=")
        length = seconds(every, name="every")
        begin = 0.0 if anchor is None else instant(anchor, name="anchor")
        Interval(length, begin)
        return {"every": length, "anchor": begin}
    if anchor is not None:
        raise ConfigurationError("anchor belongs to intervals; a cron expression has timezone=")
    if spec is None:
        raise ConfigurationError("say when: a cron expression such as '0 2 * * *', or every=timedelta(minutes=5)")
    zone = given.get("timezone")
    zone = "UTC" if zone is None else zone
    from windlass.cron import Cron  # only schedules need it

    checked = Cron(spec, timezone=getattr(zone, "key", zone), and_days=bool(given.get("and_days")))
    return {"cron": checked.text, "timezone": checked.timezone, "and_days": checked.and_days}


def _check(definition: Definition) -> None:
    """Refuse what would never tick, and ticks that would overtake each other."""
    start, end = definition.start, definition.end
    if start is not None and end is not None:
        first = timing_of(definition).next(start - 1e-6)
        if end < start or first is None or first > end:
            raise ConfigurationError("the schedule would never run: no tick is between its start and its end")
    if definition.every and definition.jitter > definition.every:
        raise ConfigurationError(
            f"jitter ({definition.jitter:g} s) must not be longer than every ({definition.every:g} s)"
        )


def _instant(name: str, given: Mapping[str, Any]) -> float | None:
    value = given.get(name)
    return None if value is None else instant(value, name=name)


def _queues(value: Any, default: str) -> tuple[str, ...]:
    if value is None:
        return (default,)
    names = (value,) if isinstance(value, str) or not isinstance(value, Iterable) else tuple(value)
    if not names or len(set(names)) < len(names):
        raise ConfigurationError(f"queue must name one queue or several different ones, not {value!r}")
    return tuple(check_name("queue", name) for name in names)


def _choice(name: str, value: Any, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ConfigurationError(
            f"{name} must be {', '.join(map(repr, allowed[:-1]))} or {allowed[-1]!r}, not {value!r}"
        )
    return str(value)


def check_whole(name: str, value: Any, least: int, most: int) -> int:
    """Check a whole number."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ConfigurationError(f"{name} must be a whole number from {least} to {most}, not {value!r}")
    return value
