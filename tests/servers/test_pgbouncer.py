from collections.abc import Callable

import psycopg
import pytest

from tests.servers.pgbouncer import PgBouncer
from tests.servers.postgres import Postgres


@pytest.fixture
def postgres_flavour() -> str:
    return "pg18"  # never the given one


@pytest.fixture
def bouncer(postgres_server: Postgres, new_pgbouncer: Callable[..., PgBouncer]) -> PgBouncer:
    return new_pgbouncer(postgres_server, default_pool_size=1)


def test_two_clients_share_a_session(bouncer: PgBouncer, postgres_url: str) -> None:
    url = bouncer.through(postgres_url)
    with psycopg.connect(url, autocommit=True) as one, psycopg.connect(url, autocommit=True) as two:
        pid = "SELECT pg_backend_pid()"
        assert one.execute(pid).fetchone() == two.execute(pid).fetchone()


def test_what_was_set_in_a_session_is_anybodys_after_the_transaction(bouncer: PgBouncer, postgres_url: str) -> None:
    url = bouncer.through(postgres_url)
    with psycopg.connect(url, autocommit=True) as one, psycopg.connect(url, autocommit=True) as two:
        one.execute("SET application_name = 'left'")
        assert two.execute("SELECT setting FROM pg_settings WHERE name = 'application_name'").fetchone() == ("left",)


def test_its_console_answers(bouncer: PgBouncer, postgres_url: str) -> None:
    with psycopg.connect(bouncer.through(postgres_url), autocommit=True) as client:
        client.execute("SELECT 1")
        bouncer.admin("RECONNECT")
        assert client.execute("SELECT 1").fetchone() == (1,)
    assert bouncer.admin("SHOW POOLS")


def test_it_comes_back_at_the_same_address(bouncer: PgBouncer, postgres_url: str) -> None:
    url = bouncer.through(postgres_url)
    with psycopg.connect(url, autocommit=True) as client:
        client.execute("SELECT 1")
        bouncer.stop()
        with pytest.raises(psycopg.OperationalError):
            client.execute("SELECT 1")
    bouncer.start()
    with psycopg.connect(url) as client:
        assert client.execute("SELECT 1").fetchone() == (1,)
