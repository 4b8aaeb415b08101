"""An application on each store, and on a file for what needs other processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from windlass import Windlass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Windlass]]:
    """Make applications on one file; they are closed afterwards."""
    made: list[Windlass] = []

    def build(**given: Any) -> Windlass:
        url = given.pop("url", f"sqlite:///{tmp_path}/jobs.db")
        app = Windlass(url, **{"durability": "relaxed", "backoff": 0, "poll": 0.05, "grace": 5, **given})
        made.append(app)
        return app

    yield build
    for app in made:
        app.close()


@pytest.fixture(params=["memory", "sqlite"])
def app(request: pytest.FixtureRequest, make: Callable[..., Windlass]) -> Windlass:
    """An application, on each store."""
    return make(url="memory://") if request.param == "memory" else make()
