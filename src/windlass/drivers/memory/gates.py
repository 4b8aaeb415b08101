"""Limits and rates in memory, and the jobs that wait before them.

A job that finds a gate shut at its claim leaves its line for the gate's own (``Barrier.waiting``), in the same order. A turn lets
as many back as there is room for; they stand where they stood before.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING

from windlass.drivers.base import Passage
from windlass.job import Status
from windlass.limits import WIDE, cost, free_at, room, started

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from windlass.drivers.memory.entry import Entry
    from windlass.job import Gate

AGAIN = 1.0
"""Seconds after which more jobs are let back before a gate that has room, if those let back have not started."""
SOON = 0.001
"""Seconds between two looks at a rate at least."""
BACK = 1000
"""Jobs let back before one gate in one turn, at most."""


class Barrier:
    """One gate, who has passed it and who waits before it."""

    __slots__ = ("arrival", "blocked", "gate", "look_at", "pinned", "starved", "used", "waiting")

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.pinned = False
        self.used: set[int] = set()
        self.arrival = 0.0
        """A rate's theoretical arrival time."""
        self.waiting: list[tuple[int, int, int, Entry]] = []
        self.blocked = 0
        self.starved = False
        """A stream was passed over because of it."""
        self.look_at: float | None = None
        """When somebody may be let back; ``None`` = when a slot is given back."""

    def room(self, now: float) -> int:
        """Return how many more may start."""
        return room(self.gate, len(self.used), self.arrival, now)

    def opens(self, now: float) -> float | None:
        """Return when the next may start; ``None`` = when a slot is given back."""
        return max(now, free_at(self.gate, self.arrival)) if self.gate.per else None


class Gates:
    """All gates."""

    def __init__(self) -> None:
        self._all: dict[str, Barrier] = {}
        self._looks: list[tuple[float, str]] = []

    # ------------------------------------------------------------------ by hand

    def set(self, gate: Gate, now: float, running: Iterable[Entry], *, pinned: bool) -> None:
        """Make or change a gate; those of *running* whom a new wide one concerns have passed it."""
        barrier = self._all.get(gate.key)
        if barrier is None:
            barrier = self._all[gate.key] = Barrier(gate)
            if gate.key.startswith(WIDE) and not gate.per:
                for entry in running:
                    if gate.key in (f"limit:queue:{entry.new.queue}", f"limit:task:{entry.new.task}"):
                        self.enter(entry, [barrier], now)
        elif barrier.pinned and not pinned:
            return
        barrier.gate, barrier.pinned = gate, pinned
        if barrier.blocked:
            self._look(barrier, now)

    def drop(self, key: str, now: float) -> bool:
        """Forget a gate that was set; those who wait before it come back."""
        barrier = self._all.get(key)
        if barrier is None:
            return False
        barrier.pinned = False
        if key.startswith(WIDE):
            del self._all[key]
        elif barrier.blocked:
            self._look(barrier, now)
        return True

    def passages(self, keys: Collection[str] | None) -> list[Passage]:
        """Return what is known of gates."""
        chosen = self._all if keys is None else {key for key in keys if key in self._all}
        return [self._passage(self._all[key]) for key in sorted(chosen)[:1000]]

    @staticmethod
    def _passage(barrier: Barrier) -> Passage:
        return Passage(
            gate=barrier.gate,
            pinned=barrier.pinned,
            used=len(barrier.used),
            blocked=barrier.blocked,
            free_at=free_at(barrier.gate, barrier.arrival) if barrier.gate.per else None,
        )

    def holders(self, key: str) -> list[int]:
        """Return who runs behind a limit."""
        barrier = self._all.get(key)
        return sorted(barrier.used) if barrier is not None else []

    # ------------------------------------------------------------------ the claim

    def wide(self, queue: str, task: str) -> list[Barrier]:
        """Return the gates of a whole queue or task."""
        keys = (f"limit:queue:{queue}", f"rate:queue:{queue}", f"limit:task:{task}", f"rate:task:{task}")
        return [self._all[key] for key in keys if key in self._all] if self._all else []

    def own(self, entry: Entry) -> list[Barrier]:
        """Return the gates that a job brings, as the job says unless they are pinned."""
        found = []
        for gate in entry.new.gates:
            if gate.key == entry.fair:
                continue
            barrier = self._all.get(gate.key)
            if barrier is None:
                barrier = self._all[gate.key] = Barrier(gate)
            elif not barrier.pinned:
                barrier.gate = gate
            found.append(barrier)
        return found

    def block(self, entry: Entry, barrier: Barrier, now: float) -> None:
        """Put a job aside that stands in no line any more."""
        entry.blocked = barrier.gate.key
        heappush(barrier.waiting, (-entry.new.priority, entry.seq, entry.id, entry))
        barrier.blocked += 1
        opens = barrier.opens(now)
        if opens is not None and barrier.look_at is None:
            self._look(barrier, opens)

    def pass_over(self, barrier: Barrier, now: float) -> None:
        """Note that a stream is passed over because of a gate."""
        barrier.starved = True
        opens = barrier.opens(now)
        if opens is not None:
            self._look(barrier, opens)

    @staticmethod
    def enter(entry: Entry, barriers: list[Barrier], now: float) -> None:
        """Let a job start."""
        for barrier in barriers:
            if barrier.gate.per:
                barrier.arrival = started(barrier.gate, barrier.arrival, now)
            else:
                barrier.used.add(entry.id)
                entry.slots = (*entry.slots, barrier.gate.key)

    def leave(self, entry: Entry, now: float) -> bool:
        """Take back the slots of a job that has ended its lease; tell whether somebody waits for one."""
        wanted = False
        for key in entry.slots:
            barrier = self._all.get(key)
            if barrier is None:
                continue
            barrier.used.discard(entry.id)
            wanted = wanted or barrier.starved
            barrier.starved = False
            if barrier.blocked:
                self._look(barrier, now)
                wanted = True
            elif not (barrier.used or barrier.pinned or key.startswith(WIDE)):
                del self._all[key]
        entry.slots = ()
        return wanted

    # ------------------------------------------------------------------ coming back

    def unblock(self, entry: Entry) -> None:
        """Forget that a job waits: it leaves by another door; its place is skipped when it comes up."""
        barrier = self._all.get(entry.blocked or "")
        if barrier is not None:
            barrier.blocked -= 1
        entry.blocked = None

    def admit(self, now: float, back: Callable[[Entry], None]) -> None:
        """Let back whoever there is room for."""
        while self._looks and self._looks[0][0] <= now:
            look_at, key = heappop(self._looks)
            barrier = self._all.get(key)
            if barrier is None or barrier.look_at != look_at:
                continue
            barrier.look_at = None
            free = barrier.room(now)
            for entry in self._first(barrier, min(free, BACK)):
                self.unblock(entry)
                back(entry)
            if barrier.blocked and barrier.gate.per:
                taken = max(barrier.arrival, now) + free * cost(barrier.gate)
                self._look(barrier, max(now + SOON, free_at(barrier.gate, taken)))
            elif barrier.blocked and free:
                self._look(barrier, now + AGAIN)

    def next_look(self) -> float | None:
        """Return when somebody may be let back, or a stream that was passed over may go on."""
        while self._looks:
            look_at, key = self._looks[0]
            barrier = self._all.get(key)
            if barrier is not None and barrier.look_at == look_at:
                return look_at
            heappop(self._looks)
        return None

    @staticmethod
    def _first(barrier: Barrier, number: int) -> Iterator[Entry]:
        while number > 0 and barrier.waiting:
            _, seq, _, entry = heappop(barrier.waiting)
            if entry.blocked == barrier.gate.key and entry.seq == seq and entry.status is Status.PENDING:
                number -= 1
                yield entry

    def _look(self, barrier: Barrier, at: float) -> None:
        if barrier.look_at is None or at < barrier.look_at:
            barrier.look_at = at
            heappush(self._looks, (at, barrier.gate.key))
