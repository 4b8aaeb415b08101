"""Taking what a listener's thread has put aside."""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Inbox = queue.Queue[bytes] | queue.SimpleQueue[bytes]


def fetch(inbox: Inbox, timeout: float) -> list[bytes]:
    """Return all that has come, waiting at most *timeout* seconds for the first."""
    found = []
    try:
        found.append(inbox.get(timeout=max(0.0, timeout)))
        while True:
            found.append(inbox.get_nowait())
    except queue.Empty:
        return found
