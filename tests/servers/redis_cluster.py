"""A real cluster: three servers, each with a third of the slots, that know each other."""

from __future__ import annotations

import socket
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Self

import redis

from tests.servers.ports import free_port
from tests.servers.redis import Redis
from tests.servers.redis_binaries import USUAL
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

SLOTS = 16384
BUS = 10_000
"""What is added to a server's port for the one that the others speak to."""


class RedisCluster:
    """*nodes* servers that share the slots, each with *replicas* copies. *settings* are the servers'."""

    def __init__(self, flavour: str = USUAL, *, nodes: int = 3, replicas: int = 0, **settings: object) -> None:
        self._started = ExitStack()
        # A node that is gone is taken for dead soon, and the others answer for their own slots.
        given = {"cluster_node_timeout": 1000, "cluster_require_full_coverage": "no", **settings}
        try:
            servers = [self._start(flavour, given) for _ in range(nodes * (1 + replicas))]
            self.nodes, self.replicas = servers[:nodes], servers[nodes:]
            self._join()
        except BaseException:
            self._started.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._started.close()

    def url(self) -> str:
        """Return the URL of one node, which tells where the others are."""
        return self.nodes[0].url()

    def node_of(self, key: str) -> Redis:
        """Return the server that *key* is on now; keys with the same ``{tag}`` are on one."""
        slot = next(iter(self._running())).execute("CLUSTER", "KEYSLOT", key)
        for server in self._running():
            with suppress(redis.RedisError):
                myself = next(line.split() for line in _nodes(server) if "myself" in line.split()[2])
                if any(_within(slot, part) for part in myself[8:]):
                    return server
        raise LookupError(f"nobody has slot {slot}")

    def move(self, key: str) -> Iterator[str]:
        """Move the slot of *key* to another node, one key after another; yield before each, and once they are all there."""
        source = self.node_of(key)
        target = next(node for node in self._running() if node is not source and node in self.nodes)
        slot, mine = source.execute("CLUSTER", "KEYSLOT", key), source.execute("CLUSTER", "MYID")
        other = target.execute("CLUSTER", "MYID")
        target.execute("CLUSTER", "SETSLOT", slot, "IMPORTING", mine)
        source.execute("CLUSTER", "SETSLOT", slot, "MIGRATING", other)
        while found := source.execute("CLUSTER", "GETKEYSINSLOT", slot, 1):
            yield found[0]
            source.execute("MIGRATE", "127.0.0.1", target.port, found[0], 0, 5000)
        yield ""
        for server in (target, source, *self._running()):
            server.execute("CLUSTER", "SETSLOT", slot, "NODE", other)

    # -- inside

    def _running(self) -> Iterator[Redis]:
        return (server for server in [*self.nodes, *self.replicas] if server.running)

    def _start(self, flavour: str, settings: dict[str, object]) -> Redis:
        server = Redis(flavour, cluster_enabled="yes", **settings)
        server.port = _port_with_bus()
        return self._started.enter_context(server)

    def _join(self) -> None:
        first, size = self.nodes[0], len(self.nodes)
        for number, node in enumerate(self.nodes):
            slots = range(SLOTS * number // size, SLOTS * (number + 1) // size)
            node.execute("CLUSTER", "ADDSLOTS", *slots)
            node.execute("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for other in [*self.nodes[1:], *self.replicas]:
            other.execute("CLUSTER", "MEET", "127.0.0.1", first.port)
        everybody = [*self.nodes, *self.replicas]
        until(lambda: all(_knows(server, len(everybody)) for server in everybody), every=0.01)
        for number, replica in enumerate(self.replicas):
            replica.execute("CLUSTER", "REPLICATE", self.nodes[number % size].execute("CLUSTER", "MYID"))
        until(lambda: all(_is_ok(server) for server in everybody), every=0.01)
        until(lambda: all(r.info("replication").get("master_link_status") == "up" for r in self.replicas), every=0.01)


def _nodes(server: Redis) -> list[str]:
    with server.client() as client:
        client.set_response_callback("CLUSTER NODES", str)
        return str(client.execute_command("CLUSTER NODES")).splitlines()


def _knows(server: Redis, number: int) -> bool:
    """Whether it has met all others and no handshake is under way."""
    lines = _nodes(server)
    return len(lines) == number and not any("handshake" in line or "noaddr" in line for line in lines)


def _is_ok(server: Redis) -> bool:
    with server.client() as client:
        return client.cluster("INFO").get("cluster_state") == "ok"


def _within(slot: int, part: str) -> bool:
    """Whether *part*, ``0-5460`` or ``7``, has the slot; slots on the move are in brackets and do not count."""
    first, _, last = part.partition("-")
    return part[0] != "[" and int(first) <= slot <= int(last or first)


def _port_with_bus() -> int:
    """Return a free port whose companion is free too and is not one that the system hands out."""
    while True:
        port = free_port()
        if port + BUS < 32768:
            with socket.socket() as probe, suppress(OSError):
                probe.bind(("127.0.0.1", port + BUS))
                return port
