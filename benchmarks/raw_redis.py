"""The limits on Redis: what redis-py with hiredis does on one bare connection.

Enqueuing is a push of the payload onto a list. A claim moves a hundred jobs into a set of leases and returns their
payloads, in one script; another one ends them. No bookkeeping but what a queue cannot do without.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import probe, process, redis_server
from benchmarks.contender import Contender
from benchmarks.raw import PAYLOAD, rate

LIST = "raw:list"
CHUNK = 1_000

# Keys: waiting, leases, payloads. Args: how many, until when. Returns id and payload in turn.
CLAIM = """
local ids = redis.call('LPOP', KEYS[1], ARGV[1])
if not ids then return {} end
local found = redis.call('HMGET', KEYS[3], unpack(ids))
local claimed, leases = {}, {}
for i, id in ipairs(ids) do
    claimed[2 * i - 1], claimed[2 * i] = id, found[i]
    leases[2 * i - 1], leases[2 * i] = ARGV[2], id
end
redis.call('ZADD', KEYS[2], unpack(leases))
return claimed
"""
# Keys: leases, payloads. Args: the ids. Returns how many were leased.
COMPLETE = """
local ended = redis.call('ZREM', KEYS[1], unpack(ARGV))
redis.call('HDEL', KEYS[2], unpack(ARGV))
return ended
"""


def enqueue_one(_folder: Path, count: int = 5_000) -> float:
    """Push one job at a time."""
    with redis_server.database() as url, redis_server.client(url) as client:

        def one_by_one(count: int = count) -> None:
            for _ in range(count):
                client.lpush(LIST, PAYLOAD)

        one_by_one(100)
        return rate(count, one_by_one)


def enqueue_many(_folder: Path, count: int = 50_000) -> float:
    """Push one job a command, a thousand commands at a time."""
    with redis_server.database() as url, redis_server.client(url) as client:

        def together() -> None:
            for _ in range(0, count, CHUNK):
                with client.pipeline(transaction=False) as pipeline:
                    for _ in range(CHUNK):
                        pipeline.lpush(LIST, PAYLOAD)
                    pipeline.execute()

        return rate(count, together)


def claim_complete(_folder: Path, count: int = 50_000, batch: int = 100) -> float:
    """Claim a hundred jobs, then end them, until none is left: two scripts a batch."""
    with redis_server.database() as url, redis_server.client(url) as client:
        fill(client, count)
        return rate(count, lambda: drain(client, count, batch))


def script_time(_folder: Path, count: int = 20_000, batch: int = 100) -> float:
    """Measure how long the server is in these two scripts per job."""
    with redis_server.database() as url, redis_server.client(url) as client:
        fill(client, count)
        before = redis_server.in_scripts(client)
        drain(client, count, batch)
        return (redis_server.in_scripts(client) - before) / count


def drain(client: Any, count: int, batch: int) -> None:
    """Claim and end by batches until none is left."""
    claim, complete = client.register_script(CLAIM), client.register_script(COMPLETE)
    done = 0
    until = time.time() + 30
    while claimed := claim(keys=["raw:waiting", "raw:leases", "raw:payloads"], args=[batch, until]):
        done += complete(keys=["raw:leases", "raw:payloads"], args=claimed[::2])
    if done != count:
        raise RuntimeError(f"{done} jobs of {count} were claimed")


def fill(client: Any, count: int) -> None:
    """Put `count` jobs in, each an id in a list and a payload in a hash."""
    for start in range(0, count, CHUNK):
        ids = range(start, start + CHUNK)
        client.rpush("raw:waiting", *ids)
        client.hset("raw:payloads", mapping={str(number): PAYLOAD for number in ids})


def blpop(_folder: Path, count: int = 5_000) -> float:
    """Take one job at a time with a blocking pop, which loses what it takes if the worker dies."""
    with redis_server.database() as url, redis_server.client(url) as client:
        for _ in range(0, count, CHUNK):
            client.rpush(LIST, *[PAYLOAD] * CHUNK)

        def one_by_one() -> None:
            for _ in range(count):
                client.blpop(LIST, 1)

        return rate(count, one_by_one)


def latency(folder: Path, samples: int = 200, apart: float = 0.05) -> Mapping[str, float]:
    """Push single jobs for a process that waits in a blocking pop, and measure until it has them."""
    with redis_server.database() as url, redis_server.client(url) as client:
        with process.workers(folder, ("-m", "benchmarks.raw_redis", url, str(samples))):
            process.until(lambda: bool(client.exists("raw:ready")))
            for _ in range(samples):
                client.rpush(LIST, time.monotonic())
                time.sleep(apart)
            process.until(lambda: not client.exists("raw:ready"))
        return probe.quantiles(probe.read(folder, "delays"))


def pop(url: str, samples: int) -> None:
    """Take so many jobs and note how long each was under way."""
    with redis_server.client(url) as client:
        client.set("raw:ready", 1)
        for _ in range(samples):
            probe.started(float(client.blpop(LIST)[1]))
        client.delete("raw:ready")


CONTENDER = Contender(
    name="raw_redis",
    store="redis",
    works={
        "enqueue_one": enqueue_one,
        "enqueue_many": enqueue_many,
        "claim_complete": claim_complete,
        "script_time": script_time,
        "blpop": blpop,
        "latency": latency,
    },
    drains=frozenset({"claim_complete", "blpop"}),
)

if __name__ == "__main__":
    import sys

    pop(sys.argv[1], int(sys.argv[2]))
