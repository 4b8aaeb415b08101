"""FastAPI and Starlette: the application opened and closed with yours, and a worker in the same process if you like.

::

    from fastapi import FastAPI
    from windlass.contrib.fastapi import lifespan

    web = FastAPI(lifespan=lifespan(app, worker=True))
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, Unpack

from windlass.errors import ConfigurationError
from windlass.offload import run_blocking

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from windlass.app import Windlass
    from windlass.task import EnqueueOptions, Task, Using
    from windlass.worker import Worker

P = ParamSpec("P")
R = TypeVar("R")


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


class Enqueuer:
    """Enqueues in the transaction of a request's session; what :func:`enqueuer` gives to an endpoint."""

    def __init__(self, session: Any) -> None:
        self.session = session

    def __call__(self, task: Task[P, R], **options: Unpack[EnqueueOptions]) -> Using[P, R]:
        """Return the task, to be enqueued with the session: ``jobs(pack).enqueue(7)``, ``await jobs(pack, delay=60).aenqueue(7)``.

        The options are those of ``task.using``.
        """
        return task.using(**options, connection=self.session)


def enqueuer(session: Callable[..., Any]) -> Callable[..., Enqueuer]:
    """Return a dependency of FastAPI that enqueues in the transaction of another dependency's session.

    ``Jobs = Annotated[Enqueuer, Depends(enqueuer(get_session))]``. FastAPI calls *session* once in a request, so the endpoint
    and its jobs have the same; a job is there if and when that session commits.

    Args:
        session: the dependency that yields a session or connection, as ``task.using(connection=...)`` takes it.

    Raises:
        ConfigurationError: FastAPI cannot be imported.
    """
    try:
        from fastapi import Depends
    except ImportError as missing:
        raise ConfigurationError(
            f"enqueuer() needs what cannot be imported ({missing}): pip install 'windlass[fastapi]'"
        ) from missing

    given = Depends(session)

    def jobs(session: Any = given) -> Enqueuer:
        return Enqueuer(session)

    return jobs
