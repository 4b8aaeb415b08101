"""The account that private servers run under.

PostgreSQL and PgBouncer refuse to run as root. Where the tests do, as in most containers, their servers run as
``nobody``: an account that every system has and that owns nothing, so that no other server can be hit by mistake.
"""

import functools
import os
import pwd
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

AS_ROOT = os.geteuid() == 0
_NOBODY = pwd.getpwnam("nobody") if AS_ROOT else None

#: Where there is room in memory: what tests write is thrown away, and waits for no disk that is busy with other things.
MEMORY = Path("/dev/shm")
ROOM = 6 << 30

#: Where what is kept is made: a socket's path has room for about 100 characters, and the account must get there.
TEMP = Path("/tmp" if AS_ROOT or len(tempfile.gettempdir()) > 40 else tempfile.gettempdir())


def privileges() -> dict[str, Any]:
    """Return the arguments that make ``subprocess`` run a program under the account."""
    if _NOBODY is None:
        return {}
    return {"user": _NOBODY.pw_uid, "group": _NOBODY.pw_gid, "extra_groups": []}


def give(path: Path) -> None:
    """Make *path* the account's own."""
    if _NOBODY is not None:
        shutil.chown(path, _NOBODY.pw_uid, _NOBODY.pw_gid)


@functools.cache
def passing() -> Path:
    """Return where folders are made that go with the tests: in memory, if there is room."""
    with suppress(OSError):
        found = os.statvfs(MEMORY)
        roomy = min(found.f_bavail * found.f_frsize, psutil.virtual_memory().available) >= ROOM
        if roomy and os.access(MEMORY, os.W_OK | os.X_OK) and not found.f_flag & os.ST_NOEXEC:
            return MEMORY
    return TEMP


def private_folder(prefix: str) -> Path:
    """Make an empty folder of the account's own, with a short path."""
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=passing()))
    give(folder)
    return folder


def cache_folder() -> Path:
    """Return the folder for what is made once and used by every run: ours, and nobody else's to write to."""
    folder = TEMP / f"windlass-tests-{os.geteuid()}"
    folder.mkdir(exist_ok=True)
    found = folder.lstat()
    if folder.is_symlink() or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise RuntimeError(f"{folder} is not ours alone; remove it")
    folder.chmod(0o755)  # whatever the umask
    return folder


def environment(**more: str) -> dict[str, str]:
    """Return the environment for a server: nothing that points it, or its tools, at another server."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return {**kept, "LC_ALL": "C", **more}
