"""What the tests of the seeds' features are given: a store, apps on it, a gate for handlers, programs beside us."""

import os
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import windlass
from tests.seeds.bench import Gate, Open, Spawn
from windlass import Windlass

DATABASES = {"sqlite": "file_url", "postgres": "postgres_url"}
"""The stores that processes share, each with the fixture that makes an empty one."""

QUICK: dict[str, Any] = {"beat": 0.2, "lost_after": 1, "poll": 0.05, "grace": 5}


@pytest.fixture
def gate() -> Iterator[Gate]:
    """A closed gate; opened at the end, so that no handler is left behind it."""
    gate = Gate()
    yield gate
    gate.open()


@pytest.fixture
def opened() -> Iterator[Open]:
    """Make apps with quick heartbeats; they are closed at the end."""
    apps: list[Windlass] = []

    def make(url: str, **options: Any) -> Windlass:
        apps.append(Windlass(url, **{**QUICK, **options}))
        return apps[-1]

    yield make
    for app in apps:
        app.close()


@pytest.fixture
def file_url(tmp_path: Path) -> str:
    """A SQLite file of the test's own."""
    return f"sqlite:///{tmp_path}/jobs.db"


@pytest.fixture(params=["sqlite", "memory"])
def store(request: pytest.FixtureRequest) -> str:
    """The URL of an empty store of each kind that needs no server."""
    return str(request.getfixturevalue("file_url")) if request.param == "sqlite" else "memory://"


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def database(request: pytest.FixtureRequest) -> str:
    """The URL of an empty database of each kind."""
    return str(request.getfixturevalue(DATABASES[request.param]))


@pytest.fixture
def shared(file_url: str) -> str:
    """The URL of the store that programs beside us work on."""
    return file_url


@pytest.fixture
def connect(database: str) -> Iterator[Callable[[], Any]]:
    """Open connections of the caller's own to the database; they are closed at the end."""
    connections: list[Any] = []

    def make() -> Any:
        if database.startswith("sqlite:///"):
            connections.append(sqlite3.connect(database.removeprefix("sqlite:///")))
        else:
            import psycopg

            connections.append(psycopg.connect(database))
        return connections[-1]

    yield make
    for connection in connections:
        connection.close()


@pytest.fixture
def app(store: str, opened: Open) -> Windlass:
    """An app that tries failed jobs again at once."""
    return opened(store, backoff=0)


@pytest.fixture
def spawn(shared: str) -> Iterator[Spawn]:
    """Run a program that finds ``app`` on the shared store; its standard streams are pipes."""
    running: list[subprocess.Popen[str]] = []
    head = textwrap.dedent(f"""\
        import os, sys, threading
        from windlass import Context, Windlass

        app = Windlass({shared!r}, backoff=0, beat=0.2, lost_after=1, poll=0.05, grace=5)
        """)
    path = os.pathsep.join([str(Path(windlass.__file__).parent.parent), os.environ.get("PYTHONPATH", "")])

    def start(program: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-u", "-c", head + textwrap.dedent(program)],
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()
