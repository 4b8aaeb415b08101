import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.programs import Program
from windlass import Windlass
from windlass.cli.root import cli

SHOP = """
import time
from windlass import Windlass

app = Windlass("sqlite:///jobs.db", backoff=0, poll=0.05, grace=10)

@app.task
def double(number: int) -> int:
    return 2 * number

@app.task(max_attempts=2)
def fail(why: str) -> None:
    raise ValueError(why)

@app.task
def linger(seconds: float) -> None:
    time.sleep(seconds)

@app.task
def speak(word: str) -> None:
    import logging
    logging.getLogger("shop").warning("the word is %s", word)
"""


class Answer:
    """What a command printed and exited with."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, with no settings in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("WINDLASS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("shop", "other"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return tmp_path


@pytest.fixture
def shop(folder: Path) -> Iterator[Path]:
    """A folder with an application in shop.py."""
    (folder / "shop.py").write_text(SHOP)
    yield folder
    sys.modules.pop("shop", None)


@pytest.fixture
def store(folder: Path) -> Iterator[Windlass]:
    """An application on the store of the folder, that knows no tasks."""
    with Windlass("sqlite:///jobs.db") as app:
        yield app


@pytest.fixture
def windlass(folder: Path) -> Callable[..., Answer]:
    """Run a command in this process; each imports the application anew, as a process of its own would."""

    def run(*words: object, stdin: str | None = None) -> Answer:
        sys.modules.pop("shop", None)
        result = CliRunner().invoke(cli, [str(word) for word in words], input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Answer(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def program(folder: Path) -> Iterator[Callable[..., Program]]:
    """Run a command as a process of its own; killed at the end of the test."""
    started: list[Program] = []

    def start(*words: object, **settings: str) -> Program:
        started.append(Program(*map(str, words), cwd=folder, **settings))
        return started[-1]

    yield start
    for one in started:
        one.close()
