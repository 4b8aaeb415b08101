"""Schedules in words: ``every weekday at 02:00, Europe/Berlin``.

The common ones are put as people say them; of the others cronsim's own explanation is good enough.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cronsim.explain import Expression

from windlass.cron import ALIASES

if TYPE_CHECKING:
    from collections.abc import Sequence

_UNITS = (("day", 86400.0), ("hour", 3600.0), ("minute", 60.0), ("second", 1.0))
_DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_SHORT_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
_SHORT_MONTHS = ("", *(month[:3].upper() for month in _MONTHS))
_FEW = 4
"""Times of day that are listed at most."""


def interval_in_words(every: float, anchor: str = "") -> str:
    """Put an interval in words; *anchor* is added when it is given."""
    name, size = next(((name, size) for name, size in _UNITS if every % size == 0), ("second", 1.0))
    number = every / size
    words = f"every {name}" if number == 1 else f"every {number:g} {name}s"
    return f"{words}, counted from {anchor}" if anchor else words


def cron_in_words(text: str, timezone: str = "UTC", *, and_days: bool = False) -> str:
    """Put a valid cron expression in words."""
    fields = ALIASES.get(text.lower(), text).upper().split()
    known = _known(fields)
    if known is None:
        expression = Expression(list(fields))
        expression.day_and = expression.day_and or and_days
        words = expression.explain()
        return f"{words[0].lower()}{words[1:]}, {timezone}"
    words, anywhere = known
    return words if anywhere else f"{words}, {timezone}"


def _known(fields: Sequence[str]) -> tuple[str, bool] | None:
    """Return the words of a common expression, and whether they are true in every zone."""
    if len(fields) == 6 and all(field == "*" for field in fields[1:]):
        often = _each(fields[0], "second", 60)
        return None if often is None else (often, True)
    if len(fields) != 5:
        return None
    minute, hour, day, month, weekday = fields
    date = _date(day, month, weekday)
    if date is None:
        return None
    if minute.isdigit() and hour == "*":
        often = "every hour" if int(minute) == 0 else f"every hour at :{int(minute):02}"
        return (often, True) if date == "every day" else (f"{often}, {date}", False)
    steps = _steps(minute, hour)
    if steps is not None:
        return (steps, hour == "*") if date == "every day" else (f"{steps}, {date}", False)
    times = _times(minute, hour)
    return None if times is None else (f"{date} at {times}", False)


def _steps(minute: str, hour: str) -> str | None:
    for field, other, name, whole in ((minute, hour == "*", "minute", 60), (hour, minute == "0", "hour", 24)):
        if other and (often := _each(field, name, whole)) is not None:
            return often
    return None


def _each(field: str, name: str, whole: int) -> str | None:
    """Return the words of ``*`` and of steps that are even over a minute, hour or day."""
    step = "1" if field == "*" else field.removeprefix("*/") if field.startswith("*/") else ""
    if not step.isdigit() or whole % int(step):
        return None
    return f"every {name}" if int(step) == 1 else f"every {int(step)} {name}s"


def _times(minute: str, hour: str) -> str | None:
    minutes, hours = minute.split(","), hour.split(",")
    if not all(part.isdigit() for part in (*minutes, *hours)) or len(minutes) * len(hours) > _FEW:
        return None
    return _listed([f"{h:02}:{m:02}" for h in sorted(map(int, hours)) for m in sorted(map(int, minutes))])


def _date(day: str, month: str, weekday: str) -> str | None:
    if weekday != "*":
        return _weekdays(weekday) if day == month == "*" else None
    months = "every month" if month == "*" else _names(month, _SHORT_MONTHS, ("", *_MONTHS))
    if months is None:
        return None
    if day == "*":
        return "every day" if month == "*" else f"every day in {months}"
    if day == "L":
        return f"on the last day of {months}"
    if not all(part.isdigit() for part in day.split(",")):
        return None
    return f"on the {_listed([_ordinal(int(part)) for part in day.split(',')])} of {months}"


def _weekdays(field: str) -> str | None:
    if field in ("1-5", "MON-FRI"):
        return "every weekday"
    if field in ("0,6", "6,0", "6,7", "SAT,SUN", "SUN,SAT", "6-7"):
        return "every Saturday and Sunday"
    names = _names(field, _SHORT_DAYS, _DAYS)
    return None if names is None else f"every {names}"


def _names(field: str, short: Sequence[str], long: Sequence[str]) -> str | None:
    found = []
    for part in field.split(","):
        if part.isdigit():
            found.append(long[int(part)])
        elif part in short:
            found.append(long[short.index(part)])
        else:
            return None
    return _listed(found)


def _ordinal(number: int) -> str:
    ending = "th" if number in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
