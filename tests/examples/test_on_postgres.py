"""The demo and README's quickstart run unchanged on PostgreSQL: the environment alone says so."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import psycopg
import pytest

from tests.waiting import until

ROOT = Path(__file__).parents[2]
FILES = 60
SOON = {"WINDLASS_BEAT": "1", "WINDLASS_LOST_AFTER": "5"}
"""What a killed process had in hand is taken up after so many seconds, where the usual twenty would be waited for."""


def begin(url: str, cwd: Path, *words: object) -> subprocess.Popen[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WINDLASS_")}
    return subprocess.Popen(
        [sys.executable, *map(str, words)],
        cwd=cwd,
        env={**kept, "WINDLASS_URL": url, **SOON},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def run(url: str, cwd: Path, *words: object) -> str:
    with begin(url, cwd, *words) as process:
        try:
            output, _ = process.communicate(timeout=90)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    assert process.returncode == 0, output
    return output


def test_the_quickstart_of_the_readme(postgres_url: str, tmp_path: Path) -> None:
    (program,) = re.findall(r"## Quickstart\n\n```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (tmp_path / "quickstart.py").write_text(program)
    assert run(postgres_url, tmp_path, "quickstart.py") == "sent 'hi' to ada@example.org\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["quickstart.py"]
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("SELECT status, result FROM windlass_done").fetchall() == [
            ("completed", "sent 'hi' to ada@example.org")
        ]


@pytest.mark.slow
def test_the_demo_is_killed_and_goes_on(postgres_url: str, tmp_path: Path) -> None:
    """Everything is in a schema of its own, each file was indexed once, and no file of SQLite's appears."""
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(FILES):
        (folder / f"module_{number}.py").write_text(f"def function_{number}():\n    return {number}\n" * 20)
    (folder / "bad_syntax.py").write_text("def f(:\n")
    words = (ROOT / "examples" / "index_files.py", folder, "--processes", 2)
    with begin(postgres_url, tmp_path, *words) as process, psycopg.connect(postgres_url, autocommit=True) as look:
        facts = "SELECT count(*) FROM index_files.facts"
        until(lambda: look.execute("SELECT to_regclass('index_files.facts')").fetchone() != (None,))
        until(lambda: process.poll() is not None or look.execute(facts).fetchall() > [(FILES // 4,)], every=0.002)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        first = process.communicate()[0]
    second = run(postgres_url, tmp_path, *words)
    assert f"Each of {FILES + 1} files exactly once: yes" in second, first + second
    assert "WINDLASS_SCHEMA=index_files windlass jobs" in second
    with psycopg.connect(postgres_url) as look:
        indexed = Counter(path for (path,) in look.execute("SELECT path FROM index_files.facts"))
        assert look.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)
        dead = "SELECT count(*) FROM index_files.windlass_done WHERE status = 'dead'"
        assert look.execute(dead).fetchone() == (1,)
    assert len(indexed) == FILES
    assert set(indexed.values()) == {1}
    assert [path.name for path in tmp_path.iterdir()] == ["files"]
    again = run(postgres_url, tmp_path, *words, "--fresh")
    assert f"Enqueued {FILES + 1} files" in again
