"""Taking jobs back from workers that are gone.

A worker is gone when its last heartbeat is too old, or, on a store that lives on one machine, when its process does not
exist any more. The second is known at once and is never wrong: a dead process runs no handler.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING

from windlass import ending, failures, lifecycle
from windlass.drivers.base import Turn
from windlass.lifecycle import Settlement

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from windlass.drivers.base import Driver, Worker
    from windlass.job import Record

BATCH = 500


@functools.cache
def place() -> str:
    """Name the machine's boot and the process namespace, in which a pid means something; ``""`` = unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        space = Path("/proc/self/ns/pid").readlink()
    except OSError:
        return ""
    return f"{boot}/{space}"


def process_start(pid: int) -> float:
    """Return when a process started, in clock ticks since boot; 0 when there is no such process (or no way to know)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0.0
    fields = stat.rpartition(")")[2].split()
    return 0.0 if fields[0] in ("Z", "X") else float(fields[19])


def vanished(workers: Iterable[Worker]) -> list[str]:
    """Return the ids of live workers of this machine whose process does not exist."""
    here = place()
    if not here:
        return []
    return [
        w.id
        for w in workers
        if w.status in ("running", "stopping")
        and w.place == here
        and w.pid != os.getpid()
        and w.pid_start
        and process_start(w.pid) != w.pid_start
    ]


def rescue(
    driver: Driver, *, worker: str, max_crashes: int, overdue: bool = True, limit: int = BATCH
) -> tuple[list[str], list[Settlement]]:
    """Declare lost workers lost and return one batch of their jobs; ``(workers, settlements)``.

    *overdue* = False looks at vanished processes and expired claims only: for a rescuer that cannot trust its own view
    of the others' heartbeats yet.
    """
    gone = vanished(driver.workers()) if driver.capabilities.one_machine and driver.capabilities.shared else []
    lost = driver.bury(gone, overdue=overdue)
    orphans = driver.orphans(limit)
    if not orphans:
        return lost, []
    return lost, give_back(driver, orphans, worker=worker, max_crashes=max_crashes)


def give_back(driver: Driver, orphans: Sequence[Record], *, worker: str, max_crashes: int) -> list[Settlement]:
    """Settle leases that nobody holds any more; return those that were indeed still live."""
    now = driver.now()
    settlements = [
        Settlement(record, lifecycle.lose(record, failures.lost(record.worker), max_crashes=most), now)
        for record, most in ((record, ending.crashes(record, max_crashes)) for record in orphans)
    ]
    refused = set(driver.exchange(Turn(worker=worker, settlements=settlements)).refused)
    return [s for s in settlements if (s.record.id, s.record.lease) not in refused]
