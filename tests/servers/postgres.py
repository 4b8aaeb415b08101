"""Private PostgreSQL servers, to connect to and to maltreat.

A server has a folder with a short path, which holds its data, its socket and its log, and a TCP port of its own. It
is as durable as the defaults make it. Its programs run under `account`; everything goes when it is closed, and
`reaper` sees to that when the tests cannot.
"""

import shutil
import signal
import subprocess
from contextlib import suppress
from typing import Literal, Self
from urllib.parse import quote

import psutil

from tests.servers import account
from tests.servers.binaries import Binaries, binaries, template
from tests.servers.databases import Databases
from tests.servers.ports import free_port
from tests.servers.reaper import reaper
from tests.waiting import until

_STOPS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}

_SETTINGS: dict[str, object] = {
    "listen_addresses": "127.0.0.1",
    "fsync": "on",
    "synchronous_commit": "on",
    "timezone": "UTC",
    "lc_messages": "C",
    "dynamic_shared_memory_type": "mmap",  # files in the data folder: nothing is left in /dev/shm by a kill
    "log_line_prefix": "%m [%p] %d ",
}


class Postgres(Databases):
    """A private server; a context manager that starts and throws away.

    *settings* go into ``postgresql.conf``.
    """

    def __init__(self, flavour: str = "pg18", *, max_connections: int = 100, **settings: object) -> None:
        self.binaries: Binaries = binaries(flavour)
        self.flavour = flavour
        self.settings: dict[str, object] = {**_SETTINGS, "max_connections": max_connections, **settings}
        self.port = 0
        self.folder = account.private_folder("wl-pg-")
        reaper().made(self.folder)
        self.data = self.folder / "data"
        self.log = self.folder / "log"
        self.process: subprocess.Popen[bytes] | None = None
        self._origin: Postgres | None = None  # of a standby

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- addresses

    def url(self, database: str | None = None, *, socket: bool = False) -> str:
        """Return the URL over TCP, or over the Unix socket; the database is ``postgres`` unless named."""
        name = database or "postgres"
        if socket:
            return f"postgresql://postgres@/{name}?host={quote(str(self.folder), safe='')}&port={self.port}"
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    # -- life

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> Self:
        """Start it, for the first time or again, and return when it lets clients in."""
        assert not self.running, "it runs"
        if not self.data.exists():
            self._fill()
        for _ in range(5):
            first = not self.port
            self.port = self.port or free_port()
            self._configure()
            if self._launch():
                return self
            if not (first and "Address already in use" in self._said()):
                break
            self.port = 0
        raise RuntimeError(f"PostgreSQL did not start:\n{self._said()}")

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop it: ``fast`` ends the sessions and writes a checkpoint, ``immediate`` is a crash without a signal 9."""
        assert self.process is not None
        self.process.send_signal(_STOPS[mode])
        self._gone()

    def kill(self) -> None:
        """End all its processes at once with SIGKILL."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)  # it starts no others meanwhile
        victims = [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]
        for victim in victims:
            with suppress(psutil.NoSuchProcess):
                victim.kill()
        self._gone()
        until(lambda: not any(map(_alive, victims)))

    def restart(self, mode: Literal["fast", "immediate"] = "fast", **settings: object) -> None:
        """Stop and start, with other settings if some are given."""
        self.stop(mode)
        self.settings.update(settings)
        self.start()

    def close(self) -> None:
        """Stop it and remove everything of it."""
        if self.running:
            self.kill()
        self._remove_shared_memory()
        shutil.rmtree(self.folder)
        reaper().removed(self.folder)

    # -- replication

    def standby(self, **settings: object) -> "Postgres":
        """Make and start a streaming, read-only copy; close it before this one."""
        copy = Postgres(self.flavour, **{**self.settings, **settings})
        copy._origin = self
        return copy.start()

    def promote(self) -> None:
        """Make a standby a server of its own; return when it takes writes."""
        self.execute("SELECT pg_promote(wait => true)")

    # -- inside

    def _fill(self) -> None:
        if self._origin is None:
            words = ["cp", "-Rp", template(self.binaries), self.data]
            subprocess.run(words, check=True, cwd=self.folder, **account.privileges())
            return
        words = ("--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync")
        origin = ("--host", str(self._origin.folder), "--port", str(self._origin.port), "--username", "postgres")
        self.binaries.run("pg_basebackup", *words, *origin, "--pgdata", str(self.data), cwd=self.folder)

    def _configure(self) -> None:
        settings = {**self.settings, "port": self.port, "unix_socket_directories": self.folder}
        lines = (f"{name} = '{str(value).replace(chr(39), chr(39) * 2)}'\n" for name, value in settings.items())
        (self.data / "postgresql.conf").write_text("".join(lines))

    def _launch(self) -> bool:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [self.binaries.folder / "postgres", "-D", self.data],
                cwd=self.folder,
                env=account.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the tests
                **account.privileges(),
            )
        reaper().started(self.process.pid)
        until(lambda: self._ready() or not self.running, timeout=60, every=0.005)
        if not self.running:
            self._gone()
            return False
        return True

    def _ready(self) -> bool:
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        assert self.process is not None
        return len(lines) >= 8 and lines[0] == str(self.process.pid) and lines[7].strip() == "ready"

    def _gone(self) -> None:
        assert self.process is not None
        self.process.wait(60)
        reaper().ended(self.process.pid)

    def _said(self) -> str:
        return self.log.read_text(errors="replace")[-3000:] if self.log.exists() else ""

    def _remove_shared_memory(self) -> None:
        """Give back the few bytes of System V shared memory that a killed server leaves."""
        with suppress(FileNotFoundError, IndexError):
            segment = (self.data / "postmaster.pid").read_text().splitlines()[6].split()[1]
            subprocess.run(["ipcrm", "-m", segment], check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE  # where nobody collects orphans they stay as such
    except psutil.NoSuchProcess:
        return False
