"""Declaring, adding and looking after schedules."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest

from windlass import (
    ConfigurationError,
    Context,
    PayloadError,
    ScheduleNotFoundError,
    ScheduleStateError,
    ScheduleTicked,
    TickOutcome,
    Windlass,
)
from windlass.testing import testing

if TYPE_CHECKING:
    from collections.abc import Callable

DAILY = "0 2 * * *"
HOUR = timedelta(hours=1)


def report(region: str = "eu") -> None:
    """Do nothing."""


@pytest.fixture(autouse=True)
def _task(app: Windlass) -> None:
    app.register("report", report)


def test_the_decorator_leaves_the_task_as_it_is(app: Windlass) -> None:
    @app.schedule(DAILY, timezone="Europe/Berlin")
    @app.task
    def nightly() -> int:
        return 7

    assert nightly() == 7
    one = app.schedules.get("nightly") if "nightly" in app.schedules else next(iter(app.schedules))
    assert (one.words, one.task, one.declared) == ("every day at 02:00, Europe/Berlin", nightly.name, True)


def test_a_schedule_is_shown_as_it_was_given(app: Windlass) -> None:
    one = app.schedules.add(
        "sales", "0 2 * * 1-5", task="report", payload={"region": "us"}, timezone="Europe/Berlin", queue=["a", "b"],
        missed="all", version=3,
    )  # fmt: skip
    assert app.schedules.get("sales") == one
    assert str(one) == one.words == "every weekday at 02:00, Europe/Berlin"
    assert (one.cron, one.every, one.timezone) == ("0 2 * * 1-5", None, "Europe/Berlin")
    assert (one.task, one.payload, one.queues) == ("report", {"region": "us"}, ("a", "b"))
    assert (one.missed, one.overlap, one.version, one.revision, one.declared) == ("all", "queue", 3, 1, False)
    assert (one.paused, one.paused_at, one.fired, one.last_jobs) == (False, None, 0, {})
    assert one.created_at == one.watermark <= datetime.now(UTC)
    assert one.next_at == one.next(1)[0] > one.created_at
    assert one.next_at.hour == 2


def test_an_interval_is_counted_from_its_anchor(app: Windlass) -> None:
    anchor = datetime(2026, 1, 1, 0, 7, tzinfo=UTC)
    one = app.schedules.add("often", every=HOUR, anchor=anchor, task="report")
    assert one.words == "every hour, counted from 2026-01-01 00:07:00 UTC"
    assert {at.minute for at in one.next(5)} == {7}
    assert app.schedules.add("plain", HOUR, task="report").every == 3600.0


def test_the_next_ticks_are_in_the_schedules_own_zone(app: Windlass) -> None:
    app.schedules.add("sales", DAILY, task="report", timezone="America/New_York")
    listed = app.schedules.next("sales", 3)
    assert [at.hour for at in listed] == [2, 2, 2]
    assert listed[0].tzinfo == ZoneInfo("America/New_York")
    assert listed == sorted(listed)


def test_schedules_are_listed_by_name(app: Windlass) -> None:
    for name in ("b", "a"):
        app.schedules.add(name, DAILY, task="report")
    assert [one.name for one in app.schedules] == [one.name for one in app.schedules.all()] == ["a", "b"]
    assert "a" in app.schedules
    assert "c" not in app.schedules


def test_added_again_it_is_changed_and_keeps_its_watermark(app: Windlass) -> None:
    first = app.schedules.add("sales", DAILY, task="report")
    app.driver.shift(60)
    same = app.schedules.add("sales", DAILY, task="report")
    assert same == first
    other = app.schedules.add("sales", DAILY, task="report", payload={"region": "us"})
    assert (other.revision, other.watermark, other.payload) == (2, first.watermark, {"region": "us"})


def test_removed_it_is_gone(app: Windlass) -> None:
    one = app.schedules.add("sales", DAILY, task="report")
    one.remove()
    assert list(app.schedules) == []
    with pytest.raises(ScheduleNotFoundError):
        one.refresh()
    with pytest.raises(ScheduleNotFoundError):
        app.schedules.remove("sales")
    app.schedules.remove("sales", missing_ok=True)


def test_what_is_asked_of_a_name_that_none_has_is_refused(app: Windlass) -> None:
    for ask in (
        app.schedules.get, app.schedules.pause, app.schedules.resume, app.schedules.trigger, app.schedules.next,
        app.schedules.history, app.schedules.remove,
    ):  # fmt: skip
        with pytest.raises(ScheduleNotFoundError, match="no schedule 'nobody'"):
            ask("nobody")


def test_triggered_it_enqueues_a_job_in_each_queue(app: Windlass) -> None:
    app.schedules.add("sales", DAILY, task="report", queue=["a", "b"], payload={"region": "us"}, priority=3, tags=["x"])
    jobs = app.schedules.trigger("sales")
    assert [(job.queue, job.payload, job.priority, job.tags, job.origin) for job in jobs] == [
        ("a", {"region": "us"}, 3, ("x",), "schedule:sales"),
        ("b", {"region": "us"}, 3, ("x",), "schedule:sales"),
    ]
    assert app.schedules.get("sales").last_jobs == {"a": jobs[0].id, "b": jobs[1].id}
    newest, oldest = app.schedules.history("sales")
    assert (newest.outcome, newest.queue, newest.job_id) == (TickOutcome.TRIGGERED, "b", jobs[1].id)
    assert oldest.number == 1


def test_triggered_while_its_job_waits_it_refuses_unless_forced(app: Windlass) -> None:
    one = app.schedules.add("sales", DAILY, task="report")
    [job] = one.trigger()
    with pytest.raises(ScheduleStateError, match=f"its job {job.id} has not ended"):
        one.trigger()
    assert len(one.trigger(force=True)) == 1
    app.cancel_many(queue="default")
    assert len(one.trigger()) == 1


def test_a_pause_outlives_a_new_declaration(app: Windlass, make: Callable[..., Windlass]) -> None:
    one = app.schedules.add("sales", DAILY, task="report").pause()
    assert one.paused
    assert one.next() == []
    assert app.schedules.add("sales", DAILY, task="report", priority=1).paused
    assert not one.resume().paused


def test_what_came_in_a_pause_is_told(app: Windlass) -> None:
    app.schedules.add("often", every=60, task="report").pause()
    app.driver.shift(180)
    app.schedules.resume("often")
    rows = app.schedules.history("often")
    assert [row.outcome for row in rows] == [TickOutcome.PAUSED] * 3
    assert rows[0].reason == "the schedule was paused"
    assert "skipped, the schedule was paused" in str(rows[0])


def test_events_tell_of_every_tick(app: Windlass) -> None:
    told: list[ScheduleTicked] = []
    app.on(ScheduleTicked)(told.append)
    app.schedules.add("sales", DAILY, task="report")
    [job] = app.schedules.trigger("sales")
    [event] = told
    assert (event.name, event.outcome, event.queue, event.job_id) == ("sales", "triggered", "default", job.id)


def test_the_twins_can_be_awaited(app: Windlass) -> None:
    async def main() -> None:
        await app.schedules.aadd("sales", DAILY, task="report")
        assert (await app.schedules.aget("sales")).name == "sales"
        assert len(await app.schedules.aall()) == 1
        assert len(await app.schedules.anext("sales", 2)) == 2
        await app.schedules.apause("sales")
        await app.schedules.aresume("sales")
        assert len(await app.schedules.atrigger("sales")) == 1
        assert len(await app.schedules.ahistory("sales")) == 1
        await app.schedules.aremove("sales")

    asyncio.run(main())


def test_where_it_is_declared_leaves_no_trace_in_its_jobs(app: Windlass) -> None:
    with app.correlation("request-7"):
        one = app.schedules.add("sales", DAILY, task="report")
        [job] = one.trigger()
    assert job.correlation_id != "request-7"


@pytest.mark.parametrize(
    ("spec", "given", "says"),
    [
        (None, {}, "say when"),
        ("0 0 30 2 *", {}, "would never run"),
        ("* * *", {}, "has 3 fields"),
        (DAILY, {"timezone": "Mars/Olympus"}, "no time zone 'Mars/Olympus'"),
        (DAILY, {"every": 60}, "not both"),
        (DAILY, {"anchor": datetime(2026, 1, 1, tzinfo=UTC)}, "anchor belongs to intervals"),
        (None, {"every": 0}, "every must be at least"),
        (None, {"every": 60, "timezone": "Europe/Berlin"}, "belong to cron expressions"),
        (None, {"every": 60, "anchor": datetime(2026, 1, 1)}, "naive"),
        (None, {"every": 60, "jitter": 61}, "must not be longer than every"),
        (DAILY, {"missed": "some"}, "missed must be 'latest', 'all' or 'skip'"),
        (DAILY, {"overlap": "maybe"}, "overlap must be"),
        (DAILY, {"catch_up": 0}, "catch_up must be a whole number from 1 to 1000"),
        (DAILY, {"catch_up": 1001}, "catch_up must be a whole number from 1 to 1000"),
        (DAILY, {"runs": 0}, "runs must be"),
        (DAILY, {"runs": True}, "runs must be"),
        (DAILY, {"version": -1}, "version must be"),
        (DAILY, {"queue": []}, "queue must name"),
        (DAILY, {"queue": ["a", "a"]}, "different ones"),
        (DAILY, {"queue": ""}, "queue must be printable"),
        (DAILY, {"jitter": -1}, "jitter must be"),
        (DAILY, {"priority": 1 << 20}, "priority must be"),
        (
            DAILY,
            {"start": datetime(2026, 1, 1, 3, tzinfo=UTC), "end": datetime(2026, 1, 1, 4, tzinfo=UTC)},
            "no tick is between its start and its end",
        ),
        (5, {"timezone": "UTC"}, "belong to cron expressions"),
    ],
)
def test_what_cannot_be_right_is_refused_with_the_reason(
    app: Windlass, spec: Any, given: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(says)):
        app.schedules.add("sales", spec, task="report", **given)
    with pytest.raises(ConfigurationError, match=re.escape(says)):
        app.schedule(spec, name="declared", **given)(app.tasks["report"])
    assert list(app.schedules) == []


def test_a_payload_that_does_not_fit_is_refused_where_it_is_declared(app: Windlass) -> None:
    @app.task
    def needy(order: int) -> None: ...

    with pytest.raises((PayloadError, TypeError)):
        app.schedule(DAILY)(needy)
    with pytest.raises((PayloadError, TypeError)):
        app.schedules.add("x", DAILY, task=needy, payload={"order": "many"})
    assert app.schedules.add("x", DAILY, task=needy, payload={"order": 5}).payload == {"order": 5}


def test_the_decorator_says_where_it_belongs(app: Windlass) -> None:
    with pytest.raises(ConfigurationError, match=r"stands above @app\.task"):
        app.schedule(DAILY)(report)  # type: ignore[type-var]
    with pytest.raises(ConfigurationError, match="say when"):
        app.schedule(report)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="no option 'delay'"):
        app.schedule(DAILY, delay=5)(app.tasks["report"])  # type: ignore[call-arg]


def test_a_second_schedule_of_a_task_needs_a_name_of_its_own(app: Windlass) -> None:
    task = app.tasks["report"]
    app.schedule(DAILY)(task)
    with pytest.raises(ConfigurationError, match="declared already"):
        app.schedule("0 3 * * *")(task)
    app.schedule("0 3 * * *", name="later")(task)
    assert [one.name for one in app.schedules] == ["later", "report"]
    with pytest.raises(ConfigurationError, match=r"declared by @app\.schedule"):
        app.schedules.add("later", DAILY, task="report")


def test_a_lower_version_changes_nothing_and_is_told(
    app: Windlass, make: Callable[..., Windlass], caplog: pytest.LogCaptureFixture
) -> None:
    app.schedules.add("sales", DAILY, task="report", version=2)
    kept = app.schedules.add("sales", "0 3 * * *", task="report", version=1)
    assert (kept.cron, kept.version) == (DAILY, 2)
    assert "version 1, declared here, changes nothing" in caplog.text


class TestHarness:
    """Schedules under a virtual clock."""

    @pytest.fixture
    def app(self) -> Any:
        with Windlass("memory://") as app:
            yield app

    def test_time_goes_from_tick_to_tick(self, app: Windlass) -> None:
        seen: list[datetime | None] = []

        @app.schedule(every=HOUR, overlap="allow")
        @app.task
        def tock(ctx: Context) -> None:
            seen.append(ctx.job.tick)

        with testing(app) as t:
            t.advance(timedelta(hours=2, minutes=30))
            assert t.drain() == 2
            assert seen == [datetime(2026, 1, 1, hour, tzinfo=UTC) for hour in (1, 2)]
            assert t.now == datetime(2026, 1, 1, 2, 30, tzinfo=UTC)

    def test_a_tick_whose_job_has_not_run_holds_back_the_next(self, app: Windlass) -> None:
        app.schedule(every=HOUR)(app.tasks["report"])
        with testing(app) as t:
            t.advance(timedelta(hours=3))
            assert [row.outcome for row in app.schedules.history("report")] == ["overlap", "overlap", "fired"]
            assert t.drain() == 1
            t.advance(HOUR)
            assert t.drain() == 1

    def test_the_jobs_of_ticks_can_be_ignored(self, app: Windlass) -> None:
        app.schedule(every=HOUR)(app.tasks["report"])
        with testing(app, ignore="report") as t:
            t.advance(HOUR)
            assert t.jobs == []
            assert len(t.ignored) == 1

    def test_a_chunk_is_fed_item_by_item(self, app: Windlass) -> None:
        seen: list[list[int]] = []

        @app.schedule(every=HOUR, payload={"rows": 5}, overlap="allow")
        @app.task(chunk=10)
        def store(rows: list[int]) -> None:
            seen.append(rows)

        with testing(app) as t:
            t.advance(HOUR * 2)
            t.drain()
        assert seen == [[5, 5]]
