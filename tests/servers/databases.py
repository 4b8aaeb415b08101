"""Empty databases and schemas, cheaply.

A new database costs 40 to 70 ms on a server that flushes, and as much to drop. A used one is emptied in 15: `Pool`
does that, and renames it, so that what an earlier test left running finds no database rather than the next test's.
"""

import secrets
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import psycopg
from psycopg import sql

from tests.waiting import until

_PREFIX = "windlass_test_"


class Databases:
    """What tests do with any server: they make databases and schemas, and drop the ones they made."""

    def url(self, database: str | None = None) -> str:
        raise NotImplementedError

    def create_database(self) -> str:
        """Make an empty database and return its URL."""
        name = _fresh_name()
        self.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Drop one that was made here, connections or not."""
        self.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(_ours(database_of(url)))))

    def create_schema(self) -> str:
        """Make an empty schema and return the URL with which connections find their tables there, and only there."""
        name = _fresh_name()
        self.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
        url = self.url()
        return f"{url}{'&' if urlsplit(url).query else '?'}options={quote(f'-csearch_path={name}', safe='')}"

    def drop_schema(self, url: str) -> None:
        """Drop one that was made here, with all that is in it."""
        name = _ours(unquote(url).rpartition("search_path=")[2])
        self.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)))

    def execute(self, statement: str | sql.Composed, *, database: str | None = None) -> list[tuple[Any, ...]]:
        """Run one statement in a connection of its own; return the rows, if there are any."""
        with psycopg.connect(self.url(database), autocommit=True, options="-clock_timeout=10s") as connection:
            done = connection.execute(statement)
            return done.fetchall() if done.description else []


class GivenPostgres(Databases):
    """A server that is there already, named by ``WINDLASS_TEST_POSTGRES_URL``."""

    def __init__(self, url: str) -> None:
        self._url = url

    def url(self, database: str | None = None) -> str:
        """Return the URL as it was given, or the one of another database there."""
        return self._url if database is None else urlunsplit(urlsplit(self._url)._replace(path=f"/{database}"))


class Pool:
    """Databases that are used again, empty and under another name."""

    def __init__(self, server: Databases) -> None:
        self.server = server
        self._idle: list[str] = []

    def take(self) -> str:
        """Return the URL of an empty database."""
        return self._idle.pop() if self._idle else self.server.create_database()

    def give_back(self, url: str) -> None:
        """End the sessions in a database that was taken, and empty it."""
        old, new = _ours(database_of(url)), _fresh_name()
        with psycopg.connect(self.server.url(old), autocommit=True) as connection:
            until(lambda: not connection.execute(_TERMINATE).fetchall(), every=0.002)
            connection.execute(_EMPTY)
        # Renaming waits in steps of 100 ms for a session to be gone.
        until(lambda: not self.server.execute(sql.SQL(_SESSIONS).format(old)), every=0.002)
        rename = sql.SQL("ALTER DATABASE {} RENAME TO {}")
        self.server.execute(rename.format(sql.Identifier(old), sql.Identifier(new)))
        self._idle.append(self.server.url(new))

    def close(self) -> None:
        """Drop what is idle."""
        while self._idle:
            self.server.drop_database(self._idle.pop())


_TERMINATE = """
SELECT pg_terminate_backend(pid)
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""

_EMPTY = """
DO $$
DECLARE
    name text;
BEGIN
    FOR name IN SELECT extname FROM pg_extension WHERE extname <> 'plpgsql' LOOP
        EXECUTE format('DROP EXTENSION %I CASCADE', name);
    END LOOP;
    FOR name IN SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' LOOP
        EXECUTE format('DROP SCHEMA %I CASCADE', name);
    END LOOP;
    CREATE SCHEMA public;
    EXECUTE format('ALTER DATABASE %I RESET ALL', current_database());
END $$
"""

_SESSIONS = "SELECT 1 FROM pg_stat_activity WHERE datname = {} AND backend_type = 'client backend'"


def database_of(url: str) -> str:
    """Return the name of the database in *url*."""
    return urlsplit(url).path.lstrip("/")


def _fresh_name() -> str:
    return f"{_PREFIX}{secrets.token_hex(6)}"


def _ours(name: str) -> str:
    """Return *name*, if tests made it."""
    assert name.startswith(_PREFIX), f"tests did not make {name!r} and leave it alone"
    return name
