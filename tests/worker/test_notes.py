"""What handlers tell about themselves is read by others while they run, and is whole when they have ended."""

from __future__ import annotations

import importlib
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.waiting import until
from tests.worker import handlers
from tests.worker.ending import ended
from windlass import ConfigurationError, ConnectionLostError, Context, LeaseLost, Progress, current
from windlass.drivers.memory import MemoryDriver
from windlass.notes import LONGEST, UNWRITTEN, Page, trimmed
from windlass.testing import testing
from windlass.worker.scribe import Scribe

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from windlass import Job, Windlass
    from windlass.drivers.base import Note
    from windlass.job import Record


def texts(job: Job, after: int = 0) -> list[str]:
    return [line.text for line in job.lines(after)]


def test_what_a_running_handler_tells_is_read_by_others(app: Windlass) -> None:
    """Within a second or two, while it still runs: the newest progress, and every line with its number and instant."""
    go = threading.Event()

    @app.task
    def index(ctx: Context, pages: int) -> None:
        for page in range(pages):
            ctx.log(f"page {page}")
            ctx.progress(page + 1, pages, "indexing")
        go.wait(30)

    with app.worker():
        job = index.enqueue(3)
        found = until(lambda: now if (now := job.refresh()).progress is not None else None)
        assert found.status == "running"
        assert found.progress == Progress(3, 3, "indexing")
        assert str(found.progress) == "3/3 indexing"
        assert texts(job) == ["page 0", "page 1", "page 2"]
        assert texts(job, after=2) == ["page 2"]
        assert [line.number for line in app.lines(job.id)] == [1, 2, 3]
        assert found.started_at is not None
        assert all(line.at >= found.started_at for line in job.lines())
        go.set()
        ended(job)


@pytest.mark.parametrize("how", ["returns", "raises", "async"])
def test_nothing_of_an_ended_attempt_is_missing(app: Windlass, how: str) -> None:
    """What was told right before the end is there as soon as the end is."""

    def tell() -> None:
        for number in range(20):
            current().log(str(number))
        current().progress(20)

    @app.task(max_attempts=1)
    def returns() -> None:
        tell()

    @app.task(max_attempts=1)
    def raises() -> None:
        tell()
        raise ValueError

    @app.task(name="async")
    async def awaits() -> None:
        tell()

    with app.worker():
        jobs = [ended(app.enqueue(how)) for _ in range(3)]
    for job in jobs:
        assert texts(job) == [str(number) for number in range(20)]
        assert job.progress == Progress(20)


def test_the_lines_of_all_attempts_stand_in_one_log(app: Windlass) -> None:
    """A second try goes on where the first has ended."""

    @app.task(max_attempts=2)
    def second(ctx: Context) -> None:
        ctx.log(f"try {ctx.attempt}")
        if ctx.attempt == 1:
            raise OSError

    with app.worker():
        assert texts(ended(second.enqueue())) == ["try 1", "try 2"]


@pytest.mark.slow
@pytest.mark.parametrize("then", ["return", "raise"])
def test_a_child_process_tells_its_worker(app: Windlass, then: str) -> None:
    """Nothing is missing either, however the attempt ends; the next attempt of the child has its own log."""
    app.register("tell", handlers.tell, lane="process", max_attempts=1)
    with app.worker(concurrency=1):
        first, second = (ended(app.enqueue("tell", {"lines": lines, "then": then})) for lines in (5, 2))
    assert (first.status, second.status) == (("completed",) * 2 if then == "return" else ("dead",) * 2)
    assert texts(first) == ["line 1", "line 2", "line 3", "line 4", "line 5"]
    assert texts(second) == ["line 1", "line 2"]
    assert first.progress == Progress(5, 5, "telling")
    assert first.started_at is not None
    assert all(line.at >= first.started_at for line in first.lines())


@pytest.mark.slow
def test_what_a_child_process_tells_is_read_while_it_runs(app: Windlass) -> None:
    """It is not kept until the end."""
    app.register("tell", handlers.tell, lane="process", max_attempts=1)
    with app.worker():
        job = app.enqueue("tell", {"lines": 3, "then": "wait"})
        until(lambda: len(texts(job)) == 3)
        assert job.refresh().status == "running"
        app.cancel(job.id)
        assert ended(job).status in ("cancelled", "completed")


@pytest.mark.parametrize("kept", [True, False], ids=["committed", "rolled back"])
def test_what_is_told_around_a_transaction_is_kept(make: Callable[..., Windlass], kept: bool) -> None:
    """Before and inside of it in order, also when it is rolled back; after it the attempt has ended."""
    app = make()

    @app.task(max_attempts=1)
    def work(ctx: Context) -> None:
        ctx.log("before")
        with ctx.transaction():
            ctx.log("inside")
            ctx.progress(1, 2)
            if not kept:
                raise ValueError("no")
        ctx.log("after")

    with app.worker():
        job = ended(work.enqueue())
    assert job.status == ("completed" if kept else "dead")
    assert texts(job) == ["before", "inside"]
    assert job.progress == Progress(1, 2)


@pytest.mark.slow
def test_what_a_child_process_tells_around_a_transaction_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child ends the attempt by itself; what it has told is written before that."""
    monkeypatch.setenv("WINDLASS_URL", f"sqlite:///{tmp_path}/stored.db")
    stored = importlib.import_module("tests.worker.stored")
    with stored.app, stored.app.worker(concurrency=1):
        jobs = [ended(stored.transact.enqueue(fail=fail)) for fail in (False, True, False)]
        assert [(job.status, job.result) for job in jobs] == [
            ("completed", "done"),
            ("dead", None),
            ("completed", "done"),
        ]
        for job in jobs:
            assert texts(job) == [*(f"before {number}" for number in range(20)), "inside"]


def test_whose_word_is_refused_is_told_to_stop(app: Windlass) -> None:
    """The lease was lost: the store takes no note, and the handler is cancelled."""
    lost: list[int] = []
    app.on(LeaseLost)(lambda event: lost.append(event.job.id))
    started = threading.Event()

    @app.task
    def obey(ctx: Context) -> None:
        started.set()
        while not ctx.cancelled.wait(0.05):
            ctx.log("still here")

    with app.worker() as worker:
        job = obey.enqueue()
        assert started.wait(30)
        app.pause(task="obey")
        app.retry(job.id, force=True)
        until(lambda: lost)
        assert worker.snapshot().running == 0
    assert job.refresh().status == "pending"
    assert lost == [job.id]


def test_a_plain_call_keeps_nothing(app: Windlass) -> None:
    """And raises nothing."""

    @app.task
    def tell(ctx: Context) -> str:
        ctx.log("to nobody")
        ctx.progress(1, 2)
        return "told"

    assert tell() == "told"


def test_the_testing_kit_keeps_what_is_told(app: Windlass) -> None:
    """At once."""

    @app.task
    def tell(ctx: Context) -> None:
        ctx.log("hello")
        ctx.progress(1, 4)

    with testing(app) as t:
        job = tell.enqueue()
        t.drain()
        assert texts(job) == ["hello"]
        assert job.refresh().progress == Progress(1, 4)


@pytest.mark.parametrize(("done", "total"), [(float("nan"), None), (1, float("inf"))])
def test_progress_is_made_of_finite_numbers(done: float, total: float | None) -> None:
    """JSON has no others."""
    with pytest.raises(ValueError, match="finite"):
        current().progress(done, total)


@pytest.mark.parametrize("after", [-1, 1.5, "x"])
def test_a_line_number_is_a_whole_number(app: Windlass, after: Any) -> None:
    """Anything else is refused at the door."""
    with pytest.raises(ConfigurationError):
        app.lines(1, after=after)


# ---------------------------------------------------------------------------------------- bounds


def test_text_is_kept_as_every_store_can() -> None:
    """Long lines are cut between characters; NUL and halves of characters become one that says so."""
    assert trimmed("plain") == "plain"
    assert trimmed("a\0b\ud800c") == "a�b?c"
    cut = trimmed("ä" * LONGEST)
    assert len(cut.encode()) <= LONGEST
    assert cut.endswith("ä …")


def test_of_too_many_lines_the_oldest_go_and_it_says_so(app: Windlass) -> None:
    """Memory stays bounded, whatever a handler does; the gap is a line of its own."""
    record = app.driver.insert([app.new_job(app.register("nothing", lambda: None).job())])[0]
    page = Page(record)
    for number in range(UNWRITTEN + 5):
        page.log(float(number), str(number))
    lines = page.note().lines
    assert len(lines) == UNWRITTEN + 1
    assert lines[0] == (5.0, "(5 lines were left out here: they came faster than they could be written)")
    assert [text for _, text in lines[1:3]] == ["5", "6"]


class Away(MemoryDriver):
    """A store that takes no notes for a while."""

    def __init__(self) -> None:
        super().__init__()
        self.fails: list[Exception] = []
        self.kept: list[Note] = []
        self.meanwhile: Callable[[], None] = lambda: None

    def note(self, notes: Sequence[Note]) -> list[tuple[int, int]]:
        self.meanwhile()
        if self.fails:
            raise self.fails.pop(0)
        self.kept += notes
        return []


def claimed(app: Windlass) -> Record:
    app.register("nothing", lambda: None)
    app.enqueue("nothing")
    claim = app.claim()
    assert claim is not None
    record = app.driver.get(claim.job.id)
    assert record is not None
    return record


def test_what_could_not_be_written_is_written_later_in_order(app: Windlass) -> None:
    """The store was away: nothing is lost and nothing told twice."""
    record, driver = claimed(app), Away()
    driver.fails = [ConnectionLostError("away")]
    scribe = Scribe(driver, on_refused=lambda _: None)
    scribe.log(record, "one", 1.0)
    driver.meanwhile = lambda: scribe.log(record, "two", 2.0)
    with pytest.raises(ConnectionLostError):
        scribe.flush([record.lease])
    driver.meanwhile = lambda: None
    scribe.log(record, "three", 3.0)
    scribe.progress(record, b"{}")
    scribe.flush([record.lease])
    scribe.flush([record.lease])
    [note] = driver.kept
    assert (note.progress, note.lines) == (b"{}", ((1.0, "one"), (2.0, "two"), (3.0, "three")))


def test_what_can_never_be_written_holds_nothing_up(app: Windlass, caplog: pytest.LogCaptureFixture) -> None:
    """It is dropped with a log line; the ends of jobs wait behind it."""
    record, driver = claimed(app), Away()
    driver.fails = [TypeError("odd")]
    scribe = Scribe(driver, on_refused=lambda _: None)
    scribe.log(record, "one", 1.0)
    scribe.flush([record.lease])
    scribe.flush([record.lease])
    assert driver.kept == []
    assert "cannot be written" in caplog.text


def test_who_has_told_nothing_writes_nothing(app: Windlass) -> None:
    """An end costs no note of its own."""
    record, driver = claimed(app), Away()
    scribe = Scribe(driver, on_refused=lambda _: None)
    scribe.log(record, "one", 1.0)
    scribe.flush([record.lease + 1])
    assert driver.kept == []
