"""An application on each store, with a clock that tests move."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from windlass import Windlass

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STORES = ("memory", "sqlite", "postgres", "redis")


@pytest.fixture(params=STORES)
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store, of each kind."""
    match request.param:
        case "memory":
            return "memory://"
        case "sqlite":
            return f"sqlite:///{tmp_path}/jobs.db"
        case "postgres":
            return str(request.getfixturevalue("postgres_url"))
        case _:
            return str(request.getfixturevalue("redis_url"))


@pytest.fixture
def app(store_url: str) -> Iterator[Windlass]:
    """An application on each store."""
    with Windlass(store_url, durability="relaxed", backoff=0, poll=0.05, grace=5) as app:
        yield app
