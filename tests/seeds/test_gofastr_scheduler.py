"""The behaviours of gofastr's Scheduler page and of its durable successor, and the faults that must not be here."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from tests.waiting import until
from windlass import ConfigurationError, ConnectionLostError, Context, Windlass
from windlass.cron import Cron
from windlass.drivers.ticking import TICKS, ScheduleMove
from windlass.testing import testing

if TYPE_CHECKING:
    from tests.seeds.bench import Open
    from windlass import Job, Schedule

HOUR = 3600.0
NEW_YORK = "America/New_York"


def work(app: Windlass, *names: str) -> None:
    for name in names:
        app.register(name, lambda: None)


def hourly(app: Windlass, name: str, **given: Any) -> Schedule:
    """Add a schedule that ticks every hour from now on."""
    anchor = datetime.fromtimestamp(app.driver.now(), UTC)
    return app.schedules.add(name, every=HOUR, anchor=anchor, task=name, **given)


def ended(app: Windlass, name: str, number: int) -> list[Job]:
    return until(lambda: jobs if len(jobs := [j for j in app.jobs(task=name) if j.finished]) == number else None)


def outcomes(app: Windlass, name: str) -> list[str]:
    return [str(row.outcome) for row in reversed(app.schedules.history(name))]


def ticks(text: str, zone: str, start: str, number: int) -> list[str]:
    cron = Cron(text, timezone=zone)
    at: float | None = datetime.fromisoformat(start).replace(tzinfo=cron.zone).timestamp()
    found = []
    for _ in range(number):
        assert at is not None
        at = cron.next(at)
        assert at is not None
        found.append(datetime.fromtimestamp(at, cron.zone).isoformat())
    return found


# ---------------------------------------------------------------------- the page


def test_every_five_minutes_and_every_day_at_two_coexist() -> None:
    with Windlass("memory://") as app:
        work(app, "send-digest", "nightly-rollup")
        with testing(app) as t:
            app.schedules.add("digest", every=timedelta(minutes=5), task="send-digest", overlap="allow")
            app.schedules.add("rollup", "0 2 * * *", task="nightly-rollup")
            t.advance(timedelta(hours=2))
            assert len([job for job in t.jobs if job.task == "send-digest"]) == 24
            assert [job.tick for job in t.jobs if job.task == "nightly-rollup"] == [datetime(2026, 1, 1, 2, tzinfo=UTC)]


def test_a_bad_spec_is_an_error_where_it_is_registered(app: Windlass) -> None:
    work(app, "digest")
    with pytest.raises(ConfigurationError):
        app.schedules.add("digest", "61 * * * *", task="digest")


@pytest.mark.parametrize("text", ["@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually"])
def test_shortcuts_are_accepted(text: str) -> None:
    assert Cron(text).next(0.0) is not None


def test_the_first_run_can_be_anchored(app: Windlass) -> None:
    work(app, "digest")
    base = datetime(2026, 1, 1, 0, 2, 30, tzinfo=UTC)
    one = app.schedules.add("digest", every=300, anchor=base, task="digest")
    assert {(at.minute % 5, at.second) for at in one.next(5)} == {(2, 30)}


def test_a_tick_is_enqueued_on_every_queue_that_is_given(app: Windlass) -> None:
    work(app, "digest")
    hourly(app, "digest", queue=["eu", "us"])
    with app.worker(concurrency=2):
        app.driver.shift(HOUR)
        assert sorted(job.queue for job in ended(app, "digest", 2)) == ["eu", "us"]


def test_what_is_registered_after_the_start_fires(app: Windlass) -> None:
    work(app, "digest")
    with app.worker(concurrency=1):
        hourly(app, "digest")
        app.driver.shift(HOUR)
        ended(app, "digest", 1)


def test_queue_priority_and_attempts_are_carried(app: Windlass) -> None:
    work(app, "digest")
    app.schedules.add("digest", "0 2 * * *", task="digest", queue="bulk", priority=7, max_attempts=9)
    app.schedules.add("plain", "0 2 * * *", task="digest")
    [job] = app.schedules.trigger("digest")
    assert (job.queue, job.priority, job.max_attempts) == ("bulk", 7, 9)
    [plain] = app.schedules.trigger("plain")
    assert (plain.priority, plain.max_attempts, plain.payload) == (0, 3, {})


def test_several_replicas_fire_a_tick_once(app: Windlass, store: str, opened: Open) -> None:
    if store == "memory://":
        pytest.skip("memory: there is one process only")
    replicas = [app, *(opened(store, backoff=0) for _ in range(3))]
    for replica in replicas:
        work(replica, "digest", "last")
    hourly(app, "digest", overlap="allow")
    workers = [replica.worker(concurrency=1) for replica in replicas]
    for worker in workers:
        worker.start()
    try:
        for number in range(1, 6):
            app.driver.shift(HOUR)
            assert len(ended(app, "digest", number)) == number
    finally:
        for worker in workers:
            worker.stop()
    assert len({job.tick for job in app.jobs(task="digest")}) == 5


# ---------------------------------------------------------------------- its durable successor


def test_after_downtime_missed_ticks_are_recorded_and_one_job_is_enqueued(app: Windlass) -> None:
    work(app, "digest")
    hourly(app, "digest")
    app.driver.shift(3 * HOUR)
    with app.worker(concurrency=1):
        ended(app, "digest", 1)
    assert outcomes(app, "digest") == ["missed", "missed", "fired"]


def test_an_active_prior_occurrence_skips_the_tick_with_the_reason(app: Windlass) -> None:
    work(app, "digest")
    one = hourly(app, "digest")
    [prior] = one.trigger()
    app.pause(queue="default")
    with app.worker(concurrency=1):
        app.driver.shift(HOUR)
        until(lambda: outcomes(app, "digest") == ["triggered", "overlap"])
    assert app.schedules.history("digest")[0].reason == f"the job of an earlier tick had not ended (job {prior.id})"


def test_registered_again_it_keeps_its_watermark_and_takes_the_new_options(app: Windlass) -> None:
    work(app, "digest")
    first = app.schedules.add("digest", "0 2 * * *", task="digest")
    app.driver.shift(1)
    again = app.schedules.add("digest", "0 2 * * *", task="digest", priority=5)
    assert (again.watermark, again.revision) == (first.watermark, 2)
    assert again.trigger()[0].priority == 5


def test_with_another_cadence_it_heals_to_the_next_tick_of_the_new_one(app: Windlass) -> None:
    work(app, "digest")
    hourly(app, "digest")
    app.driver.shift(HOUR * 2)
    changed = app.schedules.add("digest", "0 2 * * *", task="digest")
    assert outcomes(app, "digest") == ["missed", "fired"]
    assert changed.next_at is not None
    assert changed.next_at.timestamp() > app.driver.now()


def test_the_zone_is_kept_and_utc_without_one(app: Windlass) -> None:
    work(app, "digest")
    app.schedules.add("local", "0 2 * * *", task="digest", timezone=NEW_YORK)
    app.schedules.add("plain", "0 2 * * *", task="digest")
    assert (app.schedules.get("local").timezone, app.schedules.get("plain").timezone) == (NEW_YORK, "UTC")
    assert {at.hour for at in app.schedules.next("local", 9)} == {2}


def test_new_york_at_two_is_local_time_through_both_changes() -> None:
    assert ticks("0 2 * * *", NEW_YORK, "2026-03-06T12:00", 3) == [
        "2026-03-07T02:00:00-05:00",
        "2026-03-08T03:00:00-04:00",
        "2026-03-09T02:00:00-04:00",
    ]
    assert ticks("0 2 * * *", NEW_YORK, "2026-10-31T12:00", 2) == [
        "2026-11-01T02:00:00-05:00",
        "2026-11-02T02:00:00-05:00",
    ]


def test_an_old_cron_is_caught_up_with_within_bounds(app: Windlass) -> None:
    work(app, "digest")
    app.schedules.add("digest", "* * * * *", task="digest")
    app.driver.shift(6 * 365 * 24 * HOUR)
    with app.worker(concurrency=1):
        ended(app, "digest", 1)
    rows = app.schedules.history("digest", 1000)
    assert len(rows) == 101
    assert (rows[-1].count, rows[-1].outcome) == (None, "missed")


def test_an_interval_of_a_millisecond_is_bounded(app: Windlass) -> None:
    work(app, "digest")
    one = app.schedules.add("digest", every=0.001, task="digest", end=datetime.fromtimestamp(app.driver.now() + 5, UTC))
    app.driver.shift(60)
    with app.worker(concurrency=1):
        ended(app, "digest", 1)
    assert one.refresh().next_at is None
    assert len(app.schedules.history("digest", 1000)) == 101


def test_history_is_bounded(app: Windlass) -> None:
    work(app, "digest")
    one = app.schedules.add("digest", every=1, task="digest")
    one.pause()
    for _ in range(11):
        app.driver.shift(1000)
        app.schedules.resume("digest")
        app.schedules.pause("digest")
    assert len(app.schedules.history("digest", 1000)) <= TICKS


# ---------------------------------------------------------------------- its faults


def test_thirtieth_of_february_is_refused_and_does_not_fire_on_every_tick(app: Windlass) -> None:
    work(app, "digest")
    with pytest.raises(ConfigurationError, match="would never run"):
        app.schedules.add("digest", "0 0 30 2 *", task="digest")


def test_an_interval_of_nothing_is_refused(app: Windlass) -> None:
    work(app, "digest")
    with pytest.raises(ConfigurationError, match="every must be at least"):
        app.schedules.add("digest", every=0, task="digest")


@pytest.mark.parametrize("task", ["", None])
def test_a_missing_job_type_is_an_error(app: Windlass, task: Any) -> None:
    with pytest.raises(ConfigurationError):
        app.schedules.add("digest", "0 2 * * *", task=task)


def test_two_times_in_the_repeated_hour_fire_twice_not_four_times() -> None:
    assert ticks("0,30 1 * * *", NEW_YORK, "2026-11-01T00:00", 3) == [
        "2026-11-01T01:00:00-04:00",
        "2026-11-01T01:30:00-04:00",
        "2026-11-02T01:00:00-05:00",
    ]


def test_every_real_hour_fires_when_the_clocks_go_back() -> None:
    assert ticks("0 * * * *", NEW_YORK, "2026-11-01T00:00", 3) == [
        "2026-11-01T01:00:00-04:00",
        "2026-11-01T01:00:00-05:00",
        "2026-11-01T02:00:00-05:00",
    ]


def test_the_scheduler_outlives_an_error_of_the_database(app: Windlass, monkeypatch: pytest.MonkeyPatch) -> None:
    work(app, "digest")
    hourly(app, "digest")
    driver = app.driver
    errors = [ConnectionLostError("away") for _ in range(3)]
    change = driver.change_schedule

    def failing(*given: Any) -> Any:
        if errors:
            raise errors.pop()
        return change(*given)

    monkeypatch.setattr(driver, "change_schedule", failing)
    with app.worker(concurrency=1):
        app.driver.shift(HOUR)
        ended(app, "digest", 1)
    assert errors == []


def test_a_poisoned_schedule_stops_no_other_and_floods_no_log(app: Windlass, caplog: pytest.LogCaptureFixture) -> None:
    work(app, "digest", "poison")
    hourly(app, "digest")
    hourly(app, "poison")
    app.driver.change_schedule(
        "poison",
        lambda record, *_: ScheduleMove(
            record=msgspec.structs.replace(record, revision=2, definition=b'{"cron":"0 0 30 2 *"}')
        ),
    )
    with caplog.at_level(logging.ERROR), app.worker(concurrency=1):
        for number in range(1, 4):
            app.driver.shift(HOUR)
            ended(app, "digest", number)
    assert len([record for record in caplog.records if "cannot fire" in record.message]) == 1


def test_a_schedule_that_was_removed_from_the_code_fires_no_more(app: Windlass, store: str, opened: Open) -> None:
    if store == "memory://":
        pytest.skip("memory: there is no later code on the same store")
    task = app.register("digest", lambda: None)
    app.schedule(every=HOUR)(task)
    app.schedules.sync()
    later = opened(store, backoff=0)
    work(later, "digest", "other")
    hourly(later, "other")
    with later.worker(concurrency=1):
        later.driver.shift(HOUR)
        ended(later, "other", 1)
    assert len(later.jobs(task="digest")) == 0


def test_the_job_knows_its_occurrence(app: Windlass) -> None:
    seen: list[datetime | None] = []

    def digest(ctx: Context) -> None:
        seen.append(ctx.job.tick)

    app.register("digest", digest)
    one = hourly(app, "digest")
    with app.worker(concurrency=1):
        app.driver.shift(HOUR)
        ended(app, "digest", 1)
    assert seen == [app.schedules.history("digest")[0].at]
    assert seen[0] is not None
    assert seen[0] > one.created_at
