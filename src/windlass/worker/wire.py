"""The child's scribe: what a handler in a child process tells goes down the line to the worker.

Theory: the main thread of a child may be interrupted at any moment, and a message that was broken off half-way would
spoil the line. So handlers only add to a page, and a thread, which signals do not reach, sends it.
"""

from __future__ import annotations

import signal
import threading
import time
from typing import TYPE_CHECKING, Any, TypeAlias

from windlass.notes import Page

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from multiprocessing import connection

    from windlass.job import Record
    from windlass.notes import Scribe

Told: TypeAlias = "tuple[bytes | None, list[tuple[float, str]]]"
"""The newest progress, and lines with their ages in seconds."""
TOLD, FLUSH, FLUSHED = "told", "flush", "flushed"
EVERY = 0.2
"""Seconds between two messages of a handler that tells a lot."""


class WireScribe:
    """Sends what the attempt in hand tells."""

    def __init__(self, line: connection.Connection[Any, Any]) -> None:
        self._line = line
        self._lock = threading.Lock()
        self._lease = 0
        self._page: Page | None = None
        self._sending = threading.Lock()
        self._news = threading.Event()
        self._sender: threading.Thread | None = None

    def begin(self, record: Record) -> None:
        """Listen to another attempt; what threads of the one before still say is not its word."""
        with self._lock:
            self._lease, self._page = record.lease, None

    def progress(self, record: Record, encoded: bytes) -> None:
        """Take down how far the job is."""
        self._add(record, lambda page: page.progress(encoded))

    def log(self, record: Record, text: str, at: float | None = None) -> None:
        """Take down a line."""
        now = time.monotonic()
        self._add(record, lambda page: page.log(now, text))

    def _add(self, record: Record, add: Callable[[Page], None]) -> None:
        with self._lock:
            if record.lease != self._lease:
                return
            if self._page is None:
                self._page = Page(record)
            add(self._page)
            if self._sender is None:
                self._sender = threading.Thread(target=self._send_on, name="windlass-scribe", daemon=True)
                self._sender.start()
        self._news.set()

    def _send_on(self) -> None:
        while self._news.wait():
            self._news.clear()
            with self._sending:
                self._send_told()
            time.sleep(EVERY)

    def _send_told(self) -> None:
        told = self._take()
        if told is not None:
            self._line.send((TOLD, False, told))

    def _take(self) -> Told | None:
        """Return what is not sent; the lines with their ages, for the worker stamps them by the store's clock."""
        with self._lock:
            page, self._page = self._page, None
        if page is None:
            return None
        note, now = page.note(), time.monotonic()
        return note.progress, [(now - at, text) for at, text in note.lines]

    def answer(self, kind: str, value: Any, *, ended: bool) -> None:
        """Send the attempt's end, and before it what is left to be told."""
        with self._sending:
            self._send_told()
            self._line.send((kind, ended, value))

    def flush(self, leases: Iterable[int]) -> None:
        """Have the worker write what was told, and wait for it: the attempt is about to end here."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))
        try:
            with self._sending:
                self._send_told()
                self._line.send((FLUSH, False, None))
                while self._line.recv() != FLUSHED:
                    pass
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def hear(scribe: Scribe, records: Iterable[Record], told: Told, now: float) -> None:
    """Take down what a child has sent, for each job of its call."""
    progress, lines = told
    for record in records:
        if progress is not None:
            scribe.progress(record, progress)
        for age, text in lines:
            scribe.log(record, text, now - age)
