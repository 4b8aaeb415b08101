"""The worker's log lines: ``time level [worker] [job id] message``, or JSON."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime

import msgspec

from windlass.cli.output import clean

_CLEAR = "\r\x1b[K"
"""Wipes the status line, which stands where the log line will."""


class Lines(logging.Formatter):
    """Text for people. Records made outside of jobs lack ``job_id``; so do those of loggers set up before us."""

    def __init__(self, worker: str, *, clear: bool = False) -> None:
        super().__init__()
        self._worker = f" [{worker}]" if worker else ""
        self._clear = _CLEAR if clear else ""

    def format(self, record: logging.LogRecord) -> str:
        """Format one record."""
        moment = datetime.fromtimestamp(record.created, UTC).astimezone()
        job = getattr(record, "job_id", None)
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        if record.stack_info:
            text += "\n" + record.stack_info
        inside = f" [job {job}]" if job is not None else ""
        when = moment.isoformat(" ", "milliseconds")
        return f"{self._clear}{when} {record.levelname:<7}{self._worker}{inside} {clean(text)}"


class Objects(logging.Formatter):
    """One JSON object per record."""

    def __init__(self, worker: str) -> None:
        super().__init__()
        self._worker = worker

    def format(self, record: logging.LogRecord) -> str:
        """Format one record."""
        shown = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
            "worker": self._worker or None,
            "job_id": getattr(record, "job_id", None),
            "task": getattr(record, "task", None),
            "message": record.getMessage(),
        }
        if record.exc_info:
            shown["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(shown).decode()


def setup(level: str, *, worker: str = "", as_json: bool = False) -> None:
    """Send log lines to standard error, unless the application has set up logging by itself."""
    root = logging.getLogger()
    if root.handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Objects(worker) if as_json else Lines(worker, clear=sys.stderr.isatty()))
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("windlass").setLevel(level.upper())
    if level.upper() == "DEBUG":
        root.setLevel(logging.INFO)
