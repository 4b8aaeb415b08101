"""A server that keeps nothing forgets its workers too: until they beat again, nobody may take their jobs for orphans."""

from __future__ import annotations

from contextlib import closing

from tests.servers.redis import client_of
from windlass.drivers.base import Turn, Worker
from windlass.drivers.redis import RedisDriver
from windlass.job import NewJob


def test_a_job_that_was_just_claimed_is_nobodys_to_take_back(redis_url: str, redis_prefix: str) -> None:
    with (
        closing(RedisDriver(redis_url, prefix=redis_prefix)) as one,
        closing(RedisDriver(redis_url, prefix=redis_prefix)) as two,
    ):
        for driver, name in ((one, "one"), (two, "two")):
            driver.open()
            driver.beat(Worker(id=name, host="h", pid=1))
        with client_of(redis_url) as client:
            for key in client.scan_iter(f"{{{redis_prefix}}}*"):
                client.unlink(key)
        two.beat(Worker(id="two", host="h", pid=1))
        one.insert([NewJob(task="t", queue="default", payload=b"{}")])
        turned = one.exchange(Turn(worker="one", limit=1, start=1, tasks=("t",)))
        assert turned.known
        assert len(turned.claims) == 1
        assert two.orphans(10) == []
        assert {worker.id for worker in two.workers()} == {"one", "two"}
