"""Places that cannot be written, files that are broken, disks that are full, locks that stay, processes that are killed."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.waiting import until
from windlass import Context, Windlass
from windlass.drivers.sqlite import SqliteDriver, connect
from windlass.errors import (
    ConfigurationError,
    ConnectionLostError,
    CorruptStoreError,
    SchemaError,
    StoreError,
    StoreFullError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def _app(path: Path, **given: Any) -> Windlass:
    return Windlass(f"sqlite:///{path}", **{"durability": "relaxed", "backoff": 0, "poll": 0.05, **given})


def _sound(path: Path) -> None:
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


def _as_nobody(check: Any) -> None:
    """Run *check* in a child that is not root, where permission bits apply."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            if os.geteuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            check()
            code = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def _open_to_all(path: Path) -> None:
    """Let another user come as far as *path*."""
    for folder in path.parents:
        if os.access(folder, os.W_OK) and folder.stat().st_uid == os.geteuid() and len(folder.parts) > 2:
            folder.chmod(folder.stat().st_mode | 0o055)


# ---------------------------------------------------------------------- the place


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """Nothing is created on the way."""
    with pytest.raises(ConfigurationError, match=r"no/such.*does not exist"):
        _app(tmp_path / "no/such/jobs.db").stats()
    assert not (tmp_path / "no").exists()


def test_a_folder_is_no_database(tmp_path: Path) -> None:
    """The message says so and asks for a file."""
    with pytest.raises(ConfigurationError, match="is a folder"):
        _app(tmp_path).stats()


def test_many_who_make_the_same_new_file_at_once_all_get_in(tmp_path: Path) -> None:
    """As the processes of a first start do: one of them has the file to itself for an instant."""
    for number in range(5):
        drivers = [SqliteDriver(tmp_path / f"{number}.db") for _ in range(6)]
        line = threading.Barrier(len(drivers))

        def enter(driver: SqliteDriver, line: threading.Barrier = line) -> int:
            line.wait(20)
            with closing(driver):
                driver.open()
                return len(driver.tallies())

        with ThreadPoolExecutor(len(drivers)) as threads:
            assert list(threads.map(enter, drivers)) == [0] * len(drivers)


def test_an_unwritable_folder_is_said_at_once(tmp_path: Path) -> None:
    """A user who may not write there reads it in one line."""
    (tmp_path / "closed").mkdir(mode=0o555)
    _open_to_all(tmp_path / "closed")

    def check() -> None:
        with pytest.raises(ConnectionLostError, match="cannot be written"):
            _app(tmp_path / "closed/jobs.db").enqueue("work")

    _as_nobody(check)


def test_an_unwritable_file_is_said_at_once(tmp_path: Path) -> None:
    """Likewise when only the file is closed."""
    app = _app(tmp_path / "jobs.db")
    app.stats()
    app.close()
    (tmp_path / "jobs.db").chmod(0o444)
    _open_to_all(tmp_path / "jobs.db")

    def check() -> None:
        with pytest.raises(ConnectionLostError, match="cannot be written"):
            _app(tmp_path / "jobs.db").enqueue("work")

    _as_nobody(check)


MOUNTS = """\
22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
30 22 0:40 / /srv rw shared:1 - nfs4 server:/export rw
31 22 0:41 / /srv/local rw - xfs /dev/sdb rw
32 22 0:42 / /my\\040share rw - cifs //server/share rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/tmp/x.db", "ext4"),
        ("/srv/x.db", "nfs4"),
        ("/srv/local/x.db", "xfs"),
        ("/srvx/x.db", "ext4"),
        ("/my share/x", "cifs"),
    ],
)
def test_the_file_system_is_that_of_the_longest_mount(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, path: str, kind: str
) -> None:
    """Mount points nest, look alike, and may have spaces."""
    from pathlib import Path as RealPath

    (tmp_path / "mountinfo").write_text(MOUNTS)
    monkeypatch.setattr(
        connect, "Path", lambda name: tmp_path / "mountinfo" if "mountinfo" in str(name) else RealPath(name)
    )
    assert connect.filesystem(RealPath(path)) == kind


def test_a_network_file_system_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """SQLite's locks are not to be trusted there."""
    monkeypatch.setattr(connect, "filesystem", lambda _: "nfs4")
    with pytest.raises(ConfigurationError, match="network file system"):
        _app(tmp_path / "jobs.db").stats()


# ---------------------------------------------------------------------- the file


@pytest.mark.parametrize("content", [b"not a database at all, just some text\n" * 100, b"\x00" * 8192])
def test_another_file_is_not_taken_for_a_database(tmp_path: Path, content: bytes) -> None:
    """It is left as it was."""
    path = tmp_path / "letter.txt"
    path.write_bytes(content)
    with pytest.raises(CorruptStoreError, match="not a sound SQLite database"):
        _app(path).enqueue("work")
    assert path.read_bytes() == content


def test_a_corrupted_file_is_a_corrupt_store_error(tmp_path: Path) -> None:
    """Pages overwritten in the middle: the client and a worker's start say so."""
    path = tmp_path / "jobs.db"
    app = _app(path)
    task = _task(app)
    app.enqueue_many([task.job("x" * 500) for _ in range(500)])
    app.close()
    with path.open("r+b") as file:
        for page in range(1, path.stat().st_size // 4096):
            file.seek(page * 4096)
            file.write(os.urandom(4096))
    broken = _app(path)
    with pytest.raises(CorruptStoreError):
        broken.enqueue("work", {"text": "x"})
    with pytest.raises(CorruptStoreError):
        broken.worker().start()
    broken.close()


def _task(app: Windlass) -> Any:
    def work(text: str) -> None: ...

    return app.register("work", work)


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    """The message says which release is needed, whatever ``migrate`` says."""
    app = _app(tmp_path / "jobs.db")
    app.stats()
    app.close()
    connection = sqlite3.connect(tmp_path / "jobs.db")
    connection.execute("UPDATE windlass_counter SET version = 99")
    connection.commit()
    connection.close()
    for migrate in ("auto", "check"):
        with pytest.raises(SchemaError, match=r"version 99.*newer"):
            _app(tmp_path / "jobs.db", migrate=migrate).stats()


@pytest.mark.parametrize("exists", [False, True])
def test_checking_an_empty_database_creates_nothing(tmp_path: Path, exists: bool) -> None:
    """``migrate="check"`` says what to do instead."""
    if exists:
        sqlite3.connect(tmp_path / "jobs.db").close()
        (tmp_path / "jobs.db").touch()
    with pytest.raises(SchemaError, match="windlass migrate"):
        _app(tmp_path / "jobs.db", migrate="check").stats()
    app = _app(tmp_path / "jobs.db")
    app.stats()
    app.close()
    checked = _app(tmp_path / "jobs.db", migrate="check")
    checked.enqueue("work")
    checked.close()


def test_two_prefixes_share_a_file(tmp_path: Path) -> None:
    """Each has its own jobs and schema."""
    one, two = _app(tmp_path / "jobs.db"), _app(tmp_path / "jobs.db", prefix="other")
    one.enqueue("work")
    assert (one.count(), two.count()) == (1, 0)
    one.close()
    two.close()


@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_a_database_that_is_gone_takes_no_more_jobs(tmp_path: Path, how: str) -> None:
    """Nobody would ever see them: enqueue and the worker say so, and the worker stops without hanging."""
    path = tmp_path / "jobs.db"
    app = _app(path, grace=1)
    app.register("work", lambda: None)
    worker = app.worker()
    worker.start()
    app.enqueue("work")
    until(lambda: app.count(status="completed") == 1)
    for name in ("jobs.db", "jobs.db-wal", "jobs.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    if how == "replaced":
        other = _app(path)
        other.enqueue("work")
        other.close()
    with pytest.raises(ConnectionLostError, match="deleted, moved or replaced"):
        app.enqueue("work")
    worker.stop()
    app.close()
    again = _app(path)
    again.enqueue("work")
    assert again.count() == (2 if how == "replaced" else 1)
    again.close()


# ---------------------------------------------------------------------- no room


@contextmanager
def _small_disk(path: Path, size: str) -> Iterator[None]:
    path.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted: {done.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def _fill(path: Path) -> None:
    """Take what room is left."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1 << 8, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue


@pytest.mark.skipif(shutil.which("mount") is None, reason="no mount program")
def test_a_full_disk_pauses_a_worker_and_loses_nothing(tmp_path: Path) -> None:
    """Enqueue raises ``StoreFullError``; the worker goes on when there is room; the file stays sound."""
    disk = tmp_path / "disk"
    with _small_disk(disk, "4m"):
        app = _app(disk / "jobs.db", grace=5)
        go, ran = threading.Event(), []

        def work(text: str, number: int) -> str:
            assert go.wait(30)
            ran.append(number)
            return text

        task = app.register("work", work)
        accepted = [task.enqueue("x" * 1000, 0)]
        with app.worker(concurrency=4) as worker:
            until(lambda: worker.snapshot().running == 1)
            _fill(disk / "ballast")
            with pytest.raises(StoreFullError, match="full"):  # noqa: PT012 - which one is refused is not known before
                for number in range(1, 10_000):
                    accepted.append(task.enqueue("x" * 1000, number))  # noqa: PERF401 - kept up to the refusal
            go.set()
            until(lambda: 0 in ran)
            with pytest.raises(StoreFullError):
                task.enqueue("x" * 300_000, -1)
            (disk / "ballast").unlink()
            until(lambda: app.count(status="completed") == len(accepted), timeout=30)
            assert worker.alive
        assert sorted(ran) == list(range(len(accepted)))
        assert app.stats().totals.lost == 0
        app.close()
        _sound(disk / "jobs.db")


def test_a_database_at_its_limit_refuses_and_goes_on(tmp_path: Path) -> None:
    """The same without a disk of its own: ``max_page_count`` of the write connection."""
    app = _app(tmp_path / "jobs.db")
    task = _task(app)
    task.enqueue("x")
    connection = app.driver._pen.connection  # type: ignore[attr-defined]
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages + 5}")
    kept = 1
    with pytest.raises(StoreFullError, match="full"):  # noqa: PT012 - which one is refused is not known before
        for _ in range(1000):
            task.enqueue("x" * 2000)
            kept += 1
    with pytest.raises(StoreFullError):
        app.enqueue_many([task.job("x" * 2000) for _ in range(20)])
    assert app.count() == kept
    connection.execute(f"PRAGMA max_page_count = {pages + 5000}")
    app.enqueue_many([task.job("x" * 2000) for _ in range(20)])
    assert app.count() == kept + 20
    app.close()
    _sound(tmp_path / "jobs.db")


# ---------------------------------------------------------------------- somebody else's lock


def test_an_enqueue_waits_for_a_lock_and_then_gives_up_clearly(tmp_path: Path) -> None:
    """Within its patience it waits; beyond, ``ConnectionLostError`` says that the database is locked."""
    driver = SqliteDriver(tmp_path / "jobs.db", durability="relaxed", patience=0.2)
    driver.open()
    app = Windlass("memory://")
    other = sqlite3.connect(tmp_path / "jobs.db", isolation_level=None, check_same_thread=False)
    with app.swapped(driver):  # type: ignore[arg-type]
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(ConnectionLostError, match="locked"):
            app.enqueue("work")
        driver._pen._patience = 20
        threading.Timer(0.3, other.execute, ["COMMIT"]).start()
        app.enqueue("work")
        assert app.count() == 1
    other.close()
    driver.close()


@pytest.mark.slow
def test_a_worker_outlives_a_long_lock(tmp_path: Path) -> None:
    """The file is locked for longer than ``lost_after``, and than the patience; afterwards everything completes once."""
    app = _app(tmp_path / "jobs.db", beat=0.2, lost_after=0.8)
    app.driver._pen._patience = 0.5  # type: ignore[attr-defined]
    begun, go, ran = threading.Event(), threading.Event(), []

    @app.task
    def work(number: int) -> None:
        begun.set()
        assert go.wait(30)
        ran.append(number)

    with app.worker(concurrency=2) as worker:
        first = worker.id
        jobs = [work.enqueue(number) for number in range(5)]
        assert begun.wait(20)
        other = sqlite3.connect(tmp_path / "jobs.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        until(lambda: worker.snapshot().beat_age > 2, timeout=20)
        assert not worker.snapshot().healthy
        other.execute("COMMIT")
        other.close()
        go.set()
        until(lambda: all(job.refresh().status == "completed" for job in jobs), timeout=30)
        until(lambda: worker.snapshot().healthy)
        assert worker.id == first
    assert app.stats().totals.lost == 0
    app.close()


@pytest.mark.slow
def test_a_worker_that_cannot_beat_gives_its_leases_up_before_anybody_else_may(tmp_path: Path) -> None:
    """While the file is still locked, and the beat still hangs on it, the handlers are told to stop."""
    app = _app(tmp_path / "jobs.db", beat=0.2, lost_after=1)
    told = threading.Event()
    begun = threading.Event()

    @app.task
    def wait(ctx: Context) -> None:
        begun.set()
        if ctx.cancelled.wait(20) and ctx.attempt == 1:
            told.set()
            raise RuntimeError("stopped")

    with app.worker() as worker:
        job = wait.enqueue()
        assert begun.wait(20)
        other = sqlite3.connect(tmp_path / "jobs.db", isolation_level=None, timeout=20)
        other.execute("BEGIN IMMEDIATE")
        assert told.wait(20)
        assert worker.snapshot().beat_age >= 0.9
        other.execute("COMMIT")
        other.close()
        until(lambda: job.refresh().attempt == 2)
        app.cancel(job.id)
        until(lambda: job.refresh().finished)
    assert job.history()[0].outcome == "released"
    app.close()


# ---------------------------------------------------------------------- threads


def test_a_bad_operation_does_not_spoil_its_neighbours(tmp_path: Path) -> None:
    """Operations that are written together: one fails in its own way, the others are written once."""
    driver = SqliteDriver(tmp_path / "jobs.db", durability="relaxed")
    driver.open()
    from windlass.job import NewJob

    gate = threading.Barrier(9)
    errors: list[BaseException] = []

    def good(number: int) -> None:
        gate.wait(20)
        driver.insert([NewJob(task="t", queue="q", payload=b"{}", origin=str(number))])

    def bad() -> None:
        gate.wait(20)
        try:
            driver._write(lambda tx: tx.run("UPDATE windlass_counter SET shift = ?", 1 << 70))
        except OverflowError as error:
            errors.append(error)

    with driver._pen.exclusive():
        threads = [threading.Thread(target=good, args=[n]) for n in range(7)] + [threading.Thread(target=bad)]
        for thread in threads:
            thread.start()
        gate.wait(20)
        until(lambda: len(driver._pen._waiting) == 8)
    for thread in threads:
        thread.join(20)
    from windlass.drivers.base import Filter

    records = driver.find(Filter(), limit=100)
    assert sorted(int(record.origin or -1) for record in records) == list(range(7))
    assert len(errors) == 1
    driver.close()


def test_an_interrupt_at_the_commit_writes_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C that arrives while the leader commits for others: all were written, each once, and the pen goes on."""
    driver = SqliteDriver(tmp_path / "jobs.db", durability="relaxed")
    driver.open()
    from windlass.drivers.base import Filter
    from windlass.job import NewJob

    class Interrupting:
        """The connection, with Ctrl-C right after its next commit."""

        def __init__(self, inner: Any) -> None:
            self._inner, self.armed = inner, True

        def execute(self, statement: str, *rest: Any) -> Any:
            done = self._inner.execute(statement, *rest)
            if statement == "COMMIT" and self.armed:
                self.armed = False
                raise KeyboardInterrupt
            return done

        def __getattr__(self, name: str) -> Any:
            return getattr(self._inner, name)

    interrupted: list[int] = []

    def insert(number: int) -> None:
        try:
            driver.insert([NewJob(task="t", queue="q", payload=b"{}", origin=str(number))])
        except KeyboardInterrupt:
            interrupted.append(number)

    with driver._pen.exclusive():
        monkeypatch.setattr(driver._pen, "connection", Interrupting(driver._pen.connection))
        threads = [threading.Thread(target=insert, args=[n]) for n in range(8)]
        for thread in threads:
            thread.start()
        until(lambda: len(driver._pen._waiting) == 8)
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    records = driver.find(Filter(), limit=100)
    assert sorted(int(record.origin or -1) for record in records) == list(range(8))
    assert len(interrupted) == 1
    insert(9)
    driver.close()


# ---------------------------------------------------------------------- kill -9

ENQUEUER = """
import sys
from windlass import Windlass
app = Windlass(sys.argv[1])
task = app.register("work", lambda text: None)
while True:
    print(task.enqueue("x" * 300).id, flush=True)
"""


@pytest.mark.slow
def test_kill_9_in_the_middle_of_commits_loses_no_acknowledged_job(tmp_path: Path) -> None:
    """Again and again: the file is sound and every id that was printed is there."""
    path = tmp_path / "jobs.db"
    acknowledged: list[int] = []
    for round_ in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", ENQUEUER, f"sqlite:///{path}"],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert process.stdout is not None
        acknowledged += [int(process.stdout.readline()) for _ in range(50 + 37 * round_)]
        process.send_signal(signal.SIGKILL)
        acknowledged += [int(line) for line in process.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
        process.wait()
        process.stdout.close()
        _sound(path)
    app = _app(path)
    for job_id in acknowledged:
        assert app.get(job_id).status == "pending"
    assert app.stats().pending == app.count() >= len(acknowledged)
    assert len(set(acknowledged)) == len(acknowledged)
    app.close()


def test_every_error_of_the_store_is_windlass_s_own(tmp_path: Path) -> None:
    """A table taken away under our feet is a ``StoreError``, not one of the ``sqlite3`` module."""
    app = _app(tmp_path / "jobs.db")
    app.stats()
    connection = sqlite3.connect(tmp_path / "jobs.db")
    connection.execute("DROP TABLE windlass_ready")
    connection.commit()
    connection.close()
    for call in (lambda: app.enqueue("work"), lambda: app.get(1), lambda: app.claim(tasks=["work"])):
        with pytest.raises(StoreError, match="windlass_ready"):
            call()
    app.close()
