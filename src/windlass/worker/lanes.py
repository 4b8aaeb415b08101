"""Where handlers run: an event loop for coroutine functions, threads for ordinary ones.

A lane starts executions and reports each one's end to ``finished``; it never decides what the end means. ``interrupt``
asks a handler to stop, ``force`` insists (two seconds later, where a lane can).
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import queue
import threading
from typing import TYPE_CHECKING, Any, Protocol

from windlass import shield
from windlass.outcomes import Interrupted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from windlass.worker.execution import Execution

Finished = "Callable[[Sequence[Execution]], None]"


class Lane(Protocol):
    """A place for handlers to run."""

    def start(self, executions: Sequence[Execution]) -> None:
        """Run them, all at once."""

    def interrupt(self, execution: Execution) -> None:
        """Ask one to stop."""

    def force(self, execution: Execution) -> bool:
        """Insist; False when just now is a bad moment."""

    def close(self) -> None:
        """Let go of threads and processes; handlers still running are abandoned."""


class LoopLane:
    """An event loop in a thread of its own."""

    def __init__(self, finished: Callable[[Sequence[Execution]], None]) -> None:
        self._finished = finished
        self._ended: list[Execution] = []
        self._waiting: set[asyncio.Task[None] | None] = set()
        self._pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="windlass-loop", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def start(self, executions: Sequence[Execution]) -> None:
        """Make a task of each, with one crossing into the loop."""
        self._loop.call_soon_threadsafe(self._start, executions)

    def _start(self, executions: Sequence[Execution]) -> None:
        for execution in executions:
            self._waiting.add(self._loop.create_task(self._attempt(execution)))

    async def _attempt(self, execution: Execution) -> None:
        # A task that is cancelled before its first step never runs at all, so it can be cancelled only from here on.
        task = execution.handle = asyncio.current_task()
        self._waiting.discard(task)
        try:
            if execution.cause is not None:
                raise asyncio.CancelledError  # noqa: TRY301 - told to stop before it began
            result = await execution.acall()
        except BaseException as error:  # noqa: BLE001 - whatever a handler raises ends its attempt and nothing else
            _leave_if_forked(self._pid)
            execution.raised(error)
        else:
            _leave_if_forked(self._pid)
            execution.returned(result)
        # All that end in one round of the loop are reported together.
        if not self._ended:
            self._loop.call_soon(self._report)
        self._ended.append(execution)

    def _report(self) -> None:
        ended, self._ended = self._ended, []
        self._finished(ended)

    def interrupt(self, execution: Execution) -> None:
        """Cancel the task, unless it has ended."""

        def cancel() -> None:
            if not execution.finished and execution.handle is not None:
                execution.handle.cancel()

        execution.context.cancelled.set()
        self._loop.call_soon_threadsafe(cancel)

    def force(self, execution: Execution) -> bool:
        """Cancel again."""
        self.interrupt(execution)
        return True

    def close(self) -> None:
        """Stop the loop."""
        self._loop.call_soon_threadsafe(self._cancel_all)
        self._thread.join(1.0)
        if not self._thread.is_alive():  # else a handler blocks it; the thread ends with the process
            self._loop.close()

    def _cancel_all(self) -> None:
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()

        async def leave() -> None:
            await asyncio.wait(tasks, timeout=0.5) if tasks else None
            await self._loop.shutdown_asyncgens()  # here: whoever closes the lane may be in a loop of its own
            self._loop.stop()

        self._leaving = self._loop.create_task(leave())


class ThreadLane:
    """Threads, made as they are needed."""

    name = "thread"

    def __init__(self, finished: Callable[[Sequence[Execution]], None], *, size: int) -> None:
        self._finished = finished
        self._size = size
        self._queue: queue.SimpleQueue[Execution | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._busy = 0
        self._pid = os.getpid()
        self._lock = threading.Lock()

    def start(self, executions: Sequence[Execution]) -> None:
        """Hand them to idle threads; make new ones where there are too few."""
        with self._lock:
            self._busy += len(executions)
            while len(self._threads) < min(self._busy, self._size):
                name = f"windlass-{self.name}-{len(self._threads) + 1}"
                thread = threading.Thread(target=self._work, name=name, daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # this process can have no more threads; the others take their turn
                    if not self._threads:
                        self._busy -= len(executions)
                        raise
                    break
                self._threads.append(thread)
        for execution in executions:
            self._queue.put(execution)

    def _work(self) -> None:
        while True:
            execution = self._queue.get()
            if execution is None:
                return
            # Each attempt has context variables of its own; what one sets the next does not see.
            contextvars.copy_context().run(self._attempt, execution)
            with self._lock:
                self._busy -= 1
            self._finished((execution,))

    def _attempt(self, execution: Execution) -> None:
        result, error = None, None
        try:
            with self._lock:
                shield.enlist()
                execution.handle = threading.get_ident()
            result = self._call(execution)
        except BaseException as raised:  # noqa: BLE001 - SystemExit too ends one attempt, not the worker
            error = raised
        while True:
            try:
                self._disarm(execution)
                break
            except Interrupted as late:  # injected between the handler's end and here
                error = error or late
        _leave_if_forked(self._pid)
        if error is not None:
            execution.raised(error)
        else:
            execution.returned(result)

    def _call(self, execution: Execution) -> Any:
        return execution.call()

    def _disarm(self, execution: Execution) -> None:
        """Make sure that an injected exception cannot arrive after its attempt."""
        with self._lock:
            execution.handle = None
            shield.dismiss()

    def interrupt(self, execution: Execution) -> None:
        """Set ``ctx.cancelled``: a thread cannot be stopped, only told."""
        execution.context.cancelled.set()

    def force(self, execution: Execution) -> bool:
        """Raise ``Interrupted`` in the handler at its next line of Python; it does not reach into blocking C calls."""
        with self._lock:
            if execution.handle is None or execution.finished:
                return True
            return shield.strike(execution.handle, Interrupted)

    def close(self) -> None:
        """Let the threads go when they are done."""
        for _ in self._threads:
            self._queue.put(None)


def _leave_if_forked(pid: int) -> None:
    """End a child that a handler has forked and that came back from it: it would go on as a second worker."""
    if os.getpid() != pid:
        os._exit(0)


class Lanes(dict[str, "Lane"]):
    """The lanes by name, each made when the first job needs it."""

    def __init__(self, finished: Callable[[Sequence[Execution]], None], size: int) -> None:
        super().__init__()
        self._finished = finished
        self._size = size

    def __missing__(self, name: str) -> Lane:
        """Make the lane."""
        lane: Lane
        match name:
            case "async":
                lane = LoopLane(self._finished)
            case "thread":
                lane = ThreadLane(self._finished, size=self._size)
            case _:
                from windlass.worker.processes import ProcessLane

                lane = ProcessLane(self._finished, size=self._size)
        self[name] = lane
        return lane

    def close(self) -> None:
        """Close them all."""
        for lane in list(self.values()):
            lane.close()
