"""Stretches of our own code in which a handler's thread is not interrupted.

The thread lane insists by raising an exception in the handler's thread, at whatever line it is. In the middle of a hand-over
between threads that would leave a lock held for ever, so such code holds the thread's shield, and whoever wants to
interrupt must get hold of it first.
"""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, nullcontext

_shields: dict[int, threading.RLock] = {}
_NONE: AbstractContextManager[object] = nullcontext()


def enlist() -> None:
    """Give the calling thread a shield, because it may be interrupted."""
    _shields[threading.get_ident()] = threading.RLock()


def dismiss() -> None:
    """Forget the calling thread's."""
    _shields.pop(threading.get_ident(), None)


def mine() -> AbstractContextManager[object]:
    """Return the calling thread's shield, to be held; threads that nobody interrupts need none."""
    return _shields.get(threading.get_ident(), _NONE)


def lower(ident: int) -> threading.RLock | None:
    """Take a thread's shield for a moment; ``None`` while it is up. The caller releases it."""
    shield = _shields.get(ident)
    if shield is None:
        return None
    return shield if shield.acquire(blocking=False) else None
