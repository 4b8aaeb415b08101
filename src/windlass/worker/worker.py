"""The worker: puts the parts together, starts and stops them in the right order."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import signal
import threading
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import msgspec

from windlass.context import _current
from windlass.errors import ConfigurationError, ConnectionLostError, ShutdownTimeoutError, WorkerStateError
from windlass.events import WorkerStarted, WorkerStopped
from windlass.observed import ORDERS
from windlass.queues import select
from windlass.times import seconds
from windlass.worker import logs
from windlass.worker.batches import Batches
from windlass.worker.execution import Cause
from windlass.worker.heart import Heart, new_card
from windlass.worker.lanes import Lanes
from windlass.worker.ledger import Ledger
from windlass.worker.maintenance import Maintenance
from windlass.worker.pump import Pump
from windlass.worker.scheduler import Scheduler
from windlass.worker.service import Backoff
from windlass.worker.stopper import INSIST
from windlass.worker.teller import Teller

if TYPE_CHECKING:
    from collections.abc import Callable

    from windlass.app import Windlass
    from windlass.drivers.base import Worker as Card
    from windlass.queues import Order, Queues, Selection
    from windlass.times import Duration

log = logging.getLogger(__name__)

CONCURRENCY = 10
CANCEL_WAIT = INSIST + 1.0
"""Seconds that cancelled handlers get before their jobs are given back."""


AT_ONCE = 0.5
"""The same after a second signal."""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A worker in numbers, now."""

    worker: str
    state: str
    """waiting (for the store, to start), running, stopping or stopped."""
    running: int
    concurrency: int
    prefetched: int
    processed: int
    failed: int
    refused: int
    stuck: int
    healthy: bool
    beat_age: float
    """Seconds since the last good heartbeat."""


class Worker:
    """Runs jobs in this process: a context manager, ``start``/``stop`` as often as you like, or ``run``."""

    def __init__(
        self,
        app: Windlass,
        *,
        concurrency: int | None = None,
        queues: Queues | None = None,
        order: Order | None = None,
        max_jobs: int | None = None,
        max_memory: int | None = None,
    ) -> None:
        self._app = app
        self._concurrency = _positive("concurrency", CONCURRENCY if concurrency is None else concurrency)
        self._selection = select(queues, order, concurrency=self._concurrency)
        self._max_jobs = None if max_jobs is None else _positive("max_jobs", max_jobs)
        self._max_memory = None if max_memory is None else _positive("max_memory", max_memory)
        self._parts: _Parts | None = None
        self._lock = threading.Lock()
        self._signals = 0
        self._hurry = _Flag()
        self._prepared = False
        """Whether the hooks of a start have been called, and those of a stop not yet."""
        self._waiting = False
        self._wake: queue.SimpleQueue[None] | None = None
        """Ends the waiting of :meth:`run`."""

    # ------------------------------------------------------------------ what it is

    @property
    def id(self) -> str:
        """Its id, new at every start; ``""`` before the first."""
        return self._parts.pump.worker if self._parts is not None else ""

    @property
    def alive(self) -> bool:
        """Whether it runs, in this very process: a forked child has none of its threads."""
        return self._parts is not None and self._parts.pid == os.getpid() and self._parts.state != "stopped"

    def snapshot(self) -> Snapshot:
        """Return the worker in numbers."""
        parts = self._parts
        if parts is None or self._waiting:
            return Snapshot(
                worker="", state="waiting" if self._waiting else "stopped", running=0, concurrency=self._concurrency,
                prefetched=0, processed=0, failed=0, refused=0, stuck=0, healthy=False, beat_age=0.0,
            )  # fmt: skip
        return parts.snapshot()

    # ------------------------------------------------------------------ start and stop

    def start(self) -> None:
        """Start working in the background.

        Raises:
            WorkerStateError: it runs already.
            ConnectionLostError: the store cannot be reached; :meth:`run` waits for it.
        """
        with self._lock:
            if self.alive:
                raise WorkerStateError("this worker is running already; stop() it first")
            self._hurry.up = False
            parts = _Parts(
                self._app, concurrency=self._concurrency, selection=self._selection, on_stop=self._stop_ordered
            )
            try:
                self._prepare()
                parts.start()
            except BaseException:
                parts.close()
                raise
            self._parts = parts
        self._app.hub.emit(WorkerStarted(worker=self.id))

    def _prepare(self) -> None:
        """Call the hooks, once for a start that is tried again."""
        if not self._prepared:
            for hook in self._app.start_hooks:
                hook()
            self._prepared = True

    def stop(self, timeout: Duration | None = None) -> None:
        """Stop: claim nothing more, wait for running handlers, then cancel them, then give their jobs back.

        *timeout* = how long to wait before cancelling; default: the application's ``grace``. Not running: no effect.

        Raises:
            ShutdownTimeoutError: handlers had to be cancelled; their jobs were given back.
        """
        given = self._stop(self._app.settings.grace if timeout is None else seconds(timeout, name="timeout"))
        if given:
            raise ShutdownTimeoutError(given)

    def _stop(self, grace: float) -> list[int]:
        parts = self._parts
        if parts is None or not self.alive:
            return []
        context = _current.get(None)
        if context is not None and context.record is not None and context.record.lease in parts.pump.running:
            raise WorkerStateError("a handler cannot stop its own worker: it would wait for itself")
        with self._lock:
            if parts.state == "stopped":  # by another thread, which also calls the hooks
                return []
            given = parts.stop(grace, self._hurry)
            self._prepared = False
        for hook in self._app.stop_hooks:
            try:
                hook()
            except Exception:
                log.exception("an on_stop hook failed")
        self._app.hub.emit(WorkerStopped(worker=parts.pump.worker))
        return given

    def _stop_ordered(self) -> None:
        """Stop as a signal would; a worker that no process waits for stops by itself."""
        if self._wake is not None:
            self._signals += 1
            self._wake.put(None)
        else:
            threading.Thread(target=self._stop, args=(self._app.settings.grace,), name="windlass-stop").start()

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """Stop."""
        if kind is None:
            self.stop()
        else:
            self._stop(0.0)

    # ------------------------------------------------------------------ as a process

    def run(self, *, on_tick: Callable[[Snapshot], None] | None = None) -> str:
        """Work until SIGTERM or SIGINT; a second one stops at once. Call it in the main thread.

        Waits for a store that cannot be reached yet, unless the reason is one that stays.

        *on_tick* is called about once a second. Returns why it ended: ``"stopped"``, ``"max_jobs"`` or
        ``"max_memory"``.
        """
        # An Event may deadlock when it is set by a signal handler of the thread that waits for it; this queue may not.
        wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._signals = 0
        self._wake = wake

        def received(_number: int, _frame: object) -> None:
            self._signals += 1
            if self._signals > 1:
                self._hurry.up = True
            wake.put(None)

        before = {number: signal.signal(number, received) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            reason = self._watch(wake, on_tick) if self._start_patiently(wake) else "stopped"
            given = self._stop(self._app.settings.grace)
            if given:
                log.warning("%d job(s) were still running and were given back: %s", len(given), given[:10])
            if on_tick is not None:
                on_tick(self.snapshot())
        finally:
            self._wake = None
            for number, handler in before.items():
                signal.signal(number, handler)
        return reason

    def _start_patiently(self, wake: queue.SimpleQueue[None]) -> bool:
        """Start as soon as the store is there; return whether that came before a signal."""
        backoff = Backoff("worker")
        try:
            while not self._signals:
                try:
                    self.start()
                except ConnectionLostError as error:
                    if not error.passing:
                        raise
                    self._waiting = True
                    with contextlib.suppress(queue.Empty):
                        wake.get(timeout=backoff.failed(error))
                else:
                    backoff.succeeded()
                    return True
            return False
        finally:
            self._waiting = False

    def _watch(self, wake: queue.SimpleQueue[None], on_tick: Callable[[Snapshot], None] | None) -> str:
        while True:
            with contextlib.suppress(queue.Empty):
                wake.get(timeout=1.0)
            if self._signals:
                return "stopped"
            if self._max_jobs is not None and self._parts is not None and self._parts.teller.ended >= self._max_jobs:
                return "max_jobs"
            if self._max_memory is not None and resident() > self._max_memory * (1 << 20):
                return "max_memory"
            if on_tick is not None:
                on_tick(self.snapshot())


class _Flag:
    """Set by signal handlers, so without a lock."""

    up = False


class _Parts:
    """The threads of one start."""

    def __init__(self, app: Windlass, *, concurrency: int, selection: Selection, on_stop: Callable[[], None]) -> None:
        logs.install()
        self._app = app
        self._on_stop = on_stop
        self.pid = os.getpid()
        self.state = "running"
        self._stopping = threading.Event()
        self._bell = app.driver.bell()
        self.ledger = Ledger(app.driver)
        self.teller = Teller(app, self.ledger)
        self.pump = Pump(
            app,
            worker=_new_id(),
            bell=self._bell,
            concurrency=concurrency,
            selection=selection,
            stopping=self._stopping,
            teller=self.teller,
            on_order=self._ordered,
        )
        self._concurrency = concurrency
        self._base = new_card(
            app, worker=self.pump.worker, bell=self._bell.address, concurrency=concurrency, queues=selection.names
        )
        self.heart = Heart(app, card=self._card, on_lost=self._lost, on_cut_off=self._cut_off)
        self.maintenance = Maintenance(
            app,
            worker=lambda: self.pump.worker,
            trusted=lambda: self.heart.trusted,
            resting=lambda: self.heart.resting,
            ledger=self.ledger,
            queues=selection.names,
        )
        self.batches = self.pump.batches = Batches(
            app.driver, settle=app.settle_batches, resting=lambda: self.heart.resting
        )
        self.scheduler = self.pump.scheduler = Scheduler(app)
        self.pump.heart = self.heart if app.settings.idle == "quiet" else None
        self._lanes = Lanes(self.pump.finished, concurrency)
        self.pump.roster.lanes = self.pump.stopper.lanes = self._lanes

    def start(self) -> None:
        """Start: known to the store first, then claiming."""
        self.heart.start()
        self.pump.scribe.start()
        self.batches.start()
        self.scheduler.start()
        self.pump.start()
        self.maintenance.start()

    def stop(self, grace: float, hurry: _Flag) -> list[int]:
        """Stop in two stages; return the jobs that were given back."""
        self.state = "stopping"
        self._stopping.set()
        self.pump.stop_claiming()
        self.maintenance.stop()
        self.scheduler.stop()
        given: list[int] = []
        if not self._settled(grace, hurry):
            patience = AT_ONCE if hurry.up else CANCEL_WAIT
            hurry.up = False
            before = {execution.record.id for execution in list(self.pump.running.values())}
            self.pump.interrupt(Cause.STOP)
            self._settled(patience, hurry)
            given = sorted(before & set(self.pump.abandon()) | self.pump.returned)
        self.pump.quit()
        self.pump.scribe.stop()
        self.batches.stop()
        self.heart.stop()
        if self.heart.age < 2 * self._app.settings.beat:  # else the store is away, and this would wait for it
            self._sign_off()
        self.close()
        return given

    def _sign_off(self) -> None:
        try:
            self.ledger.write()
            self._app.driver.retire(self.pump.worker)
        except Exception as error:  # noqa: BLE001 - the others will notice by the missing heartbeat
            log.warning("worker %s could not sign off: %s", self.pump.worker, error)

    def close(self) -> None:
        """Let go of lanes and bell."""
        self._lanes.close()
        self._bell.close()
        self.state = "stopped"

    def _settled(self, patience: float, hurry: _Flag) -> bool:
        """Wait until nothing runs and everything is written."""
        deadline = time.monotonic() + patience
        while not self.pump.idle:
            left = deadline - time.monotonic()
            if left <= 0 or hurry.up:
                return False
            time.sleep(min(left, 0.01))
        return True

    def snapshot(self) -> Snapshot:
        """Return the worker in numbers."""
        now = time.monotonic()
        age = self.heart.age
        turned = now - self.pump.turned_at
        return Snapshot(
            worker=self.pump.worker,
            state=self.state,
            running=self.pump.roster.busy,
            concurrency=self._concurrency,
            prefetched=len(self.pump.roster.held),
            processed=self.teller.processed,
            failed=self.teller.failed,
            refused=self.teller.refused,
            stuck=len(self.pump.stopper.stuck),
            healthy=self.state == "running"
            and age < self._app.settings.lost_after
            and (turned < 30.0 or self.heart.resting),
            beat_age=age,
        )

    def _card(self) -> Card:
        stuck = list(self.pump.stopper.stuck)
        return msgspec.structs.replace(
            self._base,
            id=self.pump.worker,
            status=self.state if self.state != "stopped" else "stopping",
            tasks=self._app.task_names(),
            running=self.pump.roster.busy,
            processed=self.teller.processed,
            refused=self.teller.refused,
            quiet=self.pump.quiet,
            note=f"stuck jobs that do not stop: {stuck[:10]}" if stuck else "",
        )

    def _ordered(self, number: int) -> None:
        """Obey what an operator has told this worker; called by the pump."""
        order = next((order for order, known in ORDERS.items() if known == number), None)
        log.info("worker %s is told to %s", self.pump.worker, order or f"do what this release does not know ({number})")
        if order == "stop":
            self._on_stop()
        elif order is not None:
            self.pump.go_quiet(order == "quiet")
            self.heart.soon()

    def _lost(self) -> None:
        """The store has declared this worker lost: its leases are gone; come back under a new id."""
        log.error("worker %s was declared lost (paused, or cut off?); its handlers are told to stop", self.pump.worker)
        self.pump.interrupt(Cause.LOST)
        # Known to the store before it claims: what an unknown worker holds is anybody's to take back.
        renewed = _new_id()
        self._app.driver.beat(msgspec.structs.replace(self._card(), id=renewed))
        self.pump.rename(renewed)

    def _cut_off(self) -> None:
        log.error("worker %s cannot reach the store and gives its leases up by itself", self.pump.worker)
        self.pump.interrupt(Cause.LOST)


def _new_id() -> str:
    return f"{os.getpid()}-{uuid.uuid4().hex[:12]}"


def _positive(name: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigurationError(f"{name} must be a whole number of at least 1, not {value!r}")
    return value


def resident() -> int:
    """Return the bytes of memory this process holds; 0 where that cannot be told."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
