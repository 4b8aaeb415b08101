import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.servers import account, ports
from tests.servers.databases import Databases, GivenPostgres, Pool
from tests.servers.pgbouncer import PgBouncer
from tests.servers.postgres import Postgres
from tests.servers.proxy import Proxy
from tests.servers.redis import Redis
from tests.servers.redis_binaries import USUAL
from tests.servers.redis_cluster import RedisCluster
from tests.servers.redis_databases import MANY, GivenRedis, RedisPool, fresh_prefix
from tests.servers.redis_sentinel import RedisSentinel


def pytest_configure(config: pytest.Config) -> None:
    """Print why tests were skipped, always, and have `tmp_path` where servers have their folders."""
    if "s" not in config.option.reportchars:
        config.option.reportchars += "s"
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(account.passing()))
    # Under nohup a hang-up is ignored, here and in whatever is started, and a supervisor would honour that. In the background
    # of a shell a quit is, and the reaper would wait in vain for servers to obey it.
    for number in (signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)


@pytest.fixture
def free_port() -> int:
    """A port that nobody listens on now."""
    return ports.free_port()


@pytest.fixture(scope="session")
def postgres_pools() -> Iterator[Callable[[str], Pool]]:
    """Give the databases of a flavour's server, which is started when first asked for; see `postgres_flavour`.

    Tests share the server: it is theirs to make databases in, not to stop. Each test process has its own.
    """
    pools: dict[str, Pool] = {}
    with ExitStack() as started:

        def give(flavour: str) -> Pool:
            if flavour not in pools:
                if flavour == "given":
                    pools[flavour] = Pool(GivenPostgres(os.environ["WINDLASS_TEST_POSTGRES_URL"]))
                    started.callback(pools[flavour].close)
                else:  # its databases go with it; as nobody cuts its power, nothing need reach the disk
                    pools[flavour] = Pool(started.enter_context(Postgres(flavour, fsync="off", full_page_writes="off")))
            return pools[flavour]

        yield give


@pytest.fixture
def postgres_flavour() -> str:
    """Whose databases the fixtures below give: to choose, parametrize it or define it in the test module.

    ``pg18`` is the one in the development dependencies, ``pg15`` the system's, ``given`` the one that
    ``WINDLASS_TEST_POSTGRES_URL`` names: the default where it is set.
    """
    return "given" if os.environ.get("WINDLASS_TEST_POSTGRES_URL") else "pg18"


@pytest.fixture
def postgres_server(postgres_pools: Callable[[str], Pool], postgres_flavour: str) -> Databases:
    """The server that tests share."""
    return postgres_pools(postgres_flavour).server


@pytest.fixture
def postgres_database(postgres_pools: Callable[[str], Pool], postgres_flavour: str) -> Iterator[Callable[[], str]]:
    """Give the URL of an empty database that only this test uses, another one with every call."""
    pool = postgres_pools(postgres_flavour)
    taken: list[str] = []

    def take() -> str:
        taken.append(pool.take())
        return taken[-1]

    yield take
    for url in taken:
        pool.give_back(url)


@pytest.fixture
def postgres_url(postgres_database: Callable[[], str]) -> str:
    """The URL of an empty database that only this test uses."""
    return postgres_database()


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


@pytest.fixture(scope="session")
def redis_pools() -> Iterator[Callable[[str], RedisPool | GivenRedis]]:
    """Give the databases of a flavour's server, which is started when first asked for; see `redis_flavour`.

    Tests share the server: it is theirs to write to, not to stop or to set. Each test process has its own.
    """
    pools: dict[str, RedisPool | GivenRedis] = {}
    with ExitStack() as started:

        def give(flavour: str) -> RedisPool | GivenRedis:
            if flavour not in pools:
                if flavour == "given":
                    pools[flavour] = GivenRedis(os.environ["WINDLASS_TEST_REDIS_URL"])
                else:
                    pools[flavour] = RedisPool(started.enter_context(Redis(flavour, databases=MANY)))
            return pools[flavour]

        yield give


@pytest.fixture
def redis_flavour() -> str:
    """Whose databases `redis_url` gives: to choose, parametrize it or define it in the test module.

    ``redis`` (6.2), ``redis8`` and ``valkey`` are those in the development dependencies, ``redis7`` the system's,
    ``given`` the one that ``WINDLASS_TEST_REDIS_URL`` names: the default where it is set.
    """
    return "given" if os.environ.get("WINDLASS_TEST_REDIS_URL") else USUAL


@pytest.fixture
def redis_prefix(redis_flavour: str) -> str:
    """What keys begin with: on a given server they must, so a driver made without an application is told."""
    return fresh_prefix() if redis_flavour == "given" else "windlass"


@pytest.fixture
def redis_server(redis_pools: Callable[[str], RedisPool | GivenRedis], redis_flavour: str) -> Redis:
    """The server that tests share; a given one is not theirs to ask."""
    pool = redis_pools(redis_flavour)
    if isinstance(pool, GivenRedis):
        pytest.skip("it asks the server itself, and WINDLASS_TEST_REDIS_URL names one that is not ours")
    return pool.server


@pytest.fixture
def redis_database(
    redis_pools: Callable[[str], RedisPool | GivenRedis],
    redis_flavour: str,
    redis_prefix: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[[], str]]:
    """Give the URL of an empty database that only this test uses, another one with every call.

    A given server has one for all; there applications, in this process and those it starts, get `redis_prefix`.
    """
    pool = redis_pools(redis_flavour)
    if redis_flavour == "given":
        monkeypatch.setenv("WINDLASS_PREFIX", redis_prefix)
    taken: list[str] = []

    def take() -> str:
        taken.append(pool.take())
        return taken[-1]

    yield take
    for url in taken:
        pool.give_back(url, redis_prefix)


@pytest.fixture
def redis_url(redis_database: Callable[[], str]) -> str:
    """The URL of an empty database that only this test uses."""
    return redis_database()


@pytest.fixture
def new_redis() -> Iterator[Callable[..., Redis]]:
    """Start a private server for this test alone, which may do anything to it: ``new_redis("redis7", maxmemory="5mb")``."""
    with ExitStack() as started:
        yield lambda *flavour, **settings: started.enter_context(Redis(*flavour, **settings))


@pytest.fixture
def new_redis_sentinel() -> Iterator[Callable[..., RedisSentinel]]:
    """Start a server, its copy and their sentinels for this test alone."""
    with ExitStack() as started:
        yield lambda *flavour, **settings: started.enter_context(RedisSentinel(*flavour, **settings))


@pytest.fixture
def new_redis_cluster() -> Iterator[Callable[..., RedisCluster]]:
    """Start a cluster of three servers for this test alone: ``new_redis_cluster("valkey", replicas=1)``."""
    with ExitStack() as started:
        yield lambda *flavour, **settings: started.enter_context(RedisCluster(*flavour, **settings))


@pytest.fixture
def new_proxy() -> Iterator[Callable[[int], Proxy]]:
    """Start a proxy with switches for this test alone: ``new_proxy(server.port)``."""
    with ExitStack() as started:
        yield lambda port, host="127.0.0.1": started.enter_context(Proxy(port, host))
