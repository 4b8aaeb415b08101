"""What this process knows of the streams: their numbers and names, and which of them each class of workers takes from."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from windlass.drivers.redis import value
from windlass.drivers.redis.value import Names

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from windlass.drivers.base import Turn
    from windlass.drivers.redis.database import Database
    from windlass.drivers.redis.wire import Word
    from windlass.job import Record

Wanted = tuple[tuple[str, ...] | None, tuple[str, ...]]
"""The queues (``None`` = all) and the tasks that a worker takes."""

TOUCH = 60.0
"""Seconds between signs that a class is in use."""
MOST = 1000
"""Classes remembered at most."""


def spelt(queue: str, task: str, priority: int) -> bytes:
    """Spell a stream's name."""
    return msgspec.json.encode((priority, queue, task))


class Streams(msgspec.Struct, frozen=True):
    """The streams at one moment: threads that read it see all of one table, never half of the next."""

    token: bytes = b""
    """Changes with every stream made, and when all are lost."""
    names: Mapping[int, Names] = {}
    number_of: Mapping[Names, int] = {}


class Demand(msgspec.Struct, frozen=True):
    """What a worker wants."""

    name: str
    """Its class."""
    queues: tuple[str, ...] | None
    parts: tuple[tuple[str, int], ...] = ()
    """The class and limit of each part."""


def _takes(streams: Streams, queues: Collection[str] | None, tasks: Collection[str]) -> bytes:
    """Spell which streams are taken from."""
    taken = [
        n for n, (_, queue, task) in streams.names.items() if task in tasks and (queues is None or queue in queues)
    ]
    return b"%b;,%b," % (streams.token, b",".join(b"%d" % n for n in taken))


class Table:
    """The streams as the server last told them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.streams = Streams()
        self._classes: dict[Wanted, str] = {}
        self._touched: dict[str, float] = {}

    def load(self) -> Streams:
        """Ask the server."""
        token, *pairs = self._database.run("streams")
        names = {}
        for number, name in zip(pairs[::2], pairs[1::2], strict=True):
            priority, queue, task = msgspec.json.decode(name)
            names[int(number)] = (priority, queue, task)
        self.streams = Streams(token, names, {name: number for number, name in names.items()})
        return self.streams

    def fresh(self, token: bytes) -> None:
        """Load again if *token* is another one."""
        if token != self.streams.token:
            self.load()

    def record(self, job_id: int, packed: bytes, progress: bytes | None = None) -> Record:
        """Read a value."""
        return value.record(job_id, packed, self.streams.names, progress)

    def numbers(self, queue: str | None = None, task: str | None = None) -> list[int]:
        """Return the streams of a queue and task."""
        return [n for n, (_, q, t) in self.streams.names.items() if queue in (None, q) and task in (None, t)]

    # ------------------------------------------------------------------ classes

    def class_of(self, queues: Collection[str] | None, tasks: Sequence[str]) -> str:
        """Return the name of a class; workers that take the same share it."""
        wanted: Wanted = (None if queues is None else tuple(queues), tuple(tasks))
        name = self._classes.get(wanted)
        if name is None:
            plain = (None if wanted[0] is None else sorted(set(wanted[0])), sorted(set(wanted[1])))
            if len(self._classes) >= MOST:  # claims by hand may name other tasks every time
                self._classes.clear()
                self._touched.clear()
            digest = hashlib.blake2b(msgspec.json.encode(plain), digest_size=9).hexdigest()
            name = self._classes[wanted] = f"c-{digest}"
        return name

    def demand(self, turn: Turn) -> Demand:
        """Return the class of a worker's whole demand, and those of its parts, if it has parts."""
        if not turn.takes:
            return Demand(self.class_of(turn.queues, turn.tasks), turn.queues)
        every = any(take.queues is None for take in turn.takes)
        # In one order whatever that of the parts, which may be another one each time.
        queues = None if every else tuple(sorted({queue for take in turn.takes for queue in take.queues or ()}))
        parts = tuple((self.class_of(take.queues, turn.tasks), take.limit) for take in turn.takes)
        return Demand(self.class_of(queues, turn.tasks), queues, parts)

    def enroll(self, turn: Turn, demand: Demand) -> None:
        """Tell the server what a worker's class takes from, and each part of its demand."""
        streams = self.load()
        tasks = set(turn.tasks)
        words: list[Word] = ["class", demand.name, _takes(streams, demand.queues, tasks)]
        for (name, _), take in zip(demand.parts, turn.takes, strict=False):
            words += ("part", name, _takes(streams, take.queues, tasks))
        self._database.run("enroll", *words, hot=True)
        self._touched[demand.name] = time.monotonic()

    def is_stale(self, name: str) -> bool:
        """Whether the server has not been told for a while that a class is in use."""
        return time.monotonic() - self._touched.get(name, -TOUCH) >= TOUCH
