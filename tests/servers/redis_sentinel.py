"""A server with a copy, and sentinels that put the copy in its place when it is gone."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from typing import Self

import redis

from tests.servers import account
from tests.servers.daemon import Daemon
from tests.servers.redis import Redis, client_of
from tests.servers.redis_binaries import USUAL
from tests.waiting import until


class Sentinel(Daemon):
    """One sentinel, which watches one server."""

    def __init__(self, watched: Redis, *, quorum: int, down_after: float) -> None:
        self.watched = watched
        self.quorum = quorum
        self.down_after = down_after
        super().__init__("wl-rs-")
        self._file = self.folder / "sentinel.conf"

    def client(self) -> redis.Redis:
        """Return a client for its own commands, ``SENTINEL …``."""
        return client_of(f"redis://127.0.0.1:{self.port}")

    def stop(self) -> None:
        """Stop it in order."""
        self.end(signal.SIGTERM)

    # -- as a daemon

    def prepare(self) -> None:
        if self._file.exists():
            return  # with all that it has found out since
        name = RedisSentinel.NAME
        lines = (
            "bind 127.0.0.1",
            f"dir {self.folder}",
            f"sentinel monitor {name} 127.0.0.1 {self.watched.port} {self.quorum}",
            f"sentinel down-after-milliseconds {name} {self.down_after * 1000:.0f}",
            f"sentinel failover-timeout {name} 5000",
        )
        self._file.write_text("".join(f"{line}\n" for line in lines))
        account.give(self._file)

    def command(self) -> list[str]:
        return [str(self.watched.program.path), str(self._file), "--sentinel", "--port", str(self.port)]

    def ready(self) -> bool:
        try:
            with self.client() as client:
                return str(client.info("server")["process_id"]) == str(self.process.pid if self.process else "")
        except redis.RedisError:
            return False


class RedisSentinel:
    """A server, a replica of it and *sentinels* that watch both. *settings* are the servers'."""

    NAME = "main"
    """What the sentinels call the server."""

    def __init__(
        self, flavour: str = USUAL, *, sentinels: int = 3, down_after: float = 0.5, **settings: object
    ) -> None:
        self._started = ExitStack()
        try:
            first = self._started.enter_context(Redis(flavour, **settings))
            self.servers = [first, self._started.enter_context(first.replica())]
            self.sentinels = [
                self._started.enter_context(Sentinel(first, quorum=sentinels // 2 + 1, down_after=down_after))
                for _ in range(sentinels)
            ]
            until(lambda: all(self._complete(sentinel) for sentinel in self.sentinels))
        except BaseException:
            self._started.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._started.close()

    def url(self) -> str:
        """Return the URL that names the sentinels and what they call the server."""
        places = ",".join(f"{host}:{port}" for host, port in self.addresses)
        return f"redis://{places}/0?sentinel={self.NAME}"

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where the sentinels are."""
        return [("127.0.0.1", sentinel.port) for sentinel in self.sentinels]

    @property
    def master(self) -> Redis:
        """The server that takes writes, as the sentinels say."""
        ports = set()
        for sentinel in self.sentinels:
            if sentinel.running:
                with sentinel.client() as client:
                    ports.add(client.sentinel_master(self.NAME)["port"])
        (port,) = ports
        return next(server for server in self.servers if server.port == port)

    def fail_over(self) -> Redis:
        """Kill the server that takes writes, and return the other one when it does."""
        old = self.master
        old.kill()
        return self.taken_over(old)

    def taken_over(self, old: Redis) -> Redis:
        """Wait until another server than *old* takes writes, and return it."""
        new = next(server for server in self.servers if server is not old)
        until(lambda: self._names(new) and new.info("replication")["role"] == "master", timeout=30)
        return new

    def _names(self, server: Redis) -> bool:
        try:
            return self.master is server
        except ValueError:  # they do not agree yet
            return False

    def _complete(self, sentinel: Sentinel) -> bool:
        """Whether it knows of the replica and of all other sentinels."""
        with sentinel.client() as client:
            known = client.sentinel_master(self.NAME)
        return known["num-slaves"] == 1 and known["num-other-sentinels"] == len(self.sentinels) - 1
