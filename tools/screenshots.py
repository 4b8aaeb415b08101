"""Put pictures of every page of the dashboard into a folder: `python tools/screenshots.py [FOLDER]`.

Needs Chromium as Debian packages it; CHROMIUM names another one.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from playwright.sync_api import sync_playwright

from windlass import Limit, Windlass, current
from windlass.dashboard import Dashboard

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or ""
QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
SIZES = {"wide": (1280, 900), "narrow": (390, 844)}
SCHEMES = ("light", "dark")


def fill(app: Windlass) -> dict[str, str]:
    """Fill a store with some of everything; return the pages there are to see, by name."""

    @app.task(max_attempts=1, tags=["import"])
    def import_row(row: int, api_token: str) -> None:
        current().log(f"asked with a key of {len(api_token)} letters")
        raise LookupError(f"row {row} has no customer")

    @app.task(limit=Limit(2, key="host:{host}"))
    def send_email(to: str, host: str = "mx1") -> dict[str, str]:
        current().log(f"connected to {host}")
        current().progress(3, 3, "sent")
        return {"to": to}

    @app.task(queue="reports")
    def report(month: str) -> None: ...

    app.schedules.add("monthly report", "0 2 1 * *", task="report", payload={"month": "last"}, timezone="Europe/Berlin")
    rows = [import_row.enqueue(row, "secret") for row in range(3)]
    app.enqueue_many([send_email.job(f"ada{number}@example.org") for number in range(12)])
    with app.batch("newsletter", origin="spring") as batch:
        batch.add(*(send_email.job(f"bob{number}@example.org") for number in range(4)))
    with app.worker(concurrency=4):
        while app.stats().pending or app.stats().running:
            time.sleep(0.02)
        for _ in range(3):
            seen = len(app.samples())
            app.driver.shift(60.0)
            while len(app.samples()) == seen:
                time.sleep(0.05)
            app.enqueue_many([send_email.job("eve@example.org") for _ in range(5)])
            while app.stats().pending or app.stats().running:
                time.sleep(0.02)
    waiting = report.using(delay=3600, priority=5).enqueue("2030-01")
    app.enqueue("unknown_task", {"a": 1}, queue="other")
    app.pause(queue="reports")
    app.schedules.trigger("monthly report")
    app.record_action("ada", "retry", "3 jobs", done=2, refused=1, detail="status=dead")
    return {
        "overview": "/", "queues": "/queues", "jobs": "/jobs", "dead-jobs": "/jobs?status=dead", "job": f"/jobs/{rows[0].id}",
        "waiting-job": f"/jobs/{waiting.id}", "failures": "/failures", "batches": "/batches", "batch": f"/batches/{batch.id}",
        "schedules": "/schedules", "schedule": "/schedules/monthly report/history", "workers": "/workers",
        "store": "/store", "audit": "/audit",
    }  # fmt: skip


@contextmanager
def served(site: Any) -> Iterator[str]:
    """Serve it on a free port; yields the address."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(site, log_level="warning", timeout_graceful_shutdown=1, ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield browser
        browser.close()


def main(folder: Path) -> None:
    """Take the pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    app = Windlass("memory://", beat=0.3)
    pages = fill(app)
    with served(Dashboard(app, insecure=True)) as address, chromium() as browser:
        for scheme in SCHEMES:
            for size, (width, height) in SIZES.items():
                view = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)  # type: ignore[arg-type]
                page = view.new_page()
                for name, path in pages.items():
                    page.goto(f"{address}{path}")
                    page.screenshot(path=folder / f"{name}-{size}-{scheme}.png", full_page=True)
                view.close()
    print(f"{len(pages) * len(SIZES) * len(SCHEMES)} pictures in {folder}/")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/screenshots"))
