"""What is done to worker processes, whatever their store: they are killed, stopped and told to end, and their clocks are wrong."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

from tests.chaos.ledger import assert_calm
from tests.waiting import until

if TYPE_CHECKING:
    import random
    import subprocess

    from tests.chaos.fleet import Fleet
    from windlass import Windlass

LOST_AFTER = 2.0
AT_ONCE = 100
"""Jobs enqueued between two faults; half as many wait when the next one strikes."""


def die_and_freeze(app: Windlass, fleet: Fleet, dice: random.Random, size: float) -> list[int]:
    """Enqueue while workers die, freeze and end; return what was acknowledged, when all is done.

    Faults go on until attempts were lost, however slow the machine: without that nothing was tried.
    """
    faults = int(8 * size)
    acknowledged: list[int] = []

    def enqueue(number: int) -> None:
        for _ in range(number):
            length = dice.uniform(0.02, 0.12)
            acknowledged.append(app.enqueue(dice.choice(("in_thread", "on_loop")), {"length": length}).id)

    enqueue(AT_ONCE)
    for fault in range(5 * faults):
        if fault >= faults and app.stats().totals.lost:
            break
        goal = len(acknowledged)
        enqueue(AT_ONCE)
        until(lambda goal=goal: app.stats().totals.processed >= goal - AT_ONCE // 2, timeout=60)
        _strike(app, fleet, dice, fault)
        fleet.fill()

    def completed() -> bool:
        fleet.fill()
        return app.stats().completed == len(acknowledged)

    until(completed, timeout=120, every=0.1)
    return acknowledged


def _strike(app: Windlass, fleet: Fleet, dice: random.Random, fault: int) -> None:
    """Do the next thing to a worker that has jobs in hand."""
    busy = until(lambda: _busy(app, fleet) or (app.stats().pending == 0 and fleet.running))
    victim = dice.choice(busy)
    match fault % 4:
        case 0 | 1:
            fleet.kill(victim)
        case 2:
            victim.send_signal(signal.SIGSTOP)
            if dice.random() < 0.7:  # until the others have taken its jobs away
                lost = app.stats().totals.lost
                until(lambda: (s := app.stats()).totals.lost > lost or not s.pending + s.running)
            victim.send_signal(signal.SIGCONT)
        case _:
            victim.terminate()
            if dice.random() < 0.3:
                victim.terminate()


def _busy(app: Windlass, fleet: Fleet) -> list[subprocess.Popen[bytes]]:
    """Return the workers that run jobs now."""
    pids = {job.worker.partition("-")[0] for job in app.jobs(status="running") if job.worker is not None}
    return [process for process in fleet.running if str(process.pid) in pids]


def wrong_clocks(app: Windlass, fleet: Fleet) -> None:
    """Due times, heartbeats and rescue go by the server's clock alone, which is this machine's too."""
    begin = time.time()
    workers = [fleet.start(CHAOS_SKEW=skew) for skew in (-10_800, 1_500, 86_400)]
    until(lambda: len(app.driver.workers()) == 3)
    later = [app.enqueue("on_loop", {"length": 0}, delay=1.5).id for _ in range(20)]
    at_once = [app.enqueue("in_thread", {"length": 0.01}).id for _ in range(200)]
    until(lambda: app.stats().completed >= 100)
    for worker, jump in zip(workers, (signal.SIGUSR1, signal.SIGUSR2, signal.SIGUSR1), strict=True):
        worker.send_signal(jump)
    at_once += [app.enqueue("on_loop", {"length": 0.01}).id for _ in range(200)]
    until(lambda: app.stats().completed == 420)
    for job_id in later + at_once:
        (attempt,) = app.history(job_id)
        assert attempt.started_at is not None
        assert attempt.finished_at is not None
        assert begin <= attempt.started_at.timestamp() <= attempt.finished_at.timestamp() <= time.time()
        # A turn knows one instant, its beginning: a job that comes while it goes on may start "before" it was made.
        assert job_id in at_once or attempt.started_at >= app.get(job_id).run_at
    # Nobody takes a living worker for lost, and a dead one is found: whoever judges has a wrong clock.
    for _ in range(24):
        app.enqueue("in_thread", {"length": 60})
    until(lambda: app.stats().running == 24)
    beats = {w.id: w.beat_at for w in app.driver.workers()}
    until(lambda: all(w.beat_at >= beats[w.id] + 2 * LOST_AFTER for w in app.driver.workers()))
    assert app.stats().totals.lost == 0
    fleet.kill(workers[1])
    until(lambda: app.stats().totals.lost == 8)
    assert {w.status for w in app.driver.workers()} == {"running", "lost"}
    assert_calm(fleet.said)
