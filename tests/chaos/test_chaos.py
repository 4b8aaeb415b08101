"""Four workers on one SQLite file are killed, stopped and told to end at random; the history must stay clean."""

import itertools
import os
import random
import signal
import sqlite3
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.application import LOST_AFTER
from tests.chaos.fleet import Fleet
from windlass import Outcome, Windlass

JOBS_BETWEEN = 170
WORKERS = 4
RESCUED = 20.0
"""Seconds from a death to the rescue that are too many, on however busy a machine; two are usual."""


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path, size=WORKERS)
    yield made
    made.close()


def lock_is_free(path: Path, patience: float) -> bool:
    """Whether somebody can write; a stopped process may hold the lock."""
    connection = sqlite3.connect(path, timeout=patience, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
    except sqlite3.OperationalError:
        return False
    finally:
        connection.close()
    return True


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("faults", [10, pytest.param(30, marks=pytest.mark.soak)])
def test_nothing_is_lost_doubled_or_condemned_by_faults(tmp_path: Path, fleet: Fleet, faults: int) -> None:
    """Every acknowledged enqueue completes, leases never overlap, and every refused write was stale."""
    jobs = faults * JOBS_BETWEEN
    seed = int(os.environ.get("CHAOS_SEED", "0")) or random.randrange(1 << 30)
    dice = random.Random(seed)
    print(f"CHAOS_SEED={seed}")  # noqa: T201 - shown when the test fails, to run it again
    app = Windlass(f"sqlite:///{tmp_path / 'chaos.db'}", beat=1, lost_after=LOST_AFTER)
    acknowledged = [
        app.enqueue(dice.choice(("in_thread", "on_loop")), {"length": dice.uniform(0.02, 0.12)}).id
        for _ in range(3 * JOBS_BETWEEN)
    ]
    fleet.fill()
    locks: list[tuple[float, float]] = []
    done = 0
    for fault in range(faults):
        wanted = JOBS_BETWEEN * (fault + 1)
        acknowledged += [
            app.enqueue(dice.choice(("in_thread", "on_loop")), {"length": dice.uniform(0.02, 0.12)}).id
            for _ in range(max(0, wanted - len(acknowledged)))
        ]
        # Strike when some progress has been made since the last time, so that the faults are spread over the work.
        done = wait_for_progress(app, done, JOBS_BETWEEN // 2)
        victim = dice.choice(fleet.running)
        match dice.choice(("kill", "kill", "stop", "term")):
            case "kill":
                fleet.kill(victim)
            case "stop":
                stop_for(fleet, victim, dice.choice((0.3, LOST_AFTER + 1.5)), tmp_path / "chaos.db", locks)
            case "term":
                victim.terminate()
                if dice.random() < 0.3:
                    victim.terminate()
        fleet.fill()
    deadline = time.monotonic() + 120
    while (stats := app.stats()).completed < len(acknowledged):
        assert time.monotonic() < deadline, f"not done: {stats}"
        fleet.fill()
        time.sleep(0.1)
    assert len(acknowledged) == jobs
    check(app, acknowledged, fleet, locks, fleet.notes())
    app.close()


def wait_for_progress(app: Windlass, done: int, step: int) -> int:
    deadline = time.monotonic() + 60
    while (now := app.stats().totals.processed) < done + step and app.stats().pending:
        assert time.monotonic() < deadline, f"no progress: {app.stats()}"
        time.sleep(0.01)
    return now


def stop_for(
    fleet: Fleet, victim: subprocess.Popen[bytes], length: float, path: Path, locks: list[tuple[float, float]]
) -> None:
    stopped = time.time()
    victim.send_signal(signal.SIGSTOP)
    held = not lock_is_free(path, min(length, 0.5))
    rest = stopped + length - time.time()
    if rest > 0:
        time.sleep(rest)  # the length of the pause is the fault itself
    victim.send_signal(signal.SIGCONT)
    if held:
        assert lock_is_free(path, 30)
        locks.append((stopped, time.time()))


def check(
    app: Windlass,
    acknowledged: list[int],
    fleet: Fleet,
    locks: list[tuple[float, float]],
    notes: list[dict[str, Any]],
) -> None:
    stats, jobs = app.stats(), len(acknowledged)
    assert len(set(acknowledged)) == jobs
    assert (stats.completed, stats.dead, stats.cancelled, stats.pending, stats.running) == (jobs, 0, 0, 0, 0)
    starts: dict[int, set[int]] = defaultdict(set)
    for line in notes:
        if line["what"] == "start":
            assert line["lease"] not in starts[line["job"]], f"lease {line['lease']} reached two handlers"
            starts[line["job"]].add(line["lease"])
    lost = slowest = 0.0
    for job_id in acknowledged:
        history = app.history(job_id)
        assert [a.number for a in history] == list(range(1, len(history) + 1))
        assert [a.outcome for a in history].count(Outcome.COMPLETED) == 1
        assert history[-1].outcome is Outcome.COMPLETED
        assert len(starts[job_id]) <= len(history)
        for before, after in itertools.pairwise(history):
            assert before.finished_at is not None
            assert after.started_at is not None
            assert before.finished_at <= after.started_at, f"leases of job {job_id} overlapped: {history}"
            if before.outcome is Outcome.LOST:
                lost += 1
                pid = int((before.worker or "0").partition("-")[0])
                if pid in fleet.gone:
                    slowest = max(slowest, recovery(before.finished_at.timestamp(), fleet.gone[pid], locks))
    assert slowest <= RESCUED
    refused = [(line["job"], line["lease"]) for line in notes if line["what"] == "refused"]
    for job_id, lease in refused:
        assert max(starts[job_id]) > lease or app.history(job_id)[-1].number > len(
            [a for a in starts[job_id] if a <= lease]
        ), f"job {job_id}: a write under lease {lease} was refused although it was valid"
    print(  # noqa: T201
        f"{int(lost)} attempts lost, {len(refused)} writes refused, slowest recovery {slowest:.1f} s, {len(locks)} locks"
    )


def recovery(found: float, died: float, locks: list[tuple[float, float]]) -> float:
    """Return the seconds from death, or from the end of a held lock that was in the way, to the rescue."""
    begin = max([died, *(end for start, end in locks if start <= found and end >= died)])
    return found - begin
