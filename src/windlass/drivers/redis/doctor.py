"""What ``windlass doctor`` says about Redis."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from windlass.drivers.base import Finding
from windlass.drivers.redis import durability
from windlass.errors import StoreError

if TYPE_CHECKING:
    from windlass.drivers.redis.database import Database

FULL = 0.8
"""The part of ``maxmemory`` in use from which on it is worth a warning."""
ASKEW = 2.0
"""Seconds by which the server's clock may differ from ours before it is worth a note."""


def diagnose(database: Database) -> list[Finding]:
    """Look at the server and at our keys."""
    found = durability.findings(database)
    try:
        told = durability.info(database, "server", "memory", "stats")
    except StoreError:
        return found
    version = told.get("valkey_version") or told.get("redis_version", "unknown")
    kind = "Valkey" if "valkey_version" in told else "Redis"
    found = [Finding(name="server", value=f"{kind} {version}, {_mode(database)}"), *found]
    return [*found, _memory(told), _evicted(told), _clock(database), _mended(database)]


def _mode(database: Database) -> str:
    return "cluster" if database.connector.clustered else "one master"


def _memory(told: dict[str, str]) -> Finding:
    used, most = int(told.get("used_memory", 0)), int(told.get("maxmemory", 0))
    value = f"{used / 1e6:.0f} MB" + (f" of {most / 1e6:.0f} MB" if most else "")
    full = most > 0 and used > FULL * most
    advice = "enqueue fails when it is full: raise maxmemory, or keep finished jobs for a shorter time" if full else ""
    return Finding(name="memory", value=value, level="warning" if full else "ok", advice=advice)


def _evicted(told: dict[str, str]) -> Finding:
    evicted = int(told.get("evicted_keys", 0))
    advice = "jobs may be among them; set maxmemory-policy to noeviction" if evicted else ""
    return Finding(name="evicted keys", value=str(evicted), level="warning" if evicted else "ok", advice=advice)


def _clock(database: Database) -> Finding:
    seconds, micros = database.clients.ask("TIME")
    apart = int(seconds) + int(micros) / 1e6 - time.time()
    askew = abs(apart) > ASKEW
    advice = "only the server's clock counts; log lines of both will not fit together" if askew else ""
    return Finding(name="clock difference", value=f"{apart:+.1f} s", level="note" if askew else "ok", advice=advice)


def _mended(database: Database) -> Finding:
    mended = int(database.clients.ask("HGET", database.meta, "mended") or 0)
    advice = "they stood in no index: keys were evicted or lost at a failover" if mended else ""
    return Finding(name="jobs put back", value=str(mended), level="warning" if mended else "ok", advice=advice)
