"""Keeping an application's own threads from using a connection that a test is about to break."""

import math

from windlass import Windlass


def ask_nobody(app: Windlass) -> None:
    """Keep the thread that publishes from asking whether anybody listens: what breaks would be its call."""
    app.publisher.told(heard=False)
    app.publisher._stale_at = math.inf
