"""A worker that is started before its store waits for it, and says so once; what waiting cannot mend ends it."""

from __future__ import annotations

import json
import signal
import sqlite3
import urllib.error
import urllib.request
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tests.waiting import until
from windlass import Windlass

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.programs import Program
    from tests.servers.postgres import Postgres
    from tests.servers.proxy import Proxy

    Start = Callable[..., Program]

AWAY = "worker: the store is away"
SHOP = """
from windlass import Windlass

app = Windlass(poll=0.05)

@app.on_start
def begin():
    print("the hook", flush=True)

@app.task
def double(number: int) -> int:
    return 2 * number
"""


@pytest.fixture
def worker(folder: Path, program: Start) -> Callable[..., Program]:
    """Start a worker on a store."""
    (folder / "shop.py").write_text(SHOP)
    return lambda url, *words: program("worker", "shop:app", *words, WINDLASS_URL=url)


def works(url: str) -> None:
    with Windlass(url) as app:
        job = app.enqueue("double", {"number": 21})
        until(lambda: job.refresh().status == "completed", timeout=60)  # up to ten of them until the next try
        assert job.refresh().result == 42


@pytest.mark.slow
def test_a_worker_waits_for_a_server_that_is_down(
    new_postgres: Callable[..., Postgres], worker: Callable[..., Program]
) -> None:
    server = new_postgres()
    server.stop()
    waiting = worker(server.url())
    waiting.says(AWAY)
    assert "Connection refused" in waiting.text
    server.start()
    works(server.url())
    waiting.says("worker: the store is back")
    assert waiting.text.count(AWAY) == 1
    assert "Traceback" not in waiting.text


@pytest.mark.slow
def test_a_worker_waits_for_a_server_that_does_not_write(
    new_postgres: Callable[..., Postgres], new_proxy: Callable[[int], Proxy], worker: Callable[..., Program]
) -> None:
    """It can be reached, so that hooks are called: once, however often the start is tried."""
    server = new_postgres()
    with Windlass(server.url()) as app:
        app.migrate()
    server.restart(default_transaction_read_only="on")
    proxy = new_proxy(server.port)
    waiting = worker(proxy.through(server.url()))
    until(lambda: proxy.counts.connections >= 6)
    assert (waiting.text.count(AWAY), waiting.text.count("the hook")) == (1, 1), waiting.text
    server.restart(default_transaction_read_only="off")
    works(server.url())
    assert (waiting.text.count(AWAY), waiting.text.count("the hook")) == (1, 1), waiting.text


@pytest.mark.slow
def test_a_worker_waits_for_a_file_that_is_locked(folder: Path, worker: Callable[..., Program]) -> None:
    with closing(sqlite3.connect(folder / "jobs.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        waiting = worker("sqlite:///jobs.db")
        waiting.says(AWAY)
        other.execute("ROLLBACK")
    waiting.says("worker: the store is back")
    works("sqlite:///jobs.db")


@pytest.mark.slow
def test_a_worker_that_waits_ends_at_a_signal(worker: Callable[..., Program], free_port: int) -> None:
    """Until then its health is that of one that waits."""
    waiting = worker("postgresql://127.0.0.1:1/x", "--health", f"127.0.0.1:{free_port}")
    waiting.says(AWAY)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"http://127.0.0.1:{free_port}/healthz", timeout=5)
    with refused.value as answer:
        assert (answer.code, json.load(answer)["state"]) == (503, "waiting")
    waiting.send(signal.SIGTERM)
    assert waiting.ends() == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("login", "database", "reason"),
    [
        ("guest:wrong", "postgres", "password authentication failed"),
        ("guest", "postgres", "no password supplied"),
        ("stranger", "postgres", "pg_hba.conf"),
        ("nobody", "postgres", 'role "nobody" does not exist'),
        ("postgres", "nowhere", 'database "nowhere" does not exist'),
    ],
)
def test_a_worker_does_not_wait_for_what_waiting_cannot_mend(
    refusing: Postgres, worker: Callable[..., Program], login: str, database: str, reason: str
) -> None:
    ended = worker(refusing.url(database).replace("postgres@", f"{login}@"))
    assert ended.ends() == 3
    assert reason in ended.text
    assert AWAY not in ended.text
    assert "Traceback" not in ended.text


@pytest.fixture
def refusing(new_postgres: Callable[..., Postgres]) -> Postgres:
    """A server that wants a password of one and nothing to do with another."""
    server = new_postgres()
    server.execute("CREATE ROLE guest LOGIN PASSWORD 'right'")
    rules = server.data / "pg_hba.conf"
    rules.write_text(f"host all guest all scram-sha-256\nhost all stranger all reject\n{rules.read_text()}")
    server.execute("SELECT pg_reload_conf()")
    return server


@pytest.mark.slow
def test_a_second_host_that_is_down_is_worth_waiting_for(refusing: Postgres, worker: Callable[..., Program]) -> None:
    """The first is no longer ours, say; the password is right for the other."""
    url: Any = (
        refusing.url()
        .replace("postgres@", "guest:wrong@")
        .replace(f":{refusing.port}", f":{refusing.port},127.0.0.1:1")
    )
    worker(url).says(AWAY)
