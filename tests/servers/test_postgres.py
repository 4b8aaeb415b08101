from collections.abc import Callable

import psycopg
import pytest

from tests.servers.databases import Databases, Pool
from tests.servers.postgres import Postgres

NewPostgres = Callable[..., Postgres]

FLAVOURS = pytest.mark.parametrize("flavour", ["pg18", "pg15"])


def ask(url: str, question: str) -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        done = connection.execute(question)
        row = done.fetchone() if done.description else None
        return row[0] if row else None


def test_a_test_has_an_empty_database(postgres_url: str) -> None:
    assert ask(postgres_url, "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace") == 0
    ask(postgres_url, "CREATE TABLE kept (id int)")


def test_a_database_comes_back_empty_and_under_another_name(postgres_server: Databases) -> None:
    pool = Pool(postgres_server)
    first = pool.take()
    leaked = psycopg.connect(first)
    leaked.execute("CREATE SCHEMA other CREATE TABLE t (id int)")
    leaked.execute("CREATE TABLE public.t (id int)")
    leaked.commit()
    leaked.execute("SELECT pg_advisory_lock(1)")
    pool.give_back(first)
    second = pool.take()
    with pytest.raises(psycopg.OperationalError, match="terminating connection"):
        leaked.execute("SELECT 1")
    leaked.close()
    assert second != first
    assert ask(second, "SELECT to_regclass('public.t') IS NULL AND to_regnamespace('other') IS NULL")
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(first)
    pool.give_back(second)
    pool.close()


def test_a_schema_is_where_its_url_looks(postgres_schema_url: str) -> None:
    ask(postgres_schema_url, "CREATE TABLE t (id int)")
    assert ask(postgres_schema_url, "SELECT count(*) FROM t") == 0
    assert str(ask(postgres_schema_url, "SELECT current_schema()")).startswith("windlass_test_")


@FLAVOURS
def test_what_was_committed_outlives_sigkill(new_postgres: NewPostgres, flavour: str) -> None:
    server = new_postgres(flavour)
    url = server.create_database()
    with psycopg.connect(url, autocommit=True) as client:
        client.execute("CREATE TABLE t (id int)")
        client.execute("INSERT INTO t VALUES (1)")
        server.kill()
        with pytest.raises(psycopg.OperationalError):
            client.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)
    server.start()
    assert ask(url, "SELECT id FROM t") == 1
