"""The worker's live line on a terminal; elsewhere the log says enough.

Written by hand: a worker should not carry rich around for one line.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Any, TextIO

from windlass.cli.output import span

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

WINDOW = 5.0
"""Seconds over which the rate is taken."""


class StatusLine:
    """Draws one or several workers, added up, over the last line of the terminal."""

    def __init__(self, stream: TextIO | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream or sys.stderr
        self._shown = self._stream.isatty()
        self._clock = clock
        self._began = clock()
        self._last: dict[int, int] = {}
        self._done = 0
        self._past: deque[tuple[float, int]] = deque([(self._began, 0)])

    def draw(self, snapshots: Sequence[Mapping[str, Any]]) -> None:
        """Draw the workers as they are now."""
        if self._shown:
            width = shutil.get_terminal_size().columns - 1
            self._stream.write(f"\r\x1b[K{self.text(snapshots)[:width]}")
            self._stream.flush()

    def end(self) -> None:
        """Leave the line, so that the shell's prompt does not stand on it."""
        if self._shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def text(self, snapshots: Sequence[Mapping[str, Any]]) -> str:
        """Return the line."""
        states = {str(s.get("state", "starting")) for s in snapshots} or {"starting"}

        def add(name: str) -> int:
            return sum(int(s.get(name, 0)) for s in snapshots)

        many = f" x{len(snapshots)}" if len(snapshots) > 1 else ""
        stuck = f" · {add('stuck')} stuck" if add("stuck") else ""
        rate = self._rate(snapshots)
        return (
            f"{'/'.join(sorted(states))}{many} · {add('running')}/{add('concurrency')} running · "
            f"{self._done} processed · {rate:.1f}/s · {add('failed')} failed{stuck} · up {span(self._clock() - self._began)}"
        )

    def _rate(self, snapshots: Sequence[Mapping[str, Any]]) -> float:
        """Add up what was done since the last look; a process that was replaced counts from 0 again."""
        for place, snapshot in enumerate(snapshots):
            processed = int(snapshot.get("processed", 0))
            before = self._last.get(place, 0)
            self._done += processed - before if processed >= before else processed
            self._last[place] = processed
        now = self._clock()
        self._past.append((now, self._done))
        while len(self._past) > 2 and now - self._past[0][0] > WINDOW:
            self._past.popleft()
        (began, first), (ended, last) = self._past[0], self._past[-1]
        return (last - first) / (ended - began) if ended > began else 0.0
