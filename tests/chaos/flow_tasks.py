"""Tasks with keys, limits, rates and places in batches and chains; each handler notes its start and its end."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.chaos.application import app, note
from windlass import Context, Limit, Rate, Unique

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from windlass import Windlass

WAITING = ("scheduled", "pending")
EACH_TENANT, ALL_TENANTS = Limit(2, key="tenant:{tenant}"), Limit(5)
EACH_HOST, ALL_HOSTS = Rate(10, burst=2, key="host:{host}"), Rate(25, burst=3)


@contextmanager
def noted(ctx: Context) -> Iterator[None]:
    attempt = {"job": ctx.job.id, "lease": ctx.lease, "attempt": ctx.attempt}
    note(what="start", **attempt)
    try:
        yield
    finally:
        note(what="end", **attempt)


def once(ctx: Context, key: str, length: float, fails: bool = False) -> None:
    with noted(ctx):
        ctx.cancelled.wait(length)
        if fails and not ctx.job.failures:
            raise ValueError("once")


def latest(ctx: Context, key: str, length: float, fails: bool = False) -> None:
    once(ctx, key, length, fails)


def feed(ctx: Context, calls: list[tuple[str, dict[str, Any]]]) -> None:
    """Enqueue what others enqueue at the same time."""
    with noted(ctx):
        for task, payload in calls:
            app.enqueue(task, payload)


def narrow(ctx: Context, tenant: int, length: float) -> None:
    with noted(ctx):
        ctx.cancelled.wait(length)


def paced(ctx: Context, host: int) -> None:
    with noted(ctx):
        pass


def member(ctx: Context, does: str, length: float = 0.0) -> None:
    """Do something bad, but once."""
    with noted(ctx):
        ctx.cancelled.wait(length)
        match does:
            case "fail" if not ctx.job.failures:
                raise ValueError("dies of it")
            case "crash" if ctx.attempt == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            case "grow":
                app.get_batch(ctx.job.batch_id).add(app.tasks["member"].job("end"))  # type: ignore[arg-type]


def step(ctx: Context, place: tuple[int, int], before: list[int], length: float, fails: bool = False) -> list[int]:
    """Be a chain's so-many-th step."""
    with noted(ctx):
        ctx.cancelled.wait(length)
        if fails and not ctx.job.failures:
            raise ValueError("once")
        return [*before, place[1]]


def report(ctx: Context) -> None:
    with noted(ctx):
        pass


TASKS: dict[Callable[..., Any], dict[str, Any]] = {
    once: {"unique": Unique(by="key"), "backoff": 0},
    latest: {"unique": Unique(by="key", while_=WAITING), "backoff": 0.05},
    feed: {},
    narrow: {"limit": [EACH_TENANT, ALL_TENANTS], "fair": "tenant:{tenant}"},
    paced: {"limit": [EACH_HOST, ALL_HOSTS]},
    member: {"max_attempts": 1},
    step: {"backoff": 0, "fair": "chain:{place[0]}"},
    report: {},
}


def register(app: Windlass) -> Windlass:
    """Make an application know the tasks."""
    for handler, options in TASKS.items():
        app.register(handler.__name__, handler, **options)
    return app


register(app)
