"""Private PostgreSQL servers, to connect to and to maltreat.

As durable as the defaults make them. ``pg18`` comes with the development dependencies, ``pg15`` is the system's.
"""

import signal
import subprocess
from contextlib import suppress
from typing import Literal
from urllib.parse import quote

from tests.servers import account
from tests.servers.binaries import Binaries, binaries, template
from tests.servers.daemon import Daemon
from tests.servers.databases import Databases

_STOPS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}

_SETTINGS: dict[str, object] = {
    "listen_addresses": "127.0.0.1",
    "fsync": "on",
    "synchronous_commit": "on",
    "timezone": "UTC",
    "lc_messages": "C",
    "dynamic_shared_memory_type": "mmap",  # files in the data folder, which goes with all that is in it
    "log_line_prefix": "%m [%p] %d ",
}


class Postgres(Daemon, Databases):
    """A private server. *settings* go into ``postgresql.conf``."""

    def __init__(self, flavour: str = "pg18", *, max_connections: int = 100, **settings: object) -> None:
        self.binaries: Binaries = binaries(flavour)
        self.flavour = flavour
        self.settings: dict[str, object] = {**_SETTINGS, "max_connections": max_connections, **settings}
        super().__init__("wl-pg-")
        self.data = self.folder / "data"
        self._origin: Postgres | None = None  # of a standby

    def url(self, database: str | None = None, *, socket: bool = False) -> str:
        """Return the URL over TCP, or over the Unix socket; the database is ``postgres`` unless named."""
        name = database or "postgres"
        if socket:
            return f"postgresql://postgres@/{name}?host={quote(str(self.folder), safe='')}&port={self.port}"
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop it: ``fast`` ends the sessions and writes a checkpoint, ``immediate`` leaves recovery to the start."""
        self.end(_STOPS[mode])

    def restart(self, mode: Literal["fast", "immediate"] = "fast", **settings: object) -> None:
        """Stop and start, with other settings if some are given."""
        self.stop(mode)
        self.settings.update(settings)
        self.start()

    def close(self) -> None:
        """Kill it and remove all that it had."""
        if self.running:
            self.kill()
        self._remove_shared_memory()
        super().close()

    def standby(self, **settings: object) -> "Postgres":
        """Make and start a streaming, read-only copy."""
        copy = Postgres(self.flavour, **{**self.settings, **settings})
        copy._origin = self
        return copy.start()

    def promote(self) -> None:
        """Make a standby a server of its own; return when it takes writes."""
        self.execute("SELECT pg_promote(wait => true)")

    # -- as a daemon

    def prepare(self) -> None:
        if not self.data.exists():
            self._fill()
        settings = {**self.settings, "port": self.port, "unix_socket_directories": self.folder}
        lines = (f"{name} = '{str(value).replace(chr(39), chr(39) * 2)}'\n" for name, value in settings.items())
        (self.data / "postgresql.conf").write_text("".join(lines))

    def command(self) -> list[str]:
        return [str(self.binaries.folder / "postgres"), "-D", str(self.data)]

    def ready(self) -> bool:
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        assert self.process is not None
        return len(lines) >= 8 and lines[0] == str(self.process.pid) and lines[7].strip() == "ready"

    # -- inside

    def _fill(self) -> None:
        if self._origin is None:
            words = ["cp", "-Rp", template(self.binaries), self.data]
            subprocess.run(words, check=True, cwd=self.folder, **account.privileges())
            return
        words = ("--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync")
        origin = ("--host", str(self._origin.folder), "--port", str(self._origin.port), "--username", "postgres")
        self.binaries.run("pg_basebackup", *words, *origin, "--pgdata", str(self.data), cwd=self.folder)

    def _remove_shared_memory(self) -> None:
        """Give back the few bytes of System V shared memory that a killed server leaves."""
        with suppress(FileNotFoundError, IndexError):
            segment = (self.data / "postmaster.pid").read_text().splitlines()[6].split()[1]
            subprocess.run(["ipcrm", "-m", segment], check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
