"""An environment of its own for the peer that needs a newer Python than Windlass does."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from benchmarks.process import ROOT

NAME = "WINDLASS_BENCH_PYTHON312"
"""Names the interpreter to use, in the environment."""
REQUIREMENTS = ROOT / "requirements" / "bench-oban.txt"
LEAST = (3, 12)


def candidates() -> Iterator[str]:
    """Yield interpreters that may be new enough, the likeliest first."""
    if named := os.environ.get(NAME):
        yield named
        return
    yield sys.executable
    for name in ("python3.13", "python3.12", "python3.14"):
        if found := shutil.which(name):
            yield found
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    yield from (str(path) for path in sorted(pyenv.glob("3.1[2-9]*/bin/python"), reverse=True))


def version(python: str) -> tuple[int, int] | None:
    """Return the version of an interpreter, or None if it does not run: a shim may stand for nothing."""
    try:
        said = subprocess.run([python, "-VV"], capture_output=True, text=True, check=True, timeout=20).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.match(r"Python (\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else None


def base() -> str | None:
    """Return the first interpreter that is new enough."""
    return next((python for python in candidates() if (version(python) or (0, 0)) >= LEAST), None)


@cache
def environment() -> str:
    """Return the interpreter of the environment, which is made where it is missing or out of date."""
    found = base()
    if found is None:
        raise LookupError(f"it needs Python {LEAST[0]}.{LEAST[1]}, and none was found; name one by {NAME}")
    mark = hashlib.sha256(f"{found} {version(found)}".encode() + REQUIREMENTS.read_bytes()).hexdigest()[:12]
    folder = ROOT / "build" / f"bench-oban-{mark}"
    if not (folder / "ready").exists():
        subprocess.run([found, "-m", "venv", "--clear", folder], check=True, capture_output=True)
        install: list[str | Path] = [folder / "bin" / "python", "-m", "pip", "install", "-q", "-r", REQUIREMENTS]
        subprocess.run(install, check=True, capture_output=True)
        (folder / "ready").touch()
    return str(folder / "bin" / "python")


def missing() -> str | None:
    """Tell why the environment cannot be had, or make it."""
    try:
        environment()
    except LookupError as error:
        return str(error)
    except subprocess.CalledProcessError as error:
        return f"its environment cannot be made: {(error.stderr or b'').decode()[-500:].strip()}"
    return None
