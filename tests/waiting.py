"""Waiting for conditions, with a deadline."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(predicate: Callable[[], T], *, timeout: float = 45.0, every: float = 0.02) -> T:
    """Return the first true answer of *predicate*; fail when there is none in time."""
    deadline = time.monotonic() + timeout
    while not (answer := predicate()):
        if time.monotonic() > deadline:
            raise AssertionError(f"still not so after {timeout:g} s: {predicate}")
        time.sleep(every)
    return answer
