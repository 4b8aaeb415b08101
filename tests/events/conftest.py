"""An application on each store that tells what happens, and a second one on the same store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.stores import STORES, url_of
from windlass import Windlass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(params=STORES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store."""
    return url_of(request.param, request, tmp_path)


@pytest.fixture
def make(url: str) -> Iterator[Callable[..., Windlass]]:
    """Make applications on one store; they are closed afterwards."""
    made: list[Windlass] = []

    def build(**given: Any) -> Windlass:
        app = Windlass(url, **{"durability": "relaxed", "backoff": 0, "poll": 0.05, "grace": 5, **given})
        made.append(app)
        return app

    yield build
    for app in made:
        app.close()


@pytest.fixture
def app(make: Callable[..., Windlass]) -> Windlass:
    """An application, on each store."""
    return make()


@pytest.fixture
def other(app: Windlass, make: Callable[..., Windlass]) -> Windlass:
    """Another application on the same store, as another process would have; in memory it is the same one."""
    return make() if app.capabilities.shared else app
