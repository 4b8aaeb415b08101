"""What runs inside a child of the process lane: ``main(fd, parent)``."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import pickle
import signal
import sys
import threading
import time
from multiprocessing import connection, spawn
from typing import TYPE_CHECKING, Any

from windlass import codec, failures
from windlass.app import Windlass
from windlass.codec import Codec
from windlass.context import Context
from windlass.errors import PayloadError, UnknownTaskError
from windlass.job import Kind
from windlass.outcomes import Interrupted
from windlass.task import Task
from windlass.worker import logs
from windlass.worker.wire import WireScribe

if TYPE_CHECKING:
    from windlass.task import AnyTask


class RemoteError(Exception):
    """Stands for an exception that cannot be sent from the child."""


class _Current:
    """The attempt in hand, for the signal handler."""

    context: Context | None = None
    asked = False
    """Whether it was asked to stop before its handler was found."""


def main(fd: int, parent: int) -> None:
    """Serve attempts until the line ends."""
    _die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; the worker decides
    signal.signal(signal.SIGTERM, _interrupted)
    line: connection.Connection[Any, Any] = connection.Connection(fd)
    me = os.getpid()
    with contextlib.suppress(EOFError, OSError):
        spawn.prepare(line.recv())
        logs.install()
        scribe = WireScribe(line)
        while True:
            module, qualname, name, record, chunk = line.recv()
            context = Context(record, None, chunk=chunk)
            context.scribe = scribe
            scribe.begin(chunk[0] if chunk else record)
            kind, ended, value = _serve(module, qualname, name, context)
            if os.getpid() != me:  # forked by the handler: a second answer would be taken for the next job's
                os._exit(0)
            scribe.answer(kind, value, ended=ended)


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    else:
        threading.Thread(target=_watch, args=(parent,), name="windlass-parent", daemon=True).start()
    if os.getppid() != parent:
        os._exit(1)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _interrupted(_number: int, _frame: object) -> None:
    context = _Current.context
    if context is None:  # the task's module is still being imported; importing must not be broken off
        _Current.asked = True
    else:
        context.cancelled.set()
        raise Interrupted("asked to stop")


def _serve(module: str, qualname: str, name: str, context: Context) -> tuple[str, bool, Any]:
    _Current.asked = False
    try:
        task = _find(module, qualname, name)
        app = task.host if isinstance(task.host, Windlass) else None
        context.host = app
        _Current.context = context
        try:
            if _Current.asked:
                _interrupted(signal.SIGTERM, None)
            result = _call(task, app, context)
        finally:
            _Current.context = None
        if result is None:
            return "ok", context.ended, None
        limit = app.settings.payload_limit if app is not None else 1 << 20
        return "ok", context.ended, _encoded(result, context, name, limit)
    except BaseException as error:  # noqa: BLE001 - even SystemExit ends the attempt, not the child
        return "error", context.ended, _portable(error, name)


def _encoded(result: Any, context: Context, name: str, limit: int) -> Any:
    """Encode the result, or each of a chunk's: its worker looks whether they are as many as the jobs."""
    if context.chunk and isinstance(result, list | tuple):
        return [None if each is None else codec.encode(each, task=name, what="result", limit=limit) for each in result]
    return codec.encode(result, task=name, what="result", limit=limit)


def _call(task: AnyTask, app: Windlass | None, context: Context) -> Any:
    with context.entered():
        named = _arguments(task, context)
        if task.codec.context_place is not None:
            named[task.codec.context_name] = context
        with contextlib.ExitStack() as stack:
            for hook in app.attempt_hooks if app is not None else ():
                stack.enter_context(hook(context))
            return task.function(**named)


def _arguments(task: AnyTask, context: Context) -> dict[str, Any]:
    assert context.record is not None
    if not context.chunk:
        return task.codec.decode(context.record.payload)
    of_each = task.codec
    if not of_each.each:  # the option may have been given where the task was registered, not where it was made
        of_each = Codec(task.function, task=task.name, context=Context, raw=of_each.raw, each=True)
    [parameter] = of_each.names
    return {parameter: [of_each.decode(record.payload)[parameter] for record in context.chunk]}


def _find(module: str, qualname: str, name: str) -> AnyTask:
    home = sys.modules.get("__mp_main__") if module == "__main__" else None
    home = home or importlib.import_module(module)
    found: Any = home
    for part in qualname.split("."):
        found = getattr(found, part, None)
    if isinstance(found, Task):
        return found
    # Registered without the decorator: the application that knows it is in the same module.
    for value in vars(home).values():
        if isinstance(value, Windlass) and (task := value.find_task(name)) is not None:
            return task
    raise UnknownTaskError(name)


def _portable(error: BaseException, task: str) -> BaseException:
    kind = Kind.PAYLOAD if isinstance(error, PayloadError) and error.task == task else Kind.ERROR
    failure = failures.describe(error, kind)
    error.__traceback__ = error.__cause__ = error.__context__ = None
    try:
        setattr(error, failures.CARRIED, failure)
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    except Exception:  # noqa: BLE001 - an exception class that cannot travel; its description can
        error = RemoteError(str(failure))
        setattr(error, failures.CARRIED, failure)
    return error
