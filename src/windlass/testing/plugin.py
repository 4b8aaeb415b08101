"""Fixtures for pytest, there wherever Windlass is installed (``-p no:windlass`` does without).

In your ``conftest.py``::

    @pytest.fixture
    def windlass_application():
        from shop import app

        return app
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from windlass.testing.harness import Harness, testing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from windlass.app import Windlass
    from windlass.job import Job


@pytest.fixture
def windlass_application() -> Windlass:
    """The application under test: define a fixture of this name that returns yours."""
    raise pytest.UsageError("define a fixture `windlass_application` that returns your Windlass application")


@pytest.fixture
def windlass_app(windlass_application: Windlass) -> Iterator[Harness]:
    """The application over an empty store in memory, with a clock that moves when told: ``.drain()``, ``.advance(60)``."""
    with testing(windlass_application) as harness:
        yield harness


@pytest.fixture
def assert_enqueued(windlass_app: Harness) -> Callable[..., Job]:
    """``assert_enqueued(task, **arguments)`` returns the newest such job, or fails and lists what there is."""
    return windlass_app.assert_enqueued
