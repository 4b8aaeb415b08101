"""The demo and README's quickstart run unchanged on Redis: the environment alone says so; the demo's own table stays SQLite."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.examples.test_on_postgres import FILES, ROOT, begin, run
from tests.servers.redis import client_of
from tests.waiting import until
from windlass import Windlass

if TYPE_CHECKING:
    from pathlib import Path


def test_the_quickstart_of_the_readme(redis_url: str, tmp_path: Path) -> None:
    (program,) = re.findall(r"## Quickstart\n\n```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (tmp_path / "quickstart.py").write_text(program)
    assert "sent 'hi' to ada@example.org\n" in run(redis_url, tmp_path, "quickstart.py")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["quickstart.py"]
    with Windlass(redis_url) as app:
        [job] = app.jobs()
        assert (job.status, job.result) == ("completed", "sent 'hi' to ada@example.org")


@pytest.mark.slow
def test_the_demo_is_killed_and_goes_on(redis_url: str, tmp_path: Path) -> None:
    """All keys have a prefix of its own, and each file has one row, however often it was indexed."""
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(FILES):
        (folder / f"module_{number}.py").write_text(f"def function_{number}():\n    return {number}\n" * 20)
    (folder / "bad_syntax.py").write_text("def f(:\n")
    database = tmp_path / "index_files.db"
    words = (ROOT / "examples" / "index_files.py", folder, "--processes", 2)

    def rows() -> Counter[str]:
        with closing(sqlite3.connect(database, timeout=30)) as look:
            if not look.execute("SELECT 1 FROM sqlite_master WHERE name = 'facts'").fetchone():
                return Counter()
            return Counter(path for (path,) in look.execute("SELECT path FROM facts"))

    with begin(redis_url, tmp_path, *words) as process:
        until(lambda: process.poll() is not None or len(rows()) > FILES // 4, every=0.01)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        first = process.communicate()[0]
    second = run(redis_url, tmp_path, *words)
    assert f"Each of {FILES + 1} files exactly once: yes" in second, first + second
    assert "WINDLASS_PREFIX=index_files windlass jobs" in second
    assert len(rows()) == FILES
    assert set(rows().values()) == {1}
    with client_of(redis_url) as client:
        assert {key.partition(":")[0] for key in client.scan_iter()} == {"{index_files}"}
    with Windlass(redis_url, prefix="index_files") as app:
        assert app.stats().dead == 1
    again = run(redis_url, tmp_path, *words, "--fresh")
    assert f"Enqueued {FILES + 1} files" in again
