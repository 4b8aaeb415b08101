"""Running jobs step by step, without a worker: so that tests see every state in between."""

from __future__ import annotations

from typing import TYPE_CHECKING

from windlass import lifecycle, terms
from windlass.drivers.base import Turn

if TYPE_CHECKING:
    from windlass import Windlass
    from windlass.job import Record

ERROR = b'{"type":"ValueError","message":"no"}'
WORKER = "by-hand"


def take(app: Windlass, limit: int = 1) -> list[Record]:
    """Start jobs."""
    turn = Turn(worker=WORKER, limit=limit, start=limit, tasks=app.task_names())
    return app.driver.exchange(turn).claims


def end(app: Windlass, *records: Record, dies: bool = False, result: bytes = b"1") -> None:
    """End attempts as a worker does."""
    now = app.driver.now()
    ends = []
    for record in records:
        if dies:
            transition = lifecycle.fail(record, ERROR, max_attempts=1, delay=0, now=now)
            ends.append(lifecycle.Settlement(record, transition, now))
        else:
            then = terms.following(record, terms.terms_of(record), result)
            ends.append(lifecycle.Settlement(record, lifecycle.succeed(record, result), now, then))
    turned = app.driver.exchange(Turn(worker=WORKER, settlements=ends))
    assert turned.refused == []
    app.settle_batches(turned.ripe)


def run_all(app: Windlass, *, dies: tuple[str, ...] = ()) -> list[str]:
    """Run everything that is due; return the tasks in the order in which they started."""
    started = []
    while claims := take(app):
        [record] = claims
        started.append(record.task)
        end(app, record, dies=record.task in dies)
    return started
