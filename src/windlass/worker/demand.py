"""What a turn asks the store for: so many jobs, of which queues, in which order. Pure.

Theory: a queue's jobs fill its reserved slots first, and then slots that are for all; so the shared slots in use are
what the queues run beyond their reservations. The store takes part by part, and what all parts may bring together is
one number. Where reserved and ordered shared parts meet, that number cannot keep a later queue out of slots that are
reserved and unused. So then only the first queue of the order is asked for, and the others in a second exchange, if
shared slots are left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from windlass.drivers.base import Take

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from windlass.queues import Selection

    Shuffle = Callable[[list[str]], None]


class Demand(msgspec.Struct, frozen=True):
    """One exchange's worth."""

    limit: int
    """Jobs in all."""
    takes: tuple[Take, ...] = ()
    """In parts; empty = from all queues of the worker alike."""
    rest: tuple[str, ...] = ()
    """Queues to ask in a further exchange, with :func:`remainder`, if shared slots are left."""


def demand(selection: Selection, running: Mapping[str, int], concurrency: int, shuffle: Shuffle) -> Demand:
    """Return what to ask for when so many jobs of each queue run."""
    shared = shared_free(selection, running, concurrency)
    own = tuple(
        Take((name,), slots - running.get(name, 0))
        for name, slots in selection.reserved.items()
        if running.get(name, 0) < slots
    )
    kept = sum(take.limit for take in own)
    if selection.names is None or selection.order == "merged":
        if not own:
            return Demand(shared)
        common = (Take(selection.names, shared),) if shared else ()
        return Demand(kept + shared, own + common)
    if not shared:
        return Demand(kept, own)
    order = ordered(selection, shuffle)
    if not own:
        return Demand(shared, tuple(Take((name,), shared) for name in order))
    return Demand(kept + shared, (*own, Take((order[0],), shared)), tuple(order[1:]))


def remainder(rest: Sequence[str], shared: int) -> Demand:
    """Return what to ask for when the first queue of the order has left shared slots free."""
    return Demand(shared, tuple(Take((name,), shared) for name in rest)) if shared and rest else Demand(0)


def shared_free(selection: Selection, running: Mapping[str, int], concurrency: int) -> int:
    """Return how many slots are free that any queue may use."""
    reserved = selection.reserved
    beyond = sum(max(0, number - reserved.get(name, 0)) for name, number in running.items())
    return max(0, concurrency - sum(reserved.values()) - beyond)


def ordered(selection: Selection, shuffle: Shuffle) -> list[str]:
    """Return the queues in the order in which they are asked this time."""
    names = list(selection.names or ())
    if selection.order == "strict":
        return names
    # As Sidekiq does: a queue that weighs three is drawn first three times as often.
    drawn = [name for name in names for _ in range(selection.weights.get(name, 1))]
    shuffle(drawn)
    return list(dict.fromkeys(drawn))
