"""The public face has the same types under pyright as under mypy, which `make lint` runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_what_is_checked_by_mypy_is_checked_by_pyright(tmp_path: Path) -> None:
    """Signatures that the decorator keeps, options, twins; and what is wrong there is wrong here."""
    settings = {
        "include": [str(ROOT / "tests" / "typing")],
        "extraPaths": [str(ROOT / "src")],
        "typeCheckingMode": "standard",
        "enableTypeIgnoreComments": True,
        "reportUnnecessaryTypeIgnoreComment": "error",
    }
    file = tmp_path / "pyrightconfig.json"
    file.write_text(json.dumps(settings), encoding="utf-8")
    command = [sys.executable, "-m", "basedpyright", "-p", str(file), "--outputjson", "--pythonpath", sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    if not done.stdout.lstrip().startswith("{"):
        pytest.skip(f"pyright cannot be started here: {done.stderr.strip()[-200:]}")
    answer = json.loads(done.stdout)
    assert answer["summary"]["filesAnalyzed"] >= 1
    assert [d["message"] for d in answer["generalDiagnostics"] if d["severity"] == "error"] == []
