"""How values look on a page."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from windlass.times import span

SHOWN = 20_000
"""Characters shown of one value."""


def when(value: datetime | float | None) -> str:
    """Show an instant in UTC, to the second."""
    if value is None:
        return ""
    at = datetime.fromtimestamp(value, UTC) if isinstance(value, int | float) else value.astimezone(UTC)
    return at.strftime("%Y-%m-%d %H:%M:%S")


def pretty(value: Any) -> str:
    """Show JSON on several lines."""
    text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    return text if len(text) <= SHOWN else text[:SHOWN] + "\n… (cut)"


def short(value: Any, most: int = 120) -> str:
    """Show JSON, or text, on one line."""
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    flat = " ".join(text.split())
    return flat if len(flat) <= most else flat[: most - 1] + "…"


def number(value: float | None, digits: int = 0) -> str:
    """Show a number with its thousands apart."""
    return "" if value is None else f"{value:,.{digits}f}"


FILTERS = {"when": when, "pretty": pretty, "short": short, "number": number, "span": span}
