"""A slow answer to when a cron expression ticks: minute by minute, with its own reading of the expression."""

from __future__ import annotations

import calendar
import functools
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
MONTHS = ("", "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))


def number(text: str, names: Any = ()) -> int:
    return names.index(text) if text in names else int(text)


@functools.cache
def values(field: str, low: int, high: int, names: Any = ()) -> set[int]:
    found = set()
    for term in field.split(","):
        span, _, step = term.partition("/")
        if span == "*":
            first, last = low, high
        elif "-" in span:
            first, last = (number(end, names) for end in span.split("-"))
        else:
            first = number(span, names)
            last = high if step else first
        found |= set(range(first, last + 1, int(step or 1)))
    return found


class Oracle:
    """Five fields of numbers, names, lists, ranges and steps, ``L`` and ``MON#2``."""

    def __init__(self, text: str, zone: str, *, and_days: bool = False) -> None:
        self.zone = ZoneInfo(zone)
        self.fields = text.split()
        minute, hour, day, month, weekday = self.fields
        self.minutes, self.hours = values(minute, *RANGES[0]), values(hour, *RANGES[1])
        self.months = values(month, *RANGES[3], MONTHS)
        self.either = not and_days and day[0] != "*" and weekday[0] != "*"
        self.fixed = "*" not in minute + hour

    def fits(self, wall: datetime) -> Any:
        return (
            wall.minute in self.minutes
            and wall.hour in self.hours
            and wall.month in self.months
            and (any if self.either else all)((self.day_fits(wall), self.weekday_fits(wall)))
        )

    def day_fits(self, wall: datetime) -> Any:
        field = self.fields[2]
        if field == "L":
            return wall.day == calendar.monthrange(wall.year, wall.month)[1]
        return wall.day in values(field, *RANGES[2])

    def weekday_fits(self, wall: datetime) -> Any:
        field, today = self.fields[4], wall.isoweekday() % 7
        if "#" in field:
            day, which = field.split("#")
            return number(day, DAYS) % 7 == today and (wall.day + 6) // 7 == int(which)
        if field.endswith("L"):
            return int(field[:-1]) % 7 == today and (wall + timedelta(days=7)).month != wall.month
        return today in {day % 7 for day in values(field, *RANGES[4], DAYS)}

    def ticks(self, start: float, end: float) -> Any:
        """Return the ticks of ``[start, end)``, whole minutes both, as epoch seconds."""
        minutes = range(int(start), int(end), 60)
        shown = walls(self.zone, int(start), int(end))
        if not self.fixed:
            return [at for at, wall in zip(minutes, shown, strict=True) if self.fits(wall)]
        found = []
        newest = max(walls(self.zone, int(start) - 26 * 3600, int(start)))
        minute = timedelta(minutes=1)
        for at, wall in zip(minutes, shown, strict=True):
            # What clocks have not shown before: usually one minute, at a gap's end all that were left out.
            if wall <= newest:
                continue
            late, hit = wall, False
            while late > newest:
                hit = hit or self.fits(late)
                late -= minute
            newest = wall
            if hit:
                found.append(at)
        return found


@functools.lru_cache(maxsize=2)
def walls(zone: ZoneInfo, start: int, end: int) -> list[datetime]:
    """Return what the clocks of a zone show at each minute of ``[start, end)``: twenty years are read once for many expressions."""
    return [datetime.fromtimestamp(at, zone).replace(tzinfo=None) for at in range(start, end, 60)]


def changes(zone: str, first: int, last: int) -> list[int]:
    """Return the instants at which the clocks of a zone change, from year *first* to *last*."""
    info = ZoneInfo(zone)
    at = int(datetime(first, 1, 1, tzinfo=UTC).timestamp())
    end = int(datetime(last + 1, 1, 1, tzinfo=UTC).timestamp())
    found = []
    while at < end:
        if offset(at, info) != offset(at + 86400, info):
            low, high = at, at + 86400
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if offset(middle, info) == offset(at, info) else (low, middle)
            found.append(high)
        at += 86400
    return found


def offset(at: float, info: ZoneInfo) -> Any:
    return datetime.fromtimestamp(at, info).utcoffset()
