"""The fixtures, as a project of somebody's would use them."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

CONFTEST = """
    import pytest
    from windlass import Windlass

    app = Windlass("sqlite:///jobs.db")

    @app.task
    def greet(name: str) -> str:
        return f"hello {name}"

    @pytest.fixture
    def windlass_application():
        return app
"""
TESTS = """
    import pytest
    from conftest import greet

    def test_enqueues(windlass_app, assert_enqueued):
        greet.enqueue("ada")
        job = assert_enqueued(greet, name="ada")
        windlass_app.drain()
        assert job.refresh().result == "hello ada"

    def test_starts_empty(windlass_app, assert_enqueued):
        with pytest.raises(AssertionError, match="no greet job"):
            assert_enqueued(greet)
"""


def run(folder: Path, conftest: str) -> subprocess.CompletedProcess[str]:
    (folder / "conftest.py").write_text(textwrap.dedent(conftest), encoding="utf-8")
    (folder / "test_shop.py").write_text(textwrap.dedent(TESTS), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:valkey", "-n0"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)


def test_a_project_tests_its_tasks_with_them(tmp_path: Path) -> None:
    done = run(tmp_path, CONFTEST)
    assert "2 passed" in done.stdout, done.stdout
    assert not (tmp_path / "jobs.db").exists()


def test_who_does_not_name_an_application_is_told_how(tmp_path: Path) -> None:
    done = run(tmp_path, CONFTEST.replace("def windlass_application", "def another"))
    assert "define a fixture `windlass_application`" in done.stdout + done.stderr
