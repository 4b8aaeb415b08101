"""Stretches of our own code in which a handler's thread is not interrupted.

The thread lane insists by raising an exception in the handler's thread, at whatever line it is. In the middle of a hand-over
between threads that would leave a lock held for ever, so such code holds the thread's shield. Whoever wants to interrupt
must get hold of it first, or leaves word: then the exception is raised when the shield is put down.
"""

from __future__ import annotations

import ctypes
import threading
from contextlib import AbstractContextManager, nullcontext


class _Shield:
    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.wanted: type[BaseException] | None = None

    def __enter__(self) -> None:
        self.lock.acquire()

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.lock.release()
        if self.wanted is not None and kind is None:
            wanted, self.wanted = self.wanted, None
            raise wanted


_shields: dict[int, _Shield] = {}
_NONE: AbstractContextManager[object] = nullcontext()


def enlist() -> None:
    """Give the calling thread a shield, because it may be interrupted from here on."""
    _shields[threading.get_ident()] = _Shield()


def dismiss() -> None:
    """Forget the calling thread's shield, and whatever was about to be raised in it."""
    ident = threading.get_ident()
    _shields.pop(ident, None)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), None)


def mine() -> AbstractContextManager[object]:
    """Return the calling thread's shield, to be held; threads that nobody interrupts need none."""
    return _shields.get(threading.get_ident(), _NONE)


def strike(ident: int, error: type[BaseException]) -> bool:
    """Raise *error* in a thread, at once or when its shield goes down. False: the latter, so better ask again."""
    shield = _shields.get(ident)
    if shield is None:
        return True
    if not shield.lock.acquire(blocking=False):
        shield.wanted = error
        return False
    try:
        shield.wanted = None
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(error))
    finally:
        shield.lock.release()
    return True
