from collections.abc import Callable

import psycopg
import pytest

from tests.servers.databases import Databases, GivenPostgres, Pool, database_of
from tests.servers.postgres import Postgres


def test_a_test_has_an_empty_database(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as client:
        client.execute("CREATE TABLE kept (id int)")
        assert client.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (1,)


def test_a_test_may_have_several_databases(postgres_database: Callable[[], str]) -> None:
    assert postgres_database() != postgres_database()


@pytest.mark.parametrize("postgres_flavour", ["pg18", "pg15"])
def test_a_test_chooses_the_flavour(postgres_url: str, postgres_server: Postgres) -> None:
    with psycopg.connect(postgres_url) as client:
        assert client.execute("SHOW server_version").fetchone() is not None
        assert client.info.port == postgres_server.port


def test_a_schema_is_where_its_url_looks(postgres_schema_url: str, postgres_server: Databases) -> None:
    with psycopg.connect(postgres_schema_url) as client:
        client.execute("CREATE TABLE t (id int)")
        assert client.execute("SELECT current_schema() LIKE 'windlass_test_%'").fetchone() == (True,)
    with psycopg.connect(postgres_server.url()) as client, pytest.raises(psycopg.errors.UndefinedTable):
        client.execute("SELECT * FROM t")


@pytest.fixture
def pool(postgres_server: Databases) -> Pool:
    return Pool(postgres_server)


def test_a_database_comes_back_empty(pool: Pool) -> None:
    url = pool.take()
    with psycopg.connect(url, autocommit=True) as client:
        client.execute("CREATE SCHEMA other CREATE TABLE t (id int)")
        client.execute("CREATE TABLE public.t (id int)")
        client.execute(f"ALTER DATABASE {database_of(url)} SET work_mem = '1MB'")
    pool.give_back(url)
    again = pool.take()
    with psycopg.connect(again) as client:
        assert client.execute("SELECT to_regclass('public.t'), to_regnamespace('other')").fetchone() == (None, None)
        assert client.execute("SHOW work_mem").fetchone() != ("1MB",)
    pool.give_back(again)
    pool.close()


def test_what_an_earlier_test_left_running_does_not_find_the_next_ones_database(pool: Pool) -> None:
    url = pool.take()
    with psycopg.connect(url) as leaked:
        leaked.execute("SELECT pg_advisory_lock(1)")
        leaked.execute("CREATE TABLE t (id int)")
        pool.give_back(url)
        with pytest.raises(psycopg.OperationalError, match="terminating connection"):
            leaked.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(url)
    pool.close()


def test_on_a_given_server_only_what_was_made_is_touched(postgres_server: Databases) -> None:
    given = GivenPostgres(postgres_server.url())
    pool = Pool(given)
    url = pool.take()
    assert url == postgres_server.url(database_of(url))
    pool.give_back(url)
    pool.close()
    with pytest.raises(AssertionError, match="tests did not make 'postgres'"):
        given.drop_database(given.url("postgres"))
    with pytest.raises(AssertionError, match="tests did not make"):
        pool.give_back(given.url("template1"))
