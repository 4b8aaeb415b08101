"""What running handlers tell about themselves, as the function that keeps it takes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from windlass.drivers.base import Note


def spelt(notes: Sequence[Note]) -> str:
    """Return notes as JSON."""
    rows = [
        {
            "id": note.job_id,
            "lease": note.lease,
            "p": None if note.progress is None else note.progress.decode(),
            # The one character that PostgreSQL's text has not.
            "lines": [[at, text.replace("\0", "\ufffd")] for at, text in note.lines] or None,
        }
        for note in notes
    ]
    return msgspec.json.encode(rows).decode()
