from datetime import UTC, datetime
from typing import Any

import pytest
import typer

from windlass.cli.values import duration, instant, payload


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
