"""What ``windlass doctor`` says about a SQLite file."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from windlass.drivers.base import Finding
from windlass.drivers.sqlite import schema
from windlass.drivers.sqlite.connect import filesystem

if TYPE_CHECKING:
    from pathlib import Path

_MIB = 1 << 20


def diagnose(connection: sqlite3.Connection, *, path: Path | None, prefix: str, durability: str) -> list[Finding]:
    """Look at the file; cheap but for the quick check, which reads it once."""
    found = [
        Finding(name="SQLite version", value=sqlite3.sqlite_version),
        Finding(name="schema version", value=f"{schema.version(connection, prefix)} (this release: {schema.LATEST})"),
        Finding(name="durability", value=durability),
    ]
    if path is None:
        return [*found, Finding(name="file", value="none: private, in memory", level="note")]
    pages, free, size = (_pragma(connection, name) for name in ("page_count", "freelist_count", "page_size"))
    share = free / pages if pages else 0
    wal = path.with_name(path.name + "-wal")
    wal_size = wal.stat().st_size if wal.exists() else 0
    big_wal = wal_size > 256 * _MIB
    found += [
        Finding(name="file", value=f"{path} on {filesystem(path) or 'an unknown file system'}"),
        Finding(name="size", value=f"{pages * size / _MIB:.1f} MiB"),
        Finding(
            name="free pages",
            value=f"{free} ({share:.0%})",
            level="note" if share > 0.5 and free * size > 64 * _MIB else "ok",
            advice="run VACUUM in a quiet hour to give the room back" if share > 0.5 else "",
        ),
        Finding(
            name="write-ahead log",
            value=f"{wal_size / _MIB:.1f} MiB",
            level="warning" if big_wal else "ok",
            advice="a reader keeps a snapshot open and stops checkpoints: look for a long transaction"
            if big_wal
            else "",
        ),
    ]
    verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    sound = verdict == "ok"
    advice = "" if sound else "keep a copy of the file, then recover it with `sqlite3 FILE .recover`"
    return [*found, Finding(name="integrity", value=verdict, level="ok" if sound else "error", advice=advice)]


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    value: int = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return value
