"""The job's id, and that of all jobs it belongs with, in every log record made while it runs."""

from __future__ import annotations

import logging
from typing import Any

from windlass.carrying import correlation
from windlass.context import _current

_installed = False


def install() -> None:
    """Give every log record ``job_id``, ``task`` and ``correlation_id``, ``None`` outside of a job. Keeps a factory set before."""
    global _installed  # noqa: PLW0603 - logging's factory is global too
    if _installed:
        return
    _installed = True
    make = logging.getLogRecordFactory()

    def factory(*args: Any, **kwargs: Any) -> logging.LogRecord:
        made = make(*args, **kwargs)
        context = _current.get(None)
        record = context.record if context is not None else None
        made.job_id = record.id if record is not None else None
        made.task = record.task if record is not None else None
        made.correlation_id = correlation()
        return made

    logging.setLogRecordFactory(factory)
