"""What people type, turned into what the client takes."""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

_UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|[smhdw]?)")


def duration(text: str | float) -> float:
    """Read ``90``, ``90s``, ``5m``, ``2h``, ``1d`` or ``1h30m`` as seconds."""
    parts = _DURATION.findall(str(text))
    if not parts or "".join(n + u for n, u in parts) != str(text).replace(" ", "") or _bare_number_among(parts):
        raise typer.BadParameter(f"{text!r} is not a duration; write 90, 90s, 5m, 2h or 1d")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def _bare_number_among(parts: list[tuple[str, str]]) -> bool:
    return len(parts) > 1 and any(not unit for _, unit in parts)


def instant(text: str | datetime) -> datetime:
    """Read an ISO 8601 instant with its zone; a time without one could mean anything."""
    if isinstance(text, datetime):
        return text
    try:
        value = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not an ISO 8601 instant, such as 2030-01-31T08:00:00+01:00") from None
    if value.utcoffset() is None:
        raise typer.BadParameter(f"{text!r} names no time zone; end it in Z or +01:00")
    return value.astimezone(UTC)


def payload(words: Sequence[str]) -> Any:
    """Read a payload: one JSON value, ``-`` for JSON on standard input, or ``key=value`` words.

    The value of a word is JSON where it can be, else text: ``count=3`` is a number, ``count='"3"'`` is text.
    """
    if not words:
        return None
    if len(words) == 1 and (words[0] == "-" or not _is_pair(words[0])):
        text = sys.stdin.read() if words[0] == "-" else words[0]
        return json_value(text, what="the payload")
    pairs: dict[str, Any] = {}
    for word in words:
        if not _is_pair(word):
            raise typer.BadParameter(f"{word!r} is not key=value; or give the whole payload as one JSON value")
        key, _, value = word.partition("=")
        if key in pairs:
            raise typer.BadParameter(f"{key!r} is given twice")
        pairs[key] = _loose(value)
    return pairs


def weighted(text: str) -> tuple[str, int | None]:
    """Read ``mail`` or ``mail,3``: a queue, and its weight if it has one."""
    name, comma, weight = text.rpartition(",")
    return (name, int(weight)) if comma and weight.isdecimal() else (text, None)


def reserved(text: str) -> tuple[str, int]:
    """Read ``mail=2``: a queue, and how many slots are for it alone."""
    name, _, slots = text.rpartition("=")
    if not name or not slots.isdecimal():
        raise typer.BadParameter(f"{text!r} is not a queue and a number of slots; write mail=2")
    return name, int(slots)


def json_value(text: str, *, what: str) -> Any:
    """Read JSON."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise typer.BadParameter(f"{what} is not JSON: {error}") from None


def _is_pair(word: str) -> bool:
    return re.match(r"[^\W\d]\w*=", word) is not None


def _loose(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
