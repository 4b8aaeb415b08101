"""Durations and instants: ``timedelta``/aware ``datetime`` outside, float seconds inside."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from windlass.errors import ConfigurationError

Duration: TypeAlias = timedelta | float | int
"""A length of time: ``timedelta``, or a number of seconds."""

_LONGEST = 100 * 365 * 86400.0


def seconds(value: Duration, *, name: str) -> float:
    """Convert a duration to seconds.

    Raises:
        ConfigurationError: it is negative, not finite, or longer than a century.
        TypeError: it is not a number or ``timedelta``.
    """
    if isinstance(value, timedelta):
        number = value.total_seconds()
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a timedelta or a number of seconds, not {value!r}")
    else:
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
    if not math.isfinite(number) or not 0 <= number <= _LONGEST:
        raise ConfigurationError(f"{name} must be between 0 and a century, not {value!r}")
    return number


def instant(value: datetime, *, name: str) -> float:
    """Convert an aware ``datetime`` to seconds since the epoch.

    Raises:
        ConfigurationError: it is naive, so nobody can know which instant is meant.
        TypeError: it is not a ``datetime``.
    """
    if not isinstance(value, datetime):
        raise TypeError(f"{name} must be an aware datetime, not {value!r}")
    if value.utcoffset() is None:
        raise ConfigurationError(f"{name} must be an aware datetime (with a tzinfo); {value!r} is naive")
    return value.timestamp()


def moment(value: float | None) -> datetime | None:
    """Convert seconds since the epoch to an aware UTC ``datetime``; ``None`` stays ``None``."""
    return None if value is None else datetime.fromtimestamp(value, UTC)


def span(seconds: float | None) -> str:
    """Show a length of time in its largest sensible unit."""
    if seconds is None:
        return ""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.3g} s"
