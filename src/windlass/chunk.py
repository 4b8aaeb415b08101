"""Chunks: many waiting jobs of one task, handed to one call.

Each job is enqueued, retried, cancelled and shown by itself; only the call is common. So a task can write a thousand
rows at once although each was asked for alone.
"""

from __future__ import annotations

from typing import Any

from windlass.errors import ConfigurationError
from windlass.times import Duration, seconds

LARGEST = 10_000


class Chunk:
    """At most *most* jobs in one call, after waiting at most *wait* for so many.

    Args:
        most: a whole number, from 1 to 10,000.
        wait: how long the first job may wait for others; 0 = take those that wait already.
    """

    __slots__ = ("most", "wait")

    def __init__(self, most: int, *, wait: Duration = 0.0) -> None:
        self.most = _most(most)
        self.wait = seconds(wait, name="wait")

    def __repr__(self) -> str:
        """Show it as it is spelt."""
        return f"Chunk({self.most}, wait={self.wait:g})"


def chunk_of(value: Any) -> Chunk | None:
    """Read the option ``chunk=``: a number, or ``Chunk(...)``.

    Raises:
        ConfigurationError: it is something else.
    """
    if value is None or isinstance(value, Chunk):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return Chunk(value)
    raise ConfigurationError(f"chunk must be a number of jobs or Chunk(...), not {value!r}")


def _most(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LARGEST:
        raise ConfigurationError(f"a chunk has from 1 to {LARGEST} jobs, not {value!r}")
    return value
