"""The first pages for FastAPI, Flask and Django, done as they say: their files, their commands, a real server, real requests."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.servers.ports import free_port
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DOCS = Path(__file__).parents[2] / "docs"
HERE = Path(sys.executable).parent
LASTING = ("uvicorn", "flask --app shop:web run", "worker", "runserver")
"""Commands that run until they are stopped."""
MOST = 10

pytestmark = pytest.mark.slow


class Newcomer:
    """Somebody in an empty folder who does what a page says."""

    def __init__(self, page: str, folder: Path, stack: ExitStack) -> None:
        self.text, *more = (DOCS / page).read_text(encoding="utf-8").split("\n## ")
        self.sections = dict(section.split("\n", 1) for section in more)
        self.folder = folder
        self.port = free_port()
        self.commands = 0
        self._stack = stack

    def write_files(self, section: str | None = None) -> None:
        """Write every example whose first line names its file; settings are added at the end of what is there."""
        text = self.text if section is None else self.sections[section]
        for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
            path = self.folder / code.split("\n")[0].removeprefix("# ")
            before = path.read_text(encoding="utf-8") if path.name == "settings.py" else ""
            path.write_text(before + code, encoding="utf-8")

    def console(self) -> list[str]:
        """Return the page's commands, but for the installation, which is done."""
        found = re.findall(r"^\$ (.*)$", self.text, re.MULTILINE)
        self.commands = len(found)
        return [command for command in found if not command.startswith("pip install")]

    def do(self, command: str) -> str:
        """Run a command, or start it if it lasts; return what it said."""
        words = shlex.split(command.replace(":8000", f":{self.port}").replace(":5000", f":{self.port}"))
        if words[0] == "curl":
            return self._request(words[1:])
        if any(one in command for one in LASTING):
            if "worker" not in command:
                words += [str(self.port)] if "runserver" in command else ["--port", str(self.port)]
            self._start([*words, *(["--noreload"] if "runserver" in command else [])])
            return ""
        done = subprocess.run(
            self._found(words),
            cwd=self.folder,
            env=self._env(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

    def _request(self, words: Sequence[str]) -> str:
        method = "POST" if words[:2] == ["-X", "POST"] else "GET"
        answer = until(lambda: self._answer(method, words[-1]), timeout=60)
        assert answer is not None
        assert answer.status_code == 200, answer.text
        return answer.text

    @staticmethod
    def _answer(method: str, url: str) -> httpx.Response | None:
        try:
            return httpx.request(method, url)
        except httpx.ConnectError:  # the server is still starting
            return None

    def _start(self, words: list[str]) -> None:
        process = subprocess.Popen(
            self._found(words), cwd=self.folder, env=self._env(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

        def stop() -> None:
            process.terminate()
            process.wait(60)

        self._stack.callback(stop)

    @staticmethod
    def _found(words: list[str]) -> list[str]:
        return [sys.executable if words[0] == "python" else str(HERE / words[0]), *words[1:]]

    @staticmethod
    def _env() -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": "."}


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Stops what was started."""
    with ExitStack() as stack:
        yield stack


def test_fastapi(tmp_path: Path, stack: ExitStack) -> None:
    newcomer = Newcomer("fastapi.md", tmp_path, stack)
    newcomer.write_files()
    server, sign_up, look = newcomer.console()
    newcomer.do(server)
    assert newcomer.do(sign_up) == '{"job":1}'
    assert until(lambda: "completed" in newcomer.do(look))
    assert newcomer.commands <= MOST


def test_flask(tmp_path: Path, stack: ExitStack) -> None:
    newcomer = Newcomer("flask.md", tmp_path, stack)
    newcomer.write_files()
    server, worker, sign_up, jobs = newcomer.console()
    newcomer.do(server)
    newcomer.do(worker)
    assert '"job":1' in newcomer.do(sign_up).replace(" ", "")
    assert until(lambda: "completed" in newcomer.do(jobs), every=0.5)
    assert newcomer.commands <= MOST


def test_django(tmp_path: Path, stack: ExitStack) -> None:
    newcomer = Newcomer("django.md", tmp_path, stack)
    for command in re.findall(r"`(django-admin [^`]+|python manage\.py startapp [^`]+)`", newcomer.text):
        newcomer.do(command)
    newcomer.write_files()
    migrate, server, worker, sign_up, jobs = newcomer.console()
    newcomer.do(migrate)
    newcomer.do(server)
    newcomer.do(worker)
    assert "welcome" in newcomer.do(sign_up)
    assert until(lambda: "completed" in newcomer.do(jobs), every=0.5)
    assert newcomer.commands + 2 <= MOST
    newcomer.write_files("The dashboard under the admin's login")
    look = (
        "from django.test import Client; print(Client(SERVER_NAME='localhost').get('/admin/jobs/').headers['Location'])"
    )
    assert newcomer.do(f'python manage.py shell -c "{look}"').strip().endswith("/admin/login/?next=/admin/jobs/")
    newcomer.write_files("Tests")
    newcomer.do("python manage.py test shop")  # fails unless all pass
