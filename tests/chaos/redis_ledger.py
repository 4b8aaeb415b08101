"""What must be true of a Redis store when the dust has settled."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from windlass import Status

if TYPE_CHECKING:
    from windlass import Windlass
    from windlass.drivers.redis import RedisDriver


def stored(app: Windlass) -> set[int]:
    """Return the ids of all jobs in a store that is consistent: none out of its place, and counters equal the jobs."""
    driver: RedisDriver = app.driver  # type: ignore[assignment]
    at_end = False
    while not at_end:
        at_end, mended = driver.run("repair", 500)
        assert not mended, f"{mended} jobs stood in no index"
    page = app.jobs(limit=1000)
    jobs = list(page)
    while page.next is not None:
        page = app.jobs(limit=1000, after=page.next)
        jobs += page
    rows = Counter(job.status for job in jobs)
    stats = app.stats()
    assert {status: getattr(stats, status.value) for status in Status} == {status: rows[status] for status in Status}
    ids = {job.id for job in jobs}
    assert len(ids) == len(jobs)
    return ids
