"""The pump: one thread that brings ends to the store and claims back, in one exchange per turn.

Nobody else claims. What runs is touched by this thread only; lanes hand ends over through a deque. A turn moves
everything that has ended since the last one, so under load one commit carries hundreds of jobs, while a lone job's end
is written at once.

Claims start in the exchange that brings them, so nothing is fetched ahead and no long job is ever hoarded. The one
exception is a job on its last crash: it comes unstarted, waits until the process is empty, and runs alone.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from windlass.drivers.base import SELF, Filter, Take, Turn
from windlass.job import Outcome, Status
from windlass.lifecycle import Settlement
from windlass.limits import wide_gates
from windlass.worker.chunks import members_of
from windlass.worker.demand import Demand, demand, remainder, shared_free
from windlass.worker.execution import Cause
from windlass.worker.roster import Roster
from windlass.worker.scribe import Scribe
from windlass.worker.service import LEAVE, Backoff
from windlass.worker.stopper import Stopper

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from windlass.app import Windlass
    from windlass.drivers.base import Bell, Signal, Turned
    from windlass.job import Record
    from windlass.lifecycle import Transition
    from windlass.queues import Selection
    from windlass.worker.batches import Batches
    from windlass.worker.execution import Execution
    from windlass.worker.heart import Heart
    from windlass.worker.scheduler import Scheduler
    from windlass.worker.teller import Teller

log = logging.getLogger(__name__)

LOOK = 1.0
"""While anything runs the store is asked this often, for cancellations."""
SHORT = 0.002
"""Handlers faster than this (on average) are waited for, so that they share a commit."""

SOON = 1.0
"""Seconds after the first comparison of the leases when they are compared again."""
HELD = 1_000
"""Leases compared with the store's at once, after an answer was lost."""


class Pump:
    """Settles and claims."""

    def __init__(
        self,
        app: Windlass,
        *,
        worker: str,
        bell: Bell,
        concurrency: int,
        selection: Selection,
        stopping: threading.Event,
        teller: Teller,
        on_order: Callable[[int], None],
    ) -> None:
        self._app = app
        self._on_order = on_order
        self._driver = app.driver
        self.worker = worker
        self._bell = bell
        self._concurrency = concurrency
        self._selection = selection
        self._teller = teller
        self.batches: Batches | None = None
        self.scheduler: Scheduler | None = None
        self.scribe = Scribe(app.driver, on_refused=self.refused)
        self.heart: Heart | None = None
        """In quiet mode the heart rests when there has been nothing to do for a while."""
        self._worked = time.monotonic()
        self._stepping = threading.Lock()
        self._ended: deque[Execution] = deque()
        self._unsettled: list[Settlement] = []
        self._signals: deque[tuple[Cause, int | None]] = deque()
        self._accepting = True
        self.quiet = False
        """Whether it was told to claim nothing more for now."""
        self._asleep = False
        self._all_ended = threading.Event()
        self._due: float | None = None
        self._looked = 0.0
        self._rung = True
        self._pace = 1.0
        self._names: tuple[str, ...] = ()
        self._names_version = -1
        self._backoff = Backoff("pump")
        self._quit = False
        self._doubts = 0
        """How often to compare what the store says we hold with what we know, and when next."""
        self._doubt_at = 0.0
        self.turns = 0
        self.turned_at = time.monotonic()
        self.stopper = Stopper()
        self.roster = Roster(
            app,
            stopping=stopping,
            stopper=self.stopper,
            scribe=self.scribe,
            teller=teller,
            settle=self._settle,
            finished=self.finished,
        )
        self.running = self.roster.running
        self.returned: set[int] = set()
        """Jobs that were given back because the worker stopped."""
        self.lost = threading.Event()
        """Set when the store has declared this worker lost."""
        self._thread = threading.Thread(target=self._run, name="windlass-pump", daemon=True)
        self._cautious = max(1, app.settings.max_crashes - 1)

    # ------------------------------------------------------------------ from other threads

    def start(self) -> None:
        """Start turning."""
        self._thread.start()

    def finished(self, executions: Sequence[Execution]) -> None:
        """Take over executions that have ended."""
        self._ended.extend(members_of(executions))
        if len(self._ended) >= len(self.running):
            self._all_ended.set()
        if self._asleep:
            self._asleep = False
            self._bell.ring()

    def go_quiet(self, quiet: bool) -> None:  # noqa: FBT001 - one state or the other
        """Claim nothing more until told otherwise."""
        self.quiet = quiet
        self._bell.ring()

    def stop_claiming(self) -> None:
        """Claim nothing more, and give back what has not started."""
        self._accepting = False
        self._bell.ring()

    def interrupt(self, cause: Cause, lease: int | None = None) -> None:
        """Ask one attempt, or all, to stop."""
        self._signals.append((cause, lease))
        self._bell.ring()

    def refused(self, lease: int) -> None:
        """Stop an attempt whose word is not taken any more: its lease is lost."""
        self.interrupt(Cause.LOST, lease)

    def rename(self, worker: str) -> None:
        """Go on under another id: the store has declared the old one lost."""
        self.worker = worker
        self.lost.clear()
        self._bell.ring()

    def quit(self) -> None:
        """Make a last turn and end the thread."""
        self._quit = True
        self._bell.ring()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(LEAVE)

    def abandon(self) -> list[int]:
        """Give back whatever still runs: its handlers have had their time. Call after the interrupt."""
        given = []
        for execution in list(self.running.values()):
            if execution.chunk is not None:
                execution.chunk.finished = True
            if execution.abandon():
                given.append(execution.record.id)
                self._ended.append(execution)
        self._bell.ring()
        return given

    @property
    def idle(self) -> bool:
        """Whether nothing runs and every end is written."""
        # In the middle of a turn, claims are on their way in and ends on their way out.
        if not self._stepping.acquire(blocking=False):
            return False
        try:
            return not (self.running or self._ended or self._unsettled or self.roster.held)
        finally:
            self._stepping.release()

    # ------------------------------------------------------------------ the loop

    def _run(self) -> None:
        while True:
            with self._stepping:
                pause = self._step()
            if self._quit and ((not self._ended and not self._unsettled) or self._backoff.failing):
                return
            if pause > 0:
                self._asleep = True
                if self._ended:
                    self._asleep = False
                    continue
                self._rung = self._bell.wait(pause) or self._rung
                self._asleep = False
                self._linger()

    def _step(self) -> float:
        """Turn once if there is reason to; return the seconds to sleep."""
        try:
            self._interrupt_asked()
            self.stopper.check()
            self._reconcile()
            if self._reason_to_turn():
                if self.heart is not None and self.heart.resting:
                    self.heart.wake()
                self._turn()
                self._backoff.succeeded()
            elif self._tired():
                self.heart.rest()  # type: ignore[union-attr]
            if self.roster.gatherings:
                self._fill_chunks()
        except Exception as error:  # noqa: BLE001 - the pump outlives its errors; Backoff logs them
            return self._backoff.failed(error)
        return self._pause()

    def _tired(self) -> bool:
        """Whether this worker may stop writing: quiet, idle for a while, and sure to be woken."""
        if self.heart is None or self.heart.resting or self.roster.busy or self._bell.patience is None:
            return False
        return time.monotonic() - self._worked >= self._app.settings.lost_after

    def _linger(self) -> None:
        """Let handlers that take next to no time end together: one commit instead of many."""
        if self._ended and self._pace < SHORT and len(self._ended) < len(self.running):
            self._all_ended.clear()
            if len(self._ended) < len(self.running):
                self._all_ended.wait(SHORT)

    def _reason_to_turn(self) -> bool:
        if self._ended or self._unsettled or self._rung:
            return True
        if not self._accepting and self.roster.held:
            return True
        now = time.monotonic()
        every = LOOK if self.roster.busy else self._poll()
        if now - self._looked >= every:
            return True
        return self._due is not None and self._driver.now() >= self._due

    def _pause(self) -> float:
        if self._unsettled:  # claims that are not to run
            return 0.0
        now = time.monotonic()
        every = self._poll() if self._free() > 0 else LOOK
        every = min(every, LOOK) if self.roster.busy else every
        pause = self._looked + every - now
        if self._due is not None and self._free() > 0:
            pause = min(pause, self._due - self._driver.now())
        for at in (self.stopper.next_at, self.roster.gatherings.next_at()):
            if at is not None:
                pause = min(pause, at - now)
        if self.heart is not None and not self.heart.resting:
            pause = min(pause, max(0.1, self._worked + self._app.settings.lost_after - now))
        return max(0.0005, pause)

    def _poll(self) -> float:
        """Seconds between looks of a worker that has nothing to do."""
        return self._bell.patience or self._app.settings.poll

    def _free(self) -> int:
        """Slots for new claims."""
        if not self._accepting or self.quiet or self.roster.closed:
            return 0
        return self._concurrency - self.roster.busy

    # ------------------------------------------------------------------ a turn

    def _turn(self) -> None:
        self._rung = False
        ended = self._take_ended()
        self.scribe.flush([settlement.record.lease for settlement in self._unsettled])
        if not self._accepting:
            self.roster.give_back_held()
        starting = self.roster.next_alone()
        wanted = Demand(0) if starting else self._demand()
        try:
            turned = self._exchange(wanted, settlements=self._unsettled, starting=starting)
        except BaseException:
            self.roster.put_back(starting)
            raise
        self.turns += 1
        self._looked = self.turned_at = time.monotonic()
        self._due = turned.due
        self._app.publisher.told(turned.heard)
        settled, self._unsettled = self._unsettled, []
        refused = set(turned.refused)
        if not turned.known:
            self.lost.set()
        self._all_ended.clear()
        for record in starting:
            if (record.id, record.lease) not in refused:
                self.roster.start_alone(record, turned.now)
        self.roster.take_in(turned.claims)
        if self.running or settled:
            self._worked = time.monotonic()
        self._teller.settled(settled, ended, refused)
        for signal in turned.signals:
            self._signalled(signal)
        self._pass_on(turned)
        if wanted.rest:
            self._ask_rest(wanted)

    def _pass_on(self, turned: Turned) -> None:
        """Tell the other services what a turn has said that concerns them."""
        if turned.ripe and self.batches is not None:
            self.batches.ripen(turned.ripe)
        if self.scheduler is not None:
            self.scheduler.told(turned)

    def _exchange(
        self,
        wanted: Demand,
        *,
        settlements: Sequence[Settlement] = (),
        starting: Sequence[Record] = (),
        tasks: tuple[str, ...] | None = None,
    ) -> Turned:
        turn = Turn(
            worker=self.worker,
            settlements=settlements,
            starting=starting,
            limit=wanted.limit,
            start=wanted.limit,
            cautious=self._cautious,
            queues=self._selection.names,
            takes=wanted.takes,
            tasks=self._task_names() if tasks is None else tasks,
        )
        try:
            return self._driver.exchange(turn)
        except BaseException:
            self._doubts, self._doubt_at = 3, time.monotonic()
            raise

    def _demand(self) -> Demand:
        if self._selection.plain or not self._free():
            return Demand(self._free())
        return demand(self._selection, self.roster.by_queue(), self._concurrency, random.shuffle)

    def _ask_rest(self, wanted: Demand) -> None:
        """Ask the later queues of an order for what the first has left."""
        if self._free():
            rest = remainder(wanted.rest, shared_free(self._selection, self.roster.by_queue(), self._concurrency))
            if rest.limit:
                self._take_over(self._exchange(rest))

    def _settle(self, record: Record, transition: Transition) -> None:
        """Have the end of a lease written with the next turn."""
        self._unsettled.append(Settlement(record, transition, self._driver.now()))

    def _reconcile(self) -> None:
        """Make up for answers that got lost with the connection: claims that nobody else would give back, and signals.

        Three times: when the store is back the lost turn may still be under way.
        """
        if not self._doubts or self._doubt_at > time.monotonic():
            return
        held = {r.lease: r for r in self._driver.find(_held_by(self.worker), limit=HELD) if r.status is Status.RUNNING}
        known = (
            {record.lease for record in self.roster.held}
            | {s.record.lease for s in self._unsettled}
            | set(self.running)
        )
        for record in held.values():
            if record.lease not in known:
                self.roster.give_back(record)
        if len(held) == HELD:  # and perhaps more
            return
        self._doubts -= 1
        self._doubt_at = time.monotonic() + (SOON if self._doubts > 1 else self._app.settings.lost_after)
        for lease, execution in self.running.items():
            if lease not in held and not execution.context.ended:
                self.stopper.interrupt(execution, Cause.LOST)
            elif lease in held and held[lease].cancel:
                self.stopper.interrupt(execution, Cause.CANCEL)

    def _take_ended(self) -> dict[int, Execution]:
        ended: dict[int, Execution] = {}
        now = time.monotonic()
        while self._ended:
            execution = self._ended.popleft()
            record = execution.record
            if not self.roster.remove(execution):
                continue
            if execution.settlement is not None:
                self._unsettled.append(execution.settlement)
                if execution.cause is Cause.STOP and execution.settlement.transition.outcome is Outcome.RELEASED:
                    self.returned.add(record.id)
            else:
                self._teller.completed_in_transaction(execution)
            ended[record.lease] = execution
            self._pace += (now - execution.started - self._pace) * 0.05
        return ended

    def _fill_chunks(self) -> None:
        """Ask for more jobs of the chunks that wait for them, and start those that have waited long enough."""
        for gathering in self.roster.gatherings.asking():
            missing = gathering.missing
            take = Take((gathering.queue,), missing)
            turned = self._exchange(Demand(missing, (take,)), tasks=(gathering.task.name, *gathering.task.aliases))
            gathering.asked()
            self._take_over(turned)
        self.roster.start_complete()

    def _take_over(self, turned: Turned) -> None:
        """Start what a further exchange of a turn has brought."""
        self._due = min((due for due in (self._due, turned.due) if due is not None), default=None)
        self.roster.take_in(turned.claims)
        for signal in turned.signals:
            self._signalled(signal)

    def _task_names(self) -> tuple[str, ...]:
        version = self._app.registry_version
        if self._names_version != version:
            self._declare_limits()
            self._names = self._app.task_names()
            self._names_version = version
        return self._names

    def _declare_limits(self) -> None:
        """Tell the store the limits of whole tasks, before any of their jobs is claimed here."""
        for task in self._app.tasks.values():
            for gate in wide_gates(task.limits, task.name):
                self._driver.set_gate(gate, pinned=False)

    # ------------------------------------------------------------------ stopping handlers

    def _signalled(self, signal: Signal) -> None:
        if signal.job_id == SELF:
            self._on_order(signal.lease)
            return
        execution = self.running.get(signal.lease)
        if execution is not None:
            self.stopper.interrupt(execution, Cause.CANCEL if signal.cancel else Cause.LOST)
        else:
            self.roster.signalled(signal.lease, cancel=signal.cancel)

    def _interrupt_asked(self) -> None:
        while self._signals:
            cause, lease = self._signals.popleft()
            for execution in list(self.running.values()):
                if lease is None or (execution.record.lease == lease and not execution.context.ended):
                    self.stopper.interrupt(execution, cause)
            if cause is Cause.LOST and lease is None:
                self.roster.drop_held()


def _held_by(worker: str) -> Filter:
    return Filter(statuses=(Status.RUNNING,), worker=worker)
