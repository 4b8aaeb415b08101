"""Keys, limits, rates, batches and chains keep their promises while workers die, freeze and end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.chaos.faults import LOST_AFTER, strike
from tests.chaos.flow_ledger import assert_promises
from tests.chaos.flow_program import Program
from tests.chaos.flow_tasks import register
from tests.chaos.ledger import assert_calm, assert_consistent
from tests.chaos.redis_ledger import stored
from tests.waiting import until

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

    from tests.chaos.fleet import Fleet
    from tests.servers.postgres import Postgres
    from tests.servers.redis import Redis
    from windlass import Windlass

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

STEPS, FAULTS = 400, 8


def test_sqlite_keeps_its_promises(tmp_path: Path, promises: Callable[[str], Windlass]) -> None:
    promises(f"sqlite:///{tmp_path / 'chaos.db'}")


def test_postgres_keeps_its_promises(
    new_postgres: Callable[..., Postgres], promises: Callable[[str], Windlass]
) -> None:
    server = new_postgres(fsync="off")
    promises(server.url())
    assert_consistent(server.url())


@pytest.mark.parametrize("flavour", ["redis", "valkey"])
def test_redis_keeps_its_promises(
    flavour: str, new_redis: Callable[..., Redis], promises: Callable[[str], Windlass]
) -> None:
    stored(promises(new_redis(flavour).url()))


@pytest.fixture(params=[1, pytest.param(10, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])])
def promises(
    request: pytest.FixtureRequest,
    new_fleet: Callable[..., Fleet],
    new_app: Callable[..., Windlass],
    dice: random.Random,
    size: float,
) -> Callable[[str], Windlass]:
    """Run a random program on a store, maltreat its workers, and check what was promised."""

    def check(url: str) -> Windlass:
        app = register(new_app(url))
        fleet = new_fleet(
            url, 3, app="tests.chaos.flow_tasks:app", CHAOS_LOST_AFTER=LOST_AFTER, WINDLASS_MAX_CRASHES=100
        )
        program = Program(app, dice)
        program.start()
        for fault in range(int(FAULTS * size * request.param)):
            program.go_on(STEPS // FAULTS)
            goal = app.stats().totals.processed + STEPS // FAULTS // 2
            until(lambda goal=goal: _kept(fleet) and (app.stats().totals.processed >= goal or _rests(app)))
            strike(app, fleet, dice, fault, patience=2 * LOST_AFTER)
            fleet.fill()
        ends(app, fleet)
        program.mend()
        strike(app, fleet, dice, 0)
        ends(app, fleet)
        print(dict(assert_promises(app, program, fleet.notes())))  # noqa: T201
        assert_calm(fleet.said)
        return app

    return check


def ends(app: Windlass, fleet: Fleet) -> None:
    """Wait until all has ended: jobs, what is due of batches then, and their callbacks."""
    until(lambda: _kept(fleet) and _rests(app) and not app.driver.ripe(1) and _rests(app), every=0.1, timeout=90)


def _kept(fleet: Fleet) -> bool:
    """Replace workers that their jobs have killed."""
    fleet.fill()
    return True


def _rests(app: Windlass) -> bool:
    stats = app.stats()
    return not stats.pending + stats.running + stats.scheduled + stats.retrying
