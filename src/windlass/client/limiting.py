"""Limits and rates at run time: set, forget, look."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from windlass.client.handle import Handle
from windlass.errors import ConfigurationError
from windlass.job import Gate
from windlass.limits import Limit, Rate
from windlass.offload import offload
from windlass.settings import check_name
from windlass.times import moment

if TYPE_CHECKING:
    from collections.abc import Collection

    from windlass.drivers.base import Passage

HOLDERS = 20
"""Jobs named as the holders of a limit, at most."""


class LimitState(msgspec.Struct, frozen=True, kw_only=True):
    """A limit or rate as it is now."""

    key: str
    """``tenant:5``; ``task:send`` and ``queue:mail`` are of a whole task or queue."""
    kind: str
    """``"limit"`` or ``"rate"``."""
    most: float
    """How many may run at once, or may start in ``per`` seconds."""
    per: float | None
    burst: float | None
    pinned: bool
    """Set by hand: what the tasks say does not change it."""
    used: int
    """How many run behind a limit."""
    waiting: int
    """How many jobs were put aside because of it."""
    free_at: datetime | None
    """When a rate lets the next job start; ``None`` = now, and for limits."""

    @classmethod
    def of(cls, passage: Passage, now: float) -> LimitState:
        """Show what a store knows."""
        gate = passage.gate
        kind, _, key = gate.key.partition(":")
        rate = kind == "rate"
        return cls(
            key=key,
            kind=kind,
            most=gate.most,
            per=gate.per if rate else None,
            burst=gate.burst if rate else None,
            pinned=passage.pinned,
            used=passage.used,
            waiting=passage.blocked,
            free_at=moment(passage.free_at if (passage.free_at or 0) > now else None),
        )


class Limiting(Handle):
    """Limits at run time, with their twins."""

    def limit(self, limit: Limit | Rate | int, *, queue: str | None = None, task: str | None = None) -> None:
        """Set a limit or rate for everybody, from the next claim on: of a queue, of a task, or of one key.

        ``app.limit(3, queue="mail")``, ``app.limit(Rate(100, per=60), task="send")``,
        ``app.limit(Limit(10, key="tenant:5"))``. It holds until :meth:`unlimit`, whatever the tasks say.

        Raises:
            ConfigurationError: it is not clear of what it is.
        """
        one = Limit(limit) if isinstance(limit, int) else limit
        if not isinstance(one, Limit | Rate):
            raise ConfigurationError(f"limit must be Limit(...), Rate(...) or a whole number, not {limit!r}")
        scope = _scope(queue, task, one.key)
        kind = "rate" if isinstance(one, Rate) else "limit"
        self.driver.set_gate(msgspec.structs.replace(_plain(one), key=f"{kind}:{scope}"), pinned=True)

    alimit = offload(limit)

    def unlimit(self, *, queue: str | None = None, task: str | None = None, key: str | None = None) -> bool:
        """Forget what :meth:`limit` set; then the tasks' own limits hold again. False: nothing was set."""
        scope = _scope(queue, task, key)
        gone = [self.driver.drop_gate(f"{kind}:{scope}") for kind in ("limit", "rate")]
        if task is not None and (known := self.find_task(task)) is not None:
            for one in known.limits:
                if one.key is None:
                    self.driver.set_gate(one.gate(known.name), pinned=False)
        return any(gone)

    aunlimit = offload(unlimit)

    def limits(self, keys: Collection[str] | None = None) -> list[LimitState]:
        """Return the limits and rates that are known, by key: those of *keys*, or the first 1000."""
        wanted = None if keys is None else [f"{kind}:{key}" for key in keys for kind in ("limit", "rate")]
        now = self.driver.now()
        return [LimitState.of(passage, now) for passage in self.driver.passages(wanted)]

    alimits = offload(limits)

    def holders(self, key: str) -> list[int]:
        """Return jobs that run behind the limit of *key* (``tenant:5``, ``task:send``, ``queue:mail``), at most 20."""
        return self.driver.holders(f"limit:{key}", HOLDERS)

    aholders = offload(holders)


def _scope(queue: str | None, task: str | None, key: object) -> str:
    named = {"queue": queue, "task": task, "key": key}
    given = [name for name, value in named.items() if value is not None]
    if len(given) != 1:
        raise ConfigurationError(
            f"say of what: queue=, task= or a key, one of them, not {' and '.join(given) or 'none'}"
        )
    if not isinstance(key, str | None):
        raise ConfigurationError("at run time a key is text, as it is in app.limits(): 'tenant:5'")
    if key is not None:
        return check_name("key", key)
    return f"queue:{check_name('queue', queue)}" if queue is not None else f"task:{check_name('task', task)}"


def _plain(one: Limit | Rate) -> Gate:
    if isinstance(one, Limit):
        return Gate("", one.most)
    return Gate("", one.most, one.per, one.burst, one.weight)
