"""FastAPI and Starlette: the application opened and closed with yours, and a worker in the same process if you like.

::

    from fastapi import FastAPI
    from windlass.contrib.fastapi import lifespan

    web = FastAPI(lifespan=lifespan(app, worker=True))
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

from windlass.offload import run_blocking

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from windlass.app import Windlass
    from windlass.worker import Worker


def lifespan(
    app: Windlass,
    *,
    worker: bool = False,
    concurrency: int | None = None,
    queues: Any = None,
    inner: Callable[[Any], AbstractAsyncContextManager[Any]] | None = None,
) -> Callable[[Any], AbstractAsyncContextManager[Any]]:
    """Return a lifespan for ``FastAPI(lifespan=...)`` or ``Starlette(lifespan=...)``.

    At the start the store is opened, so that one that is away is told then; at the end the worker stops, with the
    application's ``grace``, and the store is let go of.

    Args:
        app: the application.
        worker: run a worker in this process; with several web processes each has one.
        concurrency: of the worker.
        queues: of the worker, as for ``app.worker``.
        inner: a lifespan of your own, entered when the store is open and before the worker starts.
    """

    @asynccontextmanager
    async def life(web: Any) -> AsyncIterator[Any]:
        await app.astats()  # opens the store, off the loop
        try:
            if inner is None:
                async with _working(app, worker=worker, concurrency=concurrency, queues=queues):
                    yield None
            else:
                async with inner(web) as state, _working(app, worker=worker, concurrency=concurrency, queues=queues):
                    yield state
        finally:
            app.close()

    return life


@asynccontextmanager
async def _working(app: Windlass, *, worker: bool, concurrency: int | None, queues: Any) -> AsyncIterator[None]:
    if not worker:
        yield
        return
    running: Worker = app.worker(concurrency=concurrency, queues=queues)
    await run_blocking(app.executor, running.start)
    try:
        yield
    finally:
        await run_blocking(app.executor, running.stop)
