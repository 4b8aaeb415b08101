from datetime import UTC, datetime
from typing import Any

import pytest
import typer

from windlass.cli.process import Plan
from windlass.cli.values import duration, instant, payload, reserved, weighted
from windlass.queues import Reserved


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("1.5", 1.5), ("5m", 300), ("2h", 7200), ("1d", 86400), ("250ms", 0.25), ("1h30m", 5400)],
)
def test_a_duration_is_read_in_every_unit(text: str, seconds: float) -> None:
    """Plain numbers are seconds; units may be put together."""
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "5 parsecs", "-5", "5m3", "1h 2x", "nan"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """A typing error never becomes a delay."""
    with pytest.raises(typer.BadParameter, match="not a duration"):
        duration(text)


def test_an_instant_needs_its_zone() -> None:
    """A time without a zone could mean anything."""
    assert instant("2030-01-31T08:00:00+01:00") == datetime(2030, 1, 31, 7, tzinfo=UTC)
    with pytest.raises(typer.BadParameter, match="names no time zone"):
        instant("2030-01-31T08:00:00")
    with pytest.raises(typer.BadParameter, match="ISO 8601"):
        instant("tomorrow")


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ([], None),
        (['{"a": 1}'], {"a": 1}),
        (
            ["a=1", "b=text", 'c="1"', "d=[1,2]", "e=x=y", "f="],
            {"a": 1, "b": "text", "c": "1", "d": [1, 2], "e": "x=y", "f": ""},
        ),
    ],
)
def test_a_payload_is_json_or_pairs(words: list[str], value: Any) -> None:
    """The value of a pair is JSON where it can be, else text."""
    assert payload(words) == value


@pytest.mark.parametrize("words", [["{broken"], ["a=1", "b"], ["a=1", "a=2"]])
def test_a_broken_payload_is_refused(words: list[str]) -> None:
    """Half a payload is none."""
    with pytest.raises(typer.BadParameter):
        payload(words)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("mail", ("mail", None)),
        ("mail,3", ("mail", 3)),
        ("a,b", ("a,b", None)),
        ("a,b,2", ("a,b", 2)),
        (",", (",", None)),
    ],
)
def test_a_queue_may_have_a_weight(text: str, read: tuple[str, int | None]) -> None:
    """After the last comma, if that is a number; a name may have commas too."""
    assert weighted(text) == read


def test_slots_are_reserved_by_a_number() -> None:
    """After the last sign of equality."""
    assert reserved("a=b=2") == ("a=b", 2)
    for wrong in ("mail", "=2", "mail=", "mail=two"):
        with pytest.raises(typer.BadParameter, match="mail=2"):
            reserved(wrong)


def test_a_plan_says_what_the_worker_is_told_of_its_queues() -> None:
    """Names as names; with weights or reserved slots as a mapping."""
    assert Plan().chosen() is None
    assert Plan(queues=("a", "b")).chosen() == ("a", "b")
    assert Plan(queues=("a", "b"), weights={"a": 2}, reserved={"b": 1}).chosen() == {"a": 2, "b": Reserved(1)}
    assert Plan(queues=("a", "b"), reserved={"b": 1}).chosen() == {"a": None, "b": Reserved(1)}
