"""Many processes, killed at the ticks: each tick of each schedule in each queue fires once, and none is left out."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import pytest

from tests.programs import Program
from tests.schedules.fleet_application import SCHEDULES, STEP
from tests.stores import url_of
from tests.waiting import until
from windlass import Windlass, schedule
from windlass.timing import due

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from windlass.drivers.ticking import ScheduleRecord

WORKERS = 8
STORES = ("sqlite", "postgres", "redis")


@pytest.fixture(params=STORES)
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store that processes share."""
    return url_of(request.param, request, tmp_path)


@pytest.fixture
def app(store_url: str) -> Iterator[Windlass]:
    with Windlass(store_url, durability="relaxed") as app:
        yield app


class Fleet:
    """Workers that are killed and started again."""

    def __init__(self, app: Windlass, url: str, folder: Path, stack: ExitStack, skews: Sequence[int]) -> None:
        self._url, self._folder, self._stack = url, folder, stack
        self._programs = [self._start(skew) for skew in skews if not skew]
        # On SQLite the time is that of whoever writes: declared by a host of tomorrow, a schedule begins tomorrow.
        until(lambda: len(app.driver.schedules()) == SCHEDULES, timeout=90)
        self._programs += [self._start(skew) for skew in skews if skew]

    def _start(self, skew: int) -> tuple[Program, int]:
        words = ("worker", "tests.schedules.fleet_application:app", "--concurrency", "2")
        settings = {"FLEET_URL": self._url, "FLEET_SKEW": str(skew), "PYTHONPATH": os.pathsep.join(("src", "."))}
        program = Program(*words, cwd=self._folder, **settings)
        return self._stack.enter_context(closing(program)), skew

    def kill_one(self) -> None:
        place = random.randrange(WORKERS)
        program, skew = self._programs[place]
        program.send(signal.SIGKILL)
        program.ends()
        self._programs[place] = self._start(skew)


def expected(record: ScheduleRecord) -> list[float]:
    """Return the ticks from its declaration to its watermark."""
    definition = schedule.definition_of(record)
    found = due(schedule.timing_of(definition), record.created_at, record.watermark, 10_000)
    return list(found.ticks)


def caught_up(app: Windlass) -> bool:
    now = app.driver.now()
    records = app.driver.schedules()
    return len(records) == SCHEDULES and all((schedule.next_at(record) or 0) > now for record in records)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("skews", [[0] * WORKERS, [3600, -3600, *[0] * (WORKERS - 2)]], ids=["right", "an hour off"])
def test_every_tick_fires_once_whoever_is_killed_and_whatever_the_clocks_say(
    app: Windlass, store_url: str, skews: list[int], request: pytest.FixtureRequest
) -> None:
    with ExitStack() as stack:
        fleet = Fleet(app, store_url, request.config.rootpath, stack, skews)
        until(lambda: len(app.workers()) == WORKERS and caught_up(app), timeout=90)
        for _ in range(12):
            app.driver.shift(STEP)
            fleet.kill_one()
        until(lambda: caught_up(app), timeout=90)
        until(lambda: app.stats().pending == 0 and app.stats().running == 0, timeout=90)
    ticks = jobs = 0
    for record in app.driver.schedules():
        wanted = [(at, queue) for at in expected(record) for queue in schedule.definition_of(record).queues]
        rows = app.driver.ticks(record.name, 1000)
        assert Counter((row.tick, row.queue) for row in rows if row.job_id is not None) == Counter(wanted), record.name
        assert {row.outcome for row in rows} <= {"fired"}
        assert record.fired == len(expected(record))
        ticks += record.fired
        jobs += len(wanted)
    assert ticks > 2 * SCHEDULES
    assert app.stats().totals.enqueued == jobs
