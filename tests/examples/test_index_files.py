"""``examples/index_files.py``, run as its users run it: as a program, and killed."""

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import sysconfig
import time
from collections import Counter
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "examples" / "index_files.py"
BROKEN = {
    "bad_coding.py": (b"# -*- coding: uft-8 -*-\n", "unknown encoding"),
    "bad_syntax.py": (b"def f(:\n", "invalid syntax"),
    "not_utf8.py": (b"name = '\xf6'\n", "codec can't decode"),
}


def begin(folder: Path, database: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, PROGRAM, folder, "--database", database, "--processes", "2", *more]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def run(folder: Path, database: Path, *more: str) -> str:
    with begin(folder, database, *more) as process:
        try:
            output, _ = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    assert process.returncode == 0, output
    return output


def kill_at(part: float, total: int, folder: Path, database: Path) -> str:
    """Run until *part* of the work is done, kill -9 the whole process group, and return what was printed."""
    with begin(folder, database) as process:
        while process.poll() is None and progress(database, total) < part:
            time.sleep(0.002)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        return process.communicate()[0]


def progress(database: Path, total: int) -> float:
    """Return how much is done, from 0 to 1; the first tenth of the way is the enqueueing."""
    if not database.exists():
        return 0.0
    db = sqlite3.connect(database, timeout=5)
    try:
        (known,) = db.execute("SELECT count(*) FROM files").fetchone()
        (ended,) = db.execute("SELECT count(*) FROM windlass_done").fetchone()
    except sqlite3.OperationalError:  # not made yet
        return 0.0
    finally:
        db.close()
    return 0.1 * known / total + 0.9 * ended / total  # type: ignore[no-any-return]


def check(folder: Path, database: Path) -> None:
    """Each good file has been indexed once, each broken one has a dead job that says why, and nothing else is left."""
    files = {str(path) for path in folder.rglob("*") if path.is_file()}
    broken = {path for path in files if Path(path).name in BROKEN}
    db = sqlite3.connect(database)
    facts = Counter(path for (path,) in db.execute("SELECT path FROM facts"))
    ended = db.execute(
        "SELECT j.payload ->> 'path', d.status, d.error ->> 'message' FROM windlass_job j LEFT JOIN windlass_done d USING (id)"
    ).fetchall()
    places = [
        db.execute(f"SELECT count(*) FROM windlass_{place}").fetchone()[0] for place in ("ready", "timer", "running")
    ]
    db.close()
    assert facts == Counter(files - broken)
    assert Counter(path for path, _, _ in ended) == Counter(files)
    assert {path for path, status, _ in ended if status == "completed"} == files - broken
    dead = {Path(path).name: message for path, status, message in ended if status == "dead"}
    assert dead.keys() == {Path(path).name for path in broken}
    for name, message in dead.items():
        assert BROKEN[name][1] in message
    assert places == [0, 0, 0]


def break_some(folder: Path) -> None:
    for name, (content, _) in BROKEN.items():
        (folder / name).write_bytes(content)


@pytest.mark.slow
def test_a_folder_is_indexed_to_its_summary_and_a_second_run_finds_nothing_to_do(tmp_path: Path) -> None:
    folder, database = tmp_path / "files", tmp_path / "index [1].db"
    (folder / "deeper").mkdir(parents=True)
    (folder / "deeper" / "one.py").write_text("def f(): ...\nclass C: ...\nx = 1\n")
    (folder / "notes [b].txt").write_text("three words here\n")
    break_some(folder)
    first = run(folder, database)
    assert "Enqueued 5 files" in first
    assert re.search(r"all +0 +0 +0 +0 +2 +3 +0", first), first
    for name, (_, reason) in BROKEN.items():
        assert re.search(rf"3 +files/{name} +SyntaxError: .*{reason}", first), first
    assert "9 attempts failed" in first
    assert "Each of 5 files exactly once: yes" in first
    assert "Traceback" not in first
    check(folder, database)
    with sqlite3.connect(database) as db:
        query = "SELECT size, lines, words, definitions FROM facts WHERE path LIKE '%one.py'"
        assert db.execute(query).fetchall() == [(32, 3, 9, '["f", "C"]')]
    db.close()
    assert "All 5 files were done before" in run(folder, database)
    (folder / "new.txt").write_text("")
    assert "Enqueued 1 files" in run(folder, database)
    check(folder, database)
    assert "Enqueued 6 files" in run(folder, database, "--fresh")
    check(folder, database)


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("kills", [3, pytest.param(10, marks=pytest.mark.soak)])
def test_killed_at_any_moment_it_goes_on_and_indexes_each_file_exactly_once(tmp_path: Path, kills: int) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    library = Path(sysconfig.get_path("stdlib"))
    for path in sorted(path for path in library.iterdir() if path.is_file()):
        shutil.copy(path, folder)
    for package in ("asyncio", "email", "json"):
        shutil.copytree(library / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    break_some(folder)
    total = sum(path.is_file() for path in folder.rglob("*"))
    before_summary = resumed = 0
    for kill in range(kills):
        database = tmp_path / f"{kill}.db"
        output = kill_at(0.05 + kill / kills, total, folder, database)
        before_summary += "STATUS" not in output
        output = run(folder, database)
        resumed += "Resuming: " in output
        assert "exactly once: yes" in output
        assert "Traceback" not in output
        check(folder, database)
    assert before_summary >= 0.8 * kills
    assert resumed >= 0.6 * kills  # killed while it enqueues, it has nothing to resume
