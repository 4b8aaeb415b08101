"""What every operation of a client stands on: the open store, the registry's answers, the pool of the twins."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, cast

from windlass.client.ear import Ear
from windlass.drivers import connect
from windlass.errors import (
    ClosedError,
    UniqueConflictError,
)
from windlass.events import Hub, LogSubscriber
from windlass.job import Job, Record
from windlass.publisher import Publisher

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterator, Mapping

    from windlass.backoff import Backoff
    from windlass.drivers.base import Capabilities, Driver
    from windlass.job import Holder
    from windlass.outgoing import EnqueueHook
    from windlass.settings import Settings
    from windlass.task import AnyTask


_diversions: ContextVar[tuple[tuple[Handle, Driver], ...]] = ContextVar("windlass_diversions", default=())
"""The stores that stand in for those of applications here, in this context and no other; the last one counts."""


class Handle:
    """An application's hold on its store."""

    settings: Settings

    def __init__(self, settings: Settings, *, logger: logging.Logger) -> None:
        self.settings = settings
        self.default_max_attempts = settings.max_attempts
        self.log = logger
        self.carried: dict[str, ContextVar[Any]] = {}
        """The context variables that jobs take along, by the name they are stored under."""
        self.trace: Callable[[], Mapping[str, str]] = dict
        """Returns the trace context of what runs here, if tracing is on."""
        self.enqueue_hooks: list[EnqueueHook] = []
        self.hub = Hub()
        LogSubscriber(self.hub, logger)
        self._driver: Driver = connect(settings)
        self.publisher = Publisher(self, self.hub)
        self.ear = Ear(self)
        self._opened = False
        self._closed = False
        self._swapped = False
        self._diversions = 0
        self._opening = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None
        self._executor_pid = 0

    # ------------------------------------------------------------------ life

    @property
    def driver(self) -> Driver:
        """The store, opened at first use."""
        if self._closed:
            raise ClosedError
        if self._diversions and (found := self._diverted_to()) is not None:
            return found
        if not self._opened:
            with self._opening:
                if not self._opened:
                    self._driver.open()
                    self._opened = True
        return self._driver

    def _diverted_to(self) -> Driver | None:
        return next((driver for app, driver in reversed(_diversions.get()) if app is self), None)

    @property
    def _ignores_connections(self) -> bool:
        """Whether ``connection=`` leads elsewhere than the store that stands in for the real one."""
        return self._swapped or (self._diversions > 0 and getattr(self._diverted_to(), "apart", False))

    @contextmanager
    def diverted(self, driver: Driver) -> Iterator[None]:
        """Use another, open driver for a block, in this context only: other threads and tasks go on as before."""
        token = _diversions.set((*_diversions.get(), (self, driver)))
        with self._opening:
            self._diversions += 1
        try:
            yield
        finally:
            with self._opening:
                self._diversions -= 1
            _diversions.reset(token)

    @property
    def capabilities(self) -> Capabilities:
        """What this store can do."""
        return self._driver.capabilities

    @property
    def executor(self) -> ThreadPoolExecutor:
        """The pool that awaitable twins run on: made at first use, and again in a forked child."""
        if self._closed:
            raise ClosedError
        if self._executor is None or self._executor_pid != os.getpid():
            self._executor = ThreadPoolExecutor(8, thread_name_prefix="windlass-client")
            self._executor_pid = os.getpid()
        return self._executor

    @contextmanager
    def swapped(self, driver: Driver) -> Iterator[None]:
        """Use another, open driver for a block; ``connection=`` is ignored meanwhile. For tests."""
        before = self._driver, self._opened, self._swapped, self.ear
        self._driver, self._opened, self._swapped, self.ear = driver, True, True, Ear(self)
        self.publisher.forget()
        try:
            yield
        finally:
            self.ear.close()
            self._driver, self._opened, self._swapped, self.ear = before
            self.publisher.forget()

    @property
    def closed(self) -> bool:
        """Whether everything raises ``ClosedError``."""
        return self._closed

    def close(self) -> None:
        """Let go of the store. Afterwards every operation raises ``ClosedError``; closing again does nothing."""
        if not self._closed:
            self.publisher.close()
        self._closed = True
        self.ear.close()
        if self._executor is not None and self._executor_pid == os.getpid():
            self._executor.shutdown(wait=False)
        if self._opened:
            self._driver.close()

    # ------------------------------------------------------------------ what the tasks say

    def find_task(self, name: str) -> AnyTask | None:
        """Return the task of that name or alias, if it is known here."""
        raise NotImplementedError

    def backoff_of(self, name: str) -> Backoff:
        """Return the back-off that applies to a task."""
        task = self.find_task(name)
        return task.backoff if task is not None and task.backoff is not None else self.settings.backoff

    def max_attempts_of(self, record: Record) -> int:
        """Return the tries a job has: its own, else its task's, else the application's."""
        if record.max_attempts is not None:
            return record.max_attempts
        task = self.find_task(record.task)
        return task.max_attempts if task is not None and task.max_attempts else self.settings.max_attempts

    def timeout_of(self, record: Record) -> float | None:
        """Return the seconds an attempt may take, or ``None``: the job's own, else its task's, else the app's."""
        timeout = record.timeout
        if timeout is None:
            task = self.find_task(record.task)
            timeout = task.timeout if task is not None else None
        if timeout is None:
            timeout = self.settings.timeout
        return timeout or None

    def shown(self, error: Exception) -> Exception:
        """Return an error of a driver as users know it: with a job in it, not a record."""
        return UniqueConflictError(self.wrap(error.existing)) if isinstance(error, UniqueConflictError) else error

    def wrap(self, record: Record, *, created: bool = True) -> Job:
        """Show a record as a job."""
        return Job(record, cast("Holder", self), created=created)
