"""What ``windlass doctor`` says about Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from windlass.drivers.base import Finding

if TYPE_CHECKING:
    from windlass.drivers.redis.database import Database


def diagnose(database: Database) -> list[Finding]:
    """Look at the server."""
    return []
