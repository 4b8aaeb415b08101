"""Notices changed source files, by their times of modification."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class Watcher:
    """Files and how they last looked."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, int] | None] = {}

    def add(self, files: Iterable[str]) -> None:
        """Watch these, too."""
        for file in files:
            self._seen.setdefault(file, _look(file))

    def changed(self) -> list[str]:
        """Return the files that were changed, created or removed since the last call."""
        found = []
        for file, before in self._seen.items():
            now = _look(file)
            if now != before:
                self._seen[file] = now
                found.append(file)
        return found


def _look(file: str) -> tuple[int, int] | None:
    try:
        stat = os.stat(file)  # noqa: PTH116 - hundreds of these every second
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size
