"""What a handler tells about itself while it runs: how far it is, and lines for its job's own log.

Theory: telling must never wait for a store. A context hands what it is told to a *scribe*, which keeps the newest
progress and the lines of each attempt on a *page*, and writes all pages together now and then, and an attempt's own
before its end is written. Every write is conditional on the live lease.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Protocol

import msgspec

from windlass.drivers.base import Note
from windlass.job import Progress

if TYPE_CHECKING:
    from collections.abc import Iterable

    from windlass.drivers.base import Driver
    from windlass.job import Record

LONGEST = 8 << 10
"""Bytes that are kept of one line."""
UNWRITTEN = 1000
"""Lines of one attempt that wait to be written, at most; then the oldest go."""
_CUT = " …"


class Scribe(Protocol):
    """Takes down what handlers tell; safe from any thread."""

    def progress(self, record: Record, encoded: bytes) -> None:
        """Take down how far a job is, as it comes from :func:`encoded`."""

    def log(self, record: Record, text: str, at: float | None = None) -> None:
        """Take down a line, as it comes from :func:`trimmed`; *at* = when it was told, if not now."""

    def flush(self, leases: Iterable[int]) -> None:
        """Write now what these have told."""


def encoded(done: float, total: float | None, note: str) -> bytes:
    """Check and encode what ``ctx.progress()`` was given.

    Raises:
        ValueError: a number that JSON does not have.
    """
    for number in (done, total):
        if number is not None and not math.isfinite(number):
            raise ValueError(f"progress needs finite numbers, not {number!r}")
    return msgspec.json.encode(Progress(done=done, total=total, note=trimmed(note)))


def trimmed(text: object) -> str:
    """Return text as every store can keep it: whole characters, no NUL, at most ``LONGEST`` bytes."""
    raw = str(text).replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace")
    if len(raw) <= LONGEST:
        return raw.decode()
    return raw[: LONGEST - len(_CUT.encode())].decode("utf-8", "ignore") + _CUT


class Page:
    """What one attempt has told and nobody has written yet. Not safe by itself: whoever keeps it has the lock."""

    __slots__ = ("_job_id", "_lease", "_left_out", "_lines", "_progress")

    def __init__(self, record: Record) -> None:
        self._job_id = record.id
        self._lease = record.lease
        self._progress: bytes | None = None
        self._lines: deque[tuple[float, str]] = deque()
        self._left_out = 0

    def progress(self, encoded: bytes) -> None:
        """Keep the newest."""
        self._progress = encoded

    def log(self, at: float, text: str) -> None:
        """Add a line; the oldest goes when there are too many."""
        self._lines.append((at, text))
        if len(self._lines) > UNWRITTEN:
            self._lines.popleft()
            self._left_out += 1

    def absorb(self, newer: Page) -> None:
        """Add what was told after this page was taken away to be written, in vain."""
        if newer._progress is not None:
            self._progress = newer._progress
        self._left_out += newer._left_out
        for at, text in newer._lines:
            self.log(at, text)

    def note(self) -> Note:
        """Return it as it is written."""
        lines = tuple(self._lines)
        if self._left_out:
            gap = f"({self._left_out} lines were left out here: they came faster than they could be written)"
            lines = ((lines[0][0], gap), *lines)
        return Note(self._job_id, self._lease, self._progress, lines)


class Direct:
    """Writes everything at once; for tests, and for whoever has no worker around."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def progress(self, record: Record, encoded: bytes) -> None:
        """Write it."""
        self._driver.note([Note(record.id, record.lease, encoded)])

    def log(self, record: Record, text: str, at: float | None = None) -> None:
        """Write it."""
        line = (self._driver.now() if at is None else at, text)
        self._driver.note([Note(record.id, record.lease, None, (line,))])

    def flush(self, leases: Iterable[int]) -> None:
        """Do nothing: all is written."""


class Aside:
    """Keeps what is told inside of ``ctx.transaction()``: it is written with it, or after it has failed."""

    def __init__(self, record: Record, driver: Driver) -> None:
        self._record = record
        self._driver = driver
        self._told: list[tuple[float, str] | bytes] = []

    def progress(self, record: Record, encoded: bytes) -> None:
        """Keep it."""
        self._told.append(encoded)

    def log(self, record: Record, text: str, at: float | None = None) -> None:
        """Keep it."""
        self._told.append((self._driver.now() if at is None else at, text))

    def flush(self, leases: Iterable[int]) -> None:
        """Do nothing: it is not the time."""

    def page(self) -> Page | None:
        """Return what was told; ``None``: nothing."""
        if not self._told:
            return None
        page = Page(self._record)
        for one in self._told:
            if isinstance(one, bytes):
                page.progress(one)
            else:
                page.log(*one)
        return page

    def hand_on(self, scribe: Scribe) -> None:
        """Tell it all again."""
        for one in self._told:
            if isinstance(one, bytes):
                scribe.progress(self._record, one)
            else:
                scribe.log(self._record, one[1], one[0])
