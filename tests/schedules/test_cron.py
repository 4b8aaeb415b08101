"""Cron expressions: when they tick, over changes of clocks, beside a slow oracle; and what is refused."""

import functools
import random
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.schedules.oracle import Oracle, changes
from windlass.cron import Cron
from windlass.errors import ConfigurationError

ZONES = (
    "Africa/Cairo", "Africa/Casablanca", "America/Asuncion", "America/Havana", "America/New_York", "America/Nuuk",
    "America/Santiago", "America/Sao_Paulo", "America/St_Johns", "Antarctica/Troll", "Asia/Amman", "Asia/Gaza",
    "Asia/Kathmandu", "Asia/Kolkata", "Asia/Tehran", "Atlantic/Azores", "Australia/Adelaide", "Australia/Lord_Howe",
    "Australia/Sydney", "Europe/Berlin", "Europe/Dublin", "Europe/London", "Europe/Moscow", "Pacific/Apia",
    "Pacific/Auckland", "Pacific/Chatham", "UTC",
)  # fmt: skip
FIRST, LAST = 2007, 2026
DAY = 86400


@functools.cache
def changes_of(zone: str) -> Any:
    return changes(zone, FIRST, LAST)


def list_of(low: int, high: int) -> Any:
    return st.lists(st.integers(low, high), min_size=1, max_size=3).map(lambda numbers: ",".join(map(str, numbers)))


def range_of(low: int, high: int) -> Any:
    pairs = st.tuples(st.integers(low, high), st.integers(low, high))
    return pairs.map(lambda pair: f"{min(pair)}-{max(pair)}")


def field(low: int, high: int, *more: Any) -> Any:
    steps = st.sampled_from(("*/2", "*/5", "*/7", f"{low}/3", f"{low + 1}-{high}/4"))
    return st.one_of(st.just("*"), list_of(low, high), range_of(low, high), steps, st.sampled_from(more or ("*",)))


TEXTS = st.tuples(
    field(0, 59, "0", "30", "0,30"),
    field(0, 23, "0", "1", "2", "3", "1-3"),
    st.one_of(st.just("*"), field(1, 28, "L", "1,15", "*/2")),
    st.one_of(st.just("*"), st.just("*"), field(1, 12, "JAN", "MAR,APR,OCT,NOV")),
    st.one_of(st.just("*"), field(0, 7, "MON-FRI", "SUN", "7", "5L", "MON#1", "SUN#5")),
).map(" ".join)
SPANS = st.sampled_from(ZONES).flatmap(
    lambda zone: st.tuples(
        st.just(zone),
        st.sampled_from(changes_of(zone) or [int(datetime(2020, 3, 1, tzinfo=UTC).timestamp())]),
        st.integers(-2 * 1440, 1440),
    )
)


def ticks_of(cron: Any, start: float, end: float) -> Any:
    found, at = [], cron.next(start - 1)
    while at is not None and at < end:
        found.append(int(at))
        at = cron.next(at)
    return found


def agree(text: str, zone: str, start: float, end: float, *, and_days: bool) -> None:
    expected = Oracle(text, zone, and_days=and_days).ticks(start, end)
    try:
        cron = Cron(text, timezone=zone, and_days=and_days)
    except ConfigurationError:  # it never ticks, so says the oracle too
        assert expected == []
        return
    assert ticks_of(cron, start, end) == expected


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(text=TEXTS, span=SPANS, and_days=st.booleans())
def test_around_every_change_of_clocks_the_ticks_are_those_of_the_oracle(text: str, span: Any, and_days: bool) -> None:
    zone, change, shift = span
    start = change - change % 60 + shift * 60
    agree(text, zone, start, start + 2 * DAY, and_days=and_days)


@pytest.mark.soak
@pytest.mark.parametrize("zone", ZONES)
def test_over_twenty_years_the_ticks_are_those_of_the_oracle(zone: str) -> None:
    start = int(datetime(FIRST, 1, 1, tzinfo=UTC).timestamp())
    end = int(datetime(LAST + 1, 1, 1, tzinfo=UTC).timestamp())
    for text in (
        "0 2 * * *",
        "30 1,2 * * *",
        "*/7 1-3 * * *",
        "0 * * * *",
        "15 0 L * *",
        "0 3 13 * FRI",
        "5 */3 29 2 *",
    ):
        agree(text, zone, start, end, and_days=False)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@settings(max_examples=20_000, deadline=None)
@given(text=TEXTS, span=SPANS, and_days=st.booleans())
def test_around_many_changes_of_clocks_the_ticks_are_those_of_the_oracle(text: str, span: Any, and_days: bool) -> None:
    zone, change, shift = span
    start = change - change % 60 + shift * 60
    agree(text, zone, start, start + 3 * DAY, and_days=and_days)


@pytest.mark.slow
@pytest.mark.parametrize("text", ["0 2 * * *", "30 1 * * *", "0,30 2 * * *", "0 * * * *", "*/20 1-3 * * *"])
def test_the_usual_expressions_are_right_at_changes_of_clocks_drawn_from_twenty_years_and_all_zones(text: str) -> None:
    spans = [(zone, change) for zone in ZONES for change in changes_of(zone)]
    assert len(spans) > 500
    for zone, change in random.sample(spans, 20):
        start = change - change % 60 - DAY // 2
        agree(text, zone, start, start + DAY, and_days=False)


@settings(max_examples=100, deadline=None)
@given(text=TEXTS, zone=st.sampled_from(ZONES), at=st.floats(1.1e9, 1.8e9))
def test_a_tick_is_after_what_was_asked_and_nothing_is_between(text: str, zone: str, at: float) -> None:
    try:
        cron = Cron(text, timezone=zone)
    except ConfigurationError:
        return
    tick = cron.next(at)
    assert tick is not None
    assert tick > at
    assert cron.next(tick - 0.5) == tick
    assert cron.next((at + tick) / 2) == tick


def local(text: str, zone: str, start: float, number: int) -> Any:
    cron = Cron(text, timezone=zone)
    at = datetime.fromisoformat(start).replace(tzinfo=cron.zone).timestamp()
    found = []
    for _ in range(number):
        at = cron.next(at)
        found.append(datetime.fromtimestamp(at, cron.zone).isoformat())
    return found


def test_a_fixed_time_that_the_clocks_skip_runs_at_the_end_of_the_gap() -> None:
    assert local("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", 2) == [
        "2026-03-29T03:00:00+02:00",
        "2026-03-30T02:30:00+02:00",
    ]


def test_all_fixed_times_in_one_gap_are_one_tick() -> None:
    assert local("0,15,30 2 * * *", "America/New_York", "2026-03-07T12:00", 2) == [
        "2026-03-08T03:00:00-04:00",
        "2026-03-09T02:00:00-04:00",
    ]


def test_a_fixed_time_that_comes_twice_runs_the_first_time() -> None:
    assert local("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", 2) == [
        "2026-10-25T02:30:00+02:00",
        "2026-10-26T02:30:00+01:00",
    ]


def test_a_fixed_time_asked_for_in_the_second_pass_is_over() -> None:
    cron = Cron("30 2 * * *", timezone="Europe/Berlin")
    second_pass = datetime(2026, 10, 25, 2, 10, tzinfo=cron.zone, fold=1).timestamp()
    assert cron.next(second_pass) == datetime(2026, 10, 26, 2, 30, tzinfo=cron.zone).timestamp()


def test_a_wildcard_ticks_through_the_repeated_hour_twice() -> None:
    assert local("*/30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", 5) == [
        "2026-10-25T02:00:00+02:00",
        "2026-10-25T02:30:00+02:00",
        "2026-10-25T02:00:00+01:00",
        "2026-10-25T02:30:00+01:00",
        "2026-10-26T02:00:00+01:00",
    ]


def test_a_wildcard_skips_what_the_clocks_skip() -> None:
    assert local("*/30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", 1) == ["2026-03-30T02:00:00+02:00"]


def test_seconds_make_no_other_rules_for_fixed_times() -> None:
    assert local("0 30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", 1) == ["2026-03-29T03:00:00+02:00"]
    assert local("*/30 59 23 * * *", "UTC", "2026-03-28T12:00", 3) == [
        "2026-03-28T23:59:00+00:00",
        "2026-03-28T23:59:30+00:00",
        "2026-03-29T23:59:00+00:00",
    ]


def test_a_day_that_a_zone_left_out_runs_its_fixed_times_at_its_end() -> None:
    assert local("0 2 * * *", "Pacific/Apia", "2011-12-29T12:00", 2) == [
        "2011-12-31T00:00:00+14:00",
        "2011-12-31T02:00:00+14:00",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("@daily", "2026-01-02T00:00:00+00:00"),
        ("@Hourly", "2026-01-01T13:00:00+00:00"),
        ("@weekly", "2026-01-04T00:00:00+00:00"),
        ("0 0 * * 7", "2026-01-04T00:00:00+00:00"),
        ("0 0 * * sun", "2026-01-04T00:00:00+00:00"),
        ("0 0 1 jul *", "2026-07-01T00:00:00+00:00"),
        ("3/20 * * * *", "2026-01-01T12:03:00+00:00"),
        ("0 0 L * *", "2026-01-31T00:00:00+00:00"),
        ("0 0 LW * *", "2026-01-30T00:00:00+00:00"),
        ("0 0 * * 5L", "2026-01-30T00:00:00+00:00"),
        ("0 0 * * MON#2", "2026-01-12T00:00:00+00:00"),
        ("0 0 29 2 *", "2028-02-29T00:00:00+00:00"),
        ("0 0 13 * FRI", "2026-01-02T00:00:00+00:00"),
    ],
)
def test_an_expression_means_what_cron_says(text: str, expected: str) -> None:
    assert local(text, "UTC", "2026-01-01T12:00", 1) == [expected]


def test_days_can_be_asked_to_fit_both_ways() -> None:
    friday = Cron("0 0 13 * FRI", and_days=True)
    assert friday.next(datetime(2026, 1, 1, tzinfo=UTC).timestamp()) == datetime(2026, 2, 13, tzinfo=UTC).timestamp()


def test_a_leap_day_on_a_monday_is_found_however_rare() -> None:
    rare = Cron("0 0 29 2 MON", and_days=True)
    assert rare.next(datetime(2026, 1, 1, tzinfo=UTC).timestamp()) == datetime(2044, 2, 29, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0 0 30 2 *", "none of its months has a day 30"),
        ("0 0 31 4,6,9,11 *", "none of its months has a day 31"),
        ("0 0 1-7 * MON#2", "no date fits it within fifty years"),
        ("0 0 31 2 MON", "none of its months has a day 31"),
        ("", "has 0 fields"),
        ("* * * *", "has 4 fields"),
        ("* * * * * * *", "has 7 fields"),
        ("60 * * * *", "a bad minute: '60'"),
        ("* 24 * * *", "a bad hour: '24'"),
        ("* * 0 * *", "a bad day of month: '0'"),
        ("* * 32 * *", "a bad day of month: '32'"),
        ("* * * 13 *", "a bad month: '13'"),
        ("* * * * 8", "a bad day of week: '8'"),
        ("1,,2 * * * *", "an empty place in the list"),
        ("*/0 * * * *", "a bad minute: '*/0'"),
        ("* * * * FRI-SUN", "a range runs upwards"),
        ("abc * * * *", "a bad minute: 'ABC'"),
        ("@reboot", "is no schedule here"),
        ("@fortnightly", "is no schedule here"),
        (None, "is a cron expression such as"),
        (5, "is a cron expression such as"),
    ],
)
def test_what_cannot_tick_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Cron(text, and_days=True)
    assert reason in str(caught.value)


@pytest.mark.parametrize("zone", ["Europe/Berlinn", "", "Europe", "../etc/passwd", "/etc/localtime", None, 5])
def test_a_zone_that_is_none_is_refused(zone: str) -> None:
    with pytest.raises(ConfigurationError, match="there is no time zone"):
        Cron("0 2 * * *", timezone=zone)
