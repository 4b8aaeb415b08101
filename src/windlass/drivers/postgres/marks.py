"""The low-water marks: from where a claim looks for jobs.

A long-running reader anywhere in the database keeps PostgreSQL from removing the rows of jobs already taken, and a claim
that starts at the beginning has to step over every one of them. So this process remembers, for each stream,

* the *mark*: the highest place it has claimed; a claim looks above it first;
* the *safe* mark: everything up to it is gone for good; a full pass starts there.

A job may appear below the mark: its transaction drew a place early and committed late, or a worker's claim was rolled back.
Full passes find it: whenever the look above the mark leaves slots free, and at least every ``FULL`` seconds.

The safe mark rises to a mark noted earlier when a survey sees, in one snapshot, that every transaction that had begun
by then has ended, and that no row is left below. Transactions get their number before they draw a place, and places only
grow, so nothing can appear there later; but for a job given back, which returns to its old place and raises the
store's *rewind* count in the same transaction: all marks start anew then.

Due times are treated alike: a time that has been passed, with all transactions of before ended, holds no timers.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

FULL = 1.0
"""Seconds between full passes, at most: how late a late committer's job may be seen under load."""
SURVEY = 0.5
"""Seconds between surveys, at least."""
ANEW = 60.0
"""Seconds after which everything is looked at from the beginning once: for rows that were put there by hand."""
NEVER = -1.0


class Low(msgspec.Struct, frozen=True):
    """The marks of one turn, spelt as array literals."""

    streams: str
    marks: str
    safes: str
    rewind: int
    due: float


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
        self._due = NEVER
        self._note: Note | None = None
        now = time.monotonic()
        self._full_at = self._surveyed_at = now
        self._anew_at = now + ANEW

    def low(self) -> Low:
        """Return where this turn starts to look."""
        with self._lock:
            now = time.monotonic()
            if now >= self._anew_at:
                self._forget()
            full = now - self._full_at >= FULL
            if full:
                self._full_at = now
            marks = self._safe if full else self._mark
            streams = list(self._mark)
            return Low(
                _array(streams),
                _array(marks.get(s, 0) for s in streams),
                _array(self._safe.get(s, 0) for s in streams),
                self._rewind,
                self._due,
            )

    def turned(self, claimed: Iterable[tuple[int, int]], *, rewind: int, now: float, next_xid: int) -> None:
        """Learn from a turn: the (stream, place) of its claims, and the head of its answer."""
        with self._lock:
            if rewind != self._rewind:
                self._forget()
                self._rewind = rewind
            mark = self._mark
            for stream, seq in claimed:
                if seq > mark.get(stream, 0):
                    mark[stream] = seq
            if self._note is None:
                self._note = Note(dict(mark), now, next_xid)

    def ripe(self, oldest_xid: int) -> Note | None:
        """Return the note that a survey may make safe now, given the oldest transaction in progress."""
        with self._lock:
            note, now = self._note, time.monotonic()
            if note is None or oldest_xid < note.xid or now - self._surveyed_at < SURVEY:
                return None
            self._surveyed_at = now
            return note

    def safes(self, streams: Iterable[int]) -> list[int]:
        """Return the safe marks of *streams*."""
        with self._lock:
            return [self._safe.get(s, 0) for s in streams]

    def surveyed(
        self, note: Note, left: dict[int, int | None], *, due: float | None, rewind: int, oldest_xid: int
    ) -> None:
        """Learn from a survey: the lowest place left in each stream up to the note's mark, and the earliest timer."""
        with self._lock:
            if note is not self._note or rewind != self._rewind or oldest_xid < note.xid:
                return
            for stream, mark in note.marks.items():
                lowest = left.get(stream)
                self._safe[stream] = mark if lowest is None else lowest - 1
            # Just below, so that a timer of that very instant is not passed over.
            self._due = min(note.due, due if due is not None else note.due) - 1e-3
            self._note = None


def _array(numbers: Iterable[int]) -> str:
    return "{" + ",".join(map(str, numbers)) + "}"
