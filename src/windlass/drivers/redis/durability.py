"""What this server may do to jobs: evict them, forget them, or lose the last of them with itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from windlass.drivers.base import Finding
from windlass.errors import StoreError

if TYPE_CHECKING:
    from windlass.drivers.redis.database import Database


def info(database: Database, *sections: str) -> dict[str, str]:
    """Ask the server about itself."""
    found: dict[str, str] = {}
    for section in sections:
        for line in database.clients.ask("INFO", section).decode("utf-8", "replace").splitlines():
            name, colon, value = line.partition(":")
            if colon:
                found[name] = value
    return found


def findings(database: Database) -> list[Finding]:
    """Look at eviction, persistence and replicas; what a managed service does not tell is not guessed."""
    try:
        told = info(database, "memory", "persistence", "replication")
    except StoreError as error:
        return [Finding(name="INFO", value="refused", level="note", advice=f"cannot tell how safe jobs are: {error}")]
    return [_eviction(told), _persistence(database, told), _replicas(told)]


def _eviction(told: dict[str, str]) -> Finding:
    policy = told.get("maxmemory_policy", "unknown")
    if policy.startswith("allkeys"):
        return Finding(
            name="maxmemory-policy",
            value=policy,
            level="warning",
            advice="Redis will throw jobs away when its memory is full; set it to noeviction",
        )
    if policy.startswith("volatile"):
        return Finding(
            name="maxmemory-policy",
            value=policy,
            level="note",
            advice="when its memory is full Redis throws wakes and cancellations away, but no jobs; set it to noeviction",
        )
    return Finding(name="maxmemory-policy", value=policy)


def _persistence(database: Database, told: dict[str, str]) -> Finding:
    if told.get("aof_enabled") == "1":
        return Finding(name="persistence", value="append-only file")
    save = _save_points(database)
    if save is None:
        return Finding(
            name="persistence", value="not told", level="note", advice="CONFIG is not allowed here; ask the service"
        )
    if save:
        return Finding(
            name="persistence",
            value=f"snapshots ({save})",
            level="note",
            advice="a crash loses what came after the last snapshot; set appendonly yes",
        )
    return Finding(
        name="persistence",
        value="none",
        level="warning",
        advice="all jobs are gone when the server restarts; set appendonly yes",
    )


def _save_points(database: Database) -> str | None:
    try:
        found = database.clients.ask("CONFIG", "GET", "save")
    except StoreError:
        return None
    return str(found[1].decode()) if len(found) == 2 else None


def _replicas(told: dict[str, str]) -> Finding:
    return Finding(name="replicas", value=told.get("connected_slaves", "unknown"))
