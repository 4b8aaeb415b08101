from collections.abc import Callable

import pytest
import redis

from tests.servers.redis_binaries import FLAVOURS, USUAL
from tests.servers.redis_sentinel import RedisSentinel

NewSentinel = Callable[..., RedisSentinel]


@pytest.mark.slow
@pytest.mark.parametrize(
    "flavour", [USUAL, *(pytest.param(other, marks=pytest.mark.soak) for other in FLAVOURS if other != USUAL)]
)
def test_the_copy_takes_over(new_redis_sentinel: NewSentinel, flavour: str) -> None:
    group = new_redis_sentinel(flavour)
    old = group.master
    old.execute("SET", "a", 1)
    assert old.execute("WAIT", 1, 5000) == 1
    new = group.fail_over()
    assert new is not old
    assert new.execute("GET", "a") == "1"


@pytest.mark.slow
def test_clients_find_the_server_that_takes_writes(new_redis_sentinel: NewSentinel) -> None:
    group = new_redis_sentinel(sentinels=1)
    finder = redis.Sentinel(group.addresses)
    assert finder.discover_master(group.NAME)[1] == group.master.port
    new = group.fail_over()
    assert finder.discover_master(group.NAME)[1] == new.port


@pytest.mark.slow
def test_a_server_that_stands_still_is_replaced_too(new_redis_sentinel: NewSentinel) -> None:
    group = new_redis_sentinel(sentinels=1)
    old = group.master
    old.pause()
    assert group.taken_over(old) is not old
    old.resume()
