"""One process of a peer: `python -m benchmarks.peers MODULE COMMAND URL [COUNT]`.

`install` makes the tables and the like, `fill` puts jobs in for a drain, `work` runs a worker until SIGINT. `enqueue_one` and
`enqueue_many` print jobs/s; `latency` enqueues single jobs for an idle worker, COUNT of them.
"""

import asyncio
import importlib
import logging
import os
import sys
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, cast

from benchmarks.peers import PAYLOAD, URL

if TYPE_CHECKING:
    from benchmarks.peers import Client, Peer

WARM = 20
"""Jobs enqueued before those that are timed: connections are open and statements prepared then."""


async def enqueue_one(client: "Client", count: int) -> None:
    """Time single jobs."""
    for _ in range(WARM):
        await client.enqueue("send_email", PAYLOAD)
    start = time.perf_counter()
    for _ in range(count):
        await client.enqueue("send_email", PAYLOAD)
    print(count / (time.perf_counter() - start))


async def enqueue_many(client: "Client", count: int) -> None:
    """Time the bulk call."""
    await client.enqueue_many("send_email", [PAYLOAD] * WARM)
    start = time.perf_counter()
    await client.enqueue_many("send_email", [PAYLOAD] * count)
    print(count / (time.perf_counter() - start))


async def fill(client: "Client", count: int) -> None:
    """Put no-op jobs in."""
    await client.enqueue_many("note_run", [PAYLOAD] * count)


async def latency(client: "Client", count: int, apart: float = 0.05) -> None:
    """Enqueue jobs that note how long they were under way."""
    for _ in range(count):
        await client.enqueue("note_delay", {"sent": time.monotonic()})
        await asyncio.sleep(apart)


PRODUCERS = {"enqueue_one": enqueue_one, "enqueue_many": enqueue_many, "fill": fill, "latency": latency}


async def produce(peer: "Peer", command: str, url: str, count: int) -> None:
    """Connect and enqueue."""
    async with peer.client(url) as client:
        await PRODUCERS[command](client, count)


def run(peer: "Peer", work: Coroutine[None, None, None]) -> None:
    """Run on the event loop that the peer prefers."""
    if peer.UVLOOP:
        import uvloop

        uvloop.run(work)
    else:
        asyncio.run(work)


def main() -> None:
    """Do what the command line says."""
    module, command, url, *rest = sys.argv[1:]
    logging.basicConfig(level=logging.WARNING)
    os.environ[URL] = url
    peer = cast("Peer", importlib.import_module(f"benchmarks.peers.{module}"))
    match command:
        case "install":
            run(peer, peer.install(url))
        case "work":
            run(peer, peer.work(url))
        case _:
            run(peer, produce(peer, command, url, int(rest[0])))


if __name__ == "__main__":
    main()
