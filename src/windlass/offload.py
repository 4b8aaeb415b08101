"""The awaitable twin: ``aget = offload(get)``.

One colour inside, two at the edge: the blocking method runs on the application's own small pool of threads, with the
caller's context variables. Awaiting never blocks the event loop; cancelling the await abandons the wait, not the work.
"""

from __future__ import annotations

import contextvars
import functools
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Protocol, Self, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from concurrent.futures import Executor


class Offloads(Protocol):
    """An object with a pool for its blocking calls."""

    @property
    def executor(self) -> Executor:
        """Return the pool."""


O = TypeVar("O", bound=Offloads)  # noqa: E741 - the owner
P = ParamSpec("P")
T = TypeVar("T")


async def run_blocking(executor: Executor, call: Callable[[], T]) -> T:
    """Run *call* on *executor* with the caller's context variables and await it."""
    import asyncio  # who awaits has it loaded; scripts that never do are spared half of our import time

    context = contextvars.copy_context()
    return await asyncio.get_running_loop().run_in_executor(executor, context.run, call)


class offload(Generic[O, P, T]):  # noqa: N801 - used like a decorator
    """Give a blocking method an awaitable twin."""

    def __init__(self, method: Callable[Concatenate[O, P], T]) -> None:
        self._method = method
        self.__doc__ = f"Await :meth:`{method.__name__}`."

    @overload
    def __get__(self, owner: None, cls: type[Any]) -> Self: ...
    @overload
    def __get__(self, owner: O, cls: type[Any]) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, owner: O | None, cls: type[Any]) -> Self | Callable[P, Coroutine[Any, Any, T]]:
        """Bind to an owner."""
        if owner is None:
            return self

        @functools.wraps(self._method)
        async def twin(*args: P.args, **kwargs: P.kwargs) -> T:
            return await run_blocking(owner.executor, functools.partial(self._method, owner, *args, **kwargs))

        return twin
