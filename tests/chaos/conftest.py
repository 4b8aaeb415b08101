import os
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.chaos.fleet import Fleet
from tests.chaos.traffic import Traffic
from windlass import Windlass

SIZE = float(os.environ.get("CHAOS_SIZE", "1"))


@pytest.fixture
def dice() -> random.Random:
    seed = int(os.environ.get("CHAOS_SEED", "0")) or random.randrange(1 << 30)
    print(f"CHAOS_SEED={seed}")  # noqa: T201 - shown when the test fails, to run it again
    return random.Random(seed)


@pytest.fixture
def size() -> float:
    """How large: 1 fits the whole project's test run, ``CHAOS_SIZE=20`` is for a night."""
    return SIZE


@pytest.fixture
def new_fleet(tmp_path: Path) -> Iterator[Callable[..., Fleet]]:
    """Start so many worker processes on a store."""
    with ExitStack() as stack:

        def start(url: str, number: int, **settings: object) -> Fleet:
            fleet = Fleet(tmp_path, size=number, url=url, **settings)
            stack.callback(fleet.close)
            fleet.fill()
            return fleet

        yield start


@pytest.fixture
def new_app() -> Iterator[Callable[..., Windlass]]:
    with ExitStack() as stack:

        def make(url: str, **settings: object) -> Windlass:
            app = Windlass(url, **settings)
            stack.callback(app.close)
            return app

        yield make


@pytest.fixture
def traffic() -> Iterator[Callable[[Windlass], Traffic]]:
    with ExitStack() as stack:
        yield lambda app: stack.enter_context(Traffic(app))
