"""The web examples, served by a real server and asked over HTTP."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import httpx
import pytest

import windlass
from tests.waiting import until
from windlass import Windlass

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "examples"
QUICK = {"WINDLASS_BEAT": "0.5", "WINDLASS_LOST_AFTER": "2"}


class Example(NamedTuple):
    """A folder of examples, and the module in it."""

    folder: str
    module: str
    server: tuple[str, ...]
    address: str
    """The server's option for where it listens."""


WEB = [
    Example("fastapi_app", "orders", ("uvicorn", "--log-level", "warning"), "--port={port}"),
    Example("flask_app", "bakery", ("gunicorn", "--log-level", "warning"), "--bind=127.0.0.1:{port}"),
]


class Shop:
    """One example in a folder of its own; ends what it has started."""

    def __init__(self, example: Example, folder: Path) -> None:
        self.example, self.folder = example, folder
        shutil.copytree(EXAMPLES / example.folder, folder)
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            self.port = one.getsockname()[1]
        self.started: list[subprocess.Popen[bytes]] = []
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=20)
        self.jobs = Windlass(f"sqlite:///{folder}/{example.module}.db")

    def start(self, *words: str, **settings: str) -> subprocess.Popen[bytes]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("WINDLASS_")}
        sources = str(Path(windlass.__file__).parents[1])
        process = subprocess.Popen(
            [sys.executable, "-m", *words], cwd=self.folder, env={**kept, "PYTHONPATH": sources, **QUICK, **settings}
        )
        self.started.append(process)
        return process

    def serve(self, **settings: str) -> subprocess.Popen[bytes]:
        place = self.example.address.format(port=self.port)
        server = self.start(*self.example.server, place, f"{self.example.module}:web", **settings)
        until(self._answers)
        return server

    def work(self) -> subprocess.Popen[bytes]:
        return self.start("windlass", "worker", f"{self.example.module}:app")

    def order(self, pieces: int) -> httpx.Response:
        return self.client.post("/orders", json={"item": "rope", "pieces": pieces})

    def packed(self, order: int) -> int:
        return int(self.client.get(f"/orders/{order}").json()["packed"])

    def close(self) -> None:
        for process in self.started:
            process.terminate()
        for process in self.started:
            try:
                process.wait(30)
            finally:
                process.kill()
                process.wait()
        self.client.close()
        self.jobs.close()

    def _answers(self) -> bool:
        try:
            return self.client.get("/orders/0").status_code == 404
        except httpx.TransportError:
            return False


@pytest.fixture(params=WEB, ids=[example.folder for example in WEB])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    with closing(Shop(request.param, tmp_path / "shop")) as shop:
        yield shop


def test_a_commit_leaves_exactly_one_job_and_a_refused_order_none(shop: Shop) -> None:
    shop.serve()
    assert shop.order(pieces=1000).status_code == 409
    assert (shop.jobs.count(), shop.client.get("/orders/1").status_code) == (0, 404)
    answer = shop.order(pieces=1)
    assert answer.status_code == 201
    assert [job.payload for job in shop.jobs.jobs()] == [{"order": answer.json()["order"]}]


def test_a_killed_worker_loses_nothing(shop: Shop) -> None:
    """The order is packed once, by the next one."""
    shop.serve()
    worker = shop.work()
    placed = shop.order(pieces=20).json()
    until(lambda: shop.jobs.get(placed["job"]).status == "running")
    worker.kill()
    worker.wait()
    assert shop.packed(placed["order"]) == 0
    shop.work()
    until(lambda: shop.jobs.get(placed["job"]).status == "completed")
    assert shop.packed(placed["order"]) == 1
    assert shop.jobs.get(placed["job"]).crashes == 1


def test_a_worker_inside_the_web_server_finishes_what_runs(shop: Shop) -> None:
    """On the signal that the server gets."""
    server = shop.serve(WORKER="inside")
    placed = shop.order(pieces=10).json()
    until(lambda: shop.jobs.get(placed["job"]).status == "running")
    server.send_signal(signal.SIGTERM)
    assert server.wait(30) in (0, -signal.SIGTERM)  # uvicorn raises the signal again at its end
    job = shop.jobs.get(placed["job"])
    assert (job.status, job.attempt, job.crashes) == ("completed", 1, 0)
    assert [worker.status for worker in shop.jobs.workers()] == ["stopped"]
