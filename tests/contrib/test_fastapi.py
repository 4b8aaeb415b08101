"""FastAPI with a worker inside, really served and really stopped."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import httpx

from tests.waiting import until
from windlass import Windlass

if TYPE_CHECKING:
    from pathlib import Path

SHOP = """
    import time
    from fastapi import FastAPI
    from windlass import Windlass
    from windlass.contrib.fastapi import lifespan

    app = Windlass("sqlite:///jobs.db", poll=0.05, grace=20)

    @app.task
    def slow(seconds: float) -> str:
        time.sleep(seconds)
        return "done"

    web = FastAPI(lifespan=lifespan(app, worker=True, concurrency=2))

    @web.post("/jobs")
    async def enqueue(seconds: float) -> dict[str, int]:
        job = await slow.aenqueue(seconds)
        return {"id": job.id}

    @web.get("/jobs/{job_id}")
    async def look(job_id: int) -> dict[str, str]:
        return {"status": (await app.aget(job_id)).status}
"""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code < 500
    except httpx.TransportError:
        return False


def test_a_worker_lives_and_stops_with_the_web_server(tmp_path: Path) -> None:
    """On SIGTERM the job that runs is finished, and nothing is lost."""
    (tmp_path / "shop.py").write_text(textwrap.dedent(SHOP), encoding="utf-8")
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "shop:web", "--port", str(port), "--log-level", "warning"]
    address = f"http://127.0.0.1:{port}"
    with subprocess.Popen(command, cwd=tmp_path) as server:
        try:
            until(lambda: answers(f"{address}/docs"))
            first = httpx.post(f"{address}/jobs", params={"seconds": 0}).json()["id"]
            until(lambda: httpx.get(f"{address}/jobs/{first}").json()["status"] == "completed")
            second = httpx.post(f"{address}/jobs", params={"seconds": 1.0}).json()["id"]
            until(lambda: httpx.get(f"{address}/jobs/{second}").json()["status"] == "running")
            server.send_signal(signal.SIGTERM)
            server.wait(30)
        finally:
            server.kill()
    with Windlass(f"sqlite:///{tmp_path}/jobs.db") as app:
        assert app.get(second).status == "completed"
        assert [worker.status for worker in app.workers()] == ["stopped"]
