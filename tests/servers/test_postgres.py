import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import psycopg
import pytest

from tests.servers.postgres import Postgres
from tests.waiting import until

pytestmark = pytest.mark.slow

NewPostgres = Callable[..., Postgres]

FLAVOURS = pytest.mark.parametrize("flavour", ["pg18", "pg15"])


def ask(url: str, question: str) -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        done = connection.execute(question)
        row = done.fetchone() if done.description else None
        return row[0] if row else None


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


def test_it_is_reached_over_tcp_and_over_its_socket_and_is_durable(new_postgres: NewPostgres) -> None:
    server = new_postgres()
    assert ask(server.url(), "SHOW fsync") == "on"
    assert ask(server.url(socket=True), "SHOW synchronous_commit") == "on"
    assert ask(server.url("template1", socket=True), "SELECT current_database()") == "template1"


def test_settings_are_given_at_first_and_changed_by_a_restart(new_postgres: NewPostgres) -> None:
    server = new_postgres(max_connections=17, cluster_name="it's")
    port = server.port
    assert ask(server.url(), "SHOW max_connections") == "17"
    assert ask(server.url(), "SHOW cluster_name") == "it's"
    server.restart(max_connections=18)
    assert ask(server.url(), "SHOW max_connections") == "18"
    assert ask(server.url(), "SHOW cluster_name") == "it's"
    assert server.port == port


def test_an_immediate_stop_leaves_recovery_to_the_start_and_a_fast_one_does_not(new_postgres: NewPostgres) -> None:
    server = new_postgres()
    with psycopg.connect(server.url()):
        server.stop("fast")
    server.start()
    assert "automatic recovery in progress" not in server.said
    server.stop("immediate")
    server.start()
    assert "automatic recovery in progress" in server.said


def test_a_paused_server_keeps_its_connections_and_does_not_answer(new_postgres: NewPostgres) -> None:
    server = new_postgres()
    with psycopg.connect(server.url(), autocommit=True) as client:
        server.pause()
        client.pgconn.send_query(b"SELECT 1")
        client.pgconn.flush()
        assert not select.select([client], [], [], 0.05)[0]
        server.resume()
        assert select.select([client], [], [], 10)[0]
        assert client.pgconn.get_result() is not None
        while client.pgconn.get_result() is not None:
            pass


def test_a_setting_that_it_does_not_take_is_told(new_postgres: NewPostgres) -> None:
    with pytest.raises(RuntimeError, match="no_such_setting"):
        new_postgres(no_such_setting=1)


def test_it_leaves_nothing_behind_even_when_it_was_killed() -> None:
    server = Postgres().start()
    assert server.process is not None
    family = [psutil.Process(server.process.pid), *psutil.Process(server.process.pid).children()]
    segment = (server.data / "postmaster.pid").read_text().splitlines()[6].split()[1]
    server.kill()
    server.close()
    assert not server.folder.exists()
    assert not any(member.is_running() and member.status() != psutil.STATUS_ZOMBIE for member in family)
    memory = subprocess.run(["ipcs", "-m"], check=True, capture_output=True, text=True).stdout
    assert segment not in [line.split()[1] for line in memory.splitlines() if line.startswith("0x")]


@FLAVOURS
def test_a_standby_follows_and_does_not_write_until_it_is_promoted(new_postgres: NewPostgres, flavour: str) -> None:
    server = new_postgres(flavour)
    server.execute("CREATE TABLE t (id int)")
    with server.standby() as standby:
        server.execute("INSERT INTO t VALUES (1)")
        until(lambda: standby.execute("SELECT id FROM t") == [(1,)])
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            standby.execute("INSERT INTO t VALUES (2)")
        server.kill()
        standby.promote()
        standby.execute("INSERT INTO t VALUES (2)")
        assert standby.execute("SELECT count(*) FROM t") == [(2,)]


_STARTS_A_SERVER = """
import sys
from tests.servers.postgres import Postgres
server = Postgres().start()
print(server.process.pid, server.folder, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_server_ends_with_the_process_that_started_it(number: int) -> None:
    words = [sys.executable, "-c", _STARTS_A_SERVER]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as starter:
        assert starter.stdout is not None
        pid, folder = starter.stdout.readline().decode().split()
        server = psutil.Process(int(pid))
        assert Path(folder).exists()
        starter.send_signal(number)
        starter.wait()
    until(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE)
    until(lambda: not Path(folder).exists())
