"""Environments of their own for the peers that need another Python, or other packages, than the rest."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from benchmarks.process import ROOT

NAME = "WINDLASS_BENCH_PYTHON312"
"""Names the interpreter to use where a newer one is needed, in the environment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What one peer needs: the packages that `requirements/bench-NAME.txt` pins, on a Python that is not too old."""

    name: str
    least: tuple[int, int] = (3, 11)

    def python(self) -> str:
        """Return the interpreter of the environment, which is made where it is missing or out of date."""
        return made(self)

    def missing(self) -> str | None:
        """Tell why the environment cannot be had, or make it."""
        try:
            made(self)
        except LookupError as error:
            return str(error)
        except subprocess.CalledProcessError as error:
            return f"its environment cannot be made: {(error.stderr or b'').decode()[-500:].strip()}"
        return None


@cache
def made(wanted: Environment) -> str:
    """Make an environment once in this process, and at all only where it is not there yet."""
    found = base(wanted.least)
    if found is None:
        raise LookupError(
            f"it needs Python {wanted.least[0]}.{wanted.least[1]}, and none was found; name one by {NAME}"
        )
    requirements = ROOT / "requirements" / f"bench-{wanted.name}.txt"
    mark = hashlib.sha256(f"{found} {version(found)}".encode() + requirements.read_bytes()).hexdigest()[:12]
    folder = ROOT / "build" / f"bench-{wanted.name}-{mark}"
    if not (folder / "ready").exists():
        subprocess.run([found, "-m", "venv", "--clear", folder], check=True, capture_output=True)
        install: list[str | Path] = [folder / "bin" / "python", "-m", "pip", "install", "-q", "-r", requirements]
        subprocess.run(install, check=True, capture_output=True)
        (folder / "ready").touch()
    return str(folder / "bin" / "python")


def base(least: tuple[int, int]) -> str | None:
    """Return the first interpreter that is new enough."""
    return next((python for python in candidates() if (version(python) or (0, 0)) >= least), None)


def candidates() -> Iterator[str]:
    """Yield interpreters that may be new enough, the likeliest first."""
    yield sys.executable
    if named := os.environ.get(NAME):
        yield named
        return
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


OBAN = Environment(name="oban", least=(3, 12))
ARQ = Environment(name="arq")
SAQ = Environment(name="saq")
"""On Redis; on PostgreSQL it gets along with the others."""
