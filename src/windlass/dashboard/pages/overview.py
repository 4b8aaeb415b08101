"""The overview: how it stands, what has problems, what was done; and the numbers that stay fresh."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from windlass.dashboard import charts
from windlass.dashboard.live import EVERY
from windlass.errors import WindlassError
from windlass.job import Status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from windlass.dashboard.call import Call
    from windlass.drivers.base import Worker
    from windlass.observed import Sample
    from windlass.report import Queue

HOUR = 61
"""Samples of an hour of minutes, with the one before."""
LOOKS = 150
"""Looks at the numbers until a stream ends."""
RECENT = 5
"""Minutes over which rates are taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """A queue and how it does."""

    queue: Queue
    arriving: float | None
    """Jobs per second that were enqueued in the last minutes; ``None``: it is not known."""
    served: float | None
    """Jobs per second that were completed."""
    drained_in: float | None
    """Seconds until nothing waits, if it goes on like this; ``None``: never, or nobody knows."""
    problem: str
    """What is wrong with it, in a few words; empty: nothing."""


def page(call: Call) -> Response:
    """Show the whole on one page."""
    app = call.app
    samples = app.samples("minute", limit=HOUR)
    queues, workers = app.queues(), app.workers()
    health = sorted((health_of(q, samples, workers) for q in queues), key=lambda h: (not h.problem, -h.queue.pending))
    return call.page(
        "overview.html",
        stats=app.stats(),
        rate=app.throughput(window=60),
        health=health,
        chart=charts.throughput(samples),
        alive=[w for w in workers if w.status in ("running", "stopping")],
        lost=[w for w in workers if w.status == "lost"],
        statuses=list(Status),
    )


def health_of(queue: Queue, samples: Sequence[Sample], workers: Sequence[Worker]) -> Health:
    """Judge a queue by its numbers and those of the last minutes."""
    recent = samples[-RECENT - 1 :]
    arriving = served = drained = None
    if len(recent) > 1:
        seconds = (recent[-1].at - recent[0].at).total_seconds()
        first, last = recent[0].total(queue.name), recent[-1].total(queue.name)
        arriving = max(0, last.enqueued - first.enqueued) / seconds
        served = max(0, last.processed - first.processed) / seconds
        if queue.pending and served > arriving:
            drained = queue.pending / (served - arriving)
    takers = [w for w in workers if w.status == "running" and (w.queues is None or queue.name in w.queues)]
    problem = ""
    if queue.pending and queue.paused:
        problem = "paused"
    elif queue.pending and not takers:
        problem = "no worker takes it"
    elif queue.oldest is not None and queue.oldest > 60 and (served is None or arriving is None or served <= arriving):
        problem = "falls behind"
    elif queue.dead:
        problem = "has dead jobs"
    return Health(queue=queue, arriving=arriving, served=served, drained_in=drained, problem=problem)


def numbers(call: Call) -> Response:
    """Return the numbers, for browsers that ask."""
    return Response(msgspec.json.encode(call.site.live.numbers()), media_type="application/json")


async def stream(call: Call) -> Response:
    """Stream the numbers to a browser that listens, whenever they have changed.

    The stream ends after some minutes. Browsers then ask again, and whoever has logged out since is not let in.
    """

    async def events() -> AsyncIterator[bytes]:
        before: dict[str, str] = {}
        for _ in range(LOOKS):
            try:
                found = await run_in_threadpool(call.site.live.numbers)
            except WindlassError:
                yield b"event: away\ndata: {}\n\n"
            else:
                news = {name: text for name, text in found.items() if before.get(name) != text}
                before = found
                yield b"data: " + msgspec.json.encode(news) + b"\n\n" if news else b": still here\n\n"
            await asyncio.sleep(EVERY)

    return StreamingResponse(events(), media_type="text/event-stream", headers={"x-accel-buffering": "no"})
