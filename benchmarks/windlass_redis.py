"""Windlass itself, on Redis."""

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import process, redis_server, windlass_works
from benchmarks.contender import Contender, Place
from benchmarks.windlass_worker import application
from benchmarks.windlass_works import LOOK, fill, worker
from windlass.errors import WindlassError

REDIS = Place(store="redis", open=redis_server.database, settle=redis_server.settle)
BATCH = "100"


def script_time(folder: Path, count: int = 20_000) -> float:
    """Measure how long the server is in scripts per job while a worker process with a hundred jobs at once drains."""
    with redis_server.database() as url, application(url) as app, redis_server.client(url) as client:
        fill(app, "note_run", count)
        before = redis_server.in_scripts(client)
        with process.workers(folder, worker(url, BATCH)):
            process.until(lambda: app.count(status="completed") == count, pause=0.5)  # looking is a script too
        return (redis_server.in_scripts(client) - before) / count


def memory(folder: Path, count: int = 100_000) -> Mapping[str, float]:
    """Measure how much of the server's memory a job takes, with a payload of 100 bytes: while it waits, and finished."""
    payload = {"user_id": 12345, "email": "someone@example.com", "template": "w" * 39}
    with redis_server.database() as url, application(url) as app, redis_server.client(url) as client:
        app.stats()
        empty = used(client)
        for _ in range(0, count, 10_000):
            app.enqueue_many([app.tasks["note_run"].job(**payload) for _ in range(10_000)])
        waiting = used(client)
        with process.workers(folder, worker(url)):
            process.until(lambda: app.count(status="completed") == count, pause=LOOK * 10)
        finished = used(client)
    return {"waiting": (waiting - empty) / count, "finished": (finished - empty) / count}


def used(client: Any) -> int:
    """Return the bytes that the server has allocated."""
    return int(client.info("memory")["used_memory"])


def missing() -> str | None:
    """Tell why it cannot be measured: the driver is not there."""
    try:
        application(os.environ[redis_server.URL]).close()
    except WindlassError as error:
        return str(error)
    return None


CONTENDER = Contender(
    name="windlass_redis",
    store="redis",
    works={
        **{work.__name__: partial(work, REDIS) for work in windlass_works.COMMON},
        "script_time": script_time,
        "memory": memory,
    },
    drains=frozenset({"drain", "drain_threads", "drain_2_processes"}),
    missing=missing,
)
