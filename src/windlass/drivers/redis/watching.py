"""What is observed, on Redis: journals, sums, groups of failures, and orders to workers.

A journal is a sorted set of its entries by number. Of the dead, a set for each fingerprint has their ids.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from windlass.drivers.base import FAULTS, SELF, Entry, Fault
from windlass.drivers.redis.database import Database

if TYPE_CHECKING:
    from collections.abc import Mapping

    from windlass.drivers.redis.wire import Word

GROUPS = 1000
"""Groups of failures that are looked at: those that somebody joined last."""
AT_ONCE = 1000
"""Sums that one script adds to."""
_ENTRY = struct.Struct("<dd")


class Watching(Database):
    """The part of the driver that observes."""

    def write(self, journal: str, body: bytes, *, keep: int, number: int | None = None) -> int | None:
        """Add an entry to a journal."""
        self.check_open()
        written = self.run("write_entry", journal, body, keep, "" if number is None else number)
        return None if written is None else int(written)

    def entries(self, journal: str, limit: int, before: int | None = None) -> list[Entry]:
        """Return entries of a journal, the newest first."""
        self.check_open()
        high = "+inf" if before is None else f"({before}"
        rows = self.clients.ask("ZREVRANGEBYSCORE", self.key(f"journal:{journal}"), high, "-inf", "LIMIT", 0, limit)
        found = [(*_ENTRY.unpack_from(row), row[_ENTRY.size :]) for row in rows]
        return [Entry(int(number), at, body) for number, at, body in found]

    def measure(self, additions: Mapping[str, int]) -> None:
        """Add to sums."""
        self.check_open()
        words: list[Word] = [word for pair in additions.items() for word in pair]
        for start in range(0, len(words), 2 * AT_ONCE):
            self.run("measure", *words[start : start + 2 * AT_ONCE])

    def measures(self) -> dict[str, int]:
        """Return the sums."""
        self.check_open()
        flat = self.clients.ask("HGETALL", self.key("sum"))
        return {name.decode(): int(value) for name, value in zip(flat[::2], flat[1::2], strict=True)}

    def faults(self, limit: int) -> list[Fault]:
        """Return the groups of failures."""
        self.check_open()
        self.table.load()
        rows = self.run("faults", GROUPS, FAULTS, *self.table.numbers())
        found = [
            Fault(fingerprint=name.decode(), dead=min(dead, FAULTS + 1), retrying=retrying, newest=int(newest))
            for name, dead, retrying, newest in rows
        ]
        return sorted(found, key=lambda fault: -fault.newest)[:limit]

    def order(self, worker_id: str, order: int) -> bool:
        """Send a worker an order."""
        self.check_open()
        return bool(self.run("order", worker_id, SELF, order))
