"""Worker processes on Redis are killed, stopped and told to end, and their clocks are wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.chaos.faults import LOST_AFTER, die_and_freeze, wrong_clocks
from tests.chaos.ledger import assert_histories
from tests.chaos.redis_ledger import stored
from windlass import Outcome, Windlass

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from tests.chaos.fleet import Fleet
    from tests.servers.redis import Redis

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.mark.parametrize(
    "flavour", ["redis", *(pytest.param(other, marks=pytest.mark.soak) for other in ("redis7", "redis8", "valkey"))]
)
def test_workers_die_and_freeze(  # noqa: PLR0917 - fixtures
    flavour: str,
    new_redis: Callable[..., Redis],
    new_fleet: Callable[..., Fleet],
    new_app: Callable[..., Windlass],
    dice: random.Random,
    size: float,
) -> None:
    """What is acknowledged completes, leases never overlap, and refused writes were stale."""
    server = new_redis(flavour)
    app = new_app(server.url())
    fleet = new_fleet(server.url(), 3, CHAOS_LOST_AFTER=LOST_AFTER, WINDLASS_MAX_CRASHES=100)
    acknowledged = die_and_freeze(app, fleet, dice, size)
    outcomes = assert_histories(app, stored(app), acknowledged, fleet.notes())
    assert outcomes.get(Outcome.LOST, 0) > 0
    refused = sum(line["what"] == "refused" for line in fleet.notes())
    print(f"{outcomes}, {refused} writes refused")  # noqa: T201


def test_clocks_of_hosts_are_wrong_and_jump(
    new_redis: Callable[..., Redis], new_fleet: Callable[..., Fleet], new_app: Callable[..., Windlass]
) -> None:
    server = new_redis()
    app = new_app(server.url())
    wrong_clocks(app, new_fleet(server.url(), 0, CHAOS_LOST_AFTER=LOST_AFTER))
