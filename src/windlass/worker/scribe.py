"""The worker's scribe: what all its handlers tell is written together, at most once a second.

It has a thread of its own: neither a handler nor the loop that runs handlers ever waits for the store. What an attempt
has told is also written right before its end, so that nothing of a finished attempt is missing.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from windlass.errors import StoreError
from windlass.notes import Page
from windlass.worker.service import Service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from windlass.drivers.base import Driver
    from windlass.job import Record

log = logging.getLogger(__name__)

EVERY = 1.0


class Scribe:
    """Keeps pages and writes them."""

    def __init__(self, driver: Driver, *, on_refused: Callable[[int], None]) -> None:
        self._driver = driver
        self._on_refused = on_refused
        self._lock = threading.Lock()
        self._pages: dict[int, Page] = {}
        self._writing = threading.Lock()
        self._under_way: dict[int, Page] = {}
        self._service = Service("scribe", self._tick, interval=EVERY)

    def start(self) -> None:
        """Start writing."""
        self._service.start()

    def stop(self) -> None:
        """Stop writing."""
        self._service.stop()

    # ------------------------------------------------------------------ from handlers

    def progress(self, record: Record, encoded: bytes) -> None:
        """Take down how far a job is."""
        with self._lock:
            self._page(record).progress(encoded)

    def log(self, record: Record, text: str, at: float | None = None) -> None:
        """Take down a line."""
        at = self._driver.now() if at is None else at
        with self._lock:
            self._page(record).log(at, text)

    def _page(self, record: Record) -> Page:
        page = self._pages.get(record.lease)
        if page is None:
            page = self._pages[record.lease] = Page(record)
        return page

    # ------------------------------------------------------------------ to the store

    def flush(self, leases: Iterable[int]) -> None:
        """Write now what these have told, and with it everything else; where they have told nothing this is free."""
        with self._lock:
            if not self._pages and not self._under_way:
                return
            # A page that is just being written must have arrived before its lease ends, else it is refused.
            wanted = any(lease in self._pages or lease in self._under_way for lease in leases)
        if wanted:
            self._write()

    def _tick(self) -> None:
        if self._pages:
            self._write()

    def _write(self) -> None:
        refused: list[tuple[int, int]] = []
        with self._writing:
            with self._lock:
                pages, self._pages = self._pages, {}
                self._under_way = pages
            try:
                if pages:
                    refused = self._driver.note([page.note() for page in pages.values()])
            except StoreError:
                self._done(pages, written=False)
                raise
            except Exception:  # it would fail again, and the jobs' ends wait behind it
                log.exception("what %d job(s) told about themselves cannot be written", len(pages))
            self._done(pages, written=True)
        for _, lease in refused:
            self._on_refused(lease)

    def _done(self, pages: dict[int, Page], *, written: bool) -> None:
        """Put pages back that could not be written, before what was told meanwhile."""
        with self._lock:
            self._under_way = {}
            if written:
                return
            for lease, newer in self._pages.items():
                if lease in pages:
                    pages[lease].absorb(newer)
                else:
                    pages[lease] = newer
            self._pages = pages
