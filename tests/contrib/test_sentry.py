"""What docs/opentelemetry.md says about Sentry, run as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sentry_sdk
from sentry_sdk.transport import Transport

from windlass import Context, Windlass
from windlass.testing import testing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sentry_sdk.envelope import Envelope

PAGE = Path(__file__).parents[2] / "docs" / "opentelemetry.md"


class Kept(Transport):
    """Keeps what would be sent."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[dict[str, Any]] = []

    def capture_envelope(self, envelope: Envelope) -> None:
        event = envelope.get_event()
        if event is not None:
            self.events.append(dict(event))


@pytest.fixture
def sent() -> Iterator[list[dict[str, Any]]]:
    """The events that Sentry would get."""
    kept = Kept()
    sentry_sdk.init(dsn="http://key@localhost/1", transport=kept)
    yield kept.events
    sentry_sdk.get_client().close()
    sentry_sdk.init()


@pytest.fixture
def app() -> Iterator[Windlass]:
    """An application with the page's two hooks."""
    with Windlass("memory://") as app:
        recipes = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8").split("## Sentry")[1], re.DOTALL)
        assert len(recipes) == 2
        known = {"app": app}
        for recipe in recipes:
            exec(recipe, known)
        yield app


def test_only_a_final_failure_is_an_issue_and_it_names_the_job(app: Windlass, sent: list[dict[str, Any]]) -> None:
    @app.task(max_attempts=2)
    def broken() -> None:
        raise ValueError("no route")

    with testing(app) as t:
        job = broken.using(queue="mail").enqueue()
        t.drain()
        assert sent == []
        t.advance(3600)
        t.drain()
    [event] = sent
    assert [one["type"] for one in event["exception"]["values"]] == ["ValueError"]
    assert event["tags"]["windlass.task"] == job.task
    assert event["contexts"]["job"] == {"id": job.id, "queue": "mail", "attempt": 2}


def test_what_a_handler_reports_has_the_task_s_tag(app: Windlass, sent: list[dict[str, Any]]) -> None:
    @app.task
    def doubtful(ctx: Context) -> None:
        sentry_sdk.capture_message(f"attempt {ctx.attempt} looks odd")

    with testing(app) as t:
        job = doubtful.enqueue()
        t.drain()
    [event] = sent
    assert event["tags"] == {"windlass.task": job.task}
