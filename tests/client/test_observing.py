"""Failures in groups, and the audit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from windlass import ConfigurationError
from windlass.observed import AUDIT_KEPT

if TYPE_CHECKING:
    from windlass import Windlass


def fail(app: Windlass, error: Exception, *, attempts: int = 1, task: str = "send") -> int:
    """Let a job fail by hand."""
    job = app.enqueue(task, {}, max_attempts=attempts)
    claim = app.claim()
    assert claim is not None
    claim.nack(error=error, delay=600)
    return job.id


def test_failures_are_shown_in_groups_and_retried_as_such(app: Windlass) -> None:
    """By the fingerprint, which every filter takes as ``error=``."""
    users = [fail(app, ValueError(f"no user {number}")) for number in range(3)]
    again = fail(app, ValueError("no user 9"), attempts=3, task="write")
    street = fail(app, KeyError("street"))
    first, second = app.failures()
    assert (first.type, first.dead, first.retrying, first.newest.id) == ("KeyError", 1, 0, street)
    assert (second.message, second.dead, second.retrying) == ("no user 9", 3, 1)
    assert second.newest.id == again
    assert second.newest.error is not None
    assert second.newest.error.fingerprint == second.fingerprint
    assert [group.fingerprint for group in app.failures(limit=1)] == [first.fingerprint]
    assert {job.id for job in app.jobs(error=second.fingerprint)} == {*users, again}
    assert app.count(error=second.fingerprint) == 4
    done = app.retry_many(error=second.fingerprint)
    assert sorted(done.ids) == [*users, again]
    assert [group.fingerprint for group in app.failures()] == [first.fingerprint]


async def _alike(app: Windlass) -> bool:
    return (
        await app.afailures() == app.failures()
        and await app.aaudit() == app.audit()
        and await app.ameasures() == app.measures()
        and await app.asamples() == app.samples()
    )


def test_the_twins_answer_alike(app: Windlass) -> None:
    """Each its blocking original."""
    import asyncio

    fail(app, ValueError("no"))
    app.record_action("ada", "retry", "job 1")
    assert asyncio.run(_alike(app))


def test_the_audit_says_who_did_what_to_how_many(app: Windlass) -> None:
    """Newest first, page by page."""
    app.record_action("ada", "retry", "3 jobs", done=2, refused=1, detail="status=dead")
    app.record_action("bob", "pause", "queue mail")
    second, first = app.audit()
    assert (first.actor, first.action, first.target, first.done, first.refused, first.detail) == (
        "ada", "retry", "3 jobs", 2, 1, "status=dead",
    )  # fmt: skip
    assert second.number == 2
    assert second.at is not None
    assert first.at is not None
    assert second.at >= first.at
    assert app.audit(limit=1) == [second]
    assert app.audit(before=second.number) == [first]
    assert AUDIT_KEPT >= 1000


@pytest.mark.parametrize("limit", [0, 1001, True, "5"])
def test_a_limit_that_cannot_be_right_is_refused(app: Windlass, limit: object) -> None:
    """At the door."""
    with pytest.raises(ConfigurationError, match="limit"):
        app.failures(limit=limit)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="limit"):
        app.audit(limit=limit)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="without U"):
        app.record_action("a\0", "b", "c")
