"""Windlass itself, on SQLite at `durability="full"` and in memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks import probe, process, windlass_works
from benchmarks.contender import Contender, Place
from benchmarks.windlass_worker import application
from benchmarks.windlass_works import ASYNC, fill


@contextmanager
def in_folder(folder: Path) -> Iterator[str]:
    """Yield the URL of a file in this folder, at `durability="full"`, which is the default."""
    yield f"sqlite:///{folder.absolute() / 'windlass.db'}"


def at_rest(_url: str) -> None:
    """Leave the file as it is."""


SQLITE = Place(store="sqlite", open=in_folder, settle=at_rest)


def drain_memory(_folder: Path, count: int = 30_000) -> float:
    """Run no-op jobs of the memory store in this process."""
    with application("memory://") as app:
        fill(app, "note_run", count)
        with app.worker(concurrency=int(ASYNC)):
            process.until(lambda: app.count(status="completed") == count, pause=0.005)
    return count / (probe.runs[-1] - probe.runs[0])


def commits(folder: Path, count: int = 20_000) -> float:
    """Count the transactions per job while one worker drains."""
    with SQLITE.open(folder) as url, application(url) as app:
        fill(app, "note_run", count)
        driver = app.driver
        before = driver.commits  # type: ignore[attr-defined]
        with app.worker(concurrency=int(ASYNC)):
            process.until(lambda: app.count(status="completed") == count)
        return float(driver.commits - before) / count  # type: ignore[attr-defined]


CONTENDER = Contender(
    name="windlass",
    store="sqlite",
    works={
        **{work.__name__: partial(work, SQLITE) for work in windlass_works.COMMON},
        "drain_memory": drain_memory,
        "commits": commits,
    },
    drains=frozenset({"drain", "drain_threads", "drain_2_processes", "drain_memory"}),
)
