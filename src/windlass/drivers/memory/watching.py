"""What is observed, in memory: journals, sums, groups of failures, and orders to workers."""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, Any

from windlass.drivers.base import FAULTS, SELF, Entry, Fault, Filter, Signal
from windlass.drivers.memory.reads import source
from windlass.fingerprint import cut
from windlass.job import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from windlass.drivers.base import Worker
    from windlass.drivers.memory.store import Store


class Watching:
    """The part of the driver that observes."""

    _workers: dict[str, Worker]
    _write: Callable[[Callable[[Store, float], Any]], Any]

    def __init__(self) -> None:
        self._journals: dict[str, deque[Entry]] = {}
        self._sums: Counter[str] = Counter()

    def write(self, journal: str, body: bytes, *, keep: int, number: int | None = None) -> int | None:
        """Add an entry to a journal."""

        def write(_: Store, now: float) -> int | None:
            entries = self._journals.setdefault(journal, deque())
            last = entries[-1].number if entries else None
            given = (last or 0) + 1 if number is None else number
            if last is not None and given <= last:
                return None
            entries.append(Entry(given, now, body))
            while len(entries) > keep:
                entries.popleft()
            return given

        found: int | None = self._write(write)
        return found

    def entries(self, journal: str, limit: int, before: int | None = None) -> list[Entry]:
        """Return entries of a journal, the newest first."""

        def read(_: Store, __: float) -> list[Entry]:
            newest = reversed(self._journals.get(journal, ()))
            return [entry for entry in newest if before is None or entry.number < before][:limit]

        found: list[Entry] = self._write(read)
        return found

    def measure(self, additions: Mapping[str, int]) -> None:
        """Add to sums."""
        self._write(lambda *_: self._sums.update(additions))

    def measures(self) -> dict[str, int]:
        """Return the sums."""
        found: dict[str, int] = self._write(lambda *_: dict(self._sums))
        return found

    def faults(self, limit: int) -> list[Fault]:
        """Return the groups of failures; all that is dead is walked over, as it is in memory."""

        def read(store: Store, _: float) -> list[Fault]:
            counts = {Status.DEAD: Counter[str](), Status.RETRYING: Counter[str]()}
            newest: dict[str, int] = {}
            for status, most in ((Status.DEAD, None), (Status.RETRYING, FAULTS)):
                for seen, job in enumerate(source(store, Filter(statuses=(status,)))):
                    if seen == most:
                        break
                    if (found := cut(job.error)) is not None:
                        counts[status][found] += 1
                        newest[found] = max(newest.get(found, 0), job.id)
            order = sorted(newest, key=lambda name: -newest[name])[:limit]
            dead, retrying = counts.values()
            return [
                Fault(
                    fingerprint=name,
                    dead=min(dead[name], FAULTS + 1),
                    retrying=retrying[name],
                    newest=newest[name],
                )
                for name in order
            ]

        groups: list[Fault] = self._write(read)
        return groups

    def order(self, worker_id: str, order: int) -> bool:
        """Send a worker an order."""

        def write(store: Store, _: float) -> bool:
            worker = self._workers.get(worker_id)
            if worker is None or worker.status not in ("running", "stopping"):
                return False
            store.mail.setdefault(worker_id, []).append(Signal(SELF, order, cancel=True))
            store.wake = True
            return True

        sent: bool = self._write(write)
        return sent
