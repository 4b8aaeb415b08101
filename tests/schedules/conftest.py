"""An application on each store that keeps schedules, with a clock that tests move."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.stores import STORES, url_of
from windlass import Windlass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(params=STORES)
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store, of each kind."""
    return url_of(request.param, request, tmp_path)


@pytest.fixture
def make(store_url: str) -> Iterator[Callable[..., Windlass]]:
    """Make applications on one store; they are closed afterwards."""
    made: list[Windlass] = []

    def build(**given: Any) -> Windlass:
        made.append(Windlass(store_url, **{"durability": "relaxed", "backoff": 0, "poll": 0.05, "grace": 5, **given}))
        return made[-1]

    yield build
    for app in made:
        app.close()


@pytest.fixture
def app(make: Callable[..., Windlass]) -> Windlass:
    """An application, on each store."""
    return make()
