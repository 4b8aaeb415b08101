"""What is observed, on PostgreSQL: journals, sums, groups of failures, and orders to workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from windlass.drivers.base import FAULTS, SELF, Entry, Fault
from windlass.drivers.postgres.managing import Managing
from windlass.drivers.postgres.reads import plan

if TYPE_CHECKING:
    from collections.abc import Mapping

_END = (1 << 63) - 1


class Watching(Managing):
    """The part of the driver that observes."""

    def write(self, journal: str, body: bytes, *, keep: int, number: int | None = None) -> int | None:
        """Add an entry to a journal."""
        text = body.decode()
        if number is not None:
            rows = self._rows(self.sql.put_entry, journal, number, text, number, journal, journal, journal, keep - 1)
            return rows[0][0] if rows else None
        while True:  # somebody else may take the number; then it was their turn
            rows = self._rows(self.sql.append_entry, journal, journal, text, journal, journal, keep - 1)
            if rows:
                found: int = rows[0][0]
                return found

    def entries(self, journal: str, limit: int, before: int | None = None) -> list[Entry]:
        """Return entries of a journal, the newest first."""
        rows = self._rows(self.sql.entries, journal, _END if before is None else before, limit)
        return [Entry(*row) for row in rows]

    def measure(self, additions: Mapping[str, int]) -> None:
        """Add to sums, in the order of their names: so nobody waits for somebody who waits for him."""
        if additions:
            names = sorted(additions)
            self._do(self.sql.add_to_sums, names, [additions[name] for name in names])

    def measures(self) -> dict[str, int]:
        """Return the sums."""
        return dict(self._rows(self.sql.sums))

    def faults(self, limit: int) -> list[Fault]:
        """Return the groups of failures: from fingerprint to fingerprint by the index."""
        with self.clients.lend() as connection, connection.transaction():
            plan(connection)
            dead = connection.execute(self.sql.dead_faults, (FAULTS + 1,)).fetchall()
            retrying = connection.execute(self.sql.retrying_faults, (FAULTS, FAULTS)).fetchall()
        groups = {name: (count, 0, newest) for name, count, newest in dead}
        for name, count, newest in retrying:
            others, _, known = groups.get(name, (0, 0, 0))
            groups[name] = (others, count, max(known, newest))
        found = [Fault(fingerprint=f, dead=d, retrying=r, newest=n) for f, (d, r, n) in groups.items()]
        return sorted(found, key=lambda fault: -fault.newest)[:limit]

    def order(self, worker_id: str, order: int) -> bool:
        """Send a worker an order."""
        with self.clients.lend() as connection, connection.transaction():
            row = connection.execute(self.sql.order, (worker_id, SELF, order)).fetchone()
            connection.execute(self.sql.ring)
        return row is not None and row[0] > 0
