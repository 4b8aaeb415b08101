"""Tasks for the process lane, whose children import them by name."""

import ctypes
import os
import sys
import threading
import time
from pathlib import Path

from windlass import Cancel, Context, Discard, Retry, Snooze, Windlass

app = Windlass("sqlite://", backoff=0)


class OddError(Exception):
    def __init__(self, *, needed: int) -> None:
        super().__init__(f"odd {needed}")
        self.data = {"needed": needed}


@app.task(lane="process")
def pid() -> int:
    return os.getpid()


@app.task(lane="process")
def double(number: int) -> int:
    return number * 2


@app.task(lane="process", max_attempts=1)
def fail(how: str) -> None:
    match how:
        case "value":
            raise ValueError("bad value")
        case "odd":
            raise OddError(needed=3)
        case "exit":
            sys.exit(3)
        case "interrupt":
            raise KeyboardInterrupt
        case "recursion":
            fail.function(how="value") if not how else deep()


def deep() -> None:
    deep()


@app.task(lane="process", max_attempts=3)
def choose(how: str) -> None:
    match how:
        case "snooze":
            raise Snooze(300)
        case "retry":
            raise Retry("later", after=300)
        case "discard":
            raise Discard("no use")
        case "cancel":
            raise Cancel("not wanted")


@app.task(lane="process", max_attempts=1)
def crash(how: str) -> None:
    match how:
        case "exit":
            os._exit(7)
        case "segfault":
            ctypes.string_at(0)
        case "close":
            os.closerange(3, 256)


@app.task(lane="process", max_attempts=1)
def wait(started: str, timeout: float = 30.0) -> str:
    """Wait until told to stop, and let that pass."""
    Path(started).write_text(str(os.getpid()))
    threading.Event().wait(timeout)
    return "waited"


@app.task(lane="process", max_attempts=1)
def obey(ctx: Context, started: str) -> str:
    """Take being told to stop as a wish."""
    Path(started).write_text(str(os.getpid()))
    try:
        threading.Event().wait(30)
    except BaseException:
        assert ctx.cancelled.is_set()
    return "obeyed"


@app.task(lane="process", max_attempts=1)
def ignore(started: str) -> None:
    """Go on whatever comes."""
    Path(started).write_text(str(os.getpid()))
    while True:
        try:
            time.sleep(30)
        except BaseException:
            continue


@app.task(lane="process", max_attempts=1)
def garbage() -> str:
    sys.stdout.write("\x00\xff garbage\n" * 100)
    sys.stdout.flush()
    os.write(2, b"\x80\x04\x95 more of it\n")
    return "printed"


@app.task(lane="process", max_attempts=1)
def fork_and_return() -> int:
    """Let the forked process come back from the handler, too."""
    return int(os.fork() == 0)


@app.task(lane="process", max_attempts=1)
def fork_and_die(pids: str) -> None:
    """Leave a process behind that holds every open file of this one."""
    child = os.fork()
    if child == 0:
        time.sleep(120)
        os._exit(0)
    with Path(pids).open("a") as file:
        file.write(f"{child}\n")
    os._exit(9)


@app.task(lane="process", max_attempts=1)
def hold_gil(started: str, seconds: float) -> str:
    Path(started).write_text("x")
    ctypes.PyDLL(None).usleep(int(seconds * 1_000_000))
    return "held"


@app.task(lane="process", max_attempts=1)
def big_result() -> str:
    return "x" * (2 << 20)


@app.task(lane="process", max_attempts=1)
def odd_result() -> object:
    return object()


@app.task(lane="process", max_attempts=1)
def tell(ctx: Context, lines: int, then: str) -> None:
    """Tell how it goes, and end in one of several ways."""
    for number in range(1, lines + 1):
        ctx.log(f"line {number}")
        ctx.progress(number, lines, "telling")
    match then:
        case "raise":
            raise ValueError("enough")
        case "wait":
            ctx.cancelled.wait(30)


@app.task(lane="process", max_attempts=1, chunk=10)
def double_all(ctx: Context, numbers: list[int]) -> list[int]:
    """Do many jobs in one call, and tell all of them."""
    ctx.log(f"doubling {len(numbers)}")
    if 13 in numbers:
        os._exit(7)
    return [2 * number for number in numbers]
