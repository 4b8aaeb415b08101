"""What is wrong, if anything: the store's own findings and those that every store shares."""

from __future__ import annotations

from typing import TYPE_CHECKING

from windlass.drivers.base import Filter, Finding
from windlass.job import Status

if TYPE_CHECKING:
    from windlass.drivers.base import Driver, Worker

OLD = 300.0
"""Seconds a pending job may wait before it is worth a note."""


def examine(driver: Driver) -> list[Finding]:
    """Look at the store, its queues and workers."""
    workers = driver.workers()
    return [*driver.diagnose(), *_workers(workers), *_queues(driver, workers), *_running(driver)]


def _workers(workers: list[Worker]) -> list[Finding]:
    alive = [w for w in workers if w.status in ("running", "stopping")]
    lost = [w for w in workers if w.status == "lost"]
    refused = sum(w.refused for w in workers)
    found = [
        Finding(
            name="workers",
            value=str(len(alive)),
            level="ok" if alive else "note",
            advice="" if alive else "nothing runs jobs now; start `windlass worker module:app`",
        ),
        Finding(
            name="lost workers, last hour",
            value=str(len(lost)),
            level="warning" if lost else "ok",
            advice="killed, or cut off from the store: " + ", ".join(w.id for w in lost[:5]) if lost else "",
        ),
    ]
    if refused:
        advice = "workers wrote after they had lost their lease: paused, or starved of CPU"
        found.append(Finding(name="refused writes", value=str(refused), level="warning", advice=advice))
    found += [Finding(name=f"worker {w.id}", value=w.note, level="warning") for w in alive if w.note]
    return found


def _queues(driver: Driver, workers: list[Worker]) -> list[Finding]:
    found = []
    now = driver.now()
    pauses = driver.pauses()
    tallies = driver.tallies()
    for name in sorted({t.queue for t in tallies if t.counts[Status.PENDING]}):
        oldest = driver.oldest(name)
        age = 0.0 if oldest is None else now - oldest
        paused = ("queue", name) in pauses
        late = age > OLD and not paused
        found.append(
            Finding(
                name=f"oldest pending in {name}",
                value=f"{age:.0f} s" + (" (paused)" if paused else ""),
                level="warning" if late else "ok",
                advice="`windlass why ID` tells for one job" if late else "",
            )
        )
    known = {task for w in workers if w.status == "running" for task in w.tasks}
    orphaned = sorted({t.task for t in tallies if t.counts[Status.PENDING] and t.task not in known})
    if orphaned and known:
        advice = "no running worker knows: " + ", ".join(orphaned[:5])
        found.append(Finding(name="unknown tasks", value=str(len(orphaned)), level="warning", advice=advice))
    dead = sum(t.counts[Status.DEAD] for t in tallies)
    advice = "`windlass jobs --status dead`" if dead else ""
    found.append(Finding(name="dead jobs", value=str(dead), level="note" if dead else "ok", advice=advice))
    return found


def _running(driver: Driver) -> list[Finding]:
    overdue = driver.count(Filter(statuses=(Status.RUNNING,), started_before=driver.now() - 3600), most=1000)
    advice = "`windlass jobs --status running`" if overdue else ""
    level = "note" if overdue else "ok"
    return [Finding(name="running for over an hour", value=str(overdue), level=level, advice=advice)]
