"""Listings of Redis show what there is while it moves."""

from __future__ import annotations

import threading
from contextlib import closing

import pytest

from windlass import lifecycle
from windlass.drivers.base import Filter, Turn, Worker
from windlass.drivers.redis import RedisDriver
from windlass.job import NewJob

JOBS = 200


def test_more_indexes_than_one_script_asks_are_read_in_parts(redis_url: str) -> None:
    with closing(RedisDriver(redis_url)) as driver:
        driver.open()
        made = driver.insert([NewJob(task=f"t{n}", queue="default", payload=b"1") for n in range(400)])
        driver.beat(Worker(id="w", host="h", pid=1))
        claims = driver.exchange(Turn(worker="w", limit=150, start=1, tasks=tuple(r.task for r in made))).claims
        assert [r.id for r in claims] == [r.id for r in made[:150]], "many tasks are claimed in order"
        assert [r.id for r in driver.find(Filter(), limit=500)] == [r.id for r in made[::-1]]
        assert driver.count(Filter(created_after=0.0), most=500) == 400


@pytest.mark.slow
def test_a_listing_shows_every_job_while_all_of_them_move(redis_url: str) -> None:
    with closing(RedisDriver(redis_url)) as driver:
        driver.open()
        driver.beat(Worker(id="w", host="h", pid=1))
        driver.insert([NewJob(task="t", queue=f"q{n % 5}", payload=b"1") for n in range(JOBS)])
        turns, enough = threading.Semaphore(0), threading.Event()
        movers = [threading.Thread(target=move, args=(redis_url, turns, enough)) for _ in range(2)]
        for mover in movers:
            mover.start()
        listed, counted = [], []
        try:
            for _ in range(50):
                assert turns.acquire(timeout=10)
                listed.append(len(driver.find(Filter(), limit=2 * JOBS)))
                counted.append(driver.count(Filter(created_after=0.0), most=2 * JOBS))
        finally:
            enough.set()
            for mover in movers:
                mover.join()
        assert set(listed) == {JOBS}
        assert set(counted) == {JOBS}


def test_instants_are_found_though_the_clock_was_set_back(redis_url: str) -> None:
    with closing(RedisDriver(redis_url)) as driver:
        driver.open()
        made = []
        for seconds, number in ((0, 1), (600, 1), (-600, 1), (0, 2), (300, 1), (900, 2)):
            driver.shift(seconds)
            made += driver.insert([NewJob(task="t", queue="default", payload=b"1") for _ in range(number)])
        start = made[0].created_at
        for since in range(-120, 1500, 30):
            at = start + since
            older = [r.id for r in reversed(made) if r.created_at < at]
            assert [r.id for r in driver.find(Filter(created_before=at), limit=10)] == older
            newer = [r.id for r in reversed(made) if r.created_at >= at]
            assert [r.id for r in driver.find(Filter(created_after=at), limit=10)] == newer


def move(url: str, turns: threading.Semaphore, enough: threading.Event) -> None:
    """Claim jobs, and give some back and put others off, again and again."""
    with closing(RedisDriver(url)) as driver:
        driver.open()
        ends: list[lifecycle.Settlement] = []
        while not enough.is_set():
            turned = driver.exchange(Turn(worker="w", settlements=ends, limit=40, start=40, tasks=("t",)))
            turns.release()
            now = driver.now()
            ends = [
                lifecycle.Settlement(r, lifecycle.release(r) if r.id % 2 else lifecycle.snooze(r, 0.001, now=now), now)
                for r in turned.claims
            ]
