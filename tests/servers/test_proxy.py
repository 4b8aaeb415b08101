import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
import redis

from tests.servers.postgres import Postgres
from tests.servers.proxy import Proxy
from tests.servers.redis import Redis, client_of
from tests.waiting import until

NewProxy = Callable[[int], Proxy]


class Echo:
    """Answers every line with itself; remembers the lines and how each client ended."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.ends: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, client.makefile("rb") as lines:
            try:
                for line in lines:
                    self.lines.append(line)
                    client.sendall(line)
            except ConnectionResetError:
                self.ends.append("reset")
            else:
                self.ends.append("end")

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


class Client:
    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)

    def send(self, line: bytes) -> None:
        self.socket.sendall(line)

    def hears(self, timeout: float = 10) -> bytes:
        self.socket.settimeout(timeout)
        return self.socket.recv(4096)

    def hears_nothing(self) -> bool:
        try:
            self.hears(0.05)
        except TimeoutError:
            return True
        return False

    def asks(self, line: bytes) -> bytes:
        self.send(line)
        return self.hears()


@pytest.fixture
def postgres_flavour() -> str:
    return "pg18"  # never the given one


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


@pytest.fixture
def proxy(echo: Echo, new_proxy: NewProxy) -> Proxy:
    return new_proxy(echo.port)


@pytest.fixture
def connect(proxy: Proxy) -> Iterator[Callable[[], Client]]:
    made: list[Client] = []

    def make() -> Client:
        made.append(Client(proxy.port))
        return made[-1]

    yield make
    for client in made:
        client.socket.close()


Connect = Callable[[], Client]


def test_bytes_pass_and_are_counted(proxy: Proxy, connect: Connect) -> None:
    client = connect()
    assert client.asks(b"one\n") == b"one\n"
    before = proxy.counts
    assert client.asks(b"three\n") == b"three\n"
    passed = proxy.counts - before
    assert (passed.request_bytes, passed.reply_bytes, passed.exchanges, passed.connections) == (6, 6, 1, 0)
    assert before.connections == 1


def test_the_end_of_a_stream_passes(echo: Echo, connect: Connect) -> None:
    client = connect()
    client.send(b"last\n")
    client.socket.shutdown(socket.SHUT_WR)
    assert client.hears() == b"last\n"
    assert client.hears() == b""
    until(lambda: echo.ends == ["end"])


def test_much_passes_whole(connect: Connect) -> None:
    client = connect()
    line = b"x" * 3_000_000 + b"\n"
    sender = threading.Thread(target=client.send, args=(line,))
    sender.start()
    heard = 0
    while heard < len(line):
        heard += len(client.hears())
    sender.join()
    assert heard == len(line)


def test_a_frozen_connection_stays_open_and_goes_on_when_thawed(echo: Echo, proxy: Proxy, connect: Connect) -> None:
    client = connect()
    client.asks(b"one\n")
    proxy.freeze()
    client.send(b"two\n")
    assert client.hears_nothing()
    assert echo.lines == [b"one\n"]
    proxy.thaw()
    assert client.hears() == b"two\n"


def test_an_end_does_not_pass_a_frozen_connection(echo: Echo, proxy: Proxy, connect: Connect) -> None:
    gone, witness = connect(), connect()
    gone.asks(b"one\n")
    proxy.freeze(new="work")
    gone.socket.close()
    assert connect().asks(b"two\n") == b"two\n"
    assert echo.ends == []
    proxy.thaw()
    until(lambda: echo.ends == ["end"])
    assert witness.asks(b"three\n") == b"three\n"


def test_requests_pass_while_replies_are_frozen(echo: Echo, proxy: Proxy, connect: Connect) -> None:
    client = connect()
    client.asks(b"one\n")
    proxy.freeze("replies")
    client.send(b"two\n")
    until(lambda: echo.lines == [b"one\n", b"two\n"])
    assert client.hears_nothing()
    proxy.thaw()
    assert client.hears() == b"two\n"


def test_replies_pass_while_requests_are_frozen(echo: Echo, proxy: Proxy, connect: Connect) -> None:
    client = connect()
    client.asks(b"one\n")
    proxy.freeze("replies")
    client.send(b"two\n")
    until(lambda: echo.lines == [b"one\n", b"two\n"])
    proxy.thaw()
    proxy.freeze("requests")
    assert client.hears() == b"two\n"
    client.send(b"three\n")
    assert client.hears_nothing()
    assert len(echo.lines) == 2


@pytest.mark.parametrize("new", ["hang", "work"])
def test_a_connection_made_while_frozen_hangs_or_works(proxy: Proxy, connect: Connect, new: str) -> None:
    proxy.freeze(new=new)
    client = connect()
    client.send(b"one\n")
    if new == "hang":
        assert client.hears_nothing()
        proxy.thaw()
    assert client.hears() == b"one\n"


def test_a_dropped_reply_is_a_reset_after_the_request_was_done(echo: Echo, proxy: Proxy, connect: Connect) -> None:
    client, other = connect(), connect()
    proxy.drop_replies(after=b"commit")
    assert client.asks(b"begin\n") == b"begin\n"
    with pytest.raises(ConnectionResetError):
        client.asks(b"commit\n")
    assert echo.lines == [b"begin\n", b"commit\n"]
    assert proxy.counts.resets == 1
    assert other.asks(b"commit\n") == b"commit\n"


def test_part_of_a_reply_may_pass_before_the_reset(echo: Echo, proxy: Proxy, connect: Connect) -> None:
    client = connect()
    proxy.drop_replies(after=b"commit", keep=3)
    assert client.asks(b"begin\n") == b"begin\n"
    assert client.asks(b"commit\n") == b"com"
    with pytest.raises(ConnectionResetError):
        client.hears()
    assert echo.lines == [b"begin\n", b"commit\n"]
    assert proxy.counts.resets == 1


def test_a_reply_that_is_short_passes_and_the_next_is_dropped(proxy: Proxy, connect: Connect) -> None:
    client = connect()
    proxy.drop_replies(keep=10)
    assert client.asks(b"begin\n") == b"begin\n"
    assert client.asks(b"commit\n") == b"comm"
    with pytest.raises(ConnectionResetError):
        client.hears()


def test_what_was_asked_before_is_not_dropped_or_cut_later(proxy: Proxy, connect: Connect) -> None:
    client = connect()
    client.asks(b"commit\n")
    proxy.drop_replies(after=b"commit")
    proxy.cut_requests(after=b"commit")
    assert client.asks(b"begin\n") == b"begin\n"
    assert proxy.counts.resets == 0


def test_of_a_request_that_is_cut_the_server_has_the_beginning(echo: Echo, proxy: Proxy, connect: Connect) -> None:
    client, other = connect(), connect()
    proxy.cut_requests(after=b"com")
    assert client.asks(b"begin\n") == b"begin\n"
    client.send(b"commit\n")
    with pytest.raises(ConnectionResetError):
        client.hears()
    until(lambda: echo.ends == ["reset"])
    assert echo.lines == [b"begin\n"]
    assert proxy.counts.resets == 1
    assert other.asks(b"commit\n") == b"commit\n"


def test_a_request_is_cut_also_where_it_comes_in_pieces(echo: Echo, proxy: Proxy, connect: Connect) -> None:
    client = connect()
    proxy.cut_requests(after=b"one two")
    before = proxy.counts
    client.send(b"a\none t")
    assert client.hears() == b"a\n"
    client.send(b"wo three\n")
    with pytest.raises(ConnectionResetError):
        client.hears()
    assert echo.lines == [b"a\n"]
    assert (proxy.counts - before).resets == 1


def test_all_connections_can_be_reset(echo: Echo, proxy: Proxy, connect: Connect) -> None:
    clients = [connect(), connect()]
    for client in clients:
        client.asks(b"one\n")
    proxy.reset()
    for client in clients:
        with pytest.raises(ConnectionResetError):
            client.hears()
    until(lambda: echo.ends == ["reset", "reset"])
    assert connect().asks(b"two\n") == b"two\n"


def test_connections_can_be_refused(proxy: Proxy, connect: Connect) -> None:
    client = connect()
    client.asks(b"one\n")
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        connect()
    assert client.asks(b"two\n") == b"two\n"
    proxy.thaw()
    assert connect().asks(b"three\n") == b"three\n"


def test_a_server_that_is_down_looks_down(echo: Echo, connect: Connect) -> None:
    echo.close()
    with pytest.raises(ConnectionResetError):
        connect().asks(b"one\n")
    echo._listener = socket.create_server(("127.0.0.1", 0))


def test_a_lost_reply_to_commit_is_a_commit_all_the_same(
    postgres_url: str, postgres_server: Postgres, new_proxy: NewProxy
) -> None:
    proxy = new_proxy(postgres_server.port)
    with psycopg.connect(postgres_url, autocommit=True) as direct:
        direct.execute("CREATE TABLE t (id int)")
        with psycopg.connect(proxy.through(postgres_url)) as client:
            client.execute("INSERT INTO t VALUES (1)")
            proxy.drop_replies(after=b"COMMIT")
            with pytest.raises(psycopg.OperationalError):
                client.commit()
        assert direct.execute("SELECT id FROM t").fetchall() == [(1,)]


def test_round_trips_are_counted(postgres_url: str, postgres_server: Postgres, new_proxy: NewProxy) -> None:
    proxy = new_proxy(postgres_server.port)
    with psycopg.connect(proxy.through(postgres_url), autocommit=True) as client:
        before = proxy.counts
        for number in range(3):
            client.execute("SELECT %s::int", [number])
        assert (proxy.counts - before).exchanges == 3


@pytest.fixture
def redis_server(new_redis: Callable[..., Redis]) -> Redis:
    return new_redis()


def test_a_lost_reply_of_redis_is_a_write_all_the_same(redis_server: Redis, new_proxy: NewProxy) -> None:
    proxy = new_proxy(redis_server.port)
    with client_of(proxy.through(redis_server.url())) as client:
        assert client.set("a", 1)
        proxy.drop_replies(after=b"INCR")
        with pytest.raises(redis.ConnectionError):
            client.incr("a")
        assert client.get("a") == "2"
    assert proxy.counts.resets == 1


def test_half_a_command_of_redis_is_none(redis_server: Redis, new_proxy: NewProxy) -> None:
    proxy = new_proxy(redis_server.port)
    with client_of(proxy.through(redis_server.url())) as client:
        assert client.set("a", 1)
        proxy.cut_requests(after=b"*3\r\n$6\r\nINCR")
        with pytest.raises(redis.ConnectionError):
            client.incrby("a", 1)
        assert client.get("a") == "1"
    assert proxy.counts.resets == 1


def test_half_a_reply_of_redis_is_an_error(redis_server: Redis, new_proxy: NewProxy) -> None:
    proxy = new_proxy(redis_server.port)
    with client_of(proxy.through(redis_server.url())) as client:
        client.rpush("list", *range(100))
        proxy.drop_replies(after=b"LRANGE", keep=50)
        with pytest.raises(redis.ConnectionError):
            client.lrange("list", 0, -1)
        assert len(client.lrange("list", 0, -1)) == 100
    assert proxy.counts.resets == 1


def test_blocking_commands_of_redis_pass(redis_server: Redis, new_proxy: NewProxy) -> None:
    proxy = new_proxy(redis_server.port)
    with client_of(proxy.through(redis_server.url())) as client, ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(client.blpop, "list", 10)
        until(lambda: redis_server.info("clients")["blocked_clients"] == 1)
        redis_server.execute("RPUSH", "list", "x")
        assert waiting.result() == ("list", "x")
