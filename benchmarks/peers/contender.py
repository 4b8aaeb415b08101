"""The side that measures: makes a contender of a peer, whose own processes it starts and whose tables it reads."""

import importlib.util
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

from benchmarks import probe, process
from benchmarks.contender import Contender, Place

PAUSE = 0.1
"""Seconds between two looks at the store."""
CAP = 10.0
"""Seconds after which a drain is stopped; then what is done by that time counts."""


Unfinished: TypeAlias = Callable[[str], AbstractContextManager[Callable[[], int]]]
"""Connects to a store, and gives a function that returns the number of jobs that are not finished yet."""


def this_python() -> str:
    """Return the interpreter that runs this."""
    return sys.executable


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A peer on one store, seen from outside: the module of `benchmarks.peers` to run, and how to read the store."""

    name: str
    package: str
    """What is imported."""
    place: Place
    unfinished: Unfinished
    module: str = ""
    """Of `benchmarks.peers`; called after the package unless named."""
    bulk: int = 50_000
    """How many jobs to enqueue in bulk."""
    python: Callable[[], str] = this_python

    def command(self, *arguments: object) -> list[str]:
        """Return the arguments of Python for one of its processes."""
        return ["-m", "benchmarks.peers", self.module or f"{self.package}_", *map(str, arguments)]

    def run(self, *arguments: object) -> str:
        """Run one of its processes to the end and return what it prints."""
        command = [self.python(), *self.command(*arguments)]
        ended = subprocess.run(command, cwd=process.ROOT, capture_output=True, text=True, check=False)
        if ended.returncode:
            raise RuntimeError(f"{self.name} failed at {arguments[0]}: {ended.stderr[-2_000:]}")
        return ended.stdout

    def missing(self) -> str | None:
        """Tell why it cannot run here: it is not installed."""
        return None if importlib.util.find_spec(self.package) else "it is not installed; `make bench` does that"


def enqueue_one(peer: Peer, folder: Path, count: int = 2_000) -> float:
    """Enqueue one job at a time through its API."""
    with peer.place.open(folder) as url:
        peer.run("install", url)
        return float(peer.run("enqueue_one", url, count))


def enqueue_many(peer: Peer, folder: Path) -> float:
    """Enqueue many jobs as its documentation advises."""
    with peer.place.open(folder) as url:
        peer.run("install", url)
        return float(peer.run("enqueue_many", url, peer.bulk))


def drain(peer: Peer, folder: Path, count: int = 20_000, processes: int = 1) -> float:
    """Run no-op jobs with its worker: from the first start of a handler until the store says that all are done.

    A peer that ends a job before it runs is done when the last handler has started.
    """
    with peer.place.open(folder) as url, peer.unfinished(url) as unfinished:
        peer.run("install", url)
        peer.run("fill", url, count)
        peer.place.settle(url)
        with process.workers(folder, peer.command("work", url), count=processes, python=peer.python()):
            left, at = watch(unfinished, count)
    runs = probe.read(folder, "runs")
    done = count - left
    if len(runs) < done:
        raise RuntimeError(f"{done} jobs are done, but {len(runs)} ran")
    return done / (max(at, runs[done - 1]) - runs[0])


def watch(unfinished: Callable[[], int], count: int) -> tuple[int, float]:
    """Wait until no job is left or `CAP` has passed since the first was done; return how many are left, and when."""
    begin, cap = time.monotonic(), None
    while True:
        left, now = unfinished(), time.monotonic()
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
    with peer.place.open(folder) as url, peer.unfinished(url) as unfinished:
        peer.run("install", url)
        with process.workers(folder, peer.command("work", url), python=peer.python()):
            time.sleep(3)
            peer.run("latency", url, samples)
            process.until(lambda: not unfinished())
    delays = probe.read(folder, "delays")
    if len(delays) < samples:
        raise RuntimeError(f"{len(delays)} jobs of {samples} ran")
    return probe.quantiles(delays)


def contender(peer: Peer, missing: Callable[[], str | None] | None = None) -> Contender:
    """Return the works of a peer."""
    works = (enqueue_one, enqueue_many, drain, drain_2_processes, latency)
    return Contender(
        name=peer.name,
        store=peer.place.store,
        works={work.__name__: partial(work, peer) for work in works},
        drains=frozenset({"drain", "drain_2_processes"}),
        missing=missing or peer.missing,
    )
