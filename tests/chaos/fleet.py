"""Worker processes that are replaced as they die, and what they have noted."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


class Fleet:
    """Worker processes on one store."""

    def __init__(
        self,
        folder: Path,
        *,
        size: int = 4,
        url: str | None = None,
        app: str = "tests.chaos.application:app",
        **settings: object,
    ) -> None:
        self.folder = folder
        self.size = size
        self.app = app
        self.settings = {name: str(value) for name, value in settings.items()}
        if url is not None:
            self.settings["CHAOS_URL"] = url
        self.running: list[subprocess.Popen[bytes]] = []
        self.gone: dict[int, float] = {}
        """When a process was last seen doing something, by pid."""
        self.log = (folder / "workers.log").open("ab")

    def fill(self) -> None:
        self.running = [p for p in self.running if p.poll() is None]
        while len(self.running) < self.size:
            self.start()

    def start(self, app: str | None = None, *, concurrency: int = 8, **settings: object) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "windlass", "worker", app or self.app, "--concurrency", str(concurrency)]
        environment = {
            **os.environ,
            "CHAOS_FOLDER": str(self.folder),
            "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}",
            **self.settings,
            **{name: str(value) for name, value in settings.items()},
        }
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=self.log, stderr=self.log)
        self.running.append(process)
        return process

    def kill(self, victim: subprocess.Popen[bytes]) -> None:
        self.gone[victim.pid] = time.time()
        victim.kill()
        victim.wait()

    @property
    def all_alive(self) -> bool:
        return all(process.poll() is None for process in self.running)

    @property
    def said(self) -> str:
        return (self.folder / "workers.log").read_text(errors="replace")

    def notes(self) -> list[dict[str, Any]]:
        path = self.folder / "notes"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def close(self) -> None:
        for process in self.running:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()
        self.log.close()
