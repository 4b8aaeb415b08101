from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


@pytest.mark.parametrize(
    "words",
    [
        ["status", "shop:app"],
        ["status", "shop"],
        ["status", "shop:"],
        ["status", "--app", "shop:app"],
        ["status", "--json", "shop:app"],
        ["job", "shop:app", "1"],
        ["job", "shop", "1"],
        ["job", "1", "--app", "shop"],
    ],
)
def test_the_app_is_the_first_word_or_an_option(shop: Path, windlass: Run, words: list[str]) -> None:
    """Without an attribute the module's only application is taken."""
    windlass("enqueue", "shop:app", "double", "number=1")
    assert windlass(*words).code == 0


def test_the_app_is_taken_from_the_environment(shop: Path, windlass: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """WINDLASS_APP names it for all commands of a shell."""
    monkeypatch.setenv("WINDLASS_APP", "shop:app")
    assert windlass("enqueue", "double", "number=1").code == 0


def test_the_app_is_taken_from_the_project(shop: Path, windlass: Run) -> None:
    """``[tool.windlass] app`` names it for all commands in a folder."""
    (shop / "pyproject.toml").write_text('[tool.windlass]\napp = "shop:app"\n')
    assert windlass("enqueue", "double", "number=1").code == 0


@pytest.mark.parametrize(
    ("source", "name", "words"),
    [
        ("x = 1", "other", "there is no Windlass app"),
        ("x = 1", "other:x", "not a Windlass app but int"),
        ("x = 1", "other:y", "has no 'y'"),
        ("x = (", "other:app", "SyntaxError: '(' was never closed"),
        ("x = 1\nraise RuntimeError('no luck')", "other:app", "RuntimeError: no luck"),
        ("import nowhere", "other:app", "No module named 'nowhere'"),
        ("raise SystemExit(0)", "other:app", "SystemExit"),
        ("x = 1", "nowhere:app", "there is no module 'nowhere'"),
        (
            "from windlass import Windlass\na = Windlass('memory://')\nb = Windlass('memory://')",
            "other",
            "several apps",
        ),
        ("from windlass import Windlass\na = Windlass('memory://')", "other:app", "there is other:a"),
    ],
)
def test_an_app_that_cannot_be_loaded_is_explained(
    folder: Path, windlass: Run, source: str, name: str, words: str
) -> None:
    """One line, no traceback, exit code 2."""
    (folder / "other.py").write_text(source)
    answer = windlass("status", name)
    assert (answer.code, words in answer.err) == (2, True), answer.err
    assert answer.err.count("\n") == 1


def test_an_app_and_a_url_together_are_refused(shop: Path, windlass: Run) -> None:
    """Nobody can know which store is meant."""
    answer = windlass("status", "shop:app", "--url", "sqlite:///other.db")
    assert (answer.code, "not both" in answer.err) == (2, True)


def test_looking_for_nothing_leaves_nothing_behind(folder: Path, windlass: Run) -> None:
    """Without an app and a store no empty database is made."""
    answer = windlass("status")
    assert (answer.code, "no app and no store" in answer.err) == (2, True)
    assert list(folder.iterdir()) == []
