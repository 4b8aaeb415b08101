"""Private servers that speak Redis, to connect to and to maltreat.

As they come they keep nothing: no snapshots, and no log of what was written unless ``appendonly="yes"`` is given.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.servers import account
from tests.servers.certificates import Certificates, certificates
from tests.servers.daemon import Daemon
from tests.servers.redis_binaries import USUAL, Program, program
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Mapping

_SETTINGS: dict[str, object] = {
    "bind": "127.0.0.1",
    "save": '""',
    "appendonly": "no",
    "repl_diskless_sync_delay": 0,  # a replica is sent what there is at once
}

# From 7.0 on DEBUG is refused unless this says otherwise; 6.2 does not know it.
_SETTINGS_7: dict[str, object] = {"enable_debug_command": "local"}


class Redis(Daemon):
    """A private server. *settings* go into ``redis.conf``: ``maxmemory_policy`` is the line ``maxmemory-policy``.

    *users* are those of the ACL, by name with their rules, as in ``{"worker": "on >secret ~* +@all"}``. With *tls* the
    port speaks nothing else. The Unix socket is there in any case, and for the tests' own questions.
    """

    def __init__(
        self, flavour: str = USUAL, *, tls: bool = False, users: Mapping[str, str] | None = None, **settings: object
    ) -> None:
        self.program: Program = program(flavour)
        self.flavour = flavour
        self.settings: dict[str, object] = {**_SETTINGS, **(_SETTINGS_7 if self.program.version >= (7,) else {})}
        self.settings.update(settings)
        self.users = dict(users or {})
        super().__init__("wl-rd-")
        self.socket = self.folder / "socket"
        self._file = self.folder / "redis.conf"
        self.certificates: Certificates | None = certificates(self.folder) if tls else None

    def url(self, database: int = 0, *, user: str = "", password: str = "", socket: bool = False) -> str:
        """Return the URL over TCP, or over the Unix socket."""
        login = f"{quote(user)}:{quote(password)}@" if user or password else ""
        if socket:
            return f"unix://{login}{self.socket}?db={database}"
        if self.certificates is None:
            return f"redis://{login}127.0.0.1:{self.port}/{database}"
        authority = quote(str(self.certificates.authority), safe="")
        return f"rediss://{login}127.0.0.1:{self.port}/{database}?ssl_ca_certs={authority}"

    def client(self, database: int = 0) -> redis.Redis:
        """Return a client that answers with text, tries once, and may do everything."""
        password = str(self.settings.get("requirepass", ""))
        return client_of(self.url(database, password=password, socket=True))

    def execute(self, *words: Any, database: int = 0) -> Any:
        """Run one command over a connection of its own."""
        with self.client(database) as client:
            return client.execute_command(*words)

    def info(self, section: str = "everything") -> dict[str, Any]:
        """Return what the server says of itself."""
        with self.client() as client:
            return dict(client.info(section))

    def stop(self) -> None:
        """Stop it in order: what is kept at all is on disk then."""
        self.end(signal.SIGTERM)

    def restart(self, **settings: object) -> None:
        """Stop and start, with other settings if some are given."""
        self.stop()
        if settings:
            self.settings.update(settings)
            self._file.unlink()
        self.start()

    def replica(self, **settings: object) -> Redis:
        """Make and start a read-only copy; return when it has all."""
        copy = Redis(self.flavour, **{**self.settings, **settings, "replicaof": f"127.0.0.1 {self.port}"})
        copy.start()
        until(lambda: copy.info("replication")["master_link_status"] == "up", every=0.005)
        return copy

    def promote(self) -> None:
        """Make a replica a server of its own."""
        self.execute("REPLICAOF", "NO", "ONE")

    # -- as a daemon

    def prepare(self) -> None:
        if self._file.exists():
            return  # as it was left: replicas, sentinels and `CONFIG REWRITE` write there what they have become
        lines = [f"{name.replace('_', '-')} {value}" for name, value in self.settings.items()]
        lines += [f"user {name} {rules}" for name, rules in self.users.items()]
        lines += [f"dir {self.folder}", f"unixsocket {self.socket}"]
        if self.certificates is not None:
            lines.append(f"tls-ca-cert-file {self.certificates.authority}")
            lines.append(f"tls-cert-file {self.certificates.certificate}")
            lines.append(f"tls-key-file {self.certificates.key}")
            lines.append("tls-auth-clients optional")
        self._file.write_text("".join(f"{line}\n" for line in lines))
        account.give(self._file)

    def command(self) -> list[str]:
        ports = (
            ["--port", str(self.port)] if self.certificates is None else ["--port", "0", "--tls-port", str(self.port)]
        )
        return [str(self.program.path), str(self._file), *ports]

    def ready(self) -> bool:
        try:
            self.execute("PING")
        except redis.AuthenticationError:
            return True
        except redis.RedisError:  # also while it loads
            return False
        return True


def client_of(url: str) -> redis.Redis:
    """Return a client for *url* that answers with text and tries once."""
    return redis.Redis.from_url(url, decode_responses=True, retry=Retry(NoBackoff(), 0))
