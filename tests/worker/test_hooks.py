"""Hooks that fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.worker.ending import ended
from windlass import Context, JobCompleted, JobStarted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from windlass import Windlass


def test_a_start_hook_that_fails_stops_the_start(app: Windlass) -> None:
    """The error passes, nothing runs, and the next start may work."""
    fail = [True]

    @app.on_start
    def begin() -> None:
        if fail[0]:
            raise RuntimeError("no licence")

    worker = app.worker()
    with pytest.raises(RuntimeError, match="no licence"):
        worker.start()
    assert not worker.alive
    fail[0] = False
    with worker:
        assert worker.alive


def test_a_stop_hook_that_fails_is_logged(app: Windlass, caplog: pytest.LogCaptureFixture) -> None:
    """The others run all the same."""
    seen: list[str] = []

    @app.on_stop
    def bad() -> None:
        raise RuntimeError("the meter is broken")

    @app.on_stop
    def good() -> None:
        seen.append("good")

    with app.worker():
        pass
    assert seen == ["good"]
    assert "an on_stop hook failed" in caplog.text


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("colour", ["thread", "async"])
def test_a_hook_around_the_attempt_that_fails_fails_the_attempt(app: Windlass, when: str, colour: str) -> None:
    """It is part of the attempt, in every lane."""

    @app.around_attempt
    def around(context: Context) -> Iterator[None]:
        if when == "before":
            raise RuntimeError("before")
        yield
        raise RuntimeError("after")

    def work() -> str:
        return "done"

    async def awork() -> str:
        return "done"

    app.register("work", awork if colour == "async" else work, max_attempts=1)
    with app.worker():
        job = ended(app.enqueue("work"))
    assert job.error is not None
    assert job.error.message == when


def test_listeners_that_fail_hurt_nobody(app: Windlass, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the job, nor the pump, nor the other listeners."""
    heard: list[int] = []

    @app.on(JobStarted)
    @app.on(JobCompleted)
    def broken(event: object) -> None:
        raise RuntimeError("deaf")

    @app.on(JobCompleted)
    def good(event: JobCompleted) -> None:
        heard.append(event.job.id)

    app.register("work", lambda: None)
    with app.worker():
        jobs = [ended(app.enqueue("work")) for _ in range(3)]
    assert heard == [job.id for job in jobs]
    assert "a listener of JobStarted failed" in caplog.text
