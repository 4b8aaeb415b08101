"""Handlers in child processes: what they may do to themselves, and to nobody else."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.waiting import until
from tests.worker import handlers
from tests.worker.ending import ended, outcomes, reaches

if TYPE_CHECKING:
    from collections.abc import Callable

    from windlass import Job, Windlass

pytestmark = pytest.mark.slow


@pytest.fixture
def app(make: Callable[..., Windlass]) -> Windlass:
    """An application that knows the tasks of ``handlers``."""
    app = make(max_crashes=2, beat=0.2, lost_after=0.8)
    for name, task in handlers.app.tasks.items():
        app.register(
            name,
            task,
            lane="process",
            max_attempts=task.max_attempts,
        )
    return app


def _begun(path: Path) -> int:
    """Wait until a handler has written its pid."""
    return int(until(lambda: path.read_text() if path.exists() and path.read_text() else None))  # type: ignore[arg-type]


def _gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"


def test_a_child_serves_one_attempt_after_another(app: Windlass) -> None:
    """The result crosses; the child is not the worker, and is used again; it ends with the worker."""
    with app.worker(concurrency=1):
        jobs = [ended(app.enqueue("pid")) for _ in range(3)]
        assert ended(app.enqueue("double", {"number": 21})).result == 42
    (pid,) = {job.result for job in jobs}
    assert pid != os.getpid()
    until(lambda: _gone(pid))


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ("value", "ValueError"),
        ("odd", "tests.worker.handlers.OddError"),
        ("exit", "SystemExit"),
        ("interrupt", "KeyboardInterrupt"),
        ("recursion", "RecursionError"),
    ],
)
def test_an_exception_crosses_with_its_traceback(app: Windlass, how: str, error: str) -> None:
    """Even one that cannot be pickled is described as it was."""
    with app.worker():
        job = ended(app.enqueue("fail", {"how": how}))
    assert job.error is not None
    assert (job.status, job.error.type, job.error.kind.value, job.crashes) == ("dead", error, "error", 0)
    assert "handlers.py" in job.error.traceback
    assert job.error.data == ({"needed": 3} if how == "odd" else None)


def test_the_outcomes_cross(app: Windlass) -> None:
    """``Snooze``, ``Retry``, ``Discard`` and ``Cancel`` mean the same as in a thread, delays included."""
    with app.worker():
        jobs: dict[str, Job] = {
            how: app.enqueue("choose", {"how": how}) for how in ("snooze", "retry", "discard", "cancel")
        }
        assert reaches(jobs["snooze"], "scheduled").failures == 0
        assert reaches(jobs["retry"], "retrying").failures == 1
        assert reaches(jobs["discard"], "dead").failures == 1
        assert reaches(jobs["cancel"], "cancelled").failures == 0
    for how in ("snooze", "retry"):
        job = jobs[how].refresh()
        assert 250 < (job.run_at - job.history()[0].finished_at).total_seconds() <= 301  # type: ignore[operator]


@pytest.mark.parametrize(("name", "says"), [("big_result", "bytes"), ("odd_result", "object")])
def test_a_result_that_cannot_be_stored_fails_the_attempt(app: Windlass, name: str, says: str) -> None:
    """As in every lane."""
    with app.worker():
        job = ended(app.enqueue(name))
    assert job.error is not None
    assert job.error.kind == "payload"
    assert says in job.error.message


@pytest.mark.parametrize(("how", "says"), [("exit", "code 7"), ("segfault", "SIGSEGV"), ("close", "exited")])
def test_a_crash_is_the_child_s_job_s_alone(app: Windlass, tmp_path: Path, how: str, says: str) -> None:
    """It counts as crashes until the job is dead; a neighbour in another child goes on."""
    with app.worker(concurrency=2):
        neighbour = app.enqueue("wait", {"started": str(tmp_path / "begun"), "timeout": 2})
        _begun(tmp_path / "begun")
        claim = ended(app.enqueue("crash", {"how": how}), timeout=30)
        assert ended(neighbour).result == "waited"
    assert (claim.status, claim.crashes, claim.failures, outcomes(claim)) == ("dead", 2, 0, ["lost", "lost"])
    assert claim.error is not None
    assert claim.error.kind == "crash"
    assert says in claim.error.message
    assert neighbour.refresh().crashes == 0


def test_a_timeout_interrupts_then_kills(app: Windlass, tmp_path: Path) -> None:
    """A handler that lets it pass ends at once; one that goes on is killed. Both are kind ``timeout``, no crash."""
    with app.worker(concurrency=2):
        for job in app.enqueue_many([app.find_task("double").job(number=1)] * 2):  # so that both children are there
            ended(job)
        soft = app.enqueue("wait", {"started": str(tmp_path / "soft")}, timeout=1)
        hard = app.enqueue("ignore", {"started": str(tmp_path / "hard")}, timeout=1)
        pid = _begun(tmp_path / "hard")
        for job in (ended(soft), ended(hard)):
            assert job.error is not None
            assert (job.error.kind.value, job.crashes, job.failures) == ("timeout", 0, 1)
            assert job.error.message == "timed out after 1 s"
        until(lambda: _gone(pid))
        assert ended(app.enqueue("double", {"number": 1})).result == 2


def test_cancel_reaches_the_child(app: Windlass, tmp_path: Path) -> None:
    """Raises → cancelled; returns → completed; ignores → killed and cancelled."""
    with app.worker(concurrency=3):
        jobs = {name: app.enqueue(name, {"started": str(tmp_path / name)}) for name in ("wait", "obey", "ignore")}
        for name, job in jobs.items():
            _begun(tmp_path / name)
            app.cancel(job.id)
        assert ended(jobs["wait"]).status == "cancelled"
        assert (ended(jobs["obey"]).status, jobs["obey"].refresh().result) == ("completed", "obeyed")
        assert ended(jobs["ignore"]).status == "cancelled"
        assert {job.refresh().crashes for job in jobs.values()} == {0}


def test_a_stop_gives_the_child_s_job_back(app: Windlass, tmp_path: Path) -> None:
    """Released, no crash; the child is gone."""
    worker = app.worker()
    worker.start()
    job = app.enqueue("wait", {"started": str(tmp_path / "begun")})
    pid = _begun(tmp_path / "begun")
    with pytest.raises(Exception, match="given back"):
        worker.stop(timeout=0)
    job = job.refresh()
    assert (job.status, job.crashes, job.failures, outcomes(job)) == ("pending", 0, 0, ["released"])
    until(lambda: _gone(pid))


def test_a_signal_from_outside_is_not_the_job_s_fault(app: Windlass, tmp_path: Path) -> None:
    """A supervisor sends TERM to the whole group: the attempt is released, not failed."""
    with app.worker():
        job = app.enqueue("wait", {"started": str(tmp_path / "begun"), "timeout": 1})
        os.kill(_begun(tmp_path / "begun"), signal.SIGTERM)
        job = ended(job)
    assert (job.result, job.failures, job.crashes, outcomes(job)) == ("waited", 0, 0, ["released", "completed"])


def test_garbage_on_the_output_is_not_taken_for_an_answer(app: Windlass, capfd: pytest.CaptureFixture[str]) -> None:
    """The line between worker and child is neither stdout nor stderr."""
    with app.worker():
        assert ended(app.enqueue("garbage")).result == "printed"


def test_a_fork_that_comes_back_answers_for_nobody(app: Windlass) -> None:
    """The copy ends without a word, so the next job gets its own answer."""
    with app.worker(concurrency=1):
        assert ended(app.enqueue("fork_and_return")).result == 0
        assert [ended(app.enqueue("double", {"number": n})).result for n in range(5)] == [0, 2, 4, 6, 8]


def test_a_process_left_behind_does_not_hide_the_crash(app: Windlass, tmp_path: Path) -> None:
    """It holds the line open although the child is dead: the crash is seen all the same."""
    pids = tmp_path / "pid"
    with app.worker(concurrency=1):
        job = ended(app.enqueue("fork_and_die", {"pids": str(pids)}))
    for pid in pids.read_text().split():
        os.kill(int(pid), signal.SIGKILL)
    assert (job.status, job.crashes) == ("dead", 2)


def test_a_child_that_holds_the_gil_keeps_its_lease(app: Windlass, tmp_path: Path) -> None:
    """The worker's heart beats in another process; nobody takes the job."""
    with app.worker() as worker:
        job = app.enqueue("hold_gil", {"started": str(tmp_path / "begun"), "seconds": 2.0})
        until((tmp_path / "begun").exists)
        app.rescue()
        job = ended(job)
        assert worker.snapshot().refused == 0
    assert (job.result, outcomes(job)) == ("held", ["completed"])


def test_a_child_dies_with_its_worker(app: Windlass, tmp_path: Path) -> None:
    """Even when the worker is killed without a chance to say so."""
    pid = os.fork()
    if pid == 0:
        try:
            app.start()
            app.enqueue("ignore", {"started": str(tmp_path / "begun")})
            _begun(tmp_path / "begun")
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    child = _begun(tmp_path / "begun")
    until(lambda: _gone(child))
