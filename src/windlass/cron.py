"""Cron expressions: when a schedule ticks.

Theory: an expression names wall-clock times; `cronsim`_ enumerates them, and this module says which instants they are.
It asks cronsim about times without a zone only, so that nothing depends on how a library walks over a change of clocks.

Rules at such a change, those of Debian's cron:

* An expression is *fixed* when there is no ``*`` in its hour, minute and (if it has one) second. A fixed time that the
  clocks skip runs at the end of the gap; all times in one gap are one tick. One that comes twice runs the first time.
* Any other is a *wildcard* and follows real time: an instant is a tick exactly if its local time fits. Skipped times do
  not run, repeated ones run twice, and ``*/10 * * * *`` ticks every ten minutes whatever the clocks do.

Instants are epoch seconds.

.. _cronsim: https://github.com/cuu508/cronsim
"""

from __future__ import annotations

import copy
import math
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from windlass.errors import ConfigurationError

ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
FIELDS = ("second", "minute", "hour", "day of month", "month", "day of week")
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - wall-clock times have no zone here
_START = datetime(2000, 1, 1)  # noqa: DTZ001
_LONGEST_MONTH = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_NEAR = 2 * 86400
"""Seconds; longer than any two offsets of a zone are apart, and shorter than what lies between two changes."""


class Cron:
    """A checked expression in a time zone.

    Args:
        text: five fields (minute, hour, day of month, month, day of week), six with seconds before them, or ``@daily``
            and its like. Fields take ``*``, numbers, names (``JAN``, ``MON``), ranges, lists, steps (``*/5``, ``8-18/2``,
            ``3/10`` = from 3 on), ``L`` and ``LW`` as day of month (the last day, the last from Monday to Friday),
            ``5L`` (the last Friday) and ``MON#2`` (the second Monday) as day of week, where 0 and 7 are Sunday.
        timezone: an IANA name.
        and_days: days must fit both the day of month and the day of week. Without it, as in cron, one is enough when
            both are restricted, that is when neither begins with ``*``.

    Raises:
        ConfigurationError: it cannot be read, there is no such zone, or it would never tick.
    """

    __slots__ = ("_sim", "and_days", "fixed", "text", "timezone", "zone")

    def __init__(self, text: str, *, timezone: str = "UTC", and_days: bool = False) -> None:
        self.text = " ".join(_text(text).split())
        self.timezone = timezone
        self.and_days = and_days
        self.zone = zone_of(timezone)
        fields = _fields(self.text)
        self.fixed = not any("*" in field for field in fields[:3])
        self._sim = _parsed(self.text, fields)
        if and_days:
            self._sim.day_and = True
        if next(copy.copy(self._sim), None) is None:
            raise ConfigurationError(f"the schedule {self.text!r} would never run: {self._why_never()}")

    def __repr__(self) -> str:
        """Show the expression."""
        return f"<Cron {self.text!r} {self.timezone}>"

    def next(self, after: float) -> float | None:
        """Return the first tick after an instant; ``None`` when there is none within fifty years."""
        return self._next_fixed(math.floor(after)) if self.fixed else self._next_real(math.floor(after))

    def _next_fixed(self, after: int) -> float | None:
        wall = _wall(after, self.zone)
        # A time of the first pass is behind us in the second, and one in a gap when its end has come.
        while (match := self._match(wall)) is not None and (found := _instant(match, self.zone)) <= after:
            wall = match
        return None if match is None else float(found)

    def _next_real(self, after: int) -> float | None:
        """Go from one stretch of time with one offset to the next; in each, instants and wall-clock run alike."""
        at, wall = after, _wall(after, self.zone)
        while (match := self._match(wall)) is not None:
            offset = _offset(at, self.zone)
            found = _seconds(match) - offset
            change = _change(at, min(found, at + _NEAR), self.zone)
            if change is not None:
                at, wall = change, _wall(change, self.zone) - timedelta(seconds=1)
            elif found <= at + _NEAR:
                return float(found)
            else:  # nothing can fit before that, whatever the clocks do on the way
                at = found - _NEAR
                wall = _wall(at, self.zone)
        return None

    def _match(self, wall: datetime) -> datetime | None:
        """Return the next wall-clock time that fits."""
        sim = copy.copy(self._sim)
        sim.dt = wall
        return next(sim, None)

    def _why_never(self) -> str:
        sim = self._sim
        days = [day for day in sim.days if day > 0]
        longest = max(_LONGEST_MONTH[month - 1] for month in sim.months)
        if days and len(days) == len(sim.days) and min(days) > longest and sim.day_and:
            return f"none of its months has a day {min(days)}"
        return "no date fits it within fifty years"


@lru_cache(maxsize=1024)
def cron(text: str, timezone: str = "UTC", *, and_days: bool = False) -> Cron:
    """Return a checked expression; the same one again costs nothing."""
    return Cron(text, timezone=timezone, and_days=and_days)


def zone_of(name: str) -> ZoneInfo:
    """Return a time zone by its IANA name.

    Raises:
        ConfigurationError: there is none.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, TypeError, OSError):
        raise ConfigurationError(
            f"there is no time zone {name!r} here: use a name like 'Europe/Berlin', and where a system has no zones, "
            "install the package tzdata"
        ) from None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ConfigurationError(f"a schedule is a cron expression such as '0 2 * * *', not {value!r}")
    return value


def _fields(text: str) -> list[str]:
    """Return the six fields of an expression."""
    if text.startswith("@"):
        if text.lower() not in ALIASES:
            known = ", ".join(ALIASES)
            raise ConfigurationError(f"{text!r} is no schedule here; known are {known}, and every= for intervals")
        text = ALIASES[text.lower()]
    fields = text.upper().split()
    if len(fields) not in (5, 6):
        raise ConfigurationError(
            f"the schedule {text!r} has {len(fields)} fields: give five (minute, hour, day of month, month, day of week), "
            "or six with seconds first"
        )
    return ["0", *fields] if len(fields) == 5 else fields


def _parsed(text: str, fields: list[str]) -> CronSim:
    try:
        return CronSim(" ".join(fields), _START)
    except CronSimError:
        pass
    for place, (name, field) in enumerate(zip(FIELDS, fields, strict=True)):
        alone = ["*"] * 6
        alone[place] = field
        try:
            CronSim(" ".join(alone), _START)
        except CronSimError:
            raise ConfigurationError(f"the schedule {text!r} has a bad {name}: {field!r}{_hint(field)}") from None
    raise ConfigurationError(f"the schedule {text!r} would never run: none of its months has a day {fields[3]}")


def _hint(field: str) -> str:
    if "" in field.split(","):
        return "; there is an empty place in the list"
    if "-" in field:
        return "; a range runs upwards, so write 'FRI,SAT,SUN' or '5-7' for Friday to Sunday"
    return ""


# ---------------------------------------------------------------------- wall-clock times and instants


def _wall(at: int, zone: ZoneInfo) -> datetime:
    return datetime.fromtimestamp(at, zone).replace(tzinfo=None, fold=0)


def _seconds(wall: datetime) -> int:
    return (wall - _EPOCH) // timedelta(seconds=1)


def _offset(at: int, zone: ZoneInfo) -> int:
    return _seconds(_wall(at, zone)) - at


def _instant(wall: datetime, zone: ZoneInfo) -> int:
    """Return when clocks show a time: the first of two instants, and the end of the gap for one that they skip."""
    found = _epoch(wall, zone, fold=0)
    if _wall(found, zone) == wall:
        return found
    change = _change(_epoch(wall, zone, fold=1), found, zone)
    return found if change is None else change


def _epoch(wall: datetime, zone: ZoneInfo, *, fold: int) -> int:
    return int(wall.replace(tzinfo=zone, fold=fold).astimezone(UTC).timestamp())


def _change(after: int, until: int, zone: ZoneInfo) -> int | None:
    """Return the instant up to *until* from which on another offset holds than at *after*."""
    before = _offset(after, zone)
    if _offset(until, zone) == before:
        return None
    low, high = after, until
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _offset(middle, zone) == before else (low, middle)
    return high
