"""Gates and unique keys by hand: set, drop and look."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from windlass.drivers.base import Passage
from windlass.drivers.redis.database import Database
from windlass.drivers.redis.reads import Reader
from windlass.job import Gate
from windlass.limits import WIDE, free_at

if TYPE_CHECKING:
    from collections.abc import Collection

    from windlass.job import Record

MOST = 1000
"""Gates told of at once."""
_ROW = struct.Struct("<dddddBB")


class Gates(Database):
    """What a driver does with gates beside its turns."""

    def set_gate(self, gate: Gate, *, pinned: bool) -> None:
        """Make or change a gate; those that run already have passed a new one of a whole queue or task."""
        wide = gate.key.startswith(WIDE)
        row = _ROW.pack(gate.most, gate.per, gate.burst, gate.weight, 0.0, pinned, 0)
        self.run("set_gate", gate.key, row, int(pinned), int(wide), int(wide and not gate.per))

    def drop_gate(self, key: str) -> bool:
        """Forget what was set."""
        return bool(self.run("drop_gate", key, int(key.startswith(WIDE))))

    def passages(self, keys: Collection[str] | None = None) -> list[Passage]:
        """Return the gates that are known; of more than a thousand, some thousand."""
        if keys is None:
            found = self.run("passages", 1, MOST)
        elif keys:
            found = self.run("passages", 0, *sorted(set(keys))[:MOST])
        else:
            found = []
        rows = zip(found[::4], found[1::4], found[2::4], found[3::4], strict=True)
        return sorted((_passage(*row) for row in rows), key=lambda passage: passage.gate.key)

    def holders(self, key: str, limit: int) -> list[int]:
        """Return who runs behind a limit."""
        return sorted(int(job_id) for job_id in self.clients.ask("SMEMBERS", self.key(f"used:{key}")))[:limit]

    def blocked_by(self, job_id: int) -> str | None:
        """Return the gate that a pending job waits before."""
        found = self.run("blocked", job_id)
        return None if found is None else found.decode()

    def holder(self, key: str) -> Record | None:
        """Return the job that has a unique key now."""
        self.check_open()
        found = self.run("holder", key)
        records = [] if found is None else Reader(self).records([int(found)])
        return records[0] if records else None


def _passage(key: bytes, row: bytes, used: int, blocked: int) -> Passage:
    most, per, burst, weight, arrival, pinned, _ = _ROW.unpack(row)
    gate = Gate(key.decode(), most if per else int(most), per, burst, weight)
    opens: Any = free_at(gate, arrival) if per else None
    return Passage(gate=gate, pinned=bool(pinned), used=used, blocked=blocked, free_at=opens)
