"""What is in deploy/ names commands that run, and that end as the files say."""

from __future__ import annotations

import configparser
import re
import shlex
import signal
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.programs import Program
from tests.servers.ports import free_port
from tests.waiting import until
from windlass import Windlass

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.slow

DEPLOY = Path(__file__).parents[2] / "deploy"
SHOP = """
from windlass import Windlass

app = Windlass("sqlite:///jobs.db", poll=0.05)

@app.task
def double(number: int) -> int:
    return 2 * number
"""


def unit() -> configparser.SectionProxy:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment]
    parser.read(DEPLOY / "systemd" / "windlass@.service")
    return parser["Service"]


def pod() -> dict[str, Any]:
    found = yaml.safe_load((DEPLOY / "kubernetes" / "worker.yaml").read_text(encoding="utf-8"))
    spec: dict[str, Any] = found["spec"]["template"]["spec"]
    return spec


def of_unit() -> list[str]:
    return shlex.split(unit()["ExecStart"])


def of_pod() -> list[str]:
    return list(pod()["containers"][0]["command"])


def of_container() -> list[str]:
    command = re.search(r"^CMD (.*)$", (DEPLOY / "Containerfile").read_text(encoding="utf-8"), re.MULTILINE)
    assert command is not None
    return list(yaml.safe_load(command[1]))


def of_procfile() -> list[str]:
    return shlex.split(yaml.safe_load((DEPLOY / "Procfile").read_text(encoding="utf-8"))["worker"])


def healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.mark.parametrize("command", [of_unit, of_pod, of_container, of_procfile])
def test_the_command_works_answers_probes_and_ends_by_sigterm(tmp_path: Path, command: Callable[[], list[str]]) -> None:
    """With exit code 0, so that no supervisor takes it for a failure."""
    (tmp_path / "shop.py").write_text(SHOP, encoding="utf-8")
    port = free_port()
    program, *words = [re.sub(r"^[\d.]+:\d+$", f"127.0.0.1:{port}", word) for word in command()]
    assert Path(program).name == "windlass"
    with Windlass(f"sqlite:///{tmp_path}/jobs.db") as store:
        job = store.enqueue("double", {"number": 21})
        worker = Program(*words, cwd=tmp_path, WINDLASS_APP="shop:app")
        try:
            until(lambda: job.refresh().status == "completed")
            if "--health" in words:
                until(lambda: healthy(port))
            worker.send(signal.SIGTERM)
            assert worker.ends() == 0, worker.text
        finally:
            worker.close()


def test_everybody_waits_longer_than_the_grace() -> None:
    with Windlass("memory://") as app:
        grace = float(app.settings.grace)
    assert float(unit()["TimeoutStopSec"]) > grace
    assert pod()["terminationGracePeriodSeconds"] > grace


def test_systemd_does_not_repeat_what_cannot_start(tmp_path: Path) -> None:
    """The exit code of a wrong application is the one that prevents a restart."""
    _, *words = of_unit()
    worker = Program(*words, cwd=tmp_path, WINDLASS_APP="nowhere:app")
    try:
        assert worker.ends() == int(unit()["RestartPreventExitStatus"]), worker.text
    finally:
        worker.close()
