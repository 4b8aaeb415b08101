"""``windlass worker`` as a process, with real signals."""

import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.programs import Program
from tests.waiting import until
from windlass import Windlass

pytestmark = pytest.mark.slow

Start = Callable[..., Program]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_runs_jobs_until_a_signal(shop: Path, store: Windlass, program: Start, number: int) -> None:
    """It ends with exit code 0 and signs off."""
    job = store.enqueue("double", {"number": 21})
    worker = program("worker", "shop:app", "--concurrency", "2")
    until(lambda: job.refresh().status == "completed")
    assert job.refresh().result == 42
    worker.send(number)
    assert worker.ends() == 0
    assert [w.status for w in store.workers()] == ["stopped"]


def test_the_first_signal_waits_for_the_handler(shop: Path, store: Windlass, program: Start) -> None:
    """What runs is finished."""
    job = store.enqueue("linger", {"seconds": 1})
    worker = program("worker", "shop:app")
    until(lambda: job.refresh().status == "running" and job.refresh().started_at)
    worker.send(signal.SIGTERM)
    assert worker.ends() == 0
    assert job.refresh().status == "completed"


def test_the_second_signal_does_not_wait(shop: Path, store: Windlass, program: Start) -> None:
    """The job is given back, and counts neither as a failure nor as a crash."""
    job = store.enqueue("linger", {"seconds": 60})
    worker = program("worker", "shop:app")
    until(lambda: job.refresh().status == "running" and job.refresh().started_at)
    worker.send(signal.SIGTERM)
    until(lambda: [w.status for w in store.workers()] != ["running"] or worker.process.poll() is not None)
    worker.send(signal.SIGTERM)
    worker.ends()
    after = job.refresh()
    assert (after.status, after.failures, after.crashes) == ("pending", 0, 0)


def test_a_worker_takes_only_its_queues(shop: Path, store: Windlass, program: Start) -> None:
    """--queue may be repeated."""
    jobs = [store.enqueue("double", {"number": 1}, queue=name) for name in ("no", "a", "b")]
    program("worker", "shop:app", "--queue", "a", "--queue", "b")
    until(lambda: [job.refresh().status for job in jobs] == ["pending", "completed", "completed"])


def test_a_handlers_log_lines_carry_the_job(shop: Path, store: Windlass, program: Start) -> None:
    """In plain lines, for whichever logger."""
    job = store.enqueue("speak", {"word": "hello"})
    worker = program("worker", "shop:app")
    worker.says(f"[job {job.id}] the word is hello")


def test_json_logs_are_one_object_a_line(shop: Path, store: Windlass, program: Start) -> None:
    """With the job's id as a number."""
    job = store.enqueue("speak", {"word": "hello"})
    worker = program("worker", "shop:app", "--json-logs")
    worker.says("the word is hello")
    line = next(json.loads(line) for line in worker.lines if "the word is" in line)
    assert (line["job_id"], line["level"]) == (job.id, "warning")


def test_a_worker_answers_health_checks(shop: Path, store: Windlass, program: Start, free_port: int) -> None:
    """With its snapshot."""
    program("worker", "shop:app", "--health", f"127.0.0.1:{free_port}")

    def ask() -> dict[str, object] | None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{free_port}/healthz", timeout=5) as answer:
                found: dict[str, object] = json.load(answer)
                return found
        except OSError:
            return None

    assert until(ask)["state"] == "running"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["nowhere:app"], "there is no module"),
        ([], "no app"),
        (["shop:app", "--health", "nonsense"], "HOST:PORT"),
        (["shop:app", "--concurrency", "0"], "--concurrency"),
        (["shop:app", "--processes", "2", "--app"], "requires an argument"),
    ],
)
def test_a_worker_that_cannot_start_says_why(shop: Path, program: Start, words: list[str], reason: str) -> None:
    """In one line, with exit code 2."""
    worker = program("worker", *words)
    assert (worker.ends(), reason in worker.text) == (2, True), worker.text
    assert "Traceback" not in worker.text


def test_importing_the_cli_loads_no_typer() -> None:
    """So that everything else does not pay for it."""
    code = "import sys, windlass.cli; sys.exit('typer' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_worker_loads_no_rich(shop: Path) -> None:
    """A worker lives long; it should not carry a table drawer."""
    code = "import sys, windlass.cli.root, windlass.worker.supervisor; sys.exit('rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
