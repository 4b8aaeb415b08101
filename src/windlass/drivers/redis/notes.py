"""What running handlers tell: progress and log lines, and what is published to all who listen."""

from __future__ import annotations

import struct
import weakref
from typing import TYPE_CHECKING, Any

from windlass.drivers.base import LINES
from windlass.drivers.redis.database import Database
from windlass.drivers.redis.ears import Ear

if TYPE_CHECKING:
    from collections.abc import Sequence

    from windlass.drivers.base import Note
    from windlass.drivers.redis.wire import Word

AT_ONCE = 200
"""Notes written by one script."""
_LEASE = struct.Struct("<d")
_INSTANT = struct.Struct("<d")
_LINE = struct.Struct("<dd")


class Notes(Database):
    """What a driver does with what handlers tell."""

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self._ears: weakref.WeakSet[Ear] = weakref.WeakSet()

    def note(self, notes: Sequence[Note]) -> list[tuple[int, int]]:
        """Keep progress and log lines of those whose lease is live."""
        self.check_open()
        refused: list[tuple[int, int]] = []
        for start in range(0, len(notes), AT_ONCE):
            some = notes[start : start + AT_ONCE]
            words: list[Word] = [LINES]
            for note in some:
                words += (note.job_id, _LEASE.pack(note.lease), note.progress or b"", len(note.lines))
                words += (_INSTANT.pack(at) + text.encode() for at, text in note.lines)
            refused += [(some[n - 1].job_id, some[n - 1].lease) for n in self.run("note", *words)]
        return refused

    def lines(self, job_id: int, after: int = 0) -> list[tuple[int, float, str]]:
        """Return a job's log after a line."""
        found = []
        for line in self.run("lines", job_id, after):
            number, at = _LINE.unpack_from(line)
            found.append((int(number), at, line[_LINE.size :].decode()))
        return found

    def publish(self, messages: Sequence[bytes]) -> None:
        """Hand messages to all who listen now."""
        self.check_open()
        if messages:
            commands = [("PUBLISH", self.channel, message) for message in messages]
            self.clients.do(lambda wire: wire.ask_all(commands))

    def subscribe(self) -> Ear:
        """Listen to what is published."""
        self.check_open()
        ear = Ear(self)
        self._ears.add(ear)
        return ear

    def close_ears(self) -> None:
        """Listen no more."""
        for ear in list(self._ears):
            ear.close()
