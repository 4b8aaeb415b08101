"""The rule by which schedules fire."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from windlass import schedule as rules
from windlass.errors import ScheduleStateError
from windlass.schedule import Definition, TickOutcome, plan
from windlass.terms import Link

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC).timestamp()
MINUTE = 60.0
FIRED, MISSED, OVERLAP, PAUSED = TickOutcome.FIRED, TickOutcome.MISSED, TickOutcome.OVERLAP, TickOutcome.PAUSED


def define(**given: Any) -> Any:
    given = {"every": MINUTE, "queues": ("default",), **given}
    return Definition(job=Link(task="report", queue="default", payload=msgspec.Raw(b"{}")), **given)


def record(*, now: float = NOON, **given: Any) -> Any:
    move = rules.declare(None, {}, now, name="nightly", definition=define(**given))
    return move.record


def told(ticks: Any) -> Any:
    return [(int(tick.tick - NOON), tick.outcome) for tick in ticks]


def test_a_new_schedule_does_not_fire_for_the_past() -> None:
    new = record(now=NOON + 30)
    assert plan(new, NOON + 59, {}).ticks == ()
    assert plan(new, NOON + 59, {}).next_at == NOON + 60


def test_a_tick_fires_once() -> None:
    first = plan(record(), NOON + 61, {})
    assert told(first.ticks) == [(60, FIRED)]
    assert first.late == pytest.approx(1)
    assert first.next_at == NOON + 120
    after = msgspec.structs.replace(record(), watermark=first.watermark)
    assert plan(after, NOON + 61, {}).ticks == ()


def test_a_clock_that_jumps_back_fires_nothing_again() -> None:
    after = msgspec.structs.replace(record(), watermark=plan(record(), NOON + 61, {}).watermark)
    assert plan(after, NOON - 3600, {}).ticks == ()
    assert plan(after, NOON - 3600, {}).watermark == NOON + 60


def test_the_job_says_which_tick_it_is_for() -> None:
    [tick] = plan(record(), NOON + 60, {}).ticks
    assert tick.job.tick == NOON + 60
    assert tick.job.task == "report"
    assert tick.job.origin == "schedule:nightly"
    assert tick.job.idempotency_key == "schedule:nightly:2026-01-01T12:01:00+00:00:default"
    assert tick.job.run_at is None


def test_of_missed_ticks_the_latest_fires_and_the_others_are_noted() -> None:
    planned = plan(record(), NOON + 200, {})
    assert told(planned.ticks) == [(60, MISSED), (120, MISSED), (180, FIRED)]
    assert planned.watermark == NOON + 180


def test_all_missed_ticks_fire_if_that_was_said() -> None:
    planned = plan(record(missed="all", overlap="allow"), NOON + 200, {})
    assert told(planned.ticks) == [(60, FIRED), (120, FIRED), (180, FIRED)]


def test_with_skip_a_tick_that_is_a_minute_late_does_not_fire() -> None:
    once = record(every=3600.0, missed="skip")
    assert told(plan(once, NOON + 3600 + 59, {}).ticks) == [(3600, FIRED)]
    assert told(plan(once, NOON + 3600 + 61, {}).ticks) == [(3600, MISSED)]


def test_ticks_beyond_the_bound_are_summed_up() -> None:
    planned = plan(record(missed="all", overlap="allow", catch_up=2), NOON + 600, {})
    assert told(planned.ticks) == [(480, MISSED), (540, FIRED), (600, FIRED)]
    assert (planned.ticks[0].count, planned.ticks[0].first) == (8, NOON + 60)


def test_a_job_that_has_not_ended_holds_back_the_next_tick_of_its_queue() -> None:
    several = record(queues=("eu", "us"))
    planned = plan(several, NOON + 60, {"eu": 7})
    assert [(t.queue, t.outcome, t.other) for t in planned.ticks] == [("eu", OVERLAP, 7), ("us", FIRED, None)]
    assert planned.fired == 1


def test_a_tick_that_no_queue_takes_does_not_count_as_a_run() -> None:
    assert plan(record(runs=1), NOON + 60, {"default": 7}).fired == 0


def test_two_missed_ticks_that_fire_together_overlap() -> None:
    planned = plan(record(missed="all", overlap="skip"), NOON + 120, {})
    assert told(planned.ticks) == [(60, FIRED), (120, OVERLAP)]


def test_overlap_allow_asks_nobody() -> None:
    assert told(plan(record(overlap="allow"), NOON + 60, {"default": 7}).ticks) == [(60, FIRED)]


def test_overlap_queue_lets_one_run_after_the_other() -> None:
    [tick] = plan(record(overlap="queue"), NOON + 60, {"default": 7}).ticks
    [gate] = tick.job.gates
    assert (gate.key, gate.most) == ("limit:schedule:nightly:default", 1)


def test_a_limit_of_runs_ends_it() -> None:
    twice = record(runs=2, missed="all", overlap="allow")
    planned = plan(twice, NOON + 300, {})
    assert told(planned.ticks) == [(60, FIRED), (120, FIRED)]
    assert planned.next_at is None
    over = msgspec.structs.replace(twice, watermark=planned.watermark, fired=planned.fired)
    assert plan(over, NOON + 600, {}).ticks == ()
    assert rules.next_at(over) is None


def test_it_ticks_from_its_start_to_its_end_both_included() -> None:
    dated = record(start=NOON + 120, end=NOON + 180, missed="all", overlap="allow")
    assert rules.next_at(dated) == NOON + 120
    planned = plan(dated, NOON + 600, {})
    assert told(planned.ticks) == [(120, FIRED), (180, FIRED)]
    assert planned.next_at is None


def test_jitter_is_the_same_wherever_it_is_computed_and_within_bounds() -> None:
    delays = set()
    for number in range(1, 50):
        [tick] = plan(record(jitter=20.0), NOON + 60.0 * number, {}).ticks[-1:]
        [again] = plan(record(jitter=20.0), NOON + 60.0 * number, {}).ticks[-1:]
        assert tick.job.run_at == again.job.run_at
        delays.add(tick.job.run_at - tick.tick)
    assert all(0 <= delay < 20 for delay in delays)
    assert len(delays) > 40


def test_jitter_does_not_delay_what_is_late_already() -> None:
    [tick] = plan(record(every=3600.0, jitter=20.0), NOON + 3600 + 25, {}).ticks
    assert tick.job.run_at is None


def test_a_paused_schedule_has_no_ticks() -> None:
    paused = rules.pause(record(), NOON + 90).record
    assert plan(paused, NOON + 600, {}).ticks == ()
    assert rules.next_at(paused) is None


def test_what_came_in_a_pause_is_noted_when_it_ends_and_never_fires() -> None:
    paused = rules.pause(msgspec.structs.replace(record(), watermark=NOON + 60), NOON + 90).record
    resumed = rules.resume(paused, NOON + 200)
    assert told(resumed.ticks) == [(120, PAUSED), (180, PAUSED)]
    assert plan(resumed.record, NOON + 239, {}).ticks == ()
    assert rules.next_at(resumed.record) == NOON + 240


def test_pausing_twice_and_resuming_what_runs_change_nothing() -> None:
    paused = rules.pause(record(), NOON).record
    assert rules.pause(paused, NOON + 60) is None
    assert rules.resume(record(), NOON) is None


def test_declared_again_as_it_is_nothing_is_written() -> None:
    assert rules.declare(record(), {}, NOON + 600, name="nightly", definition=define()) is None


def test_declared_anew_it_keeps_its_watermark_and_its_pause() -> None:
    paused = rules.pause(record(), NOON + 1).record
    move = rules.declare(paused, {}, NOON + 600, name="nightly", definition=define(jitter=5.0))
    assert move.record.watermark == NOON
    assert move.record.paused_at == NOON + 1
    assert move.record.revision == paused.revision + 1


def test_with_other_times_what_was_due_is_dealt_with_by_the_old_ones_and_the_new_ones_count_from_now() -> None:
    move = rules.declare(record(), {}, NOON + 90, name="nightly", definition=define(every=20.0))
    assert told(move.ticks) == [(60, FIRED)]
    assert move.record.watermark == NOON + 90
    assert rules.next_at(move.record) == NOON + 100


def test_a_lower_version_changes_nothing() -> None:
    newer = record(version=2)
    assert rules.declare(newer, {}, NOON, name="nightly", definition=define(version=1, every=1.0)) is None
    assert rules.declare(newer, {}, NOON, name="nightly", definition=define(version=2, every=1.0)) is not None


def test_ticks_that_were_found_under_an_older_definition_are_looked_for_again() -> None:
    seen = record()
    found = rules.due_of(seen, NOON + 90)
    renewed = rules.declare(seen, {}, NOON + 30, name="nightly", definition=define(every=3600.0)).record
    assert rules.fire(renewed, {}, NOON + 90, seen=seen, found=found) is None
    assert told(rules.fire(seen, {}, NOON + 90, seen=seen, found=found).ticks) == [(60, FIRED)]


def test_who_comes_second_to_a_tick_finds_nothing_to_do() -> None:
    seen = record()
    found = rules.due_of(seen, NOON + 90)
    after = rules.fire(seen, {}, NOON + 90, seen=seen, found=found).record
    assert rules.fire(after, {}, NOON + 90, seen=seen, found=found) is None
    assert rules.fire(None, {}, NOON + 90, seen=seen, found=found) is None


def test_triggered_by_hand_it_enqueues_a_job_and_keeps_its_times() -> None:
    move = rules.trigger(record(queues=("eu", "us")), {}, NOON + 5)
    assert [(tick.queue, tick.outcome, tick.job.tick) for tick in move.ticks] == [
        ("eu", TickOutcome.TRIGGERED, NOON + 5),
        ("us", TickOutcome.TRIGGERED, NOON + 5),
    ]
    assert move.record == record(queues=("eu", "us"))


def test_triggered_while_its_job_runs_it_says_so() -> None:
    with pytest.raises(ScheduleStateError, match="its job 7 has not ended"):
        rules.trigger(record(), {"default": 7}, NOON)
    assert rules.trigger(record(), {"default": 7}, NOON, force=True).ticks
    assert rules.trigger(record(overlap="allow"), {"default": 7}, NOON).ticks


def test_the_ticks_to_come_can_be_listed() -> None:
    listed = [int(at - NOON) for _, at in zip(range(3), rules.upcoming(record(), NOON + 61), strict=False)]
    assert listed == [120, 180, 240]
    few = [int(at - NOON) for at in rules.upcoming(record(runs=2), NOON)]
    assert few == [60, 120]


class TestGofastr:
    """What gofastr's scheduler gets wrong."""

    def test_an_hourly_schedule_skips_no_real_hour_when_the_clocks_go_back(self) -> None:
        night = datetime(2026, 11, 1, 5, tzinfo=UTC).timestamp()  # 01:00 EDT, the first pass
        hourly = record(now=night - 1, cron="0 * * * *", timezone="America/New_York", every=0.0)
        ticks = [at - night for _, at in zip(range(3), rules.upcoming(hourly), strict=False)]
        assert ticks == [0, 3600, 7200]

    def test_a_fixed_time_fires_once_on_the_night_the_clocks_go_back(self) -> None:
        evening = datetime(2026, 10, 31, 20, tzinfo=UTC).timestamp()
        fixed = record(
            now=evening, cron="0,30 1 * * *", timezone="America/New_York", every=0.0, missed="all", overlap="allow"
        )
        assert len(plan(fixed, evening + 86400, {}).ticks) == 2

    def test_catching_up_finds_the_ticks_that_living_through_them_finds(self) -> None:
        start = datetime(2026, 10, 31, tzinfo=UTC).timestamp()
        given = {
            "cron": "*/20 0-3 * * *",
            "timezone": "America/New_York",
            "every": 0.0,
            "missed": "all",
            "overlap": "allow",
        }
        at_once = [tick.tick for tick in plan(record(now=start, **given), start + 3 * 86400, {}).ticks]
        living, lived = record(now=start, **given), []
        for minute in range(3 * 1440 + 1):
            planned = plan(living, start + 60.0 * minute, {})
            lived += [tick.tick for tick in planned.ticks]
            living = msgspec.structs.replace(living, watermark=planned.watermark)
        assert at_once == lived
