import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.servers.databases import Databases, GivenPostgres, Pool
from tests.servers.pgbouncer import PgBouncer
from tests.servers.postgres import Postgres
from tests.servers.proxy import Proxy


def pytest_configure(config: pytest.Config) -> None:
    """Print why tests were skipped, always."""
    if "s" not in config.option.reportchars:
        config.option.reportchars += "s"


@pytest.fixture
def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Databases]:
    """The server that tests share: theirs to make databases in, not to stop. Each test process has its own."""
    if given := os.environ.get("WINDLASS_TEST_POSTGRES_URL"):
        yield GivenPostgres(given)
        return
    with Postgres("pg18") as server:
        yield server


@pytest.fixture(scope="session")
def postgres_pool(postgres_server: Databases) -> Iterator[Pool]:
    pool = Pool(postgres_server)
    yield pool
    if isinstance(postgres_server, GivenPostgres):  # the others go with their server
        pool.close()


@pytest.fixture
def postgres_url(postgres_database: Callable[[], str]) -> str:
    """The URL of an empty database that only this test uses."""
    return postgres_database()


@pytest.fixture
def postgres_database(postgres_pool: Pool) -> Iterator[Callable[[], str]]:
    """Give the URL of an empty database that only this test uses, another one with every call."""
    taken: list[str] = []

    def take() -> str:
        taken.append(postgres_pool.take())
        return taken[-1]

    yield take
    for url in taken:
        postgres_pool.give_back(url)


@pytest.fixture
def postgres_schema_url(postgres_server: Databases) -> Iterator[str]:
    """A URL whose connections see an empty schema that only this test uses; the database is shared."""
    url = postgres_server.create_schema()
    yield url
    postgres_server.drop_schema(url)


@pytest.fixture
def new_postgres() -> Iterator[Callable[..., Postgres]]:
    """Start a private server for this test alone, which may do anything to it: ``new_postgres("pg15", jit="off")``."""
    with ExitStack() as started:
        yield lambda flavour="pg18", **settings: started.enter_context(Postgres(flavour, **settings))


@pytest.fixture
def new_pgbouncer() -> Iterator[Callable[..., PgBouncer]]:
    """Start a PgBouncer in transaction mode for this test alone: ``new_pgbouncer(server, default_pool_size=1)``."""
    with ExitStack() as started:
        yield lambda server, **settings: started.enter_context(PgBouncer(server, **settings))


@pytest.fixture
def new_proxy() -> Iterator[Callable[[int], Proxy]]:
    """Start a proxy with switches for this test alone: ``new_proxy(server.port)``."""
    with ExitStack() as started:
        yield lambda port, host="127.0.0.1": started.enter_context(Proxy(port, host))
