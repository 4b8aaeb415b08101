"""``windlass watch ID``: one job, with its progress and log lines, until it has ended."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import typer

from windlass.cli import output
from windlass.cli.failure import Code
from windlass.errors import JobNotFoundError, NotSupportedError, StoreError
from windlass.events import JobEvent
from windlass.job import Status
from windlass.report import as_json as to_json
from windlass.times import moment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from windlass.app import Windlass
    from windlass.client.stream import Events
    from windlass.job import Job

SETTLE = 0.02
"""Seconds after an event within which more of the same job are told together."""


class Screen:
    """Where a job is shown: a terminal, plain lines, or lines of JSON."""

    def show(self, job: Job) -> None:
        """Show the job as it is now."""

    def say(self, number: int, at: float, text: str) -> None:
        """Show a line of its log."""


class Plain(Screen):
    """Each change is a line."""

    _last: str | None = None

    def show(self, job: Job) -> None:
        """Print the status and progress, if they have changed."""
        if (text := f"{_status(job)}{_progress(job)}") != self._last:
            self._last = text
            output.line(text, at_once=True)

    def say(self, number: int, at: float, text: str) -> None:
        """Print a line of the log."""
        output.line(f"{output.time(moment(at))}  {text}", at_once=True)


class Lines(Screen):
    """Each change is a JSON object: the job, or ``{"line": 1, "at": …, "text": …}``."""

    _last: Job | None = None

    def show(self, job: Job) -> None:
        """Print the job, if it has changed."""
        if job != self._last:
            self._last = job
            output.json_line(to_json(job))

    def say(self, number: int, at: float, text: str) -> None:
        """Print a line of the log."""
        output.json_line({"line": number, "at": moment(at), "text": text})


class Live(Screen):
    """A bar that moves, below the log."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar
        self._task = bar.add_task("", total=None, note="")

    def show(self, job: Job) -> None:
        """Move the bar."""
        done, total = (0.0, None) if job.progress is None else (job.progress.done, job.progress.total)
        if job.status is Status.COMPLETED:
            done = total = total or 1.0
        note = "" if job.progress is None else output.one_line(job.progress.note)
        self._bar.update(self._task, description=_status(job), completed=done, total=total, note=note, refresh=True)

    def say(self, number: int, at: float, text: str) -> None:
        """Print a line of the log above the bar."""
        self._bar.console.print(output.clean(text), markup=False, highlight=False)


def watch_job(app: Windlass, job_id: int, interval: float, *, as_json: bool) -> None:
    """Show a job until it has ended; exit with 1 when it is dead or cancelled."""
    job, told = app.get(job_id), 0
    with _screen(as_json=as_json) as screen, _news(app, job_id) as news:
        while True:
            for number, at, text in app.driver.lines(job_id, told):
                screen.say(number, at, text)
                told = number
            screen.show(job)
            if job.finished:
                break
            news.wait(interval)
            job = news.job(job)
    if job.status is not Status.COMPLETED:
        raise typer.Exit(Code.FAILED)


class _News:
    """What is heard of the job."""

    def __init__(self, job_id: int, events: Events | None) -> None:
        self._job_id = job_id
        self._events = events
        self._last: Job | None = None

    def wait(self, seconds: float) -> None:
        """Wait for news, at most so many seconds."""
        if self._events is None:
            time.sleep(seconds)
            return
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            event = self._events.get(left)
            if isinstance(event, JobEvent) and event.job.id == self._job_id:
                self._last = event.job
                until = min(until, time.monotonic() + SETTLE)

    def job(self, before: Job) -> Job:
        """Return the job as it is now; one of which nothing was kept, as it ended."""
        try:
            return before.refresh()
        except JobNotFoundError:
            if self._last is None or not self._last.finished:
                raise
            return self._last


@contextmanager
def _news(app: Windlass, job_id: int) -> Iterator[_News]:
    with ExitStack() as stack:
        try:
            events = stack.enter_context(app.listen(JobEvent))
        except (StoreError, NotSupportedError):  # then the clock has to do
            yield _News(job_id, None)
        else:
            yield _News(job_id, events)


@contextmanager
def _screen(*, as_json: bool) -> Iterator[Screen]:
    if as_json or not output.terminal():
        yield Lines() if as_json else Plain()
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, auto_refresh=True) as bar:
        yield Live(bar)


def _progress(job: Job) -> str:
    return "" if job.progress is None or job.finished else f" {output.one_line(job.progress)}"


def _status(job: Job) -> str:
    error = f": {output.one_line(job.error)}" if job.error and job.status is not Status.COMPLETED else ""
    return f"job {job.id} {job.task} is {job.status}, attempt {job.attempt}, {job.failures} of {job.max_attempts} failed{error}"
