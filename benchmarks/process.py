"""Worker processes of a contender: started, watched, measured while idle, stopped, and a core kept awake meanwhile."""

import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from benchmarks import probe

ROOT = Path(__file__).parent.parent


@contextmanager
def workers(
    folder: Path, arguments: Sequence[str], *, count: int = 1, python: str = sys.executable
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run `count` Python processes with these arguments in `folder`; stop them at the end by SIGINT, as a terminal would."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), probe.FOLDER: str(folder)}
    log = (folder / "worker.log").open("wb")
    command = [python, *arguments]
    running = [
        subprocess.Popen(command, cwd=folder, env=variables, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        for _ in range(count)
    ]
    try:
        yield running
    finally:
        for process in running:
            process.send_signal(signal.SIGINT)
        for process in running:
            stop(process)
        log.close()


def stop(process: subprocess.Popen[bytes], patience: float = 15) -> None:
    """Wait for a process that was told to stop, and kill it when patience ends."""
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def until(condition: Callable[[], bool], *, timeout: float = 120, pause: float = 0.02) -> None:
    """Wait until the condition holds, looking rarely enough not to disturb what is measured."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not done after {timeout:g} s")
        time.sleep(pause)


def idle(process: subprocess.Popen[bytes], *, settle: float = 2, window: float = 5) -> Mapping[str, float]:
    """Return the CPU (%) and the memory (MB) of a worker with nothing to do, its children included."""
    time.sleep(settle)
    parent = psutil.Process(process.pid)
    family = [parent, *parent.children(recursive=True)]
    before = sum(cpu_seconds(member) for member in family)
    time.sleep(window)
    spent = sum(cpu_seconds(member) for member in family) - before
    return {"cpu": 100 * spent / window, "rss": sum(member.memory_info().rss for member in family) / 1e6}


def cpu_seconds(process: psutil.Process) -> float:
    """Return the CPU time a process has used, from `/proc`'s scheduler clock where there is one: finer than ticks."""
    schedstat = Path(f"/proc/{process.pid}/task")
    if schedstat.exists():
        nanoseconds = sum(int((thread / "schedstat").read_text().split()[0]) for thread in schedstat.iterdir())
        return nanoseconds / 1e9
    times = process.cpu_times()
    return float(times.user + times.system)


def import_time(module: str, runs: int = 5) -> float:
    """Return the median time in ms that a fresh interpreter takes to import a module."""
    code = f"import time; start = time.perf_counter(); import {module}; print(time.perf_counter() - start)"
    command = [sys.executable, "-c", code]
    return 1e3 * statistics.median(
        float(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout) for _ in range(runs)
    )


@contextmanager
def awake() -> Iterator[None]:
    """Keep one core from going idle with a loop at the lowest priority: an idle virtual core is slow to wake."""
    process = subprocess.Popen([sys.executable, "-c", "import os; os.nice(19)\nwhile True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()
