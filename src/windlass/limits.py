"""Limits and rates: how many jobs may run at once, and how many may start in a time, over the whole fleet.

Theory: a *gate* is passed at the claim, in the store, in the same step. A limit's gate counts those that run; a rate's
gate is a token bucket kept as one instant, the *theoretical arrival time* of the next start (GCRA: ITU-T I.371; the same
as a bucket of ``burst`` tokens that fills by ``most / per`` a second). Whoever finds a gate shut is put aside, out of the
claims' way, and comes back when there is room.

Gates of a whole task or queue (``limit:task:send``) shut its streams, as a pause does; those of a key
(``limit:tenant:5``) are brought by each job.

A *turn* (``fair:tenant:5``) is no limit: it says in which order the waiting jobs of one queue, task and priority start. Each
key with waiting jobs starts one in its turn, as in a round of cards (round robin); who comes new joins at the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from windlass.errors import ConfigurationError
from windlass.job import Gate
from windlass.template import LONGEST, fill
from windlass.times import Duration, seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

WIDE = ("limit:queue:", "rate:queue:", "limit:task:", "rate:task:")
"""Gates that every job of a queue or task passes."""
FAIR = "fair:"
"""What a turn's key begins with."""
_SLACK = 1e-6
"""Seconds by which instants kept as floats may miss each other."""


class Limit:
    """At most *most* jobs run at once over the whole fleet: of the task, or of each *key*.

    Args:
        most: a whole number, at least 1.
        key: a template over the arguments, ``"tenant:{tenant_id}"``, or a function of them. Tasks that name the same
            key share it.
    """

    __slots__ = ("key", "most")

    def __init__(self, most: int, *, key: str | Callable[..., str] | None = None) -> None:
        self.most = _most(most)
        self.key = _key(key)

    def __repr__(self) -> str:
        """Show it as it is spelt."""
        return f"Limit({self.most}{'' if self.key is None else f', key={self.key!r}'})"

    def gate(self, task: str, arguments: Any = None) -> Gate:
        """Return the gate of a job."""
        return Gate(f"limit:{_scope(self.key, task, arguments)}", self.most)


class Rate:
    """At most *most* starts in *per* seconds over the whole fleet: of the task, or of each *key*.

    Args:
        most: how many, more than 0.
        per: in how long; a duration.
        burst: how many may start at one instant after a pause; default what one second allows, at least 1. In any time
            *t* at most ``burst + most / per * t`` start.
        key: as for ``Limit``.
        weight: how much one start counts.
    """

    __slots__ = ("burst", "key", "most", "per", "weight")

    def __init__(
        self,
        most: float,
        per: Duration = 1.0,
        *,
        burst: float | None = None,
        key: str | Callable[..., str] | None = None,
        weight: float = 1.0,
    ) -> None:
        self.per = seconds(per, name="per")
        self.most = _positive("the number of a rate", most)
        if not self.per:
            raise ConfigurationError("the time of a rate must be above 0")
        self.weight = _positive("weight", weight)
        self.burst = max(1.0, self.weight, self.most / self.per) if burst is None else _positive("burst", burst)
        if self.weight > self.burst:
            raise ConfigurationError(f"weight {weight:g} is above burst {self.burst:g}: no job could ever start")
        self.key = _key(key)

    def __repr__(self) -> str:
        """Show it as it is spelt."""
        return f"Rate({self.most:g}, per={self.per:g}, burst={self.burst:g})"

    def gate(self, task: str, arguments: Any = None) -> Gate:
        """Return the gate of a job."""
        return Gate(f"rate:{_scope(self.key, task, arguments)}", self.most, self.per, self.burst, self.weight)


def fair_of(value: Any) -> str | Callable[..., str] | None:
    """Read the option ``fair=``: a template over the arguments, or a function of them.

    Raises:
        ConfigurationError: it is something else.
    """
    key: str | Callable[..., str] | None = _key(value, "fair")
    return key


def turn(key: str | Callable[..., str], task: str, arguments: Any) -> Gate:
    """Return what puts a job into the line of its key."""
    return Gate(FAIR + fill(key, arguments, what="fair", task=task), 1)


def fair_key(gates: Iterable[Gate]) -> str | None:
    """Return the turn among the gates of a job."""
    for gate in gates:
        if gate.key.startswith(FAIR):
            return gate.key
    return None


def limits_of(value: Any) -> tuple[Limit | Rate, ...]:
    """Read the option ``limit=``: one ``Limit`` or ``Rate``, a whole number, or several of them.

    Raises:
        ConfigurationError: it is something else, or two limits of the whole task.
    """
    if value is None:
        return ()
    several = value if isinstance(value, list | tuple) else (value,)
    limits = tuple(Limit(one) if isinstance(one, int) else one for one in several)
    for one in limits:
        if not isinstance(one, Limit | Rate):
            raise ConfigurationError(f"limit must be Limit(...) or Rate(...), or several, not {value!r}")
    for kind in (Limit, Rate):
        if sum(isinstance(one, kind) and one.key is None for one in limits) > 1:
            raise ConfigurationError(f"limit: two of {kind.__name__} without a key; give one of them a key")
    return limits


def gates_of(limits: Sequence[Limit | Rate], task: str, arguments: Any) -> tuple[Gate, ...]:
    """Return the gates that a job brings: those with a key."""
    return tuple([one.gate(task, arguments) for one in limits if one.key is not None]) if limits else ()


def wide_gates(limits: Sequence[Limit | Rate], task: str) -> tuple[Gate, ...]:
    """Return the gates of the whole task."""
    return tuple(one.gate(task) for one in limits if one.key is None)


def _scope(key: str | Callable[..., str] | None, task: str, arguments: Any) -> str:
    return f"task:{task}" if key is None else fill(key, arguments, what="limit's key", task=task)


def _key(key: Any, name: str = "key") -> Any:
    if key is None or callable(key):
        return key
    if not isinstance(key, str) or not 0 < len(key) <= LONGEST:
        raise ConfigurationError(f"{name} must be a template such as 'tenant:{{tenant_id}}' or a function, not {key!r}")
    if key.startswith(("queue:", "task:")):
        raise ConfigurationError(f"a key must not begin with 'queue:' or 'task:', which mean all of them: {key!r}")
    return key


def _most(most: Any) -> int:
    if isinstance(most, bool) or not isinstance(most, int) or not 1 <= most < 1 << 31:
        raise ConfigurationError(
            f"a limit is a whole number, at least 1, not {most!r}; pause the queue for none at all"
        )
    return most


def _positive(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
        raise ConfigurationError(f"{name} must be a number above 0, not {value!r}")
    return float(value)


# ---------------------------------------------------------------------------------------- what stores go by


def cost(gate: Gate) -> float:
    """Seconds of its time that one start takes from a rate."""
    return gate.weight * gate.per / gate.most


def free_at(gate: Gate, arrival: float) -> float:
    """Return when a rate lets the next job start; *arrival* is its theoretical arrival time."""
    return arrival + cost(gate) - gate.burst * gate.per / gate.most


def room(gate: Gate, used: int, arrival: float, now: float) -> int:
    """Return how many more may start now."""
    if not gate.per:
        return max(0, int(gate.most) - used)
    return max(0, int((now - free_at(gate, max(arrival, now)) + _SLACK) / cost(gate) + 1.0))


def has_room(gate: Gate, *, used: int, opens: float | None, now: float) -> bool:
    """Whether a job may start now; *opens* = when a rate lets the next."""
    return used < gate.most if opens is None else opens <= now + _SLACK


def started(gate: Gate, arrival: float, now: float) -> float:
    """Return a rate's theoretical arrival time after one more start."""
    return max(arrival, now) + cost(gate)
