"""The side that measures: makes a contender of a peer, whose own processes it starts and whose tables it reads."""

import importlib.util
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psycopg

from benchmarks import postgres, probe, process
from benchmarks.contender import Contender

PAUSE = 0.1
"""Seconds between two looks at the store."""
CAP = 10.0
"""Seconds after which a drain is stopped; then what is done by that time counts."""


def this_python() -> str:
    """Return the interpreter that runs this."""
    return sys.executable


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A peer, seen from outside: the module of `benchmarks.peers` to run, and how to read its tables."""

    name: str
    unfinished: str
    """A query for the number of jobs that are not finished yet."""
    bulk: int = 50_000
    """How many jobs to enqueue in bulk."""
    python: Callable[[], str] = this_python

    def command(self, *arguments: object) -> list[str]:
        """Return the arguments of Python for one of its processes."""
        return ["-m", "benchmarks.peers", f"{self.name}_", *map(str, arguments)]

    def run(self, *arguments: object) -> str:
        """Run one of its processes to the end and return what it prints."""
        command = [self.python(), *self.command(*arguments)]
        ended = subprocess.run(command, cwd=process.ROOT, capture_output=True, text=True, check=False)
        if ended.returncode:
            raise RuntimeError(f"{self.name} failed at {arguments[0]}: {ended.stderr[-2_000:]}")
        return ended.stdout

    def missing(self) -> str | None:
        """Tell why it cannot run here: it is not installed."""
        return None if importlib.util.find_spec(self.name) else "it is not installed; `make bench` does that"


def enqueue_one(peer: Peer, _folder: Path, count: int = 2_000) -> float:
    """Enqueue one job at a time through its API."""
    with postgres.database() as url:
        peer.run("install", url)
        return float(peer.run("enqueue_one", url, count))


def enqueue_many(peer: Peer, _folder: Path) -> float:
    """Enqueue many jobs as its documentation advises."""
    with postgres.database() as url:
        peer.run("install", url)
        return float(peer.run("enqueue_many", url, peer.bulk))


def drain(peer: Peer, folder: Path, count: int = 20_000, processes: int = 1) -> float:
    """Run no-op jobs with its worker: from the first start of a handler until its tables say that all are done."""
    with postgres.database() as url, psycopg.connect(url, autocommit=True) as connection:
        peer.run("install", url)
        peer.run("fill", url, count)
        postgres.settle(url)
        with process.workers(folder, peer.command("work", url), count=processes, python=peer.python()):
            left, at = watch(connection, peer.unfinished, count)
    runs = probe.read(folder, "runs")
    done = count - left
    if len(runs) < done:
        raise RuntimeError(f"{done} jobs are done, but {len(runs)} ran")
    return done / (at - runs[0])


def watch(connection: psycopg.Connection[tuple[int]], unfinished: str, count: int) -> tuple[int, float]:
    """Wait until no job is left or `CAP` has passed since the first was done; return how many are left, and when."""
    begin, cap = time.monotonic(), None
    while True:
        row = connection.execute(unfinished).fetchone()
        now, left = time.monotonic(), row[0] if row else 0
        if left == 0:
            return 0, now - PAUSE / 2
        if cap is None and left < count:
            cap = now + CAP
        if cap is not None and now > cap:
            return left, now
        if cap is None and now - begin > 3 * CAP:
            raise TimeoutError("no job was done; see worker.log")
        time.sleep(PAUSE)


def drain_2_processes(peer: Peer, folder: Path) -> float:
    """Run more of the same jobs with two worker processes."""
    return drain(peer, folder, count=40_000, processes=2)


def latency(peer: Peer, folder: Path, samples: int = 200) -> Mapping[str, float]:
    """Enqueue single jobs for an idle worker in another process, and measure until the handler starts."""
    with postgres.database() as url, psycopg.connect(url, autocommit=True) as connection:
        peer.run("install", url)
        with process.workers(folder, peer.command("work", url), python=peer.python()):
            time.sleep(3)
            peer.run("latency", url, samples)
            process.until(lambda: connection.execute(peer.unfinished).fetchone() == (0,))
    delays = probe.read(folder, "delays")
    if len(delays) < samples:
        raise RuntimeError(f"{len(delays)} jobs of {samples} ran")
    return probe.quantiles(delays)


def contender(peer: Peer, missing: Callable[[], str | None] | None = None) -> Contender:
    """Return the works of a peer."""
    works = (enqueue_one, enqueue_many, drain, drain_2_processes, latency)
    return Contender(
        name=peer.name,
        store="postgres",
        works={work.__name__: partial(work, peer) for work in works},
        drains=frozenset({"drain", "drain_2_processes"}),
        missing=missing or peer.missing,
    )
