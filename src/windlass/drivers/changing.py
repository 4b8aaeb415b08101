"""Changing jobs without a lock while somebody decides: read, decide, write where nothing has moved, and again."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from windlass.errors import ConnectionLostError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from windlass.drivers.base import Changed

SOON = 3
"""Tries that follow each other at once."""


def until_made(
    ids: Collection[int],
    attempt: Callable[[Sequence[int], dict[int, Changed]], None],
    *,
    tries: int,
    pause: float = 0.0,
) -> list[Changed]:
    """Return what became of each job, in order; *attempt* notes those that it could decide about.

    *pause* = seconds between later tries at most, in which those who move the jobs get done.

    Raises:
        ConnectionLostError: they are moved faster than they can be read.
    """
    wanted = list(dict.fromkeys(ids))
    made: dict[int, Changed] = {}
    for tried in range(tries):
        left = [job_id for job_id in wanted if job_id not in made]
        if not left:
            break
        if pause and tried >= SOON:
            time.sleep(random.uniform(0, pause))  # noqa: S311 - no secret
        attempt(left, made)
    else:
        raise ConnectionLostError("these jobs change faster than they can be read; try again")
    return [made[job_id] for job_id in ids]
