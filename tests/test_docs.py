"""The examples in README.md and docs/ do what they say.

Every `python` block of a page is executed, top to bottom, in one namespace and in an empty folder.
A block that cannot run by itself is preceded by `<!-- skip: next -->`; code that must run but would only
distract the reader stands in `<!-- invisible-code-block: python ... -->`. On the pages about PostgreSQL, Redis and
SQLAlchemy, `WINDLASS_URL` names an empty database.
"""

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from sybil import Sybil
from sybil.document import Document
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SERVERS = {
    ROOT / "docs" / "stores" / "postgres.md": "postgres_url",
    ROOT / "docs" / "stores" / "redis.md": "redis_url",
    ROOT / "docs" / "sqlalchemy.md": "postgres_url",
}
EXAMPLES = Sybil(parsers=[PythonCodeBlockParser(), SkipParser()])


@pytest.fixture
def page(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Document]:
    """A parsed page whose examples live in a module of their own, so that the classes in them can be looked up."""
    document = EXAMPLES.parse(request.param)
    module = ModuleType("example")
    document.namespace = module.__dict__
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.chdir(tmp_path)
    for variable in [name for name in os.environ if name.startswith("WINDLASS_")]:
        monkeypatch.delenv(variable)
    if request.param in SERVERS:
        monkeypatch.setenv("WINDLASS_URL", request.getfixturevalue(SERVERS[request.param]))
    yield document
    for app in [value for value in document.namespace.values() if type(value).__name__ == "Windlass"]:
        app.close()


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)), indirect=True)
def test_every_example_runs(page: Document) -> None:
    for example in page.examples():
        example.evaluate()


def test_every_test_that_the_guarantees_name_is_there() -> None:
    """So that an answer cannot outlive what shows it."""
    page = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page)
    assert len(named) > 15
    assert [f"{file}::{name}" for file, name in named if f"def {name}(" not in (ROOT / file).read_text("utf-8")] == []
