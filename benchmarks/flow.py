"""What keys, gates and batches cost: `python -m benchmarks.flow --store sqlite`.

Each figure is a ratio of two measurements that take turns on this machine: the same work with and without. The rate is
measured over worker processes, and its windows are checked against the history of what started.
"""

import argparse
import itertools
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from benchmarks import postgres, redis_server
from windlass import Limit, Rate, Status, Windlass, lifecycle
from windlass.drivers.base import Filter, Turn

if TYPE_CHECKING:
    from windlass.job import Record

FOLDER = Path(__file__).parent.parent / "build" / "bench"
BLOCKED, OTHERS, MEMBERS, UNIQUE = 100_000, 10_000, 10_000, 2_000
MOST, BURST, PROCESSES, LENGTH = 100.0, 10.0, 8, 10.0
NUMBERS = itertools.cycle(range(8))
"""Databases of Redis: two stores are measured side by side."""
BOUNDS = {
    "blocked": (1.3, "claim and settle, 100,000 jobs blocked on a full key / none"),
    "unique": (1.3, "enqueue one, unique / plain"),
    "batch": (1.1, "drain 10,000 members of a batch / of none"),
    "rate used": (0.95, "starts / what a rate of 100/s allows, 8 processes"),
    "rate kept": (1.0, "most starts in any window / burst + rate × window"),
}


@contextmanager
def store(name: str, folder: Path) -> Iterator[str]:
    """Yield the URL of an empty store."""
    if name == "postgres":
        with postgres.database() as url:
            yield url
    elif name == "redis":
        with redis_server.database(number=next(NUMBERS)) as url:
            yield url
    elif name == "memory":
        yield "memory://"
    else:
        path = folder / f"flow-{time.monotonic_ns()}.db"
        try:
            yield f"sqlite:///{path}"
        finally:
            for left in folder.glob(f"{path.name}*"):
                left.unlink()


@contextmanager
def filled(name: str, folder: Path) -> Iterator[Windlass]:
    """Yield an application on an empty store."""
    with store(name, folder) as url, application(url) as app:
        app.stats()
        yield app


def application(url: str) -> Windlass:
    """Return an application with the tasks that are measured."""
    app = Windlass(url)

    @app.task(name="plain")
    def plain(n: int) -> None: ...

    @app.task(name="unique", unique=True)
    def unique(n: int) -> None: ...

    @app.task(name="keyed", limit=Limit(1, key="busy"))
    def keyed(n: int) -> None: ...

    @app.task(name="rated", limit=Rate(MOST, per=1, burst=BURST, key="api"))
    def rated(n: int) -> None: ...

    return app


def drain(app: Windlass, count: int, batch: int = 100) -> float:
    """Claim and settle *count* jobs by hundreds, as a pump does; return the seconds."""
    began, settled = time.perf_counter(), 0
    held: list[Record] = []
    names = app.task_names()
    while settled < count:
        now = app.driver.now()
        ends = [lifecycle.Settlement(record, lifecycle.succeed(record), now) for record in held]
        turned = app.driver.exchange(Turn(worker="bench", settlements=ends, limit=batch, start=batch, tasks=names))
        settled += len(ends)
        held = turned.claims
    return time.perf_counter() - began


def fill(app: Windlass, task: str, count: int, batch_id: int | None = None) -> None:
    """Enqueue by thousands."""
    for start in range(0, count, 1000):
        drafts = [app.tasks[task].job(n) for n in range(start, min(count, start + 1000))]
        if batch_id is None:
            app.enqueue_many(drafts)
        else:
            app.enqueue_members(batch_id, drafts)


def blocked(name: str, folder: Path) -> float:
    """Compare claims beside a hundred thousand blocked jobs with claims beside none."""
    with filled(name, folder) as full, filled(name, folder) as empty:
        fill(full, "keyed", BLOCKED)
        while full.driver.exchange(Turn(worker="holder", limit=1, start=1, tasks=("keyed",))).claims or (
            sum(state.waiting for state in full.limits()) < BLOCKED - 1
        ):
            pass
        return alternate(lambda: drained(full), lambda: drained(empty))


def drained(app: Windlass) -> float:
    """Fill with plain jobs and drain them."""
    fill(app, "plain", OTHERS)
    return drain(app, OTHERS)


def unique(name: str, folder: Path) -> float:
    """Compare enqueues one by one."""
    with filled(name, folder) as app:
        number = iter(range(10**9))

        def timed(task: str) -> float:
            began = time.perf_counter()
            for _ in range(UNIQUE):
                app.tasks[task].enqueue(next(number))
            return time.perf_counter() - began

        return alternate(lambda: timed("unique"), lambda: timed("plain"))


def batch(name: str, folder: Path) -> float:
    """Compare a drain of members with one of plain jobs."""
    with filled(name, folder) as app:

        def members() -> float:
            made = app.batch("bench")
            fill(app, "plain", MEMBERS, made.id)
            app.close_batch(made.id)
            took = drain(app, MEMBERS)
            app.settle_batches(app.driver.ripe(10))
            assert app.get_batch(made.id).progress().succeeded
            return took

        return alternate(members, lambda: drained(app))


def alternate(one: Callable[[], float], other: Callable[[], float], rounds: int = 9) -> float:
    """Return the ratio of the medians of two works that take turns; a first round warms up."""
    one(), other()
    pairs = [(one(), other()) for _ in range(rounds)]
    return statistics.median(a for a, _ in pairs) / statistics.median(b for _, b in pairs)


def rate(name: str, folder: Path) -> dict[str, float]:
    """Let worker processes share a rate; compare what started with what may."""
    with store(name, folder) as url, application(url) as app:
        fill(app, "rated", int(MOST * LENGTH * 2))
        if name == "memory":
            with app.worker(concurrency=4):
                time.sleep(LENGTH)
        else:
            context = multiprocessing.get_context("spawn")
            workers = [context.Process(target=work, args=(url,), daemon=True) for _ in range(PROCESSES)]
            for worker in workers:
                worker.start()
            while not app.count(status="completed"):
                time.sleep(0.1)
            time.sleep(LENGTH)
            for worker in workers:
                worker.terminate()
            for worker in workers:
                worker.join()
        records = app.driver.find(Filter(statuses=(Status.COMPLETED,)), limit=100_000)
        starts = sorted(record.started_at for record in records if record.started_at is not None)
    spans = [
        (j - i + 1) / (BURST + MOST * (starts[j] - starts[i]))
        for i in range(len(starts))
        for j in range(i, len(starts))
    ]
    return {
        "rate used": len(starts) / (BURST + MOST * (starts[-1] - starts[0])),
        "rate kept": max(spans),
    }


def work(url: str) -> None:
    """Run a worker until it is told to stop."""
    with application(url) as app:
        app.run(concurrency=4)


def measure(name: str, folder: Path) -> Mapping[str, float]:
    """Measure everything on one store."""
    return {
        "blocked": blocked(name, folder),
        "unique": unique(name, folder),
        "batch": batch(name, folder),
        **rate(name, folder),
    }


def main() -> None:
    """Measure the stores that are asked for and print what was to be reached."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flow", description=(__doc__ or "").partition(":")[0])
    parser.add_argument("--store", default="memory,sqlite,postgres,redis", help="stores, with commas between")
    parser.add_argument("--json", action="store_true", help="print figures for programs")
    given = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    names = given.store.split(",")
    with ExitStack() as servers:
        if "postgres" in names:
            servers.enter_context(postgres.server(FOLDER / "postgres"))
        if "redis" in names:
            servers.enter_context(redis_server.server(FOLDER / "redis", "no"))
        figures = {name: measure(name, FOLDER) for name in names}
    if given.json:
        print(json.dumps(figures, indent=2))
        return
    table = Table("figure", "bound", *names, title="Keys, gates and batches")
    for figure, (bound, text) in BOUNDS.items():
        table.add_row(text, f"{bound:g}", *(f"{figures[name][figure]:.3f}" for name in names))
    Console().print(table)


if __name__ == "__main__":
    main()
