"""The one application of a Django project, made from ``settings.WINDLASS``.

``DATABASE`` names one of ``DATABASES`` whose store it shares, ``URL`` any store; the other keys are the constructor's
options, in capitals: ``{"DATABASE": "default", "MAX_ATTEMPTS": 5}``.
"""

from __future__ import annotations

import functools
import inspect
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import msgspec
from django.conf import settings
from django.db import connections

from windlass import Windlass
from windlass.drivers import connect
from windlass.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from windlass.context import Context
    from windlass.drivers.base import Driver

PRIVATE = "sqlite://"
OPTIONS = frozenset(name.upper() for name in inspect.signature(Windlass).parameters) - {"URL"}


class DjangoWindlass(Windlass):
    """An application that knows Django's connections.

    Inside ``transaction.atomic()`` of the database that it shares, an enqueue is part of the transaction: the job is there
    when the block commits, and never was when it does not.
    """

    def __init__(self, url: str | None, *, database: str | None, **options: Any) -> None:
        super().__init__(url, **options)
        self.database = database
        self.around_attempt(_fresh_connections)

    @property
    def driver(self) -> Driver:
        """The store, opened at first use: under Django's test runner that is the test database, made since."""
        if self.database is not None and not self._opened and not self._swapped:
            url = url_of(connections[self.database].settings_dict)
            if url != self.settings.url:
                self.settings = msgspec.structs.replace(self.settings, url=url)
                self._driver = connect(self.settings)
        return super().driver

    def shared_connection(self) -> Any:
        """Return Django's connection if it is inside ``atomic`` of the shared database."""
        if self.database is None or not self.driver.capabilities.transactions or self.settings.url == PRIVATE:
            return None
        connection = connections[self.database]
        return connection if connection.in_atomic_block else None

    def enqueue_draft(self, draft: Any, *, connection: Any = None) -> Any:
        """Store one draft, with the transaction that is open."""
        return super().enqueue_draft(draft, connection=connection or self.shared_connection())

    def enqueue_many(self, drafts: Any, *, connection: Any = None) -> Any:
        """Store many, with the transaction that is open."""
        return super().enqueue_many(drafts, connection=connection or self.shared_connection())


@contextmanager
def _fresh_connections(_context: Context) -> Iterator[None]:
    """Do before and after an attempt what Django does around a request: let go of connections that have broken or aged.

    But not of one inside ``atomic``: then a job is run by a test, or by whoever called it.
    """
    _let_go()
    try:
        yield
    finally:
        _let_go()


def _let_go() -> None:
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close_if_unusable_or_obsolete()


@functools.cache
def application() -> DjangoWindlass:
    """Return the project's application.

    Raises:
        ConfigurationError: ``settings.WINDLASS`` cannot be right.
    """
    given = dict(getattr(settings, "WINDLASS", None) or {})
    if problem := wrong(given):
        raise ConfigurationError(problem)
    database, url = given.pop("DATABASE", None), given.pop("URL", None)
    options = {name.lower(): value for name, value in given.items()}
    if database is None and url is None:
        database = "default"
    if database is not None:
        url = url_of(settings.DATABASES[database])
    return DjangoWindlass(url, database=database, **options)


def wrong(given: Mapping[str, Any]) -> str | None:
    """Return what cannot be right about ``settings.WINDLASS``."""
    if unknown := sorted(set(given) - OPTIONS - {"URL", "DATABASE"}):
        return f"WINDLASS has no option {unknown[0]!r}; there are DATABASE, URL, {', '.join(sorted(OPTIONS))}"
    if "URL" in given and "DATABASE" in given:
        return "WINDLASS takes URL or DATABASE, one of them"
    alias = given.get("DATABASE", None if "URL" in given else "default")
    if alias is not None and alias not in settings.DATABASES:
        return f"WINDLASS['DATABASE'] is {alias!r}, which is not one of DATABASES"
    if alias is not None and _engine(settings.DATABASES[alias]) not in ("sqlite3", "postgresql"):
        return f"the database {alias!r} is neither SQLite nor PostgreSQL: give WINDLASS['URL'] of another store"
    return None


def _engine(database: Mapping[str, Any]) -> str:
    return str(database["ENGINE"]).rpartition(".")[2].replace("postgis", "postgresql")


def url_of(database: Mapping[str, Any]) -> str:
    """Return the URL of one of ``DATABASES``; of one in memory, as tests have it, that of a store beside it."""
    name = str(database["NAME"])
    if _engine(database) == "sqlite3":
        if name == ":memory:" or "mode=memory" in name:
            return PRIVATE
        return f"sqlite:////{name.lstrip('/')}" if name.startswith("/") else f"sqlite:///{name}"
    words = {"host": database.get("HOST"), "port": database.get("PORT")}
    words |= {"user": database.get("USER"), "password": database.get("PASSWORD")}
    kept = {key: str(value) for key, value in words.items() if value}
    return f"postgresql:///{quote(name, safe='')}?{urlencode(kept)}"
