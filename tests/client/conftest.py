"""An application on each store, with a clock that tests move."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.stores import STORES, url_of
from windlass import Windlass

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=STORES)
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store, of each kind."""
    return url_of(request.param, request, tmp_path)


@pytest.fixture
def app(store_url: str) -> Iterator[Windlass]:
    """An application on each store."""
    with Windlass(store_url, durability="relaxed", backoff=0, poll=0.05, grace=5) as app:
        yield app
