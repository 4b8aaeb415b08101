"""What is observed, in SQLite: journals, sums, groups of failures, and orders to workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from windlass.drivers.base import FAULTS, SELF, Entry, Fault
from windlass.drivers.sqlite.controls import Controls

if TYPE_CHECKING:
    from collections.abc import Mapping

    from windlass.drivers.sqlite.tx import Tx

_END = 1 << 62


class Watching(Controls):
    """The part of the driver that observes."""

    def write(self, journal: str, body: bytes, *, keep: int, number: int | None = None) -> int | None:
        """Add an entry to a journal."""

        def write(tx: Tx) -> int | None:
            [[last]] = tx.connection.execute(self._sql.last_entry, (journal,)).fetchall()
            given = (last or 0) + 1 if number is None else number
            if last is not None and given <= last:
                return None
            tx.run(self._sql.put_entry, journal, given, tx.now, body.decode())
            tx.run(self._sql.trim_journal, journal, journal, keep)
            return given

        return self._write(write)

    def entries(self, journal: str, limit: int, before: int | None = None) -> list[Entry]:
        """Return entries of a journal, the newest first."""
        with self._reading() as connection:
            rows = connection.execute(self._sql.entries, (journal, _END if before is None else before, limit))
            return [Entry(*row) for row in rows]

    def measure(self, additions: Mapping[str, int]) -> None:
        """Add to sums."""
        rows = list(additions.items())
        if rows:
            self._write(lambda tx: tx.connection.executemany(self._sql.add_to_sum, rows))

    def measures(self) -> dict[str, int]:
        """Return the sums."""
        with self._reading() as connection:
            return dict(connection.execute(self._sql.sums).fetchall())

    def faults(self, limit: int) -> list[Fault]:
        """Return the groups of failures: from fingerprint to fingerprint by the index."""
        with self._reading() as connection:
            dead = connection.execute(self._sql.dead_faults, (FAULTS + 1,)).fetchall()
            retrying = connection.execute(self._sql.retrying_faults, (FAULTS,)).fetchall()
        groups = {name: (count, 0, newest) for name, count, newest in dead}
        for name, count, newest in retrying:
            others, _, known = groups.get(name, (0, 0, 0))
            groups[name] = (others, count, max(known, newest))
        found = [Fault(fingerprint=f, dead=d, retrying=r, newest=n) for f, (d, r, n) in groups.items()]
        return sorted(found, key=lambda fault: -fault.newest)[:limit]

    def order(self, worker_id: str, order: int) -> bool:
        """Send a worker an order."""

        def write(tx: Tx) -> bool:
            if tx.connection.execute(self._sql.alive, (worker_id,)).fetchone() is None:
                return False
            tx.run(self._sql.insert_signal, worker_id, SELF, order, True)
            tx.wake()
            return True

        return self._write(write)
