"""Unique jobs: at most one job may have a key at a time.

Theory: an enqueue computes a key and says in which statuses a job *holds* it. The store keeps one row for each key that
is held, so that two enqueues that meet cannot both win. A hold is taken when a job enters one of its statuses and given
up when it leaves them (or ``for_`` seconds after its creation, if that is later); what becomes of a job that cannot take
its key is decided here.

Rules: a conflict of an insert is answered as ``on_conflict`` says. By hand (retry) it is refused. Where nobody can be
told, at promotion, retry and rescue, the later job is cancelled.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import msgspec

from windlass.errors import ConfigurationError
from windlass.job import BIT, Flow, Hold, Status
from windlass.template import fill
from windlass.times import Duration, seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Policy: TypeAlias = Literal["return", "raise", "replace", "reschedule"]

WHILE = (Status.SCHEDULED, Status.PENDING, Status.RUNNING, Status.RETRYING)
_FLOW = msgspec.json.Decoder(Flow)


class Unique:
    """When two jobs are the same, and what becomes of the second.

    Args:
        by: what makes the key: ``"args"`` (all arguments), names of arguments, ``"queue"``.
        key: instead of ``by``: a template over the arguments, ``"user:{user_id}"``, or a function of them.
        while_: in which statuses a job keeps others out; ``scheduled`` and ``pending`` are always among them.
        for_: keep others out for at least so long from the job's creation, whatever becomes of it (throttle).
        on_conflict: ``"return"`` the job that is there; ``"raise"`` ``UniqueConflictError``; ``"replace"`` gives the
            waiting job the new payload and time (debounce), ``"reschedule"`` only the new time. The last two touch
            waiting jobs only, and else return.

    Keys of different tasks never meet.
    """

    __slots__ = ("by", "key", "mask", "on_conflict", "window")

    def __init__(
        self,
        by: Sequence[str] | str = ("args",),
        *,
        key: str | Callable[..., str] | None = None,
        while_: Sequence[str] = WHILE,
        for_: Duration | None = None,
        on_conflict: Policy = "return",
    ) -> None:
        self.by = (by,) if isinstance(by, str) else tuple(by)
        if not self.by or not all(_is_name(part) for part in self.by):
            raise ConfigurationError(f"by must be names of arguments, 'args' or 'queue', not {by!r}")
        if key is not None and not callable(key) and not _is_name(key):
            raise ConfigurationError(f"key must be a template such as 'user:{{user_id}}' or a function, not {key!r}")
        if on_conflict not in get_args(Policy):
            raise ConfigurationError(f"on_conflict must be one of {', '.join(get_args(Policy))}, not {on_conflict!r}")
        self.key = key
        self.mask = _mask(while_)
        self.window = 0.0 if for_ is None else seconds(for_, name="for_")
        self.on_conflict: Policy = on_conflict

    def __repr__(self) -> str:
        """Show what makes the key."""
        return f"<Unique {self.key if self.key is not None else ', '.join(self.by)} on_conflict={self.on_conflict!r}>"

    def hold(self, task: str, queue: str, arguments: Any) -> Hold:
        """Return what a job with these arguments holds.

        Raises:
            ConfigurationError: the key names an argument that there is not.
        """
        if self.key is not None:
            text = fill(self.key, arguments, what="unique key", task=task)
        else:
            text = digest([_part(name, queue, arguments, task) for name in self.by])
        return Hold(f"unique:{task}:{text}", self.mask, self.window, self.on_conflict == "raise")


def unique_of(value: Any) -> Unique | None:
    """Read the option ``unique=``: ``True``, ``False`` or ``Unique(...)``.

    Raises:
        ConfigurationError: it is something else.
    """
    if value is None or value is False:
        return None
    if value is True:
        return Unique()
    if not isinstance(value, Unique):
        raise ConfigurationError(f"unique must be True or Unique(...), not {value!r}")
    return value


def digest(value: Any) -> str:
    """Return 128 bits of a JSON value, the same for the same value, whatever the order of its names."""
    encoded = msgspec.json.encode(value, order="deterministic")
    return hashlib.blake2b(encoded, digest_size=16).hexdigest()


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _part(name: str, queue: str, arguments: Any, task: str) -> Any:
    if name == "args":
        return arguments
    if isinstance(arguments, dict) and name in arguments:
        return [name, arguments[name]]
    if name == "queue":
        return [name, queue]
    raise ConfigurationError(f"unique: task {task!r} has no argument {name!r}")


def _mask(statuses: Sequence[str]) -> int:
    try:
        wanted = {Status(status) for status in ((statuses,) if isinstance(statuses, str) else statuses)}
    except ValueError as error:
        raise ConfigurationError(f"while_: {error}") from None
    if not {Status.SCHEDULED, Status.PENDING} <= wanted:
        raise ConfigurationError("while_ must have 'scheduled' and 'pending' in it: a waiting job keeps others out")
    return sum(BIT[status] for status in wanted)


# ---------------------------------------------------------------------------------------- what stores go by


def flow_of(encoded: bytes) -> Flow:
    """Decode a record's keys and gates."""
    return _FLOW.decode(encoded)


def enters(hold: Hold, before: Status | None, after: Status) -> bool:
    """Whether a job has to take the key when it moves."""
    return bool(hold.mask & BIT[after]) and not (before is not None and hold.mask & BIT[before])


def leaves(hold: Hold, before: Status, after: Status | None) -> bool:
    """Whether a job gives the key up when it moves, at the end of its window at the latest."""
    return bool(hold.mask & BIT[before]) and not (after is not None and hold.mask & BIT[after])
