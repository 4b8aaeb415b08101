"""Tasks for the process lane that carry things; its children import them by name."""

from __future__ import annotations

import logging
from contextvars import ContextVar
from typing import Any

from windlass import Windlass, current

tenant: ContextVar[str] = ContextVar("tenant")
app = Windlass("sqlite://", backoff=0, poll=0.05)
app.carry(tenant)


def seen() -> dict[str, Any]:
    """Return what a handler sees of what it carries, and what a log record says."""
    record = logging.getLogRecordFactory()("x", logging.INFO, "x", 1, "x", (), None)
    return {
        "tenant": tenant.get("none"),
        "correlation_id": current().job.correlation_id,
        "logged": [getattr(record, "job_id", "?"), getattr(record, "correlation_id", "?")],
    }


@app.task(lane="process")
def in_process() -> dict[str, Any]:
    return seen()
