"""Empty databases of a Redis server.

A server of ours has thousands, by number: each test gets one that nobody has used yet, so that what an earlier test
left running finds its own, and not the next test's. On a given server a test has the keys of its own prefix alone.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tests.servers.redis import client_of

if TYPE_CHECKING:
    from tests.servers.redis import Redis

MANY = 4096

_PREFIX = "windlass_test_"


def fresh_prefix() -> str:
    """Return a prefix that no keys have yet."""
    return f"{_PREFIX}{secrets.token_hex(6)}"


class RedisPool:
    """The databases of a private server, which was started with ``databases=MANY``."""

    def __init__(self, server: Redis) -> None:
        self.server = server
        self._next = 0

    def take(self) -> str:
        """Return the URL of an empty database; after thousands the first comes again."""
        number = self._next % MANY
        self._next += 1
        return self.server.url(number)

    def give_back(self, url: str, prefix: str) -> None:
        """Empty a database that was taken, and disconnect who is still in it."""
        number = int(urlsplit(url).path[1:])
        with self.server.client() as client:
            for other in client.client_list():
                if int(other["db"]) == number and int(other["id"]) != client.client_id() and number:
                    client.client_kill_filter(_id=other["id"])
        with self.server.client(number) as client:
            client.flushdb(asynchronous=True)  # of millions of keys it takes longer than a client waits


class GivenRedis:
    """A server that is there already, named by ``WINDLASS_TEST_REDIS_URL``: only what tests wrote is removed."""

    def __init__(self, url: str) -> None:
        self._url = url

    def take(self) -> str:
        """Return the URL as it was given."""
        return self._url

    def give_back(self, url: str, prefix: str) -> None:
        """Remove the keys that begin with *prefix*, as it is or as a hash tag."""
        assert prefix.startswith(_PREFIX), f"tests did not make {prefix!r} and leave it alone"
        with client_of(url) as client:
            for pattern in (f"{prefix}*", f"{{{prefix}*"):
                for key in client.scan_iter(pattern, count=1000):
                    client.unlink(key)
