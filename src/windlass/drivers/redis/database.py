"""The server as a store: its connections, its scripts, its clock, and whether the schema fits."""

from __future__ import annotations

import logging
import math
import struct
import time
from typing import TYPE_CHECKING, Any

from windlass.drivers.apart import Apart
from windlass.drivers.base import Capabilities
from windlass.drivers.redis import durability
from windlass.drivers.redis.connect import Connector
from windlass.drivers.redis.pool import Pool
from windlass.drivers.redis.scripts import Scripts
from windlass.drivers.redis.table import Table
from windlass.errors import (
    ClosedError,
    ConfigurationError,
    NotReplicatedError,
    SchemaError,
    StoreError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from windlass.drivers.redis.scripts import Edit
    from windlass.drivers.redis.wire import Wire, Word

log = logging.getLogger(__name__)

SCHEMA = 1
CLIENTS = 4
"""Connections for everything that is not the pump's."""
HOT_PATIENCE = 6.0
"""Seconds after which a turn or a heartbeat gives an unanswering connection up: well below ``lost_after``."""
FRESH = 10.0
"""Seconds for which the store's clock is known well enough."""
CONFIRM = 1.0
"""Seconds that replicas have to confirm an enqueue."""
_NOW = struct.Struct("<d")
_TOLD: set[str] = set()
"""Servers whose doubts were logged by this process."""


class Database(Apart):
    """The keys of one application in a Redis database: ``{prefix}:…``, all in one slot of a Cluster."""

    name = "redis"
    capabilities = Capabilities(durable=True, shared=True, transactions=False, atomic_bulk=False, one_machine=False)

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "windlass",
        migrate: str = "auto",
        strict: bool = False,
        replicas: int = 0,
        edit: Edit | None = None,
        clients: int = CLIENTS,
    ) -> None:
        self.base = f"{{{prefix}}}:"
        self.meta = f"{self.base}meta".encode()
        self._keys = (self.meta, f"{self.base}nothing".encode())
        self.connector = Connector(url, key=self.meta.decode())
        self.channel = f"{self.base}said:{self.connector.number}"
        self.scripts = Scripts(edit)
        self._migrate = migrate
        self._strict = strict
        self._replicas = replicas
        self.pump = Pool(self.connector, size=2, patience=HOT_PATIENCE)
        self.clients = Pool(self.connector, size=clients)
        self.table = Table(self)
        self._opened = False
        self._ahead = self._set_at = self._answered_at = self._asked_at = -math.inf

    def key(self, name: str) -> str:
        """Return the full name of a key."""
        return self.base + name

    def run(self, name: str, *words: Word, hot: bool = False) -> Any:
        """Run a script."""
        return (self.pump if hot else self.clients).run(self.scripts[name], self._keys, words)

    def stored(self, name: str, words: Sequence[Word]) -> Any:
        """Run a script that stores new jobs, and wait for the replicas if some are to confirm.

        Raises:
            NotReplicatedError: too few have done so in time; the jobs are stored all the same.
        """
        if not self._replicas:
            return self.run(name, *words)

        def talk(wire: Wire) -> tuple[Any, int]:
            answer = wire.run(self.scripts[name], self._keys, words)
            return answer, wire.ask("WAIT", self._replicas, int(CONFIRM * 1000))

        answer, confirmed = self.clients.do(talk)
        if confirmed < self._replicas:
            raise NotReplicatedError(wanted=self._replicas, confirmed=confirmed)
        return answer

    # ------------------------------------------------------------------ life

    def open(self) -> None:
        """Connect, and make or check the schema."""
        for pool in (self.pump, self.clients):
            pool.open()
        head, found = self.run("open", SCHEMA, "0" if self._migrate == "check" else "1")
        if found > SCHEMA:
            raise SchemaError(
                f"the store has schema version {found}, made by a newer Windlass; this release knows {SCHEMA}: upgrade"
            )
        if not found and self._migrate == "check":
            raise SchemaError("the store has not been prepared; run `windlass migrate` or use migrate='auto'")
        self.heard(*_NOW.unpack_from(head))
        self.table.load()
        self._judge()
        self._opened = True

    def _judge(self) -> None:
        """Say once what this server may do to jobs, or refuse it.

        Raises:
            ConfigurationError: with ``strict``, when it may throw jobs away or forgets them when it ends.
        """
        doubts = [f for f in durability.findings(self) if f.level == "warning"]
        if doubts and self._strict:
            raise ConfigurationError(f"strict=True: {doubts[0].name} is {doubts[0].value}; {doubts[0].advice}")
        if doubts and self.connector.place not in _TOLD:
            _TOLD.add(self.connector.place)
            for doubt in doubts:
                log.warning("Redis: %s is %s; %s", doubt.name, doubt.value, doubt.advice)

    def close(self) -> None:
        """Close every connection."""
        self._opened = False
        for pool in (self.pump, self.clients):
            pool.close()

    def migrate(self) -> list[str]:
        """Write the schema's version, if there is none."""
        _, found = self.run("open", SCHEMA, "1")
        return [] if found else [f"schema version {SCHEMA}"]

    def script(self) -> str:
        """Return nothing: there are no statements."""
        return ""

    def check_open(self) -> None:
        """Refuse to work when closed."""
        if not self._opened:
            raise ClosedError

    # ------------------------------------------------------------------ the clock

    def now(self) -> float:
        """Return the store's time as far as its last answers tell: never ahead of it, and behind by a round trip at most.

        Needs no server once one has answered: what ends during an outage has an end too.
        """
        if time.monotonic() - max(self._answered_at, self._asked_at) > FRESH:
            self._asked_at = time.monotonic()
            try:
                self.ask_time()
            except StoreError:
                if self._answered_at == -math.inf:
                    raise
        elif self._answered_at == -math.inf:
            self.ask_time()
        return time.monotonic() + self._ahead

    def ask_time(self) -> None:
        """Ask the server."""
        self.heard(*_NOW.unpack_from(self.run("read")[0]))

    def heard(self, now: float) -> None:
        """Learn the store's clock from an answer: the quickest of the last answers is the closest."""
        at = time.monotonic()
        ahead = now - at
        if ahead > self._ahead or at - self._set_at > FRESH:
            self._ahead, self._set_at = ahead, at
        self._answered_at = at

    def unreachable(self) -> None:
        """Note that for now there is nobody to ask what time it is."""
        self._asked_at = time.monotonic()
