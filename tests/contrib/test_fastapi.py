"""FastAPI with a worker inside, really served and really stopped."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import httpx
from fastapi import Depends, FastAPI, HTTPException
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from tests.servers.ports import free_port
from tests.waiting import until
from windlass import Windlass
from windlass.contrib.fastapi import Enqueuer, enqueuer

if TYPE_CHECKING:
    from collections.abc import Iterator
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


def test_a_dependency_enqueues_in_the_transaction_of_the_request_s_session(tmp_path: Path) -> None:
    """One that is rolled back has never enqueued."""
    url = f"sqlite:///{tmp_path}/shop.db"
    engine = create_engine(url)
    with Windlass(url) as app:
        app.migrate()

        @app.task
        def pack(order: int) -> None: ...

        def get_session() -> Iterator[Session]:
            with Session(engine) as session, session.begin():
                yield session

        web = FastAPI()
        the_session, the_jobs = Depends(get_session), Depends(enqueuer(get_session))

        @web.post("/orders/{order}")
        def place(
            order: int,
            session: Session = the_session,
            jobs: Enqueuer = the_jobs,
        ) -> dict[str, bool]:
            jobs(pack, delay=60, tags=["order"]).enqueue(order)
            if order > 1:
                raise HTTPException(409, "sold out")
            return {"same": jobs.session is session}

        async def post(path: str) -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(web), base_url="http://shop") as client:
                return await client.post(path)

        assert asyncio.run(post("/orders/2")).status_code == 409
        assert app.count() == 0
        assert asyncio.run(post("/orders/1")).json() == {"same": True}
        [job] = app.jobs()
        assert (job.payload, job.status, job.tags) == ({"order": 1}, "scheduled", ("order",))
    engine.dispose()
