import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import redis

from tests.servers.redis import Redis, client_of
from tests.servers.redis_binaries import FLAVOURS, program
from tests.waiting import until

pytestmark = pytest.mark.slow

NewRedis = Callable[..., Redis]

EACH = pytest.mark.parametrize("flavour", FLAVOURS)


def test_the_flavours_are_what_they_are_called() -> None:
    assert program("redis").version[:2] == (6, 2)


def test_the_system_has_a_server() -> None:
    assert program("redis7").version >= (6, 2)


def test_redis8_is_8() -> None:
    assert program("redis8").version[0] == 8


@EACH
def test_it_starts_empty_and_keeps_nothing_unless_told_to(new_redis: NewRedis, flavour: str) -> None:
    server = new_redis(flavour)
    assert server.execute("DBSIZE") == 0
    server.execute("SET", "a", 1)
    server.restart()
    assert server.execute("DBSIZE") == 0


@EACH
def test_what_was_acknowledged_with_a_log_of_always_outlives_sigkill(new_redis: NewRedis, flavour: str) -> None:
    server = new_redis(flavour, appendonly="yes", appendfsync="always")
    url = server.url()
    with client_of(url) as client:
        client.set("a", 1)
        server.kill()
        with pytest.raises(redis.ConnectionError):
            client.get("a")
    with client_of(url) as client, pytest.raises(redis.ConnectionError):
        client.get("a")
    server.start()
    with client_of(url) as client:
        assert client.get("a") == "1"


def test_it_is_reached_over_tcp_and_over_its_socket_in_the_database_that_is_named(new_redis: NewRedis) -> None:
    server = new_redis()
    with client_of(server.url(3)) as tcp, client_of(server.url(3, socket=True)) as socket:
        tcp.set("a", 1)
        assert socket.get("a") == "1"
    assert server.execute("GET", "a") is None
    assert server.execute("GET", "a", database=3) == "1"


def test_settings_are_given_at_first_and_changed_by_a_restart(new_redis: NewRedis) -> None:
    server = new_redis(maxmemory="5mb", maxmemory_policy="noeviction")
    port = server.port
    with server.client() as client:
        assert client.config_get("maxmemory") == {"maxmemory": str(5 << 20)}
    server.restart(maxmemory="6mb")
    with server.client() as client:
        assert client.config_get("maxmemory") == {"maxmemory": str(6 << 20)}
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    assert server.port == port


def test_a_setting_that_it_does_not_take_is_told(new_redis: NewRedis) -> None:
    with pytest.raises(RuntimeError, match="no-such-setting"):
        new_redis(no_such_setting=1)


def test_users_have_the_rules_they_were_given(new_redis: NewRedis) -> None:
    server = new_redis(users={"worker": "on >secret ~windlass* +@all -config"})
    with client_of(server.url(user="worker", password="secret")) as client:
        assert client.set("windlass:a", 1)
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.set("other", 1)
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.config_get("maxmemory")
    with client_of(server.url(user="worker", password="wrong")) as client, pytest.raises(redis.AuthenticationError):
        client.ping()


def test_a_password_is_asked_for(new_redis: NewRedis) -> None:
    server = new_redis(requirepass="secret")
    assert server.execute("PING")
    with client_of(server.url()) as client, pytest.raises(redis.AuthenticationError):
        client.ping()
    with client_of(server.url(password="secret")) as client:
        assert client.ping()


def test_its_certificate_is_checked(new_redis: NewRedis) -> None:
    server = new_redis("redis7", tls=True)
    with client_of(server.url()) as client:
        assert client.ping()
    with client_of(server.url().partition("?")[0]) as client, pytest.raises(redis.ConnectionError, match="certificate"):
        client.ping()
    with client_of(f"redis://127.0.0.1:{server.port}") as client, pytest.raises(redis.ConnectionError):
        client.ping()


def test_a_paused_server_keeps_its_connections_and_does_not_answer(new_redis: NewRedis) -> None:
    server = new_redis()
    with client_of(f"{server.url()}?socket_timeout=0.05") as client:
        client.ping()
        server.pause()
        with pytest.raises(redis.TimeoutError):
            client.ping()
        server.resume()
        until(client.ping)


@EACH
def test_debug_is_allowed(new_redis: NewRedis, flavour: str) -> None:
    assert new_redis(flavour).execute("DEBUG", "SLEEP", "0") == "OK"


@EACH
def test_a_replica_follows_and_does_not_write_until_it_is_promoted(new_redis: NewRedis, flavour: str) -> None:
    server = new_redis(flavour)
    server.execute("SET", "a", 1)
    with server.replica() as replica:
        assert replica.execute("GET", "a") == "1"
        with pytest.raises(redis.ReadOnlyError):
            replica.execute("SET", "a", 2)
        server.kill()
        replica.promote()
        replica.execute("SET", "a", 2)
        assert replica.execute("GET", "a") == "2"


def test_it_leaves_nothing_behind_even_when_it_was_killed() -> None:
    server = Redis("redis8").start()
    assert server.process is not None
    process = psutil.Process(server.process.pid)
    server.kill()
    server.close()
    assert not server.folder.exists()
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


_STARTS_A_SERVER = """
import sys
from tests.servers.redis import Redis
server = Redis("redis8").start()
print(server.process.pid, server.folder, flush=True)
sys.stdin.read()
"""


def test_a_server_ends_with_the_process_that_started_it() -> None:
    words = [sys.executable, "-c", _STARTS_A_SERVER]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as starter:
        assert starter.stdout is not None
        pid, folder = starter.stdout.readline().decode().split()
        server = psutil.Process(int(pid))
        assert Path(folder).exists()
        starter.send_signal(signal.SIGKILL)
        starter.wait()
    until(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE)
    until(lambda: not Path(folder).exists())
