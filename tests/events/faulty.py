"""Stores whose stream of events fails, and one that counts what it is asked."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from windlass.drivers.memory import MemoryDriver
from windlass.errors import ConnectionLostError, NotSupportedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from windlass.drivers.base import Subscription
    from windlass.drivers.memory.hearing import MemorySubscription
    from windlass.job import Record


class Mute(MemoryDriver):
    """Publishing fails while ``broken``."""

    broken = True
    published = 0

    def publish(self, messages: Sequence[bytes]) -> None:
        if self.broken:
            raise ConnectionLostError("the stream is cut")
        self.published += len(messages)
        super().publish(messages)


class Deaf(MemoryDriver):
    """Nobody can listen."""

    def subscribe(self) -> Any:
        raise NotSupportedError("nobody can listen here")


class Counting(MemoryDriver):
    """Counts the calls that matter for waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def get(self, job_id: int) -> Record | None:
        self.calls["get"] += 1
        return super().get(job_id)

    def subscribe(self) -> MemorySubscription:
        self.calls["subscribe"] += 1
        return super().subscribe()

    def publish(self, messages: Sequence[bytes]) -> None:
        self.calls["publish"] += 1
        super().publish(messages)


class Cut(Counting):
    """Its first subscription breaks when told to."""

    cut = False

    def subscribe(self) -> Any:
        inner = super().subscribe()
        return _Cut(self, inner) if self.calls["subscribe"] == 1 else inner


class _Cut:
    def __init__(self, driver: Cut, inner: Subscription) -> None:
        self._driver, self._inner = driver, inner

    def get(self, timeout: float) -> list[bytes]:
        if self._driver.cut:
            raise ConnectionLostError("cut")
        return self._inner.get(timeout)

    def close(self) -> None:
        self._inner.close()
