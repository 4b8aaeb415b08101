"""How long a question to the store may take, for those who ask on behalf of people who look.

A page that somebody watches must not keep a database busy for minutes. Within :func:`at_most` the stores give a listing up
after so many seconds: PostgreSQL by ``statement_timeout``, SQLite by its progress handler, Redis between slices.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

WATCHED = 10.0
"""Seconds that the store gets for what somebody waits for in front of a screen."""
_until: ContextVar[float | None] = ContextVar("windlass_patience", default=None)


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Give listings within the block so many seconds together; then they raise ``QueryTimeoutError``."""
    token = _until.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _until.reset(token)


def left() -> float | None:
    """Return the seconds left, not below 0; ``None``: as many as it takes."""
    until = _until.get()
    return None if until is None else max(0.0, until - time.monotonic())
