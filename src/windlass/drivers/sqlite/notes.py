"""What running handlers tell about themselves: progress, and lines for the job's own log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from windlass.drivers.base import LINES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from windlass.drivers.base import Note
    from windlass.drivers.sqlite.tx import Tx


def write(tx: Tx, notes: Sequence[Note]) -> list[tuple[int, int]]:
    """Keep what comes from a live lease; return the others' ``(job id, lease)``."""
    tx.flush()
    live = tx.live([note.job_id for note in notes])
    refused = []
    for note in notes:
        if note.job_id not in live or live[note.job_id][0] != note.lease:
            refused.append((note.job_id, note.lease))
            continue
        if note.progress is not None:
            tx.run(tx.sql.put_progress, note.job_id, note.progress.decode())
        if note.lines:
            _append(tx, note)
    return refused


def _append(tx: Tx, note: Note) -> None:
    """Add lines and drop those that are too many."""
    [[last]] = tx.connection.execute(tx.sql.last_line, (note.job_id,)).fetchall()
    rows = [(note.job_id, number, at, text) for number, (at, text) in enumerate(note.lines, (last or 0) + 1)]
    tx.connection.executemany(tx.sql.put_line, rows)
    surplus = rows[-1][1] - LINES
    if surplus > 0:
        tx.run(tx.sql.trim_lines, note.job_id, surplus)
