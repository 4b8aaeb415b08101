"""The model rejects drivers with one fault each, and accepts the honest one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from windlass.drivers.memory import MemoryDriver
from windlass.drivers.memory.store import Store
from windlass.job import Status
from windlass.lifecycle import Move
from windlass.testing.model import run_model

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from windlass.drivers.base import Changed, Decide, PastAttempt, Tally, Turn, Turned
    from windlass.drivers.memory.entry import Line, Stream
    from windlass.job import NewJob, Record
    from windlass.lifecycle import Settlement, Transition

pytestmark = pytest.mark.slow

replace = msgspec.structs.replace

WAITING_FOR_TIME = (Status.SCHEDULED, Status.RETRYING)


class Altered(MemoryDriver):
    """Passes every transition of a settlement through ``alter``."""

    def alter(self, settlement: Settlement) -> Transition:
        return settlement.transition

    def exchange(self, turn: Turn) -> Turned:
        altered = [replace(s, transition=self.alter(s)) for s in turn.settlements]
        return super().exchange(replace(turn, settlements=altered))


class DropsTheLeaseCheck(MemoryDriver):
    def exchange(self, turn: Turn) -> Turned:
        def now_live(settlement: Settlement) -> Settlement:
            stored = self.get(settlement.record.id)
            lease = stored.lease if stored is not None else 0
            return replace(settlement, record=replace(settlement.record, lease=lease))

        return super().exchange(replace(turn, settlements=[now_live(s) for s in turn.settlements]))


class HidesRefusals(MemoryDriver):
    def exchange(self, turn: Turn) -> Turned:
        return replace(super().exchange(turn), refused=[])


class ForgetsToCountTheCancelled(MemoryDriver):
    def change(self, ids: Collection[int], decide: Decide) -> list[Changed]:
        changed = super().change(ids, decide)
        for one in changed:
            if one.transition is not None and one.transition.status is Status.CANCELLED:
                self._store.jobs[one.job_id].stream.counts[Status.CANCELLED] -= 1
        return changed


class ForgetsToCountSnoozes(MemoryDriver):
    def tallies(self) -> list[Tally]:
        return [replace(t, totals={**t.totals, "snoozed": 0}) for t in super().tallies()]


class CountsFallWithDeletion(MemoryDriver):
    def change(self, ids: Collection[int], decide: Decide) -> list[Changed]:
        changed = super().change(ids, decide)
        for one in changed:
            if one.transition is not None and one.transition.move is Move.DELETE and one.before is not None:
                self._store.streams[one.before.queue, one.before.task].totals["enqueued"] -= 1
        return changed


class SettlesWithoutLeavingRunning(MemoryDriver):
    def exchange(self, turn: Turn) -> Turned:
        running = dict(self._store.running)
        turned = super().exchange(turn)
        for settlement in turn.settlements:
            job_id = settlement.record.id
            if job_id in running and job_id not in self._store.running:
                running[job_id].lease = settlement.record.lease
                self._store.running[job_id] = running[job_id]
        return turned


class PromotesTwice(MemoryDriver):
    def exchange(self, turn: Turn) -> Turned:
        timed = {r.id for r in self.find_all() if r.status in WAITING_FOR_TIME}
        turned = super().exchange(turn)
        return replace(turned, claims=turned.claims + [r for r in turned.claims if r.id in timed])

    def find_all(self) -> list[Record]:
        return [entry.record() for entry in self._store.jobs.values()]


class EarlyStore(Store):
    def promote(self, now: float) -> float | None:
        return super().promote(now + 1)


class PromotesTooEarly(MemoryDriver):
    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self._store = EarlyStore()


class DoesNotCountCrashes(Altered):
    def alter(self, settlement: Settlement) -> Transition:
        transition = settlement.transition
        lost = transition.move is Move.LOSE
        return replace(transition, crashes=transition.crashes - 1) if lost else transition


class CountsAPrefetchedJobAsCrash(Altered):
    def alter(self, settlement: Settlement) -> Transition:
        transition = settlement.transition
        unstarted = transition.move is Move.RELEASE and settlement.record.started_at is None
        return replace(transition, crashes=transition.crashes + 1) if unstarted else transition


class CountsSnoozesAsFailures(Altered):
    def alter(self, settlement: Settlement) -> Transition:
        transition = settlement.transition
        snoozed = transition.move is Move.SNOOZE
        return replace(transition, failures=transition.failures + 1) if snoozed else transition


class LosesThePlaceOnRelease(Altered):
    def alter(self, settlement: Settlement) -> Transition:
        return replace(settlement.transition, keep_place=False)


class LevelStore(Store):
    def _heads(self, turn: Turn, queues: tuple[str, ...] | None) -> list[tuple[int, int, Any, Line, Stream]]:
        return [(0, *rest) for _, *rest in super()._heads(turn, queues)]  # type: ignore[misc]


class IgnoresPriority(MemoryDriver):
    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self._store = LevelStore()


class IgnoresPauses(MemoryDriver):
    def exchange(self, turn: Turn) -> Turned:
        paused, self._store.paused = self._store.paused, set()
        try:
            return super().exchange(turn)
        finally:
            self._store.paused = paused


class ClaimsUnknownTasks(MemoryDriver):
    def exchange(self, turn: Turn) -> Turned:
        return super().exchange(replace(turn, tasks=(*turn.tasks, "unknown")))


class ClaimsFromUnwantedQueues(MemoryDriver):
    def exchange(self, turn: Turn) -> Turned:
        return super().exchange(replace(turn, queues=None))


class ForgetsTheLastRowOfHistory(MemoryDriver):
    def history(self, job_id: int) -> list[PastAttempt]:
        record = self.get(job_id)
        done = record is not None and record.status is Status.COMPLETED
        return super().history(job_id)[:-1] if done else super().history(job_id)


class PurgesTheDeadToo(MemoryDriver):
    def purge(self, older_than: Mapping[Status, float], limit: int, *, queue: str | None = None) -> int:
        return super().purge({**older_than, Status.DEAD: 0.0}, limit, queue=queue)


class PurgesTooYoung(MemoryDriver):
    def purge(self, older_than: Mapping[Status, float], limit: int, *, queue: str | None = None) -> int:
        return super().purge({status: age - 5 for status, age in older_than.items()}, limit, queue=queue)


class ReusesALease(MemoryDriver):
    def exchange(self, turn: Turn) -> Turned:
        turned = super().exchange(turn)
        if len(turned.refused) < len(turn.settlements):
            self._store._lease -= 1
        return turned


class CountsAnAttemptWhenPrefetched(MemoryDriver):
    def exchange(self, turn: Turn) -> Turned:
        turned = super().exchange(turn)
        for record in turned.claims[turn.start :]:
            self._store.jobs[record.id].attempt += 1
        return turned


class StartsWithoutALease(MemoryDriver):
    def exchange(self, turn: Turn) -> Turned:
        live = [r for r in turn.starting if (self.get(r.id) or r).lease == r.lease]
        return super().exchange(replace(turn, starting=live))


class ForgetsSignals(MemoryDriver):
    def exchange(self, turn: Turn) -> Turned:
        return replace(super().exchange(turn), signals=[])


class LetsTheLostClaim(MemoryDriver):
    def exchange(self, turn: Turn) -> Turned:
        worker = self._workers.pop(turn.worker, None)
        turned = super().exchange(turn)
        if worker is not None:
            self._workers[turn.worker] = worker
        return turned


class ForgetsDeadlines(MemoryDriver):
    def exchange(self, turn: Turn) -> Turned:
        return super().exchange(replace(turn, deadline=None))


class BuriesTooEarly(MemoryDriver):
    def bury(self, gone: Sequence[str] = (), *, overdue: bool = True) -> list[str]:
        early = [w.id for w in self.workers() if w.beat_at + w.lost_after <= self.now() + 15] if overdue else []
        return super().bury([*gone, *early], overdue=overdue)


class InsertsBackwards(MemoryDriver):
    def insert(self, jobs: Sequence[NewJob]) -> list[Record]:
        return super().insert(jobs[::-1])[::-1]


class DeletesOnCancel(MemoryDriver):
    def change(self, ids: Collection[int], decide: Decide) -> list[Changed]:
        changed = super().change(ids, decide)
        for one in changed:
            if one.transition is not None and one.transition.status is Status.CANCELLED:
                self._store._forget(self._store.jobs[one.job_id], self.now())
        return changed


class Flawed(MemoryDriver):
    """Something in its store is wrong from the start."""

    def open(self) -> None:
        super().open()
        self.spoil(self._store)

    def spoil(self, store: Store) -> None:
        raise NotImplementedError


class KeepsKeysForEver(Flawed):
    def spoil(self, store: Store) -> None:
        store.holds._give_up = lambda *_: None  # type: ignore[method-assign]


class PromotesBesideTheHolder(Flawed):
    def spoil(self, store: Store) -> None:
        store.holds.rival = lambda *_: None  # type: ignore[method-assign]


class OverlooksKeysOnInsert(Flawed):
    def spoil(self, store: Store) -> None:
        store._rival = lambda *_: None  # type: ignore[method-assign]


class LetsOneTooManyThrough(MemoryDriver):
    def insert(self, jobs: Sequence[NewJob]) -> list[Record]:
        records = super().insert(jobs)
        for record in records:
            entry = self._store.jobs[record.id]
            wider = tuple(msgspec.structs.replace(gate, most=gate.most + 1) for gate in entry.new.gates)
            entry.new = replace(entry.new, gates=wider)
        return records


class NeverLetsBack(Flawed):
    def spoil(self, store: Store) -> None:
        store.gates.admit = lambda *_: None  # type: ignore[method-assign]


class KeepsSlots(Flawed):
    def spoil(self, store: Store) -> None:
        store.gates.leave = lambda *_: False  # type: ignore[method-assign]


class MiscountsMembers(Flawed):
    def spoil(self, store: Store) -> None:
        move = store.batches.move
        store.batches.move = lambda batch_id, before, after: move(  # type: ignore[method-assign]
            batch_id, before, Status.COMPLETED if after is Status.DEAD else after
        )


class ForgetsThatABatchIsRipe(MemoryDriver):
    def ripe(self, limit: int) -> list[int]:
        return []


MUTANTS = [
    KeepsKeysForEver,
    PromotesBesideTheHolder,
    OverlooksKeysOnInsert,
    LetsOneTooManyThrough,
    NeverLetsBack,
    KeepsSlots,
    MiscountsMembers,
    ForgetsThatABatchIsRipe,
    DropsTheLeaseCheck,
    HidesRefusals,
    ForgetsToCountTheCancelled,
    ForgetsToCountSnoozes,
    CountsFallWithDeletion,
    SettlesWithoutLeavingRunning,
    PromotesTwice,
    PromotesTooEarly,
    DoesNotCountCrashes,
    CountsAPrefetchedJobAsCrash,
    CountsSnoozesAsFailures,
    LosesThePlaceOnRelease,
    IgnoresPriority,
    IgnoresPauses,
    ClaimsUnknownTasks,
    ClaimsFromUnwantedQueues,
    ForgetsTheLastRowOfHistory,
    PurgesTheDeadToo,
    PurgesTooYoung,
    ReusesALease,
    CountsAnAttemptWhenPrefetched,
    StartsWithoutALease,
    ForgetsSignals,
    LetsTheLostClaim,
    ForgetsDeadlines,
    BuriesTooEarly,
    InsertsBackwards,
    DeletesOnCancel,
]


@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_model_rejects_a_faulty_driver(mutant: type[MemoryDriver]) -> None:
    with pytest.raises(AssertionError):
        run_model(mutant, programs=500, shrink=False)


def test_the_model_accepts_the_honest_driver() -> None:
    run_model(Altered, programs=50)
