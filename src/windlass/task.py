"""A task: a registered function, and what can be done with it besides calling it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable, Mapping
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    Literal,
    ParamSpec,
    Protocol,
    TypeAlias,
    TypedDict,
    TypeVar,
    overload,
)

import msgspec

from windlass.bounds import Bounds, Keep, OnCrash, Until, bounds_of
from windlass.chunk import Chunk, chunk_of
from windlass.codec import Codec
from windlass.context import Context
from windlass.errors import ConfigurationError, SignatureError
from windlass.limits import fair_of, limits_of
from windlass.settings import MOST, check_name
from windlass.times import Duration, instant, seconds
from windlass.uniqueness import Unique, unique_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from datetime import datetime

    from windlass.backoff import Backoff
    from windlass.job import Job, NewJob

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

LaneName: TypeAlias = Literal["async", "thread", "process"]
LANES: tuple[LaneName, ...] = ("async", "thread", "process")


class TaskOptions(TypedDict, total=False):
    """The options of ``app.task``, for the calls that pass them on."""

    aliases: Sequence[str]
    queue: str | None
    priority: int
    max_attempts: int | None
    backoff: Backoff | Duration | None
    timeout: Duration | None
    lane: LaneName | None
    unique: Any
    limit: Any
    fair: str | Callable[..., str] | None
    tags: Sequence[str]
    retry_on: type[BaseException] | tuple[type[BaseException], ...] | None
    discard_on: type[BaseException] | tuple[type[BaseException], ...] | None
    expires: Until | None
    deadline: Until | None
    on_crash: OnCrash | None
    keep: Keep | None


class EnqueueOptions(TypedDict, total=False):
    """The options of an enqueue, for the calls that pass them on."""

    delay: Duration | None
    run_at: datetime | None
    queue: str | None
    priority: int | None
    max_attempts: int | None
    timeout: Duration | None
    tags: Sequence[str] | None
    origin: str | None
    correlation_id: str | None
    meta: Mapping[str, Any] | None
    unique: Any
    idempotency_key: str | None
    expires: Until | None
    deadline: Until | None
    on_crash: OnCrash | None
    keep: Keep | None


class TaskHost(Protocol):
    """What a task needs of its application."""

    def new_job(self, draft: Draft[Any]) -> NewJob:
        """Resolve a draft."""

    def enqueue_draft(self, draft: Draft[Any], *, connection: Any = None) -> Job:
        """Store a draft."""

    async def aenqueue_draft(self, draft: Draft[Any], *, connection: Any = None) -> Job:
        """Await :meth:`enqueue_draft`."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What may be said for one enqueue; ``None`` leaves it to the task and application. Durations in seconds."""

    delay: float | None = None
    run_at: float | None = None
    queue: str | None = None
    priority: int | None = None
    max_attempts: int | None = None
    timeout: float | None = None
    tags: tuple[str, ...] | None = None
    origin: str | None = None
    correlation_id: str | None = None
    meta: Mapping[str, Any] | None = None
    unique: Unique | Literal[False] | None = None
    """False: not unique, whatever the task says."""
    idempotency_key: str | None = None
    batch_id: int | None = None
    bounds: Bounds | None = None


def options(
    *,
    delay: Duration | None = None,
    run_at: datetime | None = None,
    queue: str | None = None,
    priority: int | None = None,
    max_attempts: int | None = None,
    timeout: Duration | None = None,
    tags: Sequence[str] | None = None,
    origin: str | None = None,
    correlation_id: str | None = None,
    meta: Mapping[str, Any] | None = None,
    unique: Any = None,
    idempotency_key: str | None = None,
    expires: Until | None = None,
    deadline: Until | None = None,
    on_crash: OnCrash | None = None,
    keep: Keep | None = None,
) -> Options:
    """Check the options of an enqueue.

    Raises:
        ConfigurationError: one of them cannot be right.
    """
    if delay is not None and run_at is not None:
        raise ConfigurationError("give delay or run_at, not both")
    return Options(
        delay=None if delay is None else seconds(delay, name="delay"),
        run_at=None if run_at is None else instant(run_at, name="run_at"),
        queue=None if queue is None else check_name("queue", queue),
        priority=None if priority is None else check_priority(priority),
        max_attempts=None if max_attempts is None else check_attempts(max_attempts),
        timeout=None if timeout is None else seconds(timeout, name="timeout"),
        tags=None if tags is None else check_tags(tags),
        origin=None if origin is None else check_name("origin", origin),
        correlation_id=None if correlation_id is None else check_name("correlation_id", correlation_id),
        meta=None if meta is None else _check_meta(meta),
        unique=unique if unique is None or unique is False else unique_of(unique),
        idempotency_key=None if idempotency_key is None else check_name("idempotency_key", idempotency_key),
        bounds=bounds_of(expires=expires, deadline=deadline, on_crash=on_crash, keep=keep),
    )


def _check_meta(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"meta must be a mapping, not {value!r}")
    return value


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def check_priority(value: int) -> int:
    """Check a priority: a whole number that fits 16 bits."""
    if not _whole(value) or not -32768 <= value <= 32767:
        raise ConfigurationError(f"priority must be a whole number from -32768 to 32767, not {value!r}")
    return value


def check_attempts(value: int) -> int:
    """Check a number of tries: at least 1, and no more than 32 bits hold."""
    if not _whole(value) or not 1 <= value <= MOST:
        raise ConfigurationError(f"max_attempts must be a whole number from 1 to {MOST}, not {value!r}")
    return value


def check_tags(value: Sequence[str]) -> tuple[str, ...]:
    """Check a list of tags."""
    return _names("tags", "a tag", value)


def _names(name: str, each: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ConfigurationError(f"{name} must be a list of names, not {value!r}")
    return tuple(check_name(each, one) for one in value)


class Draft(Generic[R]):
    """A call of a task that is not stored yet: what ``task.job(...)`` returns."""

    __slots__ = ("arguments", "host", "options", "payload", "task", "then")

    def __init__(
        self,
        task: str,
        host: TaskHost,
        options: Options,
        arguments: Any = None,
        payload: bytes | None = None,
        *,
        then: tuple[Draft[Any], ...] = (),
    ) -> None:
        self.task = task
        self.host = host
        self.options = options
        self.arguments = arguments
        self.payload = payload
        self.then = then
        """The later steps of a chain."""

    def __repr__(self) -> str:
        """Show the task."""
        return f"<Draft of a {self.task} job>"

    def enqueue(self, *, connection: Any = None) -> Job:
        """Store it."""
        return self.host.enqueue_draft(self, connection=connection)

    async def aenqueue(self, *, connection: Any = None) -> Job:
        """Store it; ``connection`` must be an async one."""
        return await self.host.aenqueue_draft(self, connection=connection)


class Using(Generic[P, R]):
    """A task with options for the next enqueue."""

    __slots__ = ("_connection", "_options", "_task")

    def __init__(self, task: Task[P, R], options: Options, connection: Any) -> None:
        self._task = task
        self._options = options
        self._connection = connection

    def job(self, *args: P.args, **kwargs: P.kwargs) -> Draft[R]:
        """Bind the arguments to a call that can be stored later."""
        return self._task.draft(args, kwargs, self._options)

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Job:
        """Store the call as a job."""
        return self.job(*args, **kwargs).enqueue(connection=self._connection)

    async def aenqueue(self, *args: P.args, **kwargs: P.kwargs) -> Job:
        """Store the call as a job."""
        return await self.job(*args, **kwargs).aenqueue(connection=self._connection)


class Task(Generic[P, R]):
    """A function that can be called later, elsewhere.

    Calling it runs it here and now and stores nothing; ``enqueue`` stores a job.
    """

    def __init__(
        self,
        function: Callable[..., R],
        *,
        host: TaskHost,
        name: str | None = None,
        aliases: Sequence[str] = (),
        queue: str | None = None,
        priority: int = 0,
        max_attempts: int | None = None,
        backoff: Any = None,
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
        chunk: Chunk | int | None = None,
        raw: bool = False,
        payload_type: type | None = None,
    ) -> None:
        if not callable(function):
            raise SignatureError(f"a task is made of a function, not {function!r}")
        self.function = function
        self.host = host
        self.name = check_name("a task's name", name or _default_name(function))
        self.aliases = _names("aliases", "an alias", aliases)
        self.queue = None if queue is None else check_name("queue", queue)
        self.priority = check_priority(priority)
        self.max_attempts = None if max_attempts is None else check_attempts(max_attempts)
        self.backoff: Backoff | None = backoff if backoff is None or callable(backoff) else _fixed(backoff)
        self.timeout = None if timeout is None else seconds(timeout, name="timeout")
        self.tags = check_tags(tags)
        self.unique = unique_of(unique)
        self.limits = limits_of(limit)
        self.fair = fair_of(fair)
        self.retry_on = _errors("retry_on", retry_on)
        self.discard_on = _errors("discard_on", discard_on)
        self.chunk = chunk_of(chunk)
        self.bounds = bounds_of(expires=expires, deadline=deadline, on_crash=on_crash, keep=keep)
        self.plain = self.unique is None and not self.limits and self.fair is None and self.bounds is None
        """Whether its jobs need nothing but to be stored."""
        self.is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004 - an object whose __call__ is async
        )
        self.lane = self._choose_lane(lane)
        self.codec = Codec(
            function, task=self.name, context=Context, raw=raw, payload_type=payload_type, each=self.chunk is not None
        )
        functools.update_wrapper(self, function)

    def _choose_lane(self, lane: LaneName | None) -> LaneName:
        if lane is None:
            return "async" if self.is_async else "thread"
        if lane not in LANES:
            raise ConfigurationError(f"lane must be 'async', 'thread' or 'process', not {lane!r}")
        if (lane == "async") != self.is_async:
            needed = "'async' runs coroutine functions, the others ordinary ones"
            raise ConfigurationError(f"task {self.name!r} cannot use the {lane} lane: {needed}")
        if lane == "process" and "<locals>" in getattr(self.function, "__qualname__", ""):
            raise SignatureError(f"task {self.name!r}: the process lane needs a function at the top of a module")
        return lane

    def __repr__(self) -> str:
        """Show the name."""
        return f"<Task {self.name}>"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run it here and now."""
        codec = self.codec
        if codec.context_place is None:
            return self.function(*args, **kwargs)
        context = Context(None, None)
        if len(args) >= codec.context_place:
            return self.function(*args[: codec.context_place], context, *args[codec.context_place :], **kwargs)
        return self.function(*args, **{codec.context_name: context}, **kwargs)

    def draft(self, args: tuple[Any, ...], kwargs: dict[str, Any], options: Options) -> Draft[R]:
        """Bind arguments and options to a call that is not stored yet."""
        return Draft(self.name, self.host, options, self.codec.bind(args, kwargs))

    def job(self, *args: P.args, **kwargs: P.kwargs) -> Draft[R]:
        """Bind the arguments to a call that can be stored later, for instance by ``app.enqueue_many``.

        Raises:
            TypeError: the arguments do not fit the function.
        """
        return self.draft(args, kwargs, NOTHING)

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Job:
        """Store this call as a job.

        Raises:
            TypeError: the arguments do not fit the function.
            PayloadError: they cannot be stored as JSON, or are too large.
            ConnectionLostError: the store cannot be reached.
        """
        return self.host.enqueue_draft(self.draft(args, kwargs, NOTHING))

    async def aenqueue(self, *args: P.args, **kwargs: P.kwargs) -> Job:
        """Await :meth:`enqueue`."""
        return await self.host.aenqueue_draft(self.draft(args, kwargs, NOTHING))

    def using(
        self,
        *,
        delay: Duration | None = None,
        run_at: datetime | None = None,
        queue: str | None = None,
        priority: int | None = None,
        max_attempts: int | None = None,
        timeout: Duration | None = None,
        tags: Sequence[str] | None = None,
        origin: str | None = None,
        correlation_id: str | None = None,
        meta: Mapping[str, Any] | None = None,
        unique: Any = None,
        idempotency_key: str | None = None,
        expires: Until | None = None,
        deadline: Until | None = None,
        on_crash: OnCrash | None = None,
        keep: Keep | None = None,
        connection: Any = None,
    ) -> Using[P, R]:
        """Return the task with options for its enqueue: ``send.using(delay=60).enqueue(...)``.

        Durations are ``timedelta`` or seconds; ``run_at`` is an aware ``datetime``; ``timeout=0`` = explicitly none.
        ``expires`` and ``deadline`` are durations from the job's creation, or aware ``datetime``: a job that has not
        started by the one is cancelled, and one that has not ended by the other is dead. ``on_crash="dead"``: an attempt
        that is lost with its worker is the last. ``keep=False``: nothing is kept of the job once it has completed.
        With ``connection`` the job is written in the caller's transaction and appears if and when it commits.
        """
        given = options(
            delay=delay,
            run_at=run_at,
            queue=queue,
            priority=priority,
            max_attempts=max_attempts,
            timeout=timeout,
            tags=tags,
            origin=origin,
            correlation_id=correlation_id,
            meta=meta,
            unique=unique,
            idempotency_key=idempotency_key,
            expires=expires,
            deadline=deadline,
            on_crash=on_crash,
            keep=keep,
        )
        return Using(self, given, connection)


class ChunkTask(Task[[T], R]):
    """A task whose jobs each carry one item, and whose function takes a list of them."""

    def __call__(self, items: list[T], /) -> R:  # type: ignore[override]
        """Run it here and now."""
        return super().__call__(items)  # type: ignore[arg-type]


NOTHING = Options()
"""Nothing was said."""


def _default_name(function: Any) -> str:
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    name = str(name).rpartition("<locals>.")[2]
    if name == "<lambda>":
        raise SignatureError("a lambda has no name of its own; pass name=")
    return name


def _fixed(delay: Duration) -> Backoff:
    from windlass.backoff import Fixed

    return Fixed(delay)


def _errors(name: str, value: Any) -> tuple[type[BaseException], ...]:
    kinds = () if value is None else value if isinstance(value, tuple) else (value,)
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise ConfigurationError(f"{name} takes exception classes, not {kind!r}")
    return kinds


class Decorator(Protocol):
    """``@app.task(...)``: keeps the function's exact signature, less a leading Context."""

    @overload
    def __call__(self, function: Callable[Concatenate[Context, P], R], /) -> Task[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R]: ...


class ChunkDecorator(Protocol):
    """``@app.task(chunk=...)``: of a function of a list it makes a task of one item."""

    @overload
    def __call__(self, function: Callable[[Context, list[T]], R], /) -> ChunkTask[T, R]: ...
    @overload
    def __call__(self, function: Callable[[list[T]], R], /) -> ChunkTask[T, R]: ...


AnyTask: TypeAlias = "Task[..., Any]"
Handler: TypeAlias = "Callable[..., Any] | Callable[..., Coroutine[Any, Any, Any]]"
