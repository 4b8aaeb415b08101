import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.servers.redis import Redis, client_of
from tests.servers.redis_binaries import FLAVOURS
from tests.servers.redis_databases import GivenRedis, RedisPool, fresh_prefix


@pytest.fixture
def redis_flavour() -> str:
    return "redis8"  # never the given one


def test_a_test_has_an_empty_database(redis_url: str) -> None:
    with client_of(redis_url) as client:
        assert client.dbsize() == 0
        client.set("kept", 1)


def test_a_test_may_have_several_databases(redis_database: Callable[[], str]) -> None:
    with client_of(redis_database()) as one, client_of(redis_database()) as two:
        one.set("a", 1)
        assert two.get("a") is None


@pytest.mark.parametrize("redis_flavour", FLAVOURS)
def test_a_test_chooses_the_flavour(redis_url: str, redis_server: Redis, redis_flavour: str) -> None:
    with client_of(redis_url) as client:
        client.set("a", 1)
    assert redis_server.flavour == redis_flavour
    assert redis_server.info("keyspace")


def test_a_database_comes_back_empty_and_without_its_guests(redis_server: Redis) -> None:
    pool = RedisPool(redis_server)
    pool._next = 4000
    url = pool.take()
    with client_of(url) as leaked, client_of(pool.take()) as other:
        leaked.set("a", 1)
        other.set("a", 1)
        known = leaked.client_id(), other.client_id()
        pool.give_back(url, "windlass")
        assert leaked.get("a") is None
        assert other.get("a") == "1"
        assert leaked.client_id() != known[0]  # it had to connect anew
        assert other.client_id() == known[1]
        other.flushdb()
    with client_of(url) as client:
        assert client.dbsize() == 0


def test_on_a_given_server_only_the_keys_of_a_prefix_are_touched(redis_url: str) -> None:
    given, prefix = GivenRedis(redis_url), fresh_prefix()
    with client_of(given.take()) as client:
        for key in (f"{prefix}:a", f"{{{prefix}}}:b", "windlass:c", "theirs"):
            client.set(key, 1)
        given.give_back(redis_url, prefix)
        assert set(client.keys()) == {"windlass:c", "theirs"}
    with pytest.raises(AssertionError, match="tests did not make 'windlass'"):
        given.give_back(redis_url, "windlass")


@pytest.mark.slow
def test_applications_on_a_given_server_have_the_tests_prefix(
    redis_url: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WINDLASS_TEST_REDIS_URL", redis_url)
    module = (
        "import os\n"
        "from tests.conftest import *\n"
        "def test_it(redis_url, redis_prefix):\n"
        "    assert os.environ['WINDLASS_PREFIX'] == redis_prefix\n"
        "    assert redis_prefix.startswith('windlass_test_')\n"
        f"    assert redis_url == {redis_url!r}\n"
    )
    assert _runs(module, request)


def _runs(module: str, request: pytest.FixtureRequest) -> bool:
    """Whether a module of tests passes in a run of its own."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "test_given.py").write_text(module)
        words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", folder, folder]
        done = subprocess.run(words, cwd=request.config.rootpath, capture_output=True, text=True, check=False)
    return done.returncode == 0 and "1 passed" in done.stdout
