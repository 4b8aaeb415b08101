"""Bars stand where their minute is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from msgspec.structs import replace

from windlass.dashboard.charts import HEIGHT, MINUTES, WIDTH, throughput
from windlass.observed import QueueSample, Sample

START = datetime(2030, 1, 1, tzinfo=UTC)


def samples(*minutes: int) -> list[Sample]:
    """A sample at each of these minutes, with ten more processed than at the one before."""
    none = QueueSample(enqueued=0, processed=0, failed=0, dead=0, pending=0, running=0, waiting=0)
    return [
        Sample(at=START + timedelta(minutes=minute), queues={"q": replace(none, processed=10 * place)})
        for place, minute in enumerate(minutes)
    ]


def test_each_bar_stands_at_its_minute_and_the_last_is_on_the_right() -> None:
    chart = throughput(samples(0, 1, 2, 7))
    assert [round(bar.x / WIDTH * MINUTES) for bar in chart.bars] == [53, 54, 59]
    assert {bar.done_height for bar in chart.bars} == {HEIGHT}
    assert chart.words.startswith("30 processed and 0 failed attempts in the last 7 minutes")


def test_what_is_older_than_an_hour_is_left_out() -> None:
    chart = throughput(samples(*range(100)))
    assert len(chart.bars) == MINUTES
    assert chart.bars[0].x == 0


def test_without_samples_there_is_nothing_to_draw() -> None:
    for known in ((), (0,)):
        assert throughput(samples(*known)).bars == ()
