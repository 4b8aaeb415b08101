"""``Windlass``: the application, where tasks are registered and everything starts."""

from __future__ import annotations

import dataclasses
import inspect
import logging
import re
import threading
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar, Unpack, overload

import msgspec

from windlass import codec
from windlass.carrying import correlated
from windlass.client import Client
from windlass.ending import completion
from windlass.errors import (
    ClosedError,
    ConfigurationError,
    DuplicateTaskError,
    NotSupportedError,
    ShutdownTimeoutError,
    SignatureError,
    UnknownTaskError,
    WorkerStateError,
)
from windlass.notes import Aside
from windlass.settings import check_name, resolve
from windlass.task import (
    AnyTask,
    ChunkDecorator,
    ChunkTask,
    Decorator,
    Draft,
    EnqueueOptions,
    LaneName,
    Task,
    TaskOptions,
    options,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from windlass.backoff import Backoff
    from windlass.bounds import Keep, OnCrash, Until
    from windlass.chunk import Chunk
    from windlass.context import Context
    from windlass.drivers.base import Transaction
    from windlass.events import Event
    from windlass.job import Job, Record
    from windlass.queues import Order, Queues
    from windlass.times import Duration
    from windlass.worker import Worker

P = ParamSpec("P")
R = TypeVar("R")
Hook = TypeVar("Hook", bound="Callable[..., Any]")


class Windlass(Client):
    """A durable job queue: a registry of tasks over a store of jobs.

    Args:
        url: the store: ``sqlite:///relative.db``, ``sqlite:////absolute.db``, ``sqlite://`` (private, in memory),
            ``postgresql://…``, ``memory://``. Default: ``WINDLASS_URL``, else ``sqlite:///windlass.db``.
        max_attempts: total tries of a job before it is dead.
        max_crashes: attempts a job may lose with their worker before it is dead.
        backoff: how long to wait before a failed job is tried again.
        timeout: of one attempt; ``None`` or 0 = none.
        queue: where jobs go when nothing else is said.
        retention: how long finished jobs are kept, as ``{"completed": …, "cancelled": …, "dead": …}``.
        prefix: of the store's tables or keys.
        schema: PostgreSQL: the schema of the tables; default the first of the connection's ``search_path``.
        listen_url: PostgreSQL: the server's own address, when *url* leads through a pooler that cannot ``LISTEN``.
        strict: Redis: refuse a server that may evict jobs, or that keeps nothing on disk.
        replicas: Redis: how many replicas must confirm an enqueue before it returns.
        idle: ``"quiet"``: an idle worker does not look by itself, so that a database billed by use may sleep.
        durability: ``"full"`` = an acknowledged enqueue survives power loss; ``"relaxed"`` = it survives a crash of the
            process, several times faster.
        migrate: ``"auto"`` creates or upgrades the schema at first use, ``"check"`` raises ``SchemaError`` instead.
        poll: seconds between an idle worker's own looks at the store.
        beat: seconds between heartbeats.
        lost_after: seconds without a heartbeat after which a worker is lost; at least three beats.
        grace: seconds a stopping worker waits for running handlers.
        unknown: ``"keep"`` leaves jobs of a task that no running worker knows pending, ``"dead"`` ends them.
        payload_limit: bytes of encoded JSON allowed for a payload or result.
        logger: where log lines go; default ``logging.getLogger("windlass")``.

    Durations are ``timedelta`` or seconds. Nothing is opened before first use.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        max_attempts: int | None = None,
        max_crashes: int | None = None,
        backoff: Backoff | Duration | None = None,
        timeout: Duration | None = None,
        queue: str | None = None,
        retention: Mapping[str, Duration | None] | None = None,
        prefix: str | None = None,
        schema: str | None = None,
        listen_url: str | None = None,
        strict: bool | None = None,
        replicas: int | None = None,
        idle: str | None = None,
        durability: str | None = None,
        migrate: str | None = None,
        poll: Duration | None = None,
        beat: Duration | None = None,
        lost_after: Duration | None = None,
        grace: Duration | None = None,
        unknown: str | None = None,
        payload_limit: int | None = None,
        logger: logging.Logger | None = None,
    ) -> None:
        given = {
            "url": url,
            "max_attempts": max_attempts,
            "max_crashes": max_crashes,
            "backoff": backoff,
            "timeout": timeout,
            "queue": queue,
            "retention": retention,
            "prefix": prefix,
            "schema": schema,
            "listen_url": listen_url,
            "strict": strict,
            "replicas": replicas,
            "idle": idle,
            "durability": durability,
            "migrate": migrate,
            "poll": poll,
            "beat": beat,
            "lost_after": lost_after,
            "grace": grace,
            "unknown": unknown,
            "payload_limit": payload_limit,
        }
        super().__init__(resolve(given), logger=logger or logging.getLogger("windlass"))
        self._tasks: dict[str, AnyTask] = {}
        self._aliases: dict[str, AnyTask] = {}
        self._handlers: dict[type, str] = {}
        self._lock = threading.Lock()
        self._worker: Worker | None = None
        self.registry_version = 0
        """Raised by every change of the registry, so that a running worker notices."""
        self.start_hooks: list[Callable[[], object]] = []
        self.stop_hooks: list[Callable[[], object]] = []
        self.attempt_hooks: list[Callable[[Context], AbstractContextManager[Any]]] = []

    def __repr__(self) -> str:
        """Show the store, without a password."""
        safe = re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:***@", self.settings.url)
        return f"<Windlass {safe}, {len(self._tasks)} tasks>"

    def __enter__(self) -> Self:
        """Return the application; it is closed at the end of the block."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Stop the worker if one was started here, and let go of the store; then everything raises ``ClosedError``."""
        try:
            self.stop()
        except ShutdownTimeoutError:
            super().close()
            raise
        super().close()

    # ------------------------------------------------------------------ tasks

    @overload
    def task(self, function: Callable[Concatenate[Context, P], R], /) -> Task[P, R]: ...
    @overload
    def task(self, function: Callable[P, R], /) -> Task[P, R]: ...
    @overload
    def task(
        self,
        *,
        name: str | None = None,
        aliases: Sequence[str] = (),
        queue: str | None = None,
        priority: int = 0,
        max_attempts: int | None = None,
        backoff: Backoff | Duration | None = None,
        timeout: Duration | None = None,
        lane: LaneName | None = None,
        unique: Any = None,
        limit: Any = None,
        fair: str | Callable[..., str] | None = None,
        tags: Sequence[str] = (),
        retry_on: type[BaseException] | tuple[type[BaseException], ...] | None = None,
        discard_on: type[BaseException] | tuple[type[BaseException], ...] | None = None,
        expires: Until | None = None,
        deadline: Until | None = None,
        on_crash: OnCrash | None = None,
        keep: Keep | None = None,
        raw: bool = False,
        replace: bool = False,
    ) -> Decorator: ...
    @overload
    def task(
        self,
        *,
        chunk: Chunk | int,
        name: str | None = None,
        raw: bool = False,
        replace: bool = False,
        **given: Unpack[TaskOptions],
    ) -> ChunkDecorator: ...
    def task(self, function: Any = None, /, **given: Any) -> Any:  # type: ignore[misc]  # mypy: ParamSpec overloads
        """Register a function as a task: ``@app.task`` or ``@app.task(queue="mail", max_attempts=5)``.

        Its name is its ``__qualname__`` unless given; ``aliases`` are other names under which its jobs are taken, for
        renames. ``lane`` is where it runs: ``"async"`` (coroutine functions), ``"thread"``, or ``"process"`` (CPU work,
        hard kills). With ``retry_on`` only those exceptions are tried again; those of ``discard_on`` end the job at
        once. ``expires``, ``deadline``, ``on_crash`` and ``keep`` are as for ``task.using``. With ``chunk`` (:class:`Chunk`, or a number) the function takes a list: the items of many
        jobs at once, each enqueued by itself. ``raw=True`` gives the function the JSON value untouched.

        Raises:
            DuplicateTaskError: the name is taken; ``replace=True`` takes it over.
            SignatureError: the function cannot be a task.
            ConfigurationError: an option cannot be right.
        """

        def decorate(target: Callable[..., Any]) -> AnyTask:
            kind: type[AnyTask] = Task if given.get("chunk") is None else ChunkTask
            return self._add(kind(target, host=self, **given), replace=replace)

        replace = given.pop("replace", False)
        return decorate if function is None else decorate(function)

    def register(
        self,
        name: str,
        function: Callable[..., Any],
        *,
        chunk: Chunk | int | None = None,
        raw: bool = False,
        replace: bool = False,
        **given: Unpack[TaskOptions],
    ) -> AnyTask:
        """Register a function as a task without the decorator; takes the options of :meth:`task`."""
        target = function.function if isinstance(function, Task) else function
        return self._add(Task(target, host=self, name=name, chunk=chunk, raw=raw, **given), replace=replace)

    def unregister(self, name: str) -> None:
        """Forget a task; its waiting jobs stay pending for workers that know it.

        Raises:
            UnknownTaskError: there is none of that name.
        """
        with self._lock:
            task = self._tasks.pop(name, None)
            if task is None:
                raise UnknownTaskError(name)
            for alias in task.aliases:
                self._aliases.pop(alias, None)
            self.registry_version += 1

    def handler(
        self,
        kind: type,
        *,
        name: str | None = None,
        chunk: Chunk | int | None = None,
        replace: bool = False,
        **given: Unpack[TaskOptions],
    ) -> Callable[[Hook], Hook]:
        """Register the handler of a payload type: ``@app.handler(SendWelcomeEmail)``.

        The type is a dataclass, ``msgspec.Struct`` or pydantic model; its class name is the task's name, its fields are
        the payload. The function takes one value of it (and a Context, if it likes), or with ``chunk`` a list of them.
        """
        payload_type(kind)

        def decorate(function: Hook) -> Hook:
            task: AnyTask = Task(
                function, host=self, name=name or kind.__name__, chunk=chunk, payload_type=kind, **given
            )
            self._add(task, replace=replace)
            self._handlers[kind] = task.name
            return function

        return decorate

    def dispatch(self, payload: Any, *, connection: Any = None, **given: Unpack[EnqueueOptions]) -> Job:
        """Enqueue a typed payload for its handler; takes the options of ``task.using``."""
        return self.enqueue_draft(self._dispatched(payload, given), connection=connection)

    async def adispatch(self, payload: Any, *, connection: Any = None, **given: Unpack[EnqueueOptions]) -> Job:
        """Await :meth:`dispatch`."""
        return await self.aenqueue_draft(self._dispatched(payload, given), connection=connection)

    def _dispatched(self, payload: Any, given: EnqueueOptions) -> Draft[Any]:
        kind = payload_type(type(payload))
        name = self._handlers.get(kind, kind.__name__)
        chosen = options(**given)
        return Draft(name, self, chosen, payload)

    def _add(self, task: AnyTask, *, replace: bool) -> AnyTask:
        with self._lock:
            for name in (task.name, *task.aliases):
                owner = self._tasks.get(name) or self._aliases.get(name)
                if owner is not None and not (replace and name == task.name):
                    raise DuplicateTaskError(name)
            old = self._tasks.get(task.name)
            for alias in old.aliases if old is not None else ():
                self._aliases.pop(alias, None)
            self._tasks[task.name] = task
            self._aliases.update(dict.fromkeys(task.aliases, task))
            self.registry_version += 1
        return task

    @property
    def tasks(self) -> dict[str, AnyTask]:
        """The registered tasks by name."""
        return dict(self._tasks)

    def find_task(self, name: str) -> AnyTask | None:
        """Return the task of that name or alias."""
        return self._tasks.get(name) or self._aliases.get(name)

    def task_names(self) -> tuple[str, ...]:
        """Return every name whose jobs can be run here, aliases included."""
        return (*self._tasks, *self._aliases)

    # ------------------------------------------------------------------ hooks

    def on(self, event: type[Event]) -> Callable[[Hook], Hook]:
        """Call the decorated function with every event of that kind that happens in this process.

        One that raises is logged and hurts nobody.
        """

        def decorate(listener: Hook) -> Hook:
            self.hub.add(event, listener)
            return listener

        return decorate

    def on_start(self, hook: Hook) -> Hook:
        """Call the decorated function when a worker starts, before it takes jobs; one that raises stops the start."""
        self.start_hooks.append(hook)
        return hook

    def on_stop(self, hook: Hook) -> Hook:
        """Call the decorated function when a worker has stopped, after its last handler."""
        self.stop_hooks.append(hook)
        return hook

    def around_attempt(self, hook: Hook) -> Hook:
        """Wrap every attempt in the decorated context manager, or generator function, which takes the Context.

        In the async lane it is entered on the event loop, so it must not block. What it raises fails the attempt.
        """
        self.attempt_hooks.append(_manager(hook))
        return hook

    def around_enqueue(self, hook: Hook) -> Hook:
        """Wrap every enqueue in the decorated context manager, or generator function, which takes an ``Outgoing``.

        Before its ``yield`` it may change the job, or refuse it: what it raises reaches the caller and nothing is stored.
        After it ``outgoing.job`` is the stored job. An awaited enqueue enters it on the event loop, so it must not block.
        """
        self.enqueue_hooks.append(_manager(hook))
        return hook

    def carry(self, variable: ContextVar[Any], name: str | None = None) -> None:
        """Let jobs take along the value that a context variable has where they are enqueued.

        It is JSON, is kept in ``job.meta["context"]`` under the variable's name (or *name*), and is set while the job
        runs, in every lane; so its children take it along too.

        Raises:
            ConfigurationError: the name is taken by another variable.
        """
        if not isinstance(variable, ContextVar):
            raise ConfigurationError(f"only a context variable can be carried, not {variable!r}")
        key = check_name("name", name if name is not None else variable.name)
        if self.carried.setdefault(key, variable) is not variable:
            raise ConfigurationError(f"another context variable is carried as {key!r}; pass name=")

    def correlation(self, correlation_id: str) -> AbstractContextManager[str]:
        """Give the jobs that are enqueued in a block, and their children, this ``correlation_id``."""
        return correlated(check_name("correlation_id", correlation_id))

    # ------------------------------------------------------------------ exactly once

    @contextmanager
    def attempt_transaction(self, context: Context, connection: Any = None) -> Iterator[AttemptTransaction]:
        """Open ``ctx.transaction()``: the block's writes and the attempt's end, together or not at all."""
        record = context.record
        if not self.capabilities.transactions:
            raise NotSupportedError(
                f"the {self._driver.name} store has no transactions; use SQLite or another SQL store for exactly-once"
            )
        assert record is not None
        with self._told_aside(context, record) as aside, self.driver.transaction(connection) as inner:
            transaction = AttemptTransaction(self, inner, record)
            yield transaction
            page = aside.page()
            if page is not None:
                inner.note([page.note()])
            inner.settle(completion(record, transaction.encoded, self.driver.now()))
        context.ended = True

    @contextmanager
    def _told_aside(self, context: Context, record: Record) -> Iterator[Aside]:
        """Keep what the handler tells for its transaction: written elsewhere it would come after the lease has ended."""
        scribe, aside = context.scribe, Aside(record, self.driver)
        if scribe is None:
            yield aside
            return
        context.scribe = aside
        try:
            scribe.flush([record.lease])
            yield aside
        except BaseException:
            aside.hand_on(scribe)
            raise
        finally:
            context.scribe = scribe

    # ------------------------------------------------------------------ working

    def worker(
        self,
        *,
        concurrency: int | None = None,
        queues: Queues | None = None,
        order: Order | None = None,
        max_jobs: int | None = None,
        max_memory: int | None = None,
    ) -> Worker:
        """Return a worker for this process: ``with app.worker(concurrency=4): ...``, or its ``run()``.

        Args:
            concurrency: jobs run at once, over all lanes.
            queues: take from these only, default all: names, or a mapping of names to weights (``{"mail": 3, "slow": 1}``)
                or to slots that are for that queue alone (``{"mail": Reserved(2), "default": 1}``).
            order: ``"merged"`` takes the best job of all queues, by priority and age; ``"strict"`` empties the queues in
                the order listed; ``"weighted"`` draws an order for each turn, heavy queues first more often. Default:
                weighted when weights are given, else merged.
            max_jobs: stop after so many jobs, for a supervisor to start afresh.
            max_memory: stop when this process holds more MiB.
        """
        if self._closed:
            raise ClosedError
        module = import_module("windlass.worker")  # only processes that work pay for the worker's imports
        made: Worker = module.Worker(
            self,
            concurrency=concurrency,
            queues=queues,
            order=order,
            max_jobs=max_jobs,
            max_memory=max_memory,
        )
        return made

    def start(self, **given: Any) -> Worker:
        """Start a worker in this process's background; takes the options of :meth:`worker`.

        Raises:
            WorkerStateError: one was started already.
        """
        if self._worker is not None and self._worker.alive:
            raise WorkerStateError("this application has a worker running already; stop() it first")
        self._worker = self.worker(**given)
        self._worker.start()
        return self._worker

    def stop(self, timeout: Duration | None = None) -> None:
        """Stop the worker that :meth:`start` started; without one nothing happens.

        Raises:
            ShutdownTimeoutError: handlers were still running after *timeout*; their jobs were given back.
        """
        worker = self._worker
        if worker is not None:
            worker.stop(timeout)

    def run(self, **given: Any) -> None:
        """Work in this process until SIGTERM or SIGINT; takes the options of :meth:`worker`."""
        self.worker(**given).run()


def _manager(hook: Callable[..., Any]) -> Callable[..., Any]:
    """Return a hook as a function that makes context managers."""
    if inspect.isasyncgenfunction(hook) or inspect.iscoroutinefunction(hook):
        raise ConfigurationError(f"a hook is an ordinary context manager or generator function, not the async {hook!r}")
    return contextmanager(hook) if inspect.isgeneratorfunction(hook) else hook


def payload_type(kind: type) -> type:
    """Check that *kind* can be a payload of its own.

    Raises:
        SignatureError: it is not a dataclass, ``msgspec.Struct`` or pydantic model.
    """
    if dataclasses.is_dataclass(kind) or hasattr(kind, "model_validate"):
        return kind
    if inspect.isclass(kind) and issubclass(kind, msgspec.Struct):
        return kind
    raise SignatureError(f"{kind!r} cannot be a payload: use a dataclass, a msgspec.Struct or a pydantic model")


class AttemptTransaction:
    """An open ``ctx.transaction()``."""

    def __init__(self, app: Windlass, inner: Transaction, record: Record) -> None:
        self._app = app
        self._inner = inner
        self._record = record
        self.connection = inner.connection
        """The store's connection, or the caller's."""
        self.encoded: bytes | None = None

    def execute(self, statement: str, parameters: Any = ()) -> Any:
        """Run a statement of the handler's own; returns the store's cursor."""
        return self._inner.execute(statement, parameters)

    def enqueue(self, draft: Draft[Any]) -> Job:
        """Enqueue a child, ``task.job(...)``, that appears if and when the block commits."""
        with self._app.sending([draft]) as ([changed], stored):
            [record] = self._inner.insert([self._app.new_job(changed)])
            job = self._app.wrap(msgspec.structs.replace(record, found=False), created=not record.found)
            stored([job])
        return job

    def result(self, value: Any) -> None:
        """Set the job's result: the handler's own return value comes too late."""
        limit = self._app.settings.payload_limit
        self.encoded = codec.encode(value, task=self._record.task, what="result", limit=limit)
