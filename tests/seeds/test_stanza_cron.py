"""The behaviours of stanza's cron page, and the faults that its scheduler has and this one must not have."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.waiting import until
from windlass import ConfigurationError, Context, JobCompleted, JobFailed, ScheduleNotFoundError, ScheduleStateError
from windlass.cron import Cron

if TYPE_CHECKING:
    from tests.seeds.bench import Gate, Open
    from windlass import Schedule, Windlass

HOUR = 3600.0
NEW_YORK = "America/New_York"


def hourly(app: Windlass, name: str = "sync", **given: Any) -> Schedule:
    """Add a schedule that ticks every hour from now on."""
    anchor = datetime.fromtimestamp(app.driver.now(), UTC)
    return app.schedules.add(name, every=HOUR, anchor=anchor, task=name, **given)


def outcomes(app: Windlass, name: str = "sync") -> list[str]:
    return [str(row.outcome) for row in reversed(app.schedules.history(name))]


def ended(app: Windlass, name: str, number: int) -> Any:
    return until(lambda: jobs if len(jobs := [j for j in app.jobs(task=name) if j.finished]) == number else None)


def after(text: str, start: str, zone: str = "UTC") -> str:
    cron = Cron(text, timezone=zone)
    tick = cron.next(datetime.fromisoformat(start).replace(tzinfo=cron.zone).timestamp())
    assert tick is not None
    return datetime.fromtimestamp(tick, cron.zone).isoformat()


@pytest.mark.parametrize(
    "text",
    ["* * * * *", "0-30 * * * *", "*/15 * * * *", "1,15,30 * * * *", "0-30/10 * * * *", "5/20 * * * *", "0 0 1 1 0"],
)
def test_its_expressions_are_understood(text: str) -> None:
    assert Cron(text).next(0.0) is not None


@pytest.mark.parametrize(
    "text",
    [
        "", "* * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * 32 * *", "* * * 0 *", "* * * 13 *", "* * * * 8",
        "*/0 * * * *", "5-3 * * * *", "abc * * * *",
    ],
)  # fmt: skip
def test_what_it_refuses_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        Cron(text)


@pytest.mark.parametrize(
    ("text", "start", "expected"),
    [
        ("30 9 * * *", "2026-01-01T09:30", "2026-01-02T09:30:00+00:00"),
        ("0 0 1 * *", "2026-12-15T00:00", "2027-01-01T00:00:00+00:00"),
        ("0 0 29 2 *", "2026-01-01T00:00", "2028-02-29T00:00:00+00:00"),
        ("0 9 * * 1", "2026-01-01T00:00", "2026-01-05T09:00:00+00:00"),
    ],
)
def test_next_skips_the_current_minute_and_rolls_over_months_and_years(text: str, start: str, expected: str) -> None:
    assert after(text, start) == expected


def test_day_of_month_and_day_of_week_must_both_fit_where_that_is_said(app: Windlass) -> None:
    app.register("sync", lambda: None)
    both = app.schedules.add("both", "0 0 13 * 5", task="sync", and_days=True)
    assert {(at.day, at.isoweekday()) for at in both.next(5)} == {(13, 5)}


def test_two_jobs_of_one_name_and_bad_expressions_are_refused(app: Windlass) -> None:
    task = app.task(lambda: None, name="sync")  # type: ignore[call-overload]
    app.schedule("0 * * * *")(task)
    with pytest.raises(ConfigurationError, match="declared already"):
        app.schedule("0 * * * *")(task)
    with pytest.raises(ConfigurationError, match="a bad minute"):
        app.schedule("60 * * * *", name="other")(task)


def test_entries_tell_name_times_last_run_and_whether_it_is_enabled(app: Windlass) -> None:
    app.register("sync", lambda: None)
    app.schedules.add("sync", "0 * * * *", task="sync", timeout=30)
    [job] = app.schedules.trigger("sync")
    [entry] = app.schedules
    assert (entry.name, entry.cron, entry.paused, entry.last_jobs) == ("sync", "0 * * * *", False, {"default": job.id})
    assert entry.next_at is not None
    assert job.timeout == 30


def test_a_run_is_skipped_while_the_last_one_is_active_and_counted_once(app: Windlass, gate: Gate) -> None:
    app.register("sync", gate.pass_through)
    hourly(app)
    with app.worker(concurrency=2):
        app.driver.shift(HOUR)
        gate.wait_for()
        app.driver.shift(HOUR)
        until(lambda: outcomes(app) == ["fired", "overlap"])
        gate.open()
        ended(app, "sync", 1)
    assert outcomes(app) == ["fired", "overlap"]


def test_triggered_twice_or_beside_a_tick_it_never_runs_twice_at_once(app: Windlass, gate: Gate) -> None:
    app.register("sync", gate.pass_through)
    hourly(app)
    app.schedules.trigger("sync")
    with pytest.raises(ScheduleStateError):
        app.schedules.trigger("sync")
    with app.worker(concurrency=2):
        app.driver.shift(HOUR)
        gate.wait_for()
        until(lambda: outcomes(app) == ["triggered", "overlap"])
        gate.open()
        ended(app, "sync", 1)


def test_an_unknown_name_cannot_be_triggered_enabled_or_disabled(app: Windlass) -> None:
    for ask in (app.schedules.trigger, app.schedules.pause, app.schedules.resume):
        with pytest.raises(ScheduleNotFoundError):
            ask("nobody")


def test_a_disabled_job_does_not_run_also_after_a_restart(app: Windlass, store: str, opened: Open) -> None:
    app.register("sync", lambda: None)
    app.register("other", lambda: None)
    hourly(app)
    hourly(app, "other")
    app.schedules.pause("sync")
    again = app
    if store != "memory://":
        again = opened(store, backoff=0)
        again.register("other", lambda: None)
    with again.worker(concurrency=1):
        again.driver.shift(HOUR)
        ended(again, "other", 1)
    assert again.schedules.get("sync").paused
    assert again.schedules.history("sync") == []


def test_runs_missed_during_downtime_are_not_lost(app: Windlass) -> None:
    app.register("sync", lambda: None)
    hourly(app)
    app.driver.shift(5 * HOUR)
    with app.worker(concurrency=1):
        ended(app, "sync", 1)
    assert outcomes(app) == ["missed"] * 4 + ["fired"]


def test_who_asks_is_told_of_every_run_with_its_error(app: Windlass) -> None:
    told: list[str] = []
    app.on(JobCompleted)(lambda event: told.append(f"{event.job.origin} completed"))
    app.on(JobFailed)(lambda event: told.append(f"{event.job.origin} {event.error}"))

    def sync(ctx: Context) -> None:
        if len(told) == 0:
            raise ValueError("no")

    app.register("sync", sync)
    hourly(app, max_attempts=1)
    with app.worker(concurrency=1):
        app.driver.shift(HOUR)
        ended(app, "sync", 1)
        app.driver.shift(HOUR)
        ended(app, "sync", 2)
        until(lambda: len(told) == 2)
    assert told == ["schedule:sync ValueError: no", "schedule:sync completed"]


def test_a_job_has_its_own_time_limit(app: Windlass) -> None:
    async def sync() -> None:
        import asyncio

        await asyncio.sleep(60)

    app.register("sync", sync)
    hourly(app, timeout=0.1, max_attempts=1)
    with app.worker(concurrency=1):
        app.driver.shift(HOUR)
        [job] = ended(app, "sync", 1)
    assert "timed out after 0.1 s" in str(job.error)


@pytest.mark.parametrize("text", ["30 2 * * *", "0 3 * * *", "*/30 2 * * *"])
@pytest.mark.parametrize("zone", [NEW_YORK, "America/Sao_Paulo", "Europe/Berlin", "Australia/Lord_Howe"])
def test_the_spring_change_is_no_infinite_loop(text: str, zone: str) -> None:
    assert after(text, "2026-03-07T12:00", zone).startswith("2026-03-0")
    assert after(text, "2018-11-03T12:00", zone).startswith("2018-11-0")


def test_on_the_day_of_the_spring_change_a_skipped_time_runs_at_the_end_of_the_gap() -> None:
    assert after("30 2 * * *", "2026-03-08T01:00", NEW_YORK) == "2026-03-08T03:00:00-04:00"


def test_in_the_repeated_hour_a_daily_job_runs_once() -> None:
    assert after("30 1 * * *", "2026-11-01T00:00", NEW_YORK) == "2026-11-01T01:30:00-04:00"
    assert after("30 1 * * *", "2026-11-01T01:30", NEW_YORK) == "2026-11-02T01:30:00-05:00"


def test_a_job_that_would_never_run_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="would never run: none of its months has a day 30"):
        Cron("0 0 30 2 *")


def test_a_rare_job_is_found() -> None:
    assert after("0 0 29 2 *", "2096-03-01T00:00") == "2104-02-29T00:00:00+00:00"


def test_cron_enqueues_and_the_queue_executes(app: Windlass) -> None:
    purged: list[int] = []

    def sync(ctx: Context) -> None:
        purged.append(app.purge(timedelta(hours=24)))

    app.register("sync", sync)
    app.schedules.add("purge-completed-jobs", "0 * * * *", task="sync")
    app.schedules.trigger("purge-completed-jobs")
    with app.worker(concurrency=1):
        ended(app, "sync", 1)
    assert purged == [0]
