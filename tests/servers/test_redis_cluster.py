from collections.abc import Callable

import pytest
import redis

from tests.servers.redis import client_of
from tests.servers.redis_binaries import FLAVOURS
from tests.servers.redis_cluster import RedisCluster
from tests.waiting import until

NewCluster = Callable[..., RedisCluster]

PREFIXES = ("{a}", "{b}", "{c}", "{d}", "{e}", "{f}")


@pytest.mark.slow
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_keys_are_spread_over_three_servers_and_a_tag_keeps_them_together(
    new_redis_cluster: NewCluster, flavour: str
) -> None:
    cluster = new_redis_cluster(flavour)
    with redis.RedisCluster.from_url(cluster.url(), decode_responses=True) as client:
        for prefix in PREFIXES:
            client.set(f"{prefix}:one", prefix)
            assert client.mget(f"{prefix}:one", f"{prefix}:two") == [prefix, None]
    homes = {prefix: cluster.node_of(prefix) for prefix in PREFIXES}
    assert len(set(homes.values())) == 3
    for prefix, home in homes.items():
        assert home.execute("GET", f"{prefix}:one") == prefix
        other = next(node for node in cluster.nodes if node is not home)
        with client_of(other.url()) as client, pytest.raises(redis.exceptions.MovedError):
            client.get(f"{prefix}:one")


@pytest.mark.slow
def test_when_a_server_is_gone_the_others_answer_for_their_own(new_redis_cluster: NewCluster) -> None:
    cluster = new_redis_cluster(appendonly="yes", appendfsync="always")
    homes = {prefix: cluster.node_of(prefix) for prefix in PREFIXES}
    for prefix, home in homes.items():
        home.execute("SET", f"{prefix}:one", prefix)
    gone = homes["{a}"]
    gone.kill()
    with pytest.raises(LookupError):
        cluster.node_of("{a}")
    for prefix, home in homes.items():
        if home is not gone:
            assert home.execute("GET", f"{prefix}:one") == prefix
    gone.start()

    def back() -> bool:
        try:
            return bool(gone.execute("GET", "{a}:one") == "{a}")
        except redis.exceptions.ClusterDownError:  # it looks around before it answers
            return False

    until(back)


@pytest.mark.slow
def test_a_copy_takes_the_slots_of_a_server_that_is_gone(new_redis_cluster: NewCluster) -> None:
    cluster = new_redis_cluster(replicas=1)
    gone = cluster.node_of("{a}")
    gone.execute("SET", "{a}:one", 1)
    assert gone.execute("WAIT", 1, 5000) == 1
    gone.kill()

    def moved() -> bool:
        try:
            return cluster.node_of("{a}") is not gone
        except LookupError:
            return False

    until(moved)
    assert cluster.node_of("{a}").execute("GET", "{a}:one") == "1"
