"""``RedisDriver``: the Driver Protocol on Redis or Valkey."""

from __future__ import annotations

import logging
import struct
import threading
import weakref
from typing import TYPE_CHECKING, Any

import msgspec

from windlass.drivers.base import Filter, Finding, PastAttempt, Tally, Turn, Turned, Worker
from windlass.drivers.redis import turn as spelling
from windlass.drivers.redis import value
from windlass.drivers.redis.batches import Batches
from windlass.drivers.redis.bell import PopBell
from windlass.drivers.redis.changes import Changes
from windlass.drivers.redis.doctor import diagnose
from windlass.drivers.redis.gates import Gates
from windlass.drivers.redis.insert import Enqueues
from windlass.drivers.redis.notes import Notes
from windlass.drivers.redis.reads import Reader
from windlass.drivers.redis.schedules import Schedules
from windlass.drivers.redis.watching import Watching
from windlass.errors import ConfigurationError, StoreError
from windlass.job import NAMED, Record, Status
from windlass.lifecycle import TOTALS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from windlass.drivers.redis.table import Demand
    from windlass.job import NewJob
    from windlass.lifecycle import Settlement

log = logging.getLogger(__name__)

WORKERS_KEPT = 3600.0
CLASSES_KEPT = 3600.0
SLICE, SLICES = 500, 20
"""Jobs that one script deletes or looks at for repair, and how many of the latter one tidying runs."""
_NOW = struct.Struct("<d")
_CARD = struct.Struct("<ddcB")
_STATUSES = {"running": "r", "stopping": "g", "stopped": "e", "lost": "l"}
_STATUS = {letter.encode(): status for status, letter in _STATUSES.items()}
_ALIVE = ("running", "stopping")


class RedisDriver(Changes, Gates, Batches, Schedules, Notes, Watching):
    """Jobs in Redis."""

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self._enqueues = Enqueues(self)
        self._bells: weakref.WeakValueDictionary[str, PopBell] = weakref.WeakValueDictionary()
        self._bell_of: dict[str, PopBell] = {}
        self._cards: dict[str, Worker] = {}
        """The last heartbeat of each worker of ours that lives, as far as we know."""
        self._doubtful = threading.local()

    def close(self) -> None:
        """Close every connection."""
        for bell in list(self._bells.values()):
            bell.close()
        self.close_ears()
        super().close()

    def shift(self, seconds: float) -> None:
        """Move the store's clock for every user of the store."""
        self.run("shift", repr(float(seconds)))
        self.ask_time()

    def bell(self) -> PopBell:
        """Return a new doorbell."""
        self.check_open()
        bell = PopBell(self)
        self._bells[bell.address] = bell
        return bell

    # ------------------------------------------------------------------ the hot path

    def insert(self, jobs: Sequence[NewJob]) -> list[Record]:
        """Store new jobs; what other threads insert meanwhile shares the script."""
        self.check_open()
        return self._enqueues.insert(jobs)

    def exchange(self, turn: Turn) -> Turned:
        """One turn of a worker's pump: one round trip, or two when there are new streams to learn of."""
        self.check_open()
        if len(turn.worker.encode()) > 255:
            raise ConfigurationError("the name of a worker may have 255 bytes")
        demand = self.table.demand(turn)
        doubtful = self._doubtful.__dict__.pop("settlements", ())
        try:
            if turn.limit and self.table.is_stale(demand.name):
                self.table.enroll(turn, demand)
            turned = self._turn(turn, demand)
            if doubtful and turned.refused:
                refused = self._really_refused(doubtful, turned.refused)
                turned = msgspec.structs.replace(turned, refused=refused)
        except StoreError:
            # Perhaps it was done and only the answer got lost: then the same settlements will be refused next time.
            self._doubtful.settlements = turn.settlements
            self.unreachable()
            raise
        if (bell := self._bell_of.get(turn.worker)) is not None:
            bell.turned(demand.name, free=len(turned.claims) < turn.limit)
        return turned

    def _turn(self, turn: Turn, demand: Demand) -> Turned:
        card = self._cards.get(turn.worker)
        words, positions = spelling.words(turn, demand.name, demand.parts, self.now(), beaten=card is not None)
        head, refused, signals, claims, ripe = self._exchanged(words)
        if head.forgotten and card is not None:
            self.beat(card)
        if head.stale or head.forgotten:
            self.table.enroll(turn, demand)
            rest = msgspec.structs.replace(turn, settlements=(), starting=())
            again, _ = spelling.words(rest, demand.name, demand.parts, head.now, beaten=card is not None)
            second, _, more, claims, ripe = self._exchanged(again)
            head, signals = second, [*signals, *more]
        self.heard(head.now)
        return Turned(
            now=head.now,
            claims=self._claimed(claims, head.token),
            refused=spelling.positions_of(refused, positions),
            signals=spelling.signals(signals),
            due=head.due if not (head.stale or head.forgotten) else head.now,
            known=head.known,
            ripe=[int(batch_id) for batch_id in ripe],
            heard=head.heard,
            stamp=head.stamp,
        )

    def _exchanged(
        self, words: Sequence[Any]
    ) -> tuple[spelling.Head, list[int], list[bytes], list[bytes], list[bytes]]:
        packed, refused, signals, claims, ripe = self.run("exchange", *words, hot=True)
        return spelling.Head(packed), refused, signals, claims, ripe

    def _claimed(self, claims: Sequence[bytes], token: bytes) -> list[Record]:
        if not claims:
            return []
        self.table.fresh(token)
        names, record = self.table.streams.names, value.record
        return [record(int(claims[n]), claims[n + 1], names) for n in range(0, len(claims), 2)]

    def _really_refused(self, doubtful: Sequence[Settlement], refused: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Take out those that were written by an earlier try whose answer got lost."""
        wanted = set(refused)
        written = {
            (s.record.id, s.record.lease)
            for s in doubtful
            if (s.record.id, s.record.lease) in wanted and self._was_written(s)
        }
        return [pair for pair in refused if pair not in written]

    def _was_written(self, settlement: Settlement) -> bool:
        """Whether the job's history, or the job itself, shows this end of this attempt."""
        record, transition = settlement.record, settlement.transition
        packed, attempts = self._history(record.id)
        if packed is None:
            return False
        after = self.table.record(record.id, packed)
        if transition.outcome is None:
            beyond = value.known(packed)
            return after.status is transition.status and beyond.lease == record.lease
        return any(
            past.number == transition.attempt
            and past.worker == record.worker
            and past.outcome == transition.outcome.value
            and past.finished_at == settlement.finished_at
            for past in attempts
        )

    def extend(self, record: Record, seconds: float) -> bool:
        """Move the deadline of a claim made by hand."""
        return bool(self.run("extend", record.id, value.fence(record), repr(float(seconds))))

    # ------------------------------------------------------------------ workers

    def beat(self, worker: Worker) -> bool:
        """Write the heartbeat."""
        self.check_open()
        if worker.bell and (bell := self._bells.get(worker.bell)) is not None:
            self._bell_of = {worker.id: bell} | {w: b for w, b in self._bell_of.items() if b is not bell}
        card = msgspec.json.encode(worker)
        status = _STATUSES[worker.status]
        words = (worker.id, repr(worker.lost_after), status, worker.bell, card)
        alive = bool(self.run("beat", *words, hot=True))
        if alive:
            self._cards[worker.id] = worker
        else:
            self._cards.pop(worker.id, None)
        return alive

    def retire(self, worker_id: str) -> None:
        """Mark the worker as stopped."""
        self._bell_of.pop(worker_id, None)
        self._cards.pop(worker_id, None)
        self.run("end_worker", "e", "0", worker_id)

    def workers(self) -> list[Worker]:
        """Return the workers."""
        head, *pairs = self.run("workers")
        (now,) = _NOW.unpack_from(head)
        found = [_worker(card) for card in pairs[1::2]]
        kept = [w for w in found if w.status in _ALIVE or w.beat_at >= now - WORKERS_KEPT]
        return sorted(kept, key=lambda worker: worker.id)

    def bury(self, gone: Sequence[str] = (), *, overdue: bool = True) -> list[str]:
        """Declare workers lost."""
        return sorted(name.decode() for name in self.run("end_worker", "l", int(overdue), *gone))

    def orphans(self, limit: int) -> list[Record]:
        """Return running jobs that nobody runs any more."""
        head, *claims = self.run("orphans", limit)
        return self._claimed(claims, head[8:])

    # ------------------------------------------------------------------ managing

    def pause(self, kind: str, name: str, paused: bool) -> None:  # noqa: FBT001 - the Protocol's spelling
        """Pause or resume a queue or task."""
        self.run("pause", f"{kind}:{name}", int(paused))

    def pauses(self) -> set[tuple[str, str]]:
        """Return what is paused."""
        found = (what.decode().partition(":") for what in self.clients.ask("SMEMBERS", self.key("pause")))
        return {(kind, name) for kind, _, name in found}

    def purge(self, older_than: Mapping[Status, float], limit: int, *, queue: str | None = None) -> int:
        """Delete finished jobs, a few hundred by each script."""
        self.table.load()
        streams = self.table.numbers(queue)
        deleted = 0
        for status, age in older_than.items():
            more = bool(streams)
            while more and deleted < limit:
                most = min(limit - deleted, SLICE)
                gone, more = self.run("purge", value.LETTERS[status], repr(float(age)), most, *streams)
                deleted += gone
        return deleted

    def tidy(self) -> None:
        """Forget workers long gone and classes that nobody uses; put jobs back that are missing from their place."""
        self.run("tidy", WORKERS_KEPT, CLASSES_KEPT)
        if mended := self._by_slices("repair"):
            log.warning("%d jobs stood in no index and were put back; has Redis evicted or lost keys?", mended)
        if taken := self._by_slices("sweep"):
            log.warning("%d unique keys and slots were of no job; has Redis evicted or lost keys?", taken)

    def _by_slices(self, script: str) -> int:
        """Run a script that looks at a slice until it has seen all, or enough for now; return how many it has mended."""
        mended = 0
        for _ in range(SLICES):
            at_end, number = self.run(script, SLICE)
            mended += number
            if at_end:
                break
        return mended

    # ------------------------------------------------------------------ reading

    def get(self, job_id: int) -> Record | None:
        """Return a job."""
        self.check_open()
        found = Reader(self).records([job_id])
        return found[0] if found else None

    def by_key(self, key: str) -> Record | None:
        """Return the job with this idempotency key."""
        return self.holder(NAMED + key)

    def find(self, which: Filter, *, limit: int, offset: int = 0, before: int | None = None) -> list[Record]:
        """Return matching jobs, newest first."""
        self.check_open()
        # What a worker holds is asked by its pump, which cannot wait longer for this than for a turn.
        hot = which.worker is not None and which.statuses == (Status.RUNNING,)
        return Reader(self, hot=hot).find(which, limit=limit, offset=offset, before=before)

    def count(self, which: Filter, *, most: int) -> int:
        """Count matching jobs: from the counters where they can tell."""
        self.check_open()
        if which != Filter(statuses=which.statuses, queue=which.queue, task=which.task):
            return Reader(self).count(which, most=most)
        statuses = dict.fromkeys(which.statuses or tuple(Status))
        return sum(
            tally.counts[status]
            for tally in self.tallies()
            if which.queue in (None, tally.queue) and which.task in (None, tally.task)
            for status in statuses
        )

    def history(self, job_id: int) -> list[PastAttempt]:
        """Return the attempts of a job."""
        return self._history(job_id)[1]

    def _history(self, job_id: int) -> tuple[bytes | None, list[PastAttempt]]:
        head, packed, entries = self.run("history", job_id)
        attempts = [value.attempt(entry) for entry in entries]
        if packed is not None:
            self.table.fresh(head[8:])
            last = value.last_attempt(self.table.record(job_id, packed), value.known(packed))
            if last is not None:
                attempts.append(last)
        return packed, attempts

    def tallies(self) -> list[Tally]:
        """Return the maintained counters."""
        self.check_open()
        streams, counters, ready, others = self.run("tallies")
        names = {number: tuple(msgspec.json.decode(name)[1:]) for number, name in _pairs(streams)}
        sums: dict[tuple[str, str], dict[str, int]] = {name: {} for name in names.values()}
        for field, number in _pairs(counters):
            if field[:-1] in names:
                of, what = sums[names[field[:-1]]], field[-1:].decode()
                of[what] = of.get(what, 0) + int(number)
        for name, new, other in zip(names.values(), ready, others, strict=True):
            of = sums[name]
            of["p"] = of.get("p", 0) + new + other
            of["E"] = of.get("E", 0) + new
        return [
            Tally(
                queue=queue,
                task=task,
                counts={status: of.get(value.LETTERS[status], 0) for status in Status},
                totals={name: of.get(spelling.TOTALS[name], 0) for name in TOTALS},
            )
            for (queue, task), of in sums.items()
        ]

    def oldest(self, queue: str) -> float | None:
        """Return since when the first of every line has waited, at most."""
        self.table.load()
        head, *packed = self.run("oldest", *self.table.numbers(queue))
        self.table.fresh(head[8:])
        return min((self.table.record(0, found).run_at for found in packed if found is not None), default=None)

    def rates(self, since: float, queue: str | None = None) -> list[tuple[int, int, int]]:
        """Return what ended in each second of the last hour."""
        self.table.load()
        streams = {b"%d" % n for n in self.table.numbers(queue)}
        sums: dict[int, list[int]] = {}
        for field, number in _pairs(self.run("rates", repr(float(int(since))))):
            second, letter, stream = _pulse(field)
            if second >= int(since) and stream in streams:
                sums.setdefault(second, [0, 0])[letter == b"F"] += int(number)
        return [(second, processed, failed) for second, (processed, failed) in sorted(sums.items())]

    # ------------------------------------------------------------------ looking after it

    def diagnose(self) -> list[Finding]:
        """Say what is well and what is not."""
        return diagnose(self)


def _pairs(flat: Sequence[Any]) -> list[tuple[Any, Any]]:
    return list(zip(flat[::2], flat[1::2], strict=True))


def _pulse(field: bytes) -> tuple[int, bytes, bytes]:
    letter = b"P" if b"P" in field else b"F"
    second, _, stream = field.partition(letter)
    return int(second), letter, stream


def _worker(card: bytes) -> Worker:
    beat_at, lost_after, status, length = _CARD.unpack_from(card)
    worker = msgspec.json.decode(card[_CARD.size + length :], type=Worker)
    return msgspec.structs.replace(worker, beat_at=beat_at, lost_after=lost_after, status=_STATUS[status])
