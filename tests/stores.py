"""An empty store of each kind, for the fixtures that give one."""

from pathlib import Path

import pytest

STORES = ("memory", "sqlite", "postgres", "redis")


def url_of(store: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of an empty store that only this test uses."""
    match store:
        case "memory":
            return "memory://"
        case "sqlite":
            return f"sqlite:///{tmp_path}/jobs.db"
        case _:
            return str(request.getfixturevalue(f"{store}_url"))
