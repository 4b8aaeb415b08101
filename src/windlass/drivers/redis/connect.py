"""Where the server is, and how to get there: a plain one, behind Sentinel, or a node of a Cluster."""

from __future__ import annotations

import inspect
import math
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from windlass.drivers.redis.wire import PATIENCE, MovedError, Wire, needed, translate
from windlass.errors import ConfigurationError, ConnectionLostError, StoreError, WindlassError

try:
    import redis
    from redis.backoff import NoBackoff
    from redis.connection import Connection, parse_url
    from redis.retry import Retry
except ImportError as missing:
    raise needed(missing) from missing

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECT = 5.0
"""Seconds that a connection may take to open, unless the URL says something else."""
PORT, SENTINEL_PORT = 6379, 26379
Address = tuple[str, int]
_SCHEMES = {"valkey": "redis", "valkeys": "rediss", "redis": "redis", "rediss": "rediss", "unix": "unix"}


class Connector:
    """Makes connections to the server that has the keys of one slot."""

    def __init__(self, url: str, *, key: str) -> None:
        self._url, self._key = url, key
        self._hosts, self._options, self._sentinel, clustered = _parsed(url)
        self._class: Any = self._options.pop("connection_class", Connection)
        self.clustered: bool | None = clustered
        """Whether it is a Cluster; ``None`` = not asked yet."""
        self._owner: Address | None = None
        self._nodes: list[Address] = list(self._hosts)
        self.silent_at = -math.inf
        """When a connection was last given up: those opened before are not to be trusted either."""

    @property
    def place(self) -> str:
        """Return the URL without its password, for people."""
        return hidden(self._url)

    @property
    def number(self) -> int:
        """Return the number of the database; what is published is not kept apart by it."""
        return int(self._options.get("db") or 0)

    def connect(self, *, patience: float = PATIENCE) -> Wire:
        """Open a connection to the server that may write.

        Raises:
            ConnectionLostError: it cannot be reached.
            StoreError: it does not let us in.
        """
        last: WindlassError | None = None
        for address in self._candidates():
            try:
                return self._open(address, patience)
            except ConnectionLostError as error:
                last = error
        self._owner = None  # the map may have been older than a failover
        raise last or ConnectionLostError("no Redis server is known")

    def moved(self, error: MovedError) -> None:
        """Learn from an answer who has the slot."""
        self.clustered = True
        self._owner = (error.host or self._hosts[0][0], error.port)
        self.silent_at = time.monotonic()

    def lost(self) -> None:
        """Ask again who has the slot: whoever had it does not answer, or does not write."""
        self._owner = None
        self.silent_at = time.monotonic()

    def _candidates(self) -> Iterator[Address]:
        if self._sentinel:
            yield self._master()
        elif self.clustered:
            if self._owner is None:
                self._owner = self._find_owner()
            yield self._owner
        else:
            yield from self._hosts

    def _open(self, address: Address, patience: float) -> Wire:
        wire = self.plain(address, patience)
        try:
            if self.clustered is None:
                info = wire.ask("INFO", "cluster")
                self.clustered = b"cluster_enabled:1" in info
                if self.clustered:
                    self._learn(wire, address)
                    wire.close()
                    return self.connect(patience=patience)
            if self._sentinel:
                _check_master(wire)
        except BaseException:
            wire.close()
            raise
        return wire

    def plain(self, address: Address, patience: float, **other: Any) -> Wire:
        """Open a connection to one server, whatever it is."""
        options = {**self._options, **other}
        if "path" not in options:
            options["host"], options["port"] = address
        options.setdefault("socket_connect_timeout", CONNECT)
        options.setdefault("socket_timeout", CONNECT)
        try:
            connection = self._class(**options, protocol=2, retry=Retry(NoBackoff(), 0), **_plain())
            connection.connect()
        except redis.AuthenticationError as error:
            raise StoreError(f"Redis does not let us in; check user and password in {self.place!r}: {error}") from error
        except redis.ResponseError as error:
            raise translate(str(error)) from error
        except (redis.RedisError, OSError) as error:
            raise ConnectionLostError(f"Redis cannot be reached: {error}") from error
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"{self.place!r} is not a Redis URL: {error}") from error
        return Wire(connection, patience=patience)

    # ------------------------------------------------------------------ Cluster and Sentinel

    def _find_owner(self) -> Address:
        last: WindlassError | None = None
        for address in dict.fromkeys([*self._nodes, *self._hosts]):
            try:
                wire = self.plain(address, CONNECT)
                try:
                    self._learn(wire, address)
                finally:
                    wire.close()
            except ConnectionLostError as error:
                last = error
                continue
            if self._owner is not None:
                return self._owner
        raise last or ConnectionLostError("no node of the cluster has the slot of our keys now")

    def _learn(self, wire: Wire, address: Address) -> None:
        """Ask a node for the map."""
        slot = wire.ask("CLUSTER", "KEYSLOT", self._key)
        nodes, self._owner = [], None
        for first, last, *holders in wire.ask("CLUSTER", "SLOTS"):
            known = [((holder[0] or address[0].encode()).decode(), holder[1]) for holder in holders]
            nodes += known
            if first <= slot <= last:
                self._owner = known[0]
        self._nodes = list(dict.fromkeys(nodes)) or self._nodes

    def _master(self) -> Address:
        last: WindlassError | None = None
        for host, port in self._hosts:
            try:
                wire = self.plain((host, port), CONNECT, db=0, username=None, password=None)
                try:
                    found = wire.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._sentinel or "")
                finally:
                    wire.close()
            except (ConnectionLostError, StoreError) as error:
                last = error
                continue
            if found:
                return found[0].decode(), int(found[1])
            last = ConnectionLostError(f"Sentinel knows no master named {self._sentinel!r}")
        raise last or ConnectionLostError("no sentinel is known")


def _check_master(wire: Wire) -> None:
    if wire.ask("ROLE")[0] != b"master":
        raise ConnectionLostError("the server that Sentinel names is not a master yet")


def _plain() -> dict[str, Any]:
    """Return what switches off redis-py's own bookkeeping, as far as this release of it has that."""
    known = inspect.signature(redis.connection.AbstractConnection.__init__).parameters
    wanted = {"lib_name": None, "lib_version": None, "maint_notifications_config": None}
    if "driver_info" in known:
        wanted = {"driver_info": None, **wanted}
        del wanted["lib_name"], wanted["lib_version"]
    return {name: value for name, value in wanted.items() if name in known}


def _parsed(url: str) -> tuple[list[Address], dict[str, Any], str | None, bool | None]:
    """Take a URL apart: hosts, options for redis-py, the master's name at Sentinel, whether it says that it is a Cluster."""
    try:
        parts = urlsplit(url)
        scheme = _SCHEMES[parts.scheme]
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        sentinel, clustered = query.pop("sentinel", None), query.pop("cluster", None)
        credentials, at, places = parts.netloc.rpartition("@")
        port = SENTINEL_PORT if sentinel else PORT
        hosts = [_address(place, port) for place in places.split(",")] if scheme != "unix" else [("", 0)]
        first = f"{credentials}{at}{places.split(',')[0]}"
        options = parse_url(f"{scheme}://{first}{parts.path}?{urlencode(query)}")  # type: ignore[no-untyped-call]
    except (KeyError, ValueError) as error:
        raise ConfigurationError(f"{hidden(url)!r} is not a Redis URL: {error}") from None
    if scheme != "unix" and parts.path.strip("/") and not parts.path.strip("/").isdigit():
        raise ConfigurationError(
            f"{hidden(url)!r} is not a Redis URL: the database is a number, not {parts.path[1:]!r}"
        )
    return hosts, options, sentinel, None if clustered is None else clustered.lower() in ("1", "true", "yes")


def _address(place: str, port: int) -> Address:
    parts = urlsplit(f"//{place}")
    return parts.hostname or "localhost", parts.port or port


def hidden(url: str) -> str:
    """Return the URL without what follows the first colon of its credentials."""
    scheme, _, rest = url.partition("://")
    credentials, at, place = rest.rpartition("@")
    return f"{scheme}://{credentials.partition(':')[0]}{':…' if ':' in credentials else ''}{at}{place}"
