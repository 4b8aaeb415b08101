"""Limits and rates inside one transaction, and the jobs that wait before them.

A job that finds a gate shut at its claim leaves ``ready`` for ``blocked``. A turn lets as many back as there is room
for; they stand where they stood before. ``look_at`` says when: at once when a slot is given back, at the next token's
instant of a rate, and a second later when there is room but those let back have not started.

What is known of a gate is read once and changed here; ``flush`` writes what has changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from windlass.drivers.base import Passage
from windlass.job import Gate
from windlass.limits import FAIR, WIDE, cost, free_at, room, started

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Sequence

    from windlass.drivers.sqlite.connect import Plain
    from windlass.drivers.sqlite.sql import Sql

AGAIN = 1.0
"""Seconds after which more jobs are let back before a gate that has room, if those let back have not started."""
SOON = 0.001
"""Seconds between two looks at a rate at least."""
BACK = 1000
"""Jobs let back before one gate in one turn, at most."""
LOOKS = 100
"""Gates looked at in one turn at most."""

_encode = msgspec.json.encode
_decode = msgspec.json.Decoder(tuple[str, ...]).decode


class Barrier:
    """One gate, and how many have passed it and wait before it."""

    __slots__ = ("arrival", "blocked", "gate", "look_at", "pinned", "starved", "used")

    def __init__(self, gate: Gate, *rest: Any) -> None:
        self.gate = gate
        pinned, self.used, self.blocked, self.arrival, starved, self.look_at = rest or (0, 0, 0, 0.0, 0, None)
        self.pinned, self.starved = bool(pinned), bool(starved)

    @classmethod
    def of(cls, row: tuple[Any, ...]) -> Barrier:
        """Make one of a row of the gate statements."""
        return cls(Gate(*row[:5]), *row[5:])

    @property
    def wide(self) -> bool:
        """Whether every job of a queue or task passes it."""
        return self.gate.key.startswith(WIDE)

    def row(self) -> tuple[Any, ...]:
        """Return what is written."""
        gate = self.gate
        counts = (self.used, self.blocked, self.arrival, int(self.starved), self.look_at)
        return (gate.key, gate.most, gate.per, gate.burst, gate.weight, int(self.wide), int(self.pinned), *counts)

    def room(self, now: float) -> int:
        """Return how many more may start."""
        return room(self.gate, self.used, self.arrival, now)

    def opens(self, now: float) -> float | None:
        """Return when the next may start; ``None`` = when a slot is given back."""
        return max(now, free_at(self.gate, self.arrival)) if self.gate.per else None

    @property
    def noted(self) -> bool:
        """Whether it is written down that a stream is passed over, so that somebody comes back."""
        return self.starved and (not self.gate.per or self.look_at is not None)

    def passage(self) -> Passage:
        """Return what is known of it."""
        return Passage(
            gate=self.gate,
            pinned=self.pinned,
            used=self.used,
            blocked=self.blocked,
            free_at=free_at(self.gate, self.arrival) if self.gate.per else None,
        )


class Gates:
    """The gates that this transaction has to do with."""

    def __init__(self, connection: sqlite3.Connection | Plain, sql: Sql, now: float) -> None:
        self._connection = connection
        self._execute = connection.execute
        self._sql = sql
        self._now = now
        self._known: dict[str, Barrier | None] = {}
        self._wide: dict[str, Barrier] | None = None
        self._changed: dict[str, Barrier] = {}
        self._gone: set[str] = set()
        self._entered: list[tuple[str, int]] = []
        self._left: list[tuple[str, int]] = []
        self._aside: list[tuple[Any, ...]] = []
        self._freed: list[Barrier] = []
        self._back: set[int] = set()
        """Jobs that were let back and that nobody has claimed since."""

    # ------------------------------------------------------------------ what is known

    def get(self, key: str) -> Barrier | None:
        """Return a gate."""
        if key not in self._known:
            row = self._execute(self._sql.gate, (key,)).fetchone()
            self._known[key] = None if row is None else Barrier.of(row)
        return self._known[key]

    def wide(self, queue: str, task: str) -> list[Barrier]:
        """Return the gates of a whole queue or task."""
        if self._wide is None:
            self._wide = {}
            for row in self._execute(self._sql.wide_gates).fetchall():
                self._wide[row[0]] = self._known[row[0]] = self._known.get(row[0]) or Barrier.of(row)
        keys = (f"limit:queue:{queue}", f"rate:queue:{queue}", f"limit:task:{task}", f"rate:task:{task}")
        return [self._wide[key] for key in keys if key in self._wide]

    def own(self, gates: Sequence[Gate]) -> list[Barrier]:
        """Return the gates that a job brings, as the job says unless they are pinned."""
        found = []
        for gate in gates:
            if gate.key.startswith(FAIR):
                continue
            barrier = self.get(gate.key)
            if barrier is None:
                barrier = self._known[gate.key] = Barrier(gate)
            elif not barrier.pinned and barrier.gate != gate:
                barrier.gate = gate
                self._change(barrier)
            found.append(barrier)
        return found

    def _change(self, barrier: Barrier) -> None:
        self._changed[barrier.gate.key] = barrier

    def _look(self, barrier: Barrier, at: float) -> None:
        if barrier.look_at is None or at < barrier.look_at:
            barrier.look_at = at
            self._change(barrier)

    # ------------------------------------------------------------------ by hand

    def set(self, gate: Gate, *, pinned: bool) -> None:
        """Make or change a gate; those of the running jobs whom a new wide one concerns have passed it."""
        barrier = self.get(gate.key)
        if barrier is None:
            barrier = self._known[gate.key] = Barrier(gate)
            self._wide = None
            if barrier.wide and not gate.per:
                self._count_running(barrier)
        elif barrier.pinned and not pinned:
            return
        barrier.gate, barrier.pinned = gate, pinned
        self._change(barrier)
        if barrier.blocked:
            self._look(barrier, self._now)

    def _count_running(self, barrier: Barrier) -> None:
        _, kind, name = barrier.gate.key.split(":", 2)
        which = (name if kind == "queue" else None, name if kind == "task" else None)
        for job_id, slots in self._execute(self._sql.running_in, which).fetchall():
            before = _decode(slots) if slots is not None else ()
            passed = dict.fromkeys((*before, self.enter(job_id, [barrier])[0]))
            self._execute(self._sql.set_slots, (_encode(list(passed)).decode(), job_id))

    def drop(self, key: str) -> bool:
        """Forget a gate that was set; those who wait before it come back."""
        barrier = self.get(key)
        if barrier is None:
            return False
        barrier.pinned = False
        self._change(barrier)
        if barrier.wide:
            self._forget(barrier)
            self._execute(self._sql.drop_slots, (key,))
        elif barrier.blocked:
            self._look(barrier, self._now)
        elif not barrier.used:
            self._forget(barrier)
        return True

    def _forget(self, barrier: Barrier) -> None:
        key = barrier.gate.key
        self._known[key] = self._wide = None
        self._changed.pop(key, None)
        self._gone.add(key)

    # ------------------------------------------------------------------ the claim

    def block(self, barrier: Barrier, *, ready: tuple[Any, ...]) -> None:
        """Put a job aside whose row *ready* is about to go."""
        queue, task, rank, seq, job_id, *rest = ready
        self._aside.append((job_id, barrier.gate.key, queue, task, rank, seq, *rest))
        self._back.discard(job_id)
        barrier.blocked += 1
        self._change(barrier)
        opens = barrier.opens(self._now)
        if opens is not None and barrier.look_at is None:
            self._look(barrier, opens)

    def pass_over(self, barrier: Barrier) -> None:
        """Note that a stream is passed over because of a gate."""
        if not barrier.starved:
            barrier.starved = True
            self._change(barrier)
        opens = barrier.opens(self._now)
        if opens is not None:
            self._look(barrier, opens)

    def enter(self, job_id: int, barriers: list[Barrier]) -> list[str]:
        """Let a job start; return the slots that it has now."""
        slots = []
        for barrier in barriers:
            self._change(barrier)
            if barrier.gate.per:
                barrier.arrival = started(barrier.gate, barrier.arrival, self._now)
            else:
                barrier.used += 1
                slots.append(barrier.gate.key)
        self._entered += [(key, job_id) for key in slots]
        self._back.discard(job_id)
        return slots

    def leave(self, job_id: int, slots: str) -> None:
        """Take back the slots of a job that has ended its lease."""
        for key in _decode(slots):
            barrier = self.get(key)
            if barrier is None:
                continue
            barrier.used -= 1
            self._left.append((key, job_id))
            self._change(barrier)
            if barrier.starved or barrier.blocked:
                self._freed.append(barrier)
            barrier.starved = False
            if barrier.blocked:
                self._look(barrier, self._now)
            elif not (barrier.used or barrier.pinned or barrier.wide):
                self._forget(barrier)

    # ------------------------------------------------------------------ coming back

    def unblock(self, key: str) -> None:
        """Note that a job that waited before a gate has left by another door."""
        barrier = self.get(key)
        if barrier is not None:
            barrier.blocked -= 1
            self._change(barrier)

    def admit(self) -> None:
        """Let back whoever there is room for; what was changed is written."""
        for (key,) in self._execute(self._sql.looks, (self._now, LOOKS)).fetchall():
            barrier = self.get(key)
            assert barrier is not None
            barrier.look_at = None
            self._change(barrier)
            free = barrier.room(self._now)
            if barrier.blocked and free:
                self._let_back(barrier, min(free, BACK))
            if barrier.blocked and barrier.gate.per:
                taken = max(barrier.arrival, self._now) + free * cost(barrier.gate)
                self._look(barrier, max(self._now + SOON, free_at(barrier.gate, taken)))
            elif barrier.blocked and free:
                self._look(barrier, self._now + AGAIN)

    def _let_back(self, barrier: Barrier, number: int) -> None:
        back = [row[0] for row in self._execute(self._sql.let_back, (barrier.gate.key, number)).fetchall()]
        self._execute(self._sql.delete_blocked, (_encode(back).decode(),))
        barrier.blocked -= len(back)
        self._back.update(back)

    def next_look(self) -> float | None:
        """Return when somebody may be let back, or a stream that was passed over may go on; all is written."""
        return self._execute(self._sql.next_look).fetchone()[0]  # type: ignore[no-any-return]

    def wanted(self) -> bool:
        """Whether there is something left for others: a job let back, or a slot for which somebody has waited."""
        return bool(self._back) or any(barrier.room(self._now) for barrier in self._freed)

    def flush(self) -> None:
        """Write what has changed."""
        if not (self._changed or self._gone):
            return
        many = self._connection.executemany
        for rows, statement in (
            (self._left, self._sql.drop_slot),
            (self._entered, self._sql.put_slot),
            (self._aside, self._sql.block),
        ):
            if rows:
                many(statement, rows)
                rows.clear()
        gone = [(key,) for key in self._gone if key not in self._changed]
        if gone:
            many(self._sql.drop_gate, gone)
        if self._changed:
            many(self._sql.put_gate, [barrier.row() for barrier in self._changed.values()])
        self._gone.clear()
        self._changed.clear()


def passages(connection: sqlite3.Connection, sql: Sql, keys: Collection[str] | None) -> list[Passage]:
    """Return the gates that are known, by key."""
    if keys is None:
        rows = connection.execute(sql.gates)
    else:
        rows = connection.execute(sql.gates_of, (_encode(list(keys)).decode(),))
    return [Barrier.of(row).passage() for row in rows]
