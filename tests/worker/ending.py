"""Waiting for jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.waiting import until

if TYPE_CHECKING:
    from windlass import Job

OVER = ("completed", "dead", "cancelled")


def ended(job: Job, *, timeout: float = 45.0) -> Job:
    """Wait for the end of a job."""
    return until(lambda: now if (now := job.refresh()).status in OVER else None, timeout=timeout)  # type: ignore[return-value]


def reaches(job: Job, status: str, *, timeout: float = 45.0) -> Job:
    """Wait until a job has a status."""
    return until(lambda: now if (now := job.refresh()).status == status else None, timeout=timeout)  # type: ignore[return-value]


def outcomes(job: Job) -> list[str]:
    return [attempt.outcome.value for attempt in job.history()]
