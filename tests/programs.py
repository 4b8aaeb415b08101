"""Running ``windlass`` as a program, with everything it says at hand."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import windlass
from tests.waiting import until

SOURCES = str(Path(windlass.__file__).parents[1])


class Program:
    """A started ``windlass ...``; its lines are collected while it runs."""

    def __init__(self, *words: str, cwd: Path, **settings: str) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("WINDLASS_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "windlass", *words],
            cwd=cwd,
            env={**kept, "PYTHONPATH": SOURCES, "PYTHONDONTWRITEBYTECODE": "1", **settings},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def says(self, words: str, *, times: int = 1, timeout: float = 20.0) -> None:
        """Wait until *words* were said so often."""
        try:
            until(lambda: self.text.count(words) >= times, timeout=timeout)
        except AssertionError:
            raise AssertionError(f"it did not say {words!r} {times} times, but:\n{self.text}") from None

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def ends(self, *, timeout: float = 20.0) -> int:
        """Wait for its end and return the exit code."""
        code = self.process.wait(timeout)
        self._reader.join(timeout)
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None
        self._reader.join(10)
        self.process.stdout.close()


def said(text: str) -> Any:
    """Read what ``--json`` printed."""
    return json.loads(text)
