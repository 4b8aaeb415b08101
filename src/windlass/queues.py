"""Which queues a worker takes from, in which order, and what it keeps free for one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, get_args

import msgspec

from windlass.errors import ConfigurationError
from windlass.settings import check_name

Order: TypeAlias = Literal["merged", "strict", "weighted"]
HEAVIEST = 1000


class Reserved(msgspec.Struct, frozen=True):
    """So many of a worker's slots are for one queue alone: ``queues={"mail": Reserved(2), "default": 1}``.

    The queue may use the others too.
    """

    slots: int


Queues: TypeAlias = "Sequence[str] | Mapping[str, int | Reserved | None] | str"
"""Names, or names with a weight, reserved slots or nothing each."""


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker takes from; checked."""

    names: tuple[str, ...] | None = None
    """In the order in which they were given; ``None`` = all."""
    order: Order = "merged"
    weights: Mapping[str, int] = {}
    """Of those that have one; the others weigh 1."""
    reserved: Mapping[str, int] = {}

    @property
    def plain(self) -> bool:
        """Whether all slots are for all queues alike."""
        return self.order == "merged" and not self.reserved


def select(queues: Queues | None, order: Order | None, *, concurrency: int) -> Selection:
    """Check what a worker was told about its queues.

    Raises:
        ConfigurationError: it cannot be right.
    """
    if order is not None and order not in get_args(Order):
        raise ConfigurationError(f"order must be one of {', '.join(get_args(Order))}, not {order!r}")
    if queues is None:
        if order not in (None, "merged"):
            raise ConfigurationError(f"order={order!r} needs the queues that are to be ordered")
        return Selection()
    given = _read(queues)
    weights = {name: value for name, value in given.items() if isinstance(value, int)}
    reserved = {name: value.slots for name, value in given.items() if isinstance(value, Reserved)}
    order = order or ("weighted" if weights else "merged")
    if order != "weighted" and any(weight != 1 for weight in weights.values()):
        raise ConfigurationError(f"order={order!r} knows no weights; leave them out, or order the queues by weight")
    _check_reserved(reserved, given, concurrency)
    return Selection(names=tuple(given), order=order, weights=weights, reserved=reserved)


def _read(queues: Any) -> dict[str, int | Reserved | None]:
    if isinstance(queues, str):
        queues = (queues,)
    given: dict[str, int | Reserved | None] = {}
    if isinstance(queues, Mapping):
        given.update((check_name("queue", name), _worth(name, value)) for name, value in queues.items())
    elif isinstance(queues, Sequence | set | frozenset):
        given.update(dict.fromkeys(check_name("queue", name) for name in queues))
    else:
        raise ConfigurationError(f"queues must be names, or a mapping of names to weights, not {queues!r}")
    if not given:
        raise ConfigurationError("queues must name at least one queue; leave it out for all")
    return given


def _worth(name: str, value: Any) -> int | Reserved | None:
    if value is None:
        return None
    if isinstance(value, Reserved):
        return Reserved(_whole(f"the slots reserved for queue {name!r}", value.slots, most=1 << 20))
    return _whole(f"the weight of queue {name!r}", value, most=HEAVIEST)


def _whole(what: str, value: Any, *, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise ConfigurationError(f"{what} must be a whole number from 1 to {most}, not {value!r}")
    return value


def _check_reserved(reserved: Mapping[str, int], given: Mapping[str, object], concurrency: int) -> None:
    kept = sum(reserved.values())
    if kept > concurrency:
        raise ConfigurationError(f"{kept} slots are reserved, but the worker has only concurrency={concurrency}")
    if kept == concurrency and len(reserved) < len(given):
        others = ", ".join(repr(name) for name in given if name not in reserved)
        raise ConfigurationError(f"every slot is reserved for another queue: {others} could never run")
