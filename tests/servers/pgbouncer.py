"""A real PgBouncer in front of a private server: transaction mode, where a session is gone with every commit."""

import shutil
import signal
from typing import Any

import psycopg

from tests.servers import account
from tests.servers.daemon import Daemon
from tests.servers.databases import database_of
from tests.servers.parts import missing
from tests.servers.postgres import Postgres


class PgBouncer(Daemon):
    """A private PgBouncer. *settings* go into the section ``[pgbouncer]``."""

    def __init__(self, server: Postgres, **settings: object) -> None:
        self._program = _find()
        self.server = server
        self.settings: dict[str, object] = {"pool_mode": "transaction", "default_pool_size": 20, **settings}
        super().__init__("wl-pb-")

    def url(self, database: str | None = None) -> str:
        """Return the URL through it; any database of the server can be named."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database or 'postgres'}"

    def through(self, url: str) -> str:
        """Return *url*, of a database of the server, with this PgBouncer in the place of the server."""
        return self.url(database_of(url))

    def stop(self) -> None:
        """End it at once, as a deploy does; clients lose their connections."""
        self.end(signal.SIGTERM)

    def admin(self, command: str) -> list[tuple[Any, ...]]:
        """Run a command of its console, as in ``PAUSE``, ``RESUME``, ``RECONNECT``, ``SHOW POOLS``."""
        with psycopg.connect(self.url("pgbouncer"), autocommit=True) as connection:
            done = connection.execute(command.encode())
            return done.fetchall() if done.description else []

    # -- as a daemon

    def prepare(self) -> None:
        settings = {
            **self.settings,
            "listen_addr": "127.0.0.1",
            "listen_port": self.port,
            "unix_socket_dir": self.folder,
            "auth_type": "trust",
            "auth_file": self.folder / "users",
            "admin_users": "postgres",
        }
        lines = "".join(f"{name} = {value}\n" for name, value in settings.items())
        server = f"host=127.0.0.1 port={self.server.port}"
        self._write("pgbouncer.ini", f"[databases]\n* = {server}\n[pgbouncer]\n{lines}")
        self._write("users", '"postgres" ""\n')

    def command(self) -> list[str]:
        return [self._program, str(self.folder / "pgbouncer.ini")]

    def ready(self) -> bool:
        return "process up" in self.said

    def _write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)
        account.give(self.folder / name)


def _find() -> str:
    # Debian installs it where only root looks.
    found = shutil.which("pgbouncer", path=account.environment().get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if found is None:
        missing("pgbouncer", "there is no such program. On Debian: apt install pgbouncer")
    return found
