"""A process is killed at every step of ``ctx.transaction()``: its writes, its child and its completion happen once."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.chaos.fleet import Fleet
from tests.waiting import until
from windlass import Outcome, Windlass

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from tests.servers.postgres import Postgres

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

TABLES = ("CREATE TABLE effect (number INT NOT NULL)", "CREATE TABLE total (n INT)", "INSERT INTO total VALUES (0)")


@pytest.mark.parametrize("store", ["postgres", "sqlite"])
def test_a_kill_at_any_step_leaves_all_or_nothing(
    store: str, tmp_path: Path, request: pytest.FixtureRequest, new_app: Callable[..., Windlass]
) -> None:
    settings = {"CHAOS_LOST_AFTER": "1.5", "WINDLASS_MAX_CRASHES": "1000"}
    if store == "postgres":
        server: Postgres = request.getfixturevalue("new_postgres")()
        url = settings["CHAOS_URL"] = server.url()
        connect: Callable[[], Any] = lambda: psycopg.connect(url, autocommit=True)  # noqa: E731
    else:
        url = f"sqlite:///{tmp_path / 'chaos.db'}"
        connect = lambda: sqlite3.connect(tmp_path / "chaos.db", isolation_level=None)  # noqa: E731
    app = new_app(url)
    app.stats()
    with closing(connect()) as connection:
        for statement in TABLES:
            connection.execute(statement)
    fleet = Fleet(tmp_path, size=0, **settings)
    try:
        # What is there to be killed at?
        app.enqueue("work", {"number": 0})
        first = start(fleet)
        until(lambda: any(line["what"] == "steps" for line in fleet.notes()))
        steps = next(line["steps"] for line in fleet.notes() if line["what"] == "steps")
        assert steps >= 4
        first.terminate()
        assert first.wait(20) == 0
        points = [f"before:{n}" for n in range(1, steps + 1)] + ["end"]
        if store == "postgres":
            points += [f"after:{n}" for n in range(1, steps + 1)] + ["unread"]
        for number in range(1, 2 * len(points)):
            app.enqueue("work", {"number": number})
        for batch in (points[::2], points[1::2]):
            killed = [start(fleet, point) for point in batch]
            for process in killed:
                assert process.wait(60) < 0
        assert sorted(line["point"] for line in fleet.notes() if line["what"] == "point") == sorted(points)
        start(fleet)
        works = 2 * len(points)
        until(lambda: app.stats().completed >= 2 * works, timeout=60)
    finally:
        fleet.close()
    with closing(connect()) as connection:
        assert connection.execute("SELECT n FROM total").fetchone() == (works,)
        assert [row[0] for row in connection.execute("SELECT number FROM effect ORDER BY number")] == list(range(works))
    assert app.stats().completed == 2 * works
    lost = sum(a.outcome is Outcome.LOST for job in app.jobs(task="work", limit=works) for a in app.history(job.id))
    # Where the commit had been made the kill cost nothing.
    assert lost == len(points) - (3 if store == "postgres" else 1)


def start(fleet: Fleet, point: str = "") -> subprocess.Popen[bytes]:
    """Start a worker for one job at a time that dies at *point*."""
    return fleet.start("tests.chaos.exactly_once:app", concurrency=1, CHAOS_POINT=point)
