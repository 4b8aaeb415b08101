"""The low-water marks: from where a claim looks for jobs.

A long-running reader anywhere in the database keeps PostgreSQL from removing the rows of jobs already taken, and a claim
that starts at the beginning has to step over every one of them. So this process remembers, for each stream,

* the *mark*: the highest place it has claimed; a claim looks above it first;
* the *safe* mark: everything up to it is gone for good; a full pass starts there.

A job may appear below the mark: its transaction drew a place early and committed late, or a worker's claim was rolled back.
Full passes find it: whenever the look above the mark leaves slots free, and at least every ``FULL`` seconds. One that
finds nothing but such jobs may have left more of them, so that another follows at once.

The safe mark rises to a mark noted earlier when a survey sees, in one snapshot, that every transaction that had begun
by then has ended, and that no row is left below. Transactions get their number before they draw a place, and places only
grow, so nothing can appear there later; but for a job given back, which returns to its old place and raises the
store's *rewind* count in the same transaction: all marks start anew then. They do so too when the store's clock was set
back.

Due times are treated alike: a time that has been passed, with all transactions of before ended, holds no timers.

While a transaction that writes stays open the safe marks stand still. Once they have done so for ``STALLED`` seconds only
the full passes of every ``FULL`` seconds start there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Hashable
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

FULL = 1.0
"""Seconds between full passes, at most: how late a late committer's job may be seen under load."""
SURVEY = 0.5
"""Seconds between surveys, at least."""
STALLED = 3.0
"""Seconds without a successful survey after which the way up from the safe marks may be long."""
ANEW = 60.0
"""Seconds after which everything is looked at from the beginning once: for rows that were put there by hand."""
NEVER = -1.0
MARGIN = 1e-3
"""Seconds below a due time at which a mark is put, so that a timer of that very instant is not passed over."""


class Low(msgspec.Struct, frozen=True):
    """Where one turn starts to look; the marks are spelt as array literals."""

    streams: str
    marks: str
    safes: str
    rewind: int
    due: float
    known: dict[int, int]
    """The marks as the turn began: of places that were drawn before."""
    wish: Hashable
    full: bool
    """It starts from the safe marks."""
    near: bool
    """What it does not find above the marks it looks for from the safe marks on."""


class Note(msgspec.Struct, frozen=True):
    """Marks that wait to become safe: they will be when no transaction older than *xid* is in progress."""

    marks: dict[int, int]
    due: float
    xid: int


class Marks:
    """The marks of one process; safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rewind = 0
        self._forget()

    def _forget(self) -> None:
        self._mark: dict[int, int] = {}
        self._safe: dict[int, int] = {}
        self._passed = self._due = NEVER
        self._note: Note | None = None
        self._full_at: dict[Hashable, float] = {}
        self._surveyed_at = self._risen_at = now = time.monotonic()
        self._anew_at = now + ANEW

    def low(self, wish: Hashable = None) -> Low:
        """Return where this turn starts to look; *wish* tells what it claims from, ``None`` is nothing."""
        with self._lock:
            now = time.monotonic()
            if now >= self._anew_at:
                self._forget()
            full = wish is not None and now - self._full_at.get(wish, NEVER) >= FULL
            if full:
                self._full_at[wish] = now
            near = full or now - self._risen_at < STALLED
            known = dict(self._mark)
            safes = _array(self._safe.get(s, 0) for s in known)
            marks = _array(known.values())
            return Low(
                _array(known),
                safes if full else marks,
                safes if near else marks,
                self._rewind,
                self._due if near else self._passed,
                known,
                wish,
                full,
                near,
            )

    def turned(
        self, low: Low, claimed: Iterable[tuple[int, int]], *, rewind: int, now: float, due: float | None, next_xid: int
    ) -> None:
        """Learn from a turn: the (stream, place) of its claims, and the head of its answer."""
        best: dict[int, int] = {}
        for stream, seq in claimed:
            best[stream] = max(seq, best.get(stream, 0))
        with self._lock:
            if rewind != self._rewind or now < self._due:
                self._forget()
                self._rewind = rewind
            for stream, seq in best.items():
                self._mark[stream] = max(seq, self._mark.get(stream, 0))
            if low.full and any(seq <= low.known.get(stream, 0) for stream, seq in best.items()):
                self._full_at.pop(low.wish, None)
            if due is None or due > now:
                self._passed = max(self._passed, now - MARGIN)
            if self._note is None:
                # Not the marks of now: another thread's turn may have come by a place drawn after this one ended.
                best = {stream: max(seq, low.known.get(stream, 0)) for stream, seq in best.items()}
                self._note = Note(low.known | best, now, next_xid)

    def ripe(self, oldest_xid: int) -> Note | None:
        """Return the note that a survey may make safe now, given the oldest transaction in progress."""
        with self._lock:
            note, now = self._note, time.monotonic()
            if note is None or oldest_xid < note.xid or now - self._surveyed_at < SURVEY:
                return None
            self._surveyed_at = now
            return note

    def safe(self, streams: Iterable[int]) -> tuple[float, list[int]]:
        """Return the safe due time, and the safe marks of *streams*."""
        with self._lock:
            return self._due, [self._safe.get(s, 0) for s in streams]

    def surveyed(
        self, note: Note, left: dict[int, int | None], *, due: float | None, rewind: int, oldest_xid: int
    ) -> None:
        """Learn from a survey: the lowest place left in each stream up to the note's mark, and the earliest timer."""
        with self._lock:
            if note is not self._note or rewind != self._rewind or oldest_xid < note.xid:
                return
            for stream, mark in note.marks.items():
                lowest = left.get(stream)
                self._safe[stream] = max(self._safe.get(stream, 0), mark if lowest is None else lowest - 1)
            self._due = max(self._due, min(note.due, note.due if due is None else due) - MARGIN)
            self._note = None
            self._risen_at = time.monotonic()


def _array(numbers: Iterable[int]) -> str:
    return "{" + ",".join(map(str, numbers)) + "}"
