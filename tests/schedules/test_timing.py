"""Intervals, and which ticks a span of time holds."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.cron import Cron
from windlass.errors import ConfigurationError
from windlass.timing import COUNTED, Due, Interval, due

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC).timestamp()


class Slow:
    """The same ticks, one by one."""

    def __init__(self, interval: Any) -> None:
        self.next = interval.next


@given(
    every=st.one_of(st.floats(0.001, 1e6), st.integers(1, 10**6)),
    anchor=st.floats(0, 2e9),
    at=st.floats(1e9, 2e9),
)
def test_ticks_are_the_anchor_and_whole_steps_from_it(every: float, anchor: float, at: float) -> None:
    interval = Interval(every, anchor)
    step = round(every * 1e6)
    tick = interval.next(at)
    assert round(tick * 1e6 - round(anchor * 1e6)) % step == 0
    assert 0 <= round(tick * 1e6) - round(at * 1e6) <= step
    assert interval.next(tick) * 1e6 == pytest.approx(tick * 1e6 + step, abs=1)


@given(every=st.floats(2, 1e4), span=st.floats(0, 1e4), most=st.integers(1, 50))
def test_a_span_of_an_interval_is_what_walking_over_it_finds(every: float, span: Any, most: int) -> None:
    interval = Interval(every)
    assert due(interval, NOON, NOON + span, most) == due(Slow(interval), NOON, NOON + span, most)


@given(most=st.integers(1, 30), minutes=st.integers(0, 100))
def test_a_span_keeps_the_newest_and_says_what_was_before_them(most: int, minutes: int) -> None:
    found = due(Cron("* * * * *"), NOON, NOON + minutes * 60, most)
    ticks = [NOON + 60.0 * number for number in range(1, minutes + 1)]
    assert list(found.ticks) == ticks[-most:]
    older = ticks[:-most]
    assert (found.older, found.first, found.last) == (len(older), older[0], older[-1]) if older else Due((), 0)


def test_an_interval_of_a_millisecond_costs_nothing_after_a_year() -> None:
    found = due(Interval(0.001), NOON, NOON + 365 * 86400, 3)
    assert found.ticks == (NOON + 365 * 86400 - 0.002, NOON + 365 * 86400 - 0.001, NOON + 365 * 86400)
    assert found.older == 365 * 86400 * 1000 - 3


def test_after_six_years_a_cron_is_not_walked_over() -> None:
    asked = []

    class Counting:
        cron = Cron("* * * * *")

        def next(self, after: float) -> Any:
            asked.append(after)
            return self.cron.next(after)

    found = due(Counting(), NOON - 6 * 365 * 86400, NOON, 100)
    assert found.ticks == tuple(NOON - 60 * number for number in range(99, -1, -1))
    assert found.older is None
    assert found.first == NOON - 6 * 365 * 86400 + 60
    assert found.last == NOON - 6000
    assert len(asked) < COUNTED + 1000


def test_a_rare_cron_is_counted_to_the_last_tick_after_many_years() -> None:
    found = due(Cron("0 0 29 2 *"), NOON - 12 * 365.25 * 86400, NOON, 2)
    assert [datetime.fromtimestamp(at, UTC).year for at in found.ticks] == [2020, 2024]
    assert found.older == 1


@pytest.mark.parametrize("every", [0, -1, 0.0001])
def test_an_interval_that_is_none_is_refused(every: float) -> None:
    with pytest.raises(ConfigurationError, match="every must be at least"):
        Interval(every)
