"""The command line on Redis."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.servers.redis import client_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from tests.cli.conftest import Answer

    Run = Callable[..., Answer]


def test_check_tells_by_its_exit_status_and_writes_nothing(windlass: Run, redis_url: str) -> None:
    answer = windlass("migrate", "--url", redis_url, "--check")
    assert answer.code == 1
    assert "windlass migrate" in answer.err
    with client_of(redis_url) as client:
        assert client.dbsize() == 0
    assert json.loads(windlass("migrate", "--url", redis_url, "--json").out)["migrated"] is True
    assert json.loads(windlass("migrate", "--url", redis_url, "--json").out)["migrated"] is False
    assert windlass("migrate", "--url", redis_url, "--check").code == 0


def test_doctor_says_what_the_server_may_do_to_jobs(windlass: Run, redis_url: str) -> None:
    found = json.loads(windlass("doctor", "--url", redis_url, "--json").out)
    said = {line["name"]: line for line in (found["findings"] if isinstance(found, dict) else found)}
    assert said["persistence"]["level"] == "warning"
    assert "appendonly" in said["persistence"]["advice"]
    assert said["server"]["value"].startswith("Redis 6.2")
    assert said["maxmemory-policy"]["value"] == "noeviction"


def test_the_settings_come_from_the_environment(windlass: Run, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINDLASS_STRICT", "yes")
    answer = windlass("status", "--url", redis_url)
    assert answer.code != 0
    assert "strict" in answer.err
    monkeypatch.setenv("WINDLASS_STRICT", "perhaps")
    assert "true or false" in windlass("status", "--url", redis_url).err


def test_a_job_is_enqueued_shown_cancelled_and_deleted(windlass: Run, redis_url: str) -> None:
    url = ("--url", redis_url)
    assert windlass("enqueue", "mail", "to=ada", *url).code == 0
    assert "mail" in windlass("jobs", *url).out
    assert windlass("cancel", "1", *url).code == 0
    assert json.loads(windlass("job", "1", "--json", *url).out)["status"] == "cancelled"
    assert windlass("delete", "1", "--yes", *url).code == 0
    assert windlass("job", "1", *url).code != 0
