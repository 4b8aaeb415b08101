"""What a worker asks for: reserved slots stay free for their queue, and no order lets a queue into them."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from windlass import ConfigurationError, Reserved
from windlass.drivers.base import Take
from windlass.queues import Selection, select
from windlass.worker.demand import Demand, demand, ordered, remainder, shared_free

if TYPE_CHECKING:
    from collections.abc import Mapping


def same(names: list[str]) -> None:
    """Shuffle nothing."""


# ---------------------------------------------------------------------------------------- at the door


@pytest.mark.parametrize(
    ("queues", "order"),
    [
        ([], None),
        ({}, None),
        ("", None),
        (3, None),
        ([7], None),
        ({"mail": 0}, None),
        ({"mail": -1}, None),
        ({"mail": True}, None),
        ({"mail": 1.5}, None),
        ({"mail": Reserved(0)}, None),
        ({"mail": Reserved(True)}, None),
        ({"mail": Reserved(5)}, None),
        ({"mail": Reserved(3), "sms": Reserved(2)}, None),
        ({"mail": Reserved(4), "other": 1}, None),
        (["mail"], "random"),
        (None, "strict"),
        (None, "weighted"),
        ({"mail": 2}, "merged"),
        ({"mail": 2}, "strict"),
    ],
    ids=str,
)
def test_what_cannot_be_right_is_refused(queues: Any, order: Any) -> None:
    """At the door, with the name of what is wrong."""
    with pytest.raises(ConfigurationError):
        select(queues, order, concurrency=4)


@pytest.mark.parametrize(
    ("queues", "order", "expected"),
    [
        (None, None, Selection()),
        (None, "merged", Selection()),
        ("mail", None, Selection(names=("mail",))),
        (["b", "a", "b"], None, Selection(names=("b", "a"))),
        (["b", "a"], "strict", Selection(names=("b", "a"), order="strict")),
        (["b", "a"], "weighted", Selection(names=("b", "a"), order="weighted")),
        ({"b": 3, "a": 1}, None, Selection(names=("b", "a"), order="weighted", weights={"b": 3, "a": 1})),
        ({"b": Reserved(4)}, None, Selection(names=("b",), reserved={"b": 4})),
        ({"b": Reserved(2), "a": None}, None, Selection(names=("b", "a"), reserved={"b": 2})),
        (
            {"b": Reserved(2), "a": 1},
            "strict",
            Selection(names=("b", "a"), order="strict", weights={"a": 1}, reserved={"b": 2}),
        ),
        (
            {"b": Reserved(1), "a": 2},
            None,
            Selection(names=("b", "a"), order="weighted", weights={"a": 2}, reserved={"b": 1}),
        ),
    ],
    ids=str,
)
def test_what_was_said_is_read(queues: Any, order: Any, expected: Selection) -> None:
    """Weights mean the weighted order; else the best of all comes first."""
    assert select(queues, order, concurrency=4) == expected


# ---------------------------------------------------------------------------------------- the parts


def test_plain_queues_are_asked_in_one_part() -> None:
    """For as many as there are free slots."""
    assert demand(select(["a", "b"], None, concurrency=4), {"a": 1}, 4, same) == Demand(3)


def test_a_strict_order_is_a_part_for_each_queue() -> None:
    """The number in all keeps them within the free slots."""
    chosen = select(["a", "b"], "strict", concurrency=4)
    assert demand(chosen, {"b": 1}, 4, same) == Demand(3, (Take(("a",), 3), Take(("b",), 3)))
    assert demand(chosen, {"b": 4}, 4, same) == Demand(0)


def test_a_queue_fills_its_reserved_slots_first() -> None:
    """What runs beyond them takes from the slots of all."""
    chosen = select({"mail": Reserved(2), "other": Reserved(1)}, None, concurrency=5)
    assert demand(chosen, {}, 5, same) == Demand(
        5, (Take(("mail",), 2), Take(("other",), 1), Take(("mail", "other"), 2))
    )
    assert demand(chosen, {"mail": 3}, 5, same) == Demand(2, (Take(("other",), 1), Take(("mail", "other"), 1)))
    assert demand(chosen, {"mail": 4}, 5, same) == Demand(1, (Take(("other",), 1),))


def test_the_later_queues_of_an_order_come_in_a_second_exchange() -> None:
    """Else one of them could take what is reserved, and not used just now."""
    chosen = select({"mail": Reserved(2), "a": 1, "b": 1}, None, concurrency=4)
    asked = demand(chosen, {}, 4, same)
    assert asked == Demand(4, (Take(("mail",), 2), Take(("mail",), 2)), ("a", "b"))
    assert remainder(asked.rest, 1) == Demand(1, (Take(("a",), 1), Take(("b",), 1)))
    assert remainder(asked.rest, 0) == Demand(0)
    assert demand(chosen, {"mail": 2}, 4, same).rest == ()


def test_heavy_queues_come_first_more_often() -> None:
    """In proportion to the weights; none is left out."""
    chosen = select({"a": 3, "b": 1}, None, concurrency=4)
    draw = random.Random(1)
    first = Counter(tuple(ordered(chosen, draw.shuffle)) for _ in range(4000))
    assert set(first) == {("a", "b"), ("b", "a")}
    assert 2850 < first["a", "b"] < 3150


def claim(asked: Demand, waiting: dict[str, int]) -> Counter[str]:
    """Take as a store does."""
    taken: Counter[str] = Counter()
    for part in asked.takes:
        left = min(part.limit, asked.limit - taken.total())
        for name in part.queues or ():
            number = min(left, waiting[name])
            waiting[name] -= number
            taken[name] += number
            left -= number
    return taken


QUEUES = ("a", "b", "c")
counts = st.fixed_dictionaries(dict.fromkeys(QUEUES, st.integers(0, 6)))


@given(
    concurrency=st.integers(1, 8),
    chosen=st.builds(
        Selection,
        names=st.just(QUEUES),
        order=st.sampled_from(["merged", "strict", "weighted"]),
        reserved=st.dictionaries(st.sampled_from(QUEUES), st.integers(1, 4)),
    ),
    running=counts,
    waiting=counts,
    seed=st.integers(),
)
def test_no_queue_is_let_into_slots_of_another_and_no_slot_idles(
    concurrency: int, chosen: Selection, running: dict[str, int], waiting: dict[str, int], seed: int
) -> None:
    """Whatever runs and waits: within the reservations after both exchanges, and no slot is free that a job could use."""
    assume(sum(chosen.reserved.values()) <= concurrency)
    now, left = Counter[str](), dict(waiting)
    for name, number in running.items():  # start from something that is allowed
        while now[name] < number and allowed(now + Counter({name: 1}), chosen, concurrency):
            now[name] += 1
    asked = demand(chosen, now, concurrency, random.Random(seed).shuffle)
    if not asked.takes:
        asked = Demand(asked.limit, (Take(QUEUES, asked.limit),))
    now += claim(asked, left)
    now += claim(remainder(asked.rest, shared_free(chosen, now, concurrency)), left)
    assert allowed(now, chosen, concurrency)
    for name in QUEUES:
        if left[name]:
            assert not allowed(now + Counter({name: 1}), chosen, concurrency)


def allowed(running: Mapping[str, int], chosen: Selection, concurrency: int) -> bool:
    """Whether so many may run: those beyond the reservations fit the slots of all."""
    beyond = sum(max(0, number - chosen.reserved.get(name, 0)) for name, number in running.items())
    return beyond <= concurrency - sum(chosen.reserved.values())
