"""The stores. ``connect`` picks one by URL and imports only that."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote

from windlass.errors import ConfigurationError, NotYetError

if TYPE_CHECKING:
    from windlass.drivers.base import Driver
    from windlass.settings import Settings

_LATER = ("mysql", "mariadb")
_REDIS = ("redis", "rediss", "valkey", "valkeys", "unix")
_KNOWN = "postgresql://…, redis://…, sqlite:///jobs.db or memory://"


def connect(settings: Settings) -> Driver:
    """Return the driver for ``settings.url``, not opened yet.

    Raises:
        ConfigurationError: the URL is not of a store that is known.
        NotYetError: it is of a store that is not built yet.
    """
    url = settings.url
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise ConfigurationError(f"{url!r} is not a store URL; for a file write 'sqlite:///{url}'")
    if scheme == "memory":
        from windlass.drivers.memory import MemoryDriver

        return MemoryDriver()
    if scheme == "sqlite":
        from windlass.drivers.sqlite import SqliteDriver

        return SqliteDriver(
            _path(url, rest), prefix=settings.prefix, durability=settings.durability, migrate=settings.migrate
        )
    if scheme in ("postgresql", "postgres"):
        from windlass.drivers.postgres import PostgresDriver

        return PostgresDriver(
            url,
            schema=settings.schema,
            prefix=settings.prefix,
            durability=settings.durability,
            migrate=settings.migrate,
            listen_url=settings.listen_url,
            quiet=settings.idle == "quiet",
        )
    if scheme in _REDIS:
        from windlass.drivers.redis import RedisDriver

        return RedisDriver(
            url,
            prefix=settings.prefix,
            migrate=settings.migrate,
            strict=settings.strict,
            replicas=settings.replicas,
        )
    if scheme in _LATER:
        raise NotYetError(f"{scheme} stores are not built yet; use {_KNOWN}")
    raise ConfigurationError(f"{url!r} is not a store URL: use {_KNOWN}")


def _path(url: str, rest: str) -> str | None:
    """sqlite:///relative.db, sqlite:////absolute.db, sqlite:// (private)."""
    if "?" in rest:
        raise ConfigurationError(f"{url!r}: a sqlite URL takes no options; pass them to Windlass(...)")
    if not rest:
        return None
    if not rest.startswith("/"):
        raise ConfigurationError(f"{url!r}: a sqlite path follows three slashes, as in 'sqlite:///{rest}'")
    path = unquote(rest[1:])
    if path in ("", ":memory:"):
        return None
    return path
