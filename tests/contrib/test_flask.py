"""Flask: handlers in the application context, and the command line."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

from tests.waiting import until
from windlass import Windlass
from windlass.contrib.flask import WindlassFlask
from windlass.testing import testing

if TYPE_CHECKING:
    from pathlib import Path

flask = pytest.importorskip("flask")

SHOP = """
    from flask import Flask, current_app
    from windlass import Windlass
    from windlass.contrib.flask import WindlassFlask

    app = Windlass("sqlite:///jobs.db", poll=0.05)
    web = Flask(__name__)
    web.config["GREETING"] = "hello"
    WindlassFlask(app, web)

    @app.task
    def greet(name: str) -> str:
        return f"{current_app.config['GREETING']} {name}"
"""


def test_handlers_run_in_the_application_context() -> None:
    """That of a factory's application, too; plain calls need none."""
    app = Windlass("memory://")
    extension = WindlassFlask(app)

    @app.task
    def named() -> str:
        return str(flask.current_app.name)

    web = flask.Flask("shop")
    extension.init_app(web)
    assert web.extensions["windlass"] is extension
    with testing(app) as t:
        job = named.enqueue()
        t.drain()
        assert job.refresh().result == "shop"
    assert not flask.has_app_context()


def test_the_command_line_is_there(tmp_path: Path) -> None:
    """It looks at the application's store, and works in its context."""
    (tmp_path / "shop.py").write_text(textwrap.dedent(SHOP), encoding="utf-8")
    base = [sys.executable, "-m", "flask", "--app", "shop:web", "windlass"]

    def run(*words: str) -> str:
        done = subprocess.run([*base, *words], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    job = run("enqueue", "greet", "name=ada", "--json")
    assert '"greet"' in job
    assert "greet" in run("jobs")
    assert "dashboard" in run()
    with subprocess.Popen([*base, "worker", "--concurrency", "1"], cwd=tmp_path) as worker:
        try:
            with Windlass(f"sqlite:///{tmp_path}/jobs.db") as app:
                until(lambda: app.stats().completed == 1)
                assert app.jobs()[0].result == "hello ada"
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(30) == 0
        finally:
            worker.kill()
