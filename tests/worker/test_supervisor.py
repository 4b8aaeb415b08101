"""The supervisor with real processes and real signals."""

import json
import os
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.programs import Program
from tests.waiting import until
from windlass import Windlass
from windlass.worker.leash import own_files
from windlass.worker.member import LONGEST, End, Member
from windlass.worker.watcher import Watcher

Start = Callable[..., Program]

pytestmark = pytest.mark.slow

SHOP = """
import os, time
from windlass import Windlass


app = Windlass("sqlite:///jobs.db", poll=0.05, beat=0.3, lost_after=2, grace=10)
WORD = "old"

@app.task
def say() -> str:
    return WORD

@app.task
def linger(seconds: float) -> None:
    time.sleep(seconds)

@app.task
def vanish() -> None:
    os._exit(7)
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(SHOP)
    return tmp_path


@pytest.fixture
def store(shop: Path) -> Iterator[Windlass]:
    with Windlass(f"sqlite:///{shop / 'jobs.db'}") as app:
        yield app


@pytest.fixture
def supervise(shop: Path) -> Iterator[Start]:
    started: list[Program] = []

    def start(*words: object) -> Program:
        started.append(Program("worker", "shop:app", *map(str, words), cwd=shop))
        return started[-1]

    yield start
    for one in started:
        one.close()


def pids(store: Windlass) -> set[int]:
    """The processes of the workers that run."""
    return {worker.pid for worker in store.workers() if worker.status == "running"}


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_it_runs_so_many_processes(store: Windlass, supervise: Start) -> None:
    """And ends with them, with exit code 0."""
    supervisor = supervise("--processes", 3)
    found = until(lambda: len(pids(store)) == 3 and pids(store))
    supervisor.send(signal.SIGTERM)
    assert supervisor.ends() == 0
    assert all(map(gone, found))
    assert {worker.status for worker in store.workers()} == {"stopped"}


def test_a_killed_process_is_started_again(store: Windlass, supervise: Start) -> None:
    """Whoever killed it."""
    supervisor = supervise("--processes", 2)
    before = until(lambda: len(pids(store)) == 2 and pids(store))
    os.kill(min(before), signal.SIGKILL)
    supervisor.says("was ended by SIGKILL")
    until(lambda: len(pids(store) - before) == 1 and len(pids(store) - {min(before)}) == 2)


def test_a_process_that_ends_itself_is_started_again(store: Windlass, supervise: Start) -> None:
    """A handler that calls ``os._exit`` costs an attempt, not the worker; after its last crash the job is dead."""
    job = store.enqueue("vanish", {})
    other = store.enqueue("say", {})
    supervisor = supervise("--processes", 2)
    supervisor.says("ended with exit code 7")
    until(lambda: other.refresh().status == "completed")
    until(lambda: job.refresh().status == "dead", timeout=60)
    assert job.refresh().crashes == 3


def test_ctrl_c_counts_once(store: Windlass, supervise: Start) -> None:
    """A terminal sends SIGINT to the whole group; the children must not get it twice, so a running job is finished."""
    job = store.enqueue("linger", {"seconds": 1.5})
    supervisor = supervise("--processes", 2)
    until(lambda: job.refresh().status == "running" and job.refresh().started_at)
    os.killpg(supervisor.process.pid, signal.SIGINT)
    assert supervisor.ends() == 0
    assert job.refresh().status == "completed"


@pytest.mark.slow
def test_a_second_signal_stops_at_once(store: Windlass, supervise: Start) -> None:
    """Running jobs are given back."""
    job = store.enqueue("linger", {"seconds": 60})
    supervisor = supervise("--processes", 2)
    until(lambda: job.refresh().status == "running" and job.refresh().started_at)
    supervisor.send(signal.SIGTERM)
    supervisor.says("stopping")
    until(lambda: any(worker.status != "running" for worker in store.workers()))
    supervisor.send(signal.SIGTERM)
    supervisor.ends(timeout=15)
    assert (job.refresh().status, job.refresh().crashes) == ("pending", 0)


def test_a_hangup_restarts_one_after_the_other(store: Windlass, supervise: Start) -> None:
    """All are new in the end, and there was always one."""
    supervisor = supervise("--processes", 2)
    before = until(lambda: len(pids(store)) == 2 and pids(store))
    supervisor.send(signal.SIGHUP)

    def replaced() -> bool:
        now = pids(store)
        assert now, "there was no worker at all"
        return len(now) == 2 and not now & before

    until(replaced)
    assert not supervisor.text.count("at once")


def test_a_broken_release_does_not_replace_a_working_one(shop: Path, store: Windlass, supervise: Start) -> None:
    """A rolling restart stops at the first process that cannot start."""
    supervisor = supervise("--processes", 2)
    before = until(lambda: len(pids(store)) == 2 and pids(store))
    (shop / "shop.py").write_text("broken = (")
    supervisor.send(signal.SIGHUP)
    supervisor.says("the other workers are left as they are")
    assert len(pids(store) & before) == 1


def test_the_workers_die_with_a_killed_supervisor(store: Windlass, supervise: Start) -> None:
    """Gracefully: what runs is finished."""
    job = store.enqueue("linger", {"seconds": 1.5})
    supervisor = supervise("--processes", 2)
    found = until(lambda: len(pids(store)) == 2 and pids(store))
    until(lambda: job.refresh().status == "running" and job.refresh().started_at)
    supervisor.send(signal.SIGKILL)
    supervisor.ends()
    until(lambda: all(map(gone, found)))
    assert job.refresh().status == "completed"


def test_a_recycled_worker_is_followed_by_another_at_once(store: Windlass, supervise: Start) -> None:
    """--max-jobs alone brings a supervisor with it."""
    jobs = [store.enqueue("say", {}) for _ in range(3)]
    supervisor = supervise("--max-jobs", 1)
    supervisor.says("has done its share")
    late = store.enqueue("say", {})
    until(lambda: all(job.refresh().status == "completed" for job in [*jobs, late]))
    assert "starting it again in" not in supervisor.text


@pytest.mark.slow
def test_too_much_memory_recycles(store: Windlass, supervise: Start) -> None:
    """--max-memory, too."""
    supervisor = supervise("--max-memory", 1)
    supervisor.says("has done its share", times=2)


def test_an_app_that_cannot_be_loaded_ends_the_supervisor(shop: Path, supervise: Start) -> None:
    """With the usage code: trying again cannot help."""
    (shop / "shop.py").write_text("broken = (")
    supervisor = supervise("--processes", 2)
    assert supervisor.ends() == 2
    supervisor.says("SyntaxError")


def test_a_changed_file_restarts_the_workers(shop: Path, store: Windlass, supervise: Start) -> None:
    """A syntax error is told and waited out."""
    supervisor = supervise("--watch")
    first = store.enqueue("say", {})
    until(lambda: first.refresh().status == "completed")
    (shop / "shop.py").write_text(SHOP.replace('"old"', '"broken'))
    supervisor.says("waiting for a change")
    supervisor.says("SyntaxError")
    (shop / "shop.py").write_text(SHOP.replace('"old"', '"brand-new"'))
    second = store.enqueue("say", {})
    until(lambda: second.refresh().status == "completed")
    assert (first.refresh().result, second.refresh().result) == ("old", "brand-new")


@pytest.mark.slow
def test_health_is_that_of_all_processes(store: Windlass, supervise: Start, free_port: int) -> None:
    """One that is stopped in its tracks makes the answer 503."""
    supervise("--processes", 2, "--health", f"127.0.0.1:{free_port}")

    def code() -> int:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{free_port}/healthz", timeout=5) as answer:
                assert len(json.load(answer)["processes"]) == 2
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        except OSError:
            return 0

    until(lambda: code() == 200)
    victim = min(pids(store))
    os.kill(victim, signal.SIGSTOP)
    try:
        until(lambda: code() == 503, timeout=30)
    finally:
        os.kill(victim, signal.SIGCONT)


def test_a_process_that_dies_quickly_is_backed_off_from() -> None:
    """From 0.1 s up to 10 s, and not at all when it was asked to end or had done its share."""
    member = Member("1", ["/bin/sh", "-c", "exit 3"])
    pauses = []
    for _ in range(9):
        member.start()
        assert until(member.reap) is End.DIED
        pauses.append(member._pause)
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, LONGEST, LONGEST]
    member._command = ["/bin/sh", "-c", "exit 90"]
    member.start()
    assert (until(member.reap), member._pause) == (End.RECYCLED, 0.0)
    member._command = ["/bin/sh", "-c", "exit 2"]
    member.start()
    assert until(member.reap) is End.REFUSED


def test_a_process_is_asked_once() -> None:
    """A worker takes a second SIGTERM for "at once"."""
    member = Member("1", ["/bin/sh", "-c", "trap 'echo >> asked' TERM; while :; do sleep 0.05; done"])
    sent: list[int] = []
    member.start()
    assert member._process is not None
    kill = member._process.send_signal
    member._process.send_signal = sent.append  # type: ignore[method-assign]
    member.ask()
    member.ask()
    assert sent == [signal.SIGTERM]
    kill(signal.SIGKILL)
    assert until(member.reap) is End.WANTED


def test_garbage_on_the_line_is_survived() -> None:
    """A handler may write to any descriptor."""
    code = "import os, sys; os.write(int(os.environ['WINDLASS_SUPERVISOR'].split(':')[0]), b'garbage\\n\\xff\\n[]\\n'); sys.exit(3)"
    member = Member("1", [sys.executable, "-c", code])
    member.start()
    assert until(member.reap) is End.DIED


def test_a_watcher_sees_changes_creation_and_removal(tmp_path: Path) -> None:
    """Each once."""
    kept, made = tmp_path / "kept.py", tmp_path / "made.py"
    kept.write_text("a")
    watcher = Watcher()
    watcher.add([str(kept), str(made)])
    assert watcher.changed() == []
    kept.write_text("longer")
    made.write_text("b")
    assert watcher.changed() == [str(kept), str(made)]
    assert watcher.changed() == []
    kept.unlink()
    assert watcher.changed() == [str(kept)]


def test_only_the_projects_own_files_are_watched(tmp_path: Path) -> None:
    """Neither Python's nor those of installed packages."""
    own = str(tmp_path / "shop.py")
    names = [own, "/usr/lib/python3/os.py", "/x/site-packages/y.py", str(tmp_path / "fast.so")]
    assert own_files(names, ("/usr/lib/python3/",)) == [os.path.realpath(own)]
