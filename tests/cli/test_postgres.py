"""``windlass migrate`` and ``windlass doctor`` on PostgreSQL."""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING

import psycopg

from tests.waiting import until
from windlass import Windlass

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from tests.cli.conftest import Answer
    from tests.servers.postgres import Postgres

    Run = Callable[..., Answer]


def tables(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        found = connection.execute(
            "SELECT schemaname || '.' || tablename FROM pg_tables WHERE schemaname !~ '^(pg_|information_schema)'"
        )
        return {name for (name,) in found}


def test_check_tells_by_its_exit_status_and_writes_nothing(windlass: Run, postgres_url: str) -> None:
    answer = windlass("migrate", "--url", postgres_url, "--check")
    assert answer.code == 1
    assert "windlass migrate" in answer.err
    told = json.loads(windlass("migrate", "--url", postgres_url, "--check", "--json").out)
    assert (told["current"], told["migrated"]) == (False, False)
    assert tables(postgres_url) == set()
    assert windlass("migrate", "--url", postgres_url).code == 0
    before = tables(postgres_url)
    assert "public.windlass_job" in before
    answer = windlass("migrate", "--url", postgres_url, "--check", "--json")
    assert answer.code == 0
    assert json.loads(answer.out) == {"current": True, "migrated": False, "problem": None}
    assert tables(postgres_url) == before


def test_migrate_says_what_it_did(windlass: Run, postgres_url: str) -> None:
    assert json.loads(windlass("migrate", "--url", postgres_url, "--json").out)["migrated"] is True
    assert json.loads(windlass("migrate", "--url", postgres_url, "--json").out)["migrated"] is False


def test_migrate_goes_where_the_settings_say(
    windlass: Run, postgres_url: str, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    """The schema from the environment, the prefix from the project."""
    monkeypatch.setenv("WINDLASS_SCHEMA", "Jobs")
    (folder / "pyproject.toml").write_text('[tool.windlass]\nprefix = "own"\n')
    assert windlass("migrate", "--url", postgres_url).code == 0
    assert {name.partition("_")[0] for name in tables(postgres_url)} == {"Jobs.own"}
    assert 'tables "Jobs".own_' in windlass("doctor", "--url", postgres_url, "--json").out.replace("\\", "")


def test_the_script_is_what_migrate_would_run(windlass: Run, postgres_url: str) -> None:
    """Nothing is written; run by hand, it makes a schema that works, and then there is nothing left to print."""
    script = windlass("migrate", "--url", postgres_url, "--sql").out
    assert tables(postgres_url) == set()
    assert script.startswith("BEGIN;")
    assert script.endswith("COMMIT;\n")
    assert "CREATE SCHEMA" not in script, "it exists; this role need not be allowed to make one"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(script.encode())
    assert windlass("migrate", "--url", postgres_url, "--check").code == 0
    assert windlass("migrate", "--url", postgres_url, "--sql").out == "-- the schema is up to date\n"
    assert json.loads(windlass("migrate", "--url", postgres_url, "--sql", "--json").out) == {"current": True, "sql": ""}
    with Windlass(postgres_url, migrate="check") as app:
        app.register("work", lambda: None)
        job = app.enqueue("work")
        with app.worker(concurrency=1):
            until(lambda: app.get(job.id).status == "completed")


def test_the_script_makes_a_schema_that_is_missing(
    windlass: Run, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WINDLASS_SCHEMA", "Jobs")
    monkeypatch.setenv("WINDLASS_PREFIX", "own")
    script = windlass("migrate", "--url", postgres_url, "--sql").out
    assert 'CREATE SCHEMA IF NOT EXISTS "Jobs";' in script
    assert 'CREATE TABLE "Jobs".own_job' in script
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(script.encode())
    assert windlass("migrate", "--url", postgres_url, "--check").code == 0


def test_the_script_of_a_server_that_cannot_be_reached_has_every_step(windlass: Run, free_port: int) -> None:
    answer = windlass("migrate", "--url", f"postgresql://localhost:{free_port}/x", "--sql")
    assert answer.code == 0
    assert answer.out.startswith("-- Every step, as the server cannot be reached")
    assert '"public"' in answer.out
    assert 'CREATE TABLE "public".windlass_job' in answer.out


def test_check_without_a_server_exits_with_3(windlass: Run, free_port: int) -> None:
    assert windlass("migrate", "--url", f"postgresql://localhost:{free_port}/x", "--check").code == 3


def test_check_and_sql_are_two_questions(windlass: Run, postgres_url: str) -> None:
    answer = windlass("migrate", "--url", postgres_url, "--sql", "--check")
    assert (answer.code, answer.out) == (2, "")


def test_the_script_for_sqlite_makes_a_file_that_works(windlass: Run, folder: Path) -> None:
    url = "sqlite:///jobs.db"
    script = windlass("migrate", "--url", url, "--sql").out
    assert not (folder / "jobs.db").exists()
    connection = sqlite3.connect(folder / "jobs.db")
    connection.executescript(script)
    connection.close()
    assert windlass("migrate", "--url", url, "--check").code == 0
    assert windlass("migrate", "--url", url, "--sql").out == "-- the schema is up to date\n"
    with Windlass(url, migrate="check") as app:
        app.enqueue("work")
        assert app.count() == 1


def test_a_store_without_a_schema_has_no_script(windlass: Run) -> None:
    assert windlass("migrate", "--url", "memory://", "--sql").out == "-- the schema is up to date\n"


def test_the_doctor_s_findings_of_a_healthy_database_are_well(
    windlass: Run, new_postgres: Callable[..., Postgres]
) -> None:
    url = new_postgres().url()  # the one that tests share does not flush
    windlass("migrate", "--url", url)
    answer = windlass("doctor", "--url", url, "--json")
    assert answer.code == 0
    levels = {f["name"]: f["level"] for f in json.loads(answer.out)}
    assert {name for name, level in levels.items() if level != "ok"} <= {"workers"}
    assert levels["notifications"] == "ok"


def test_the_doctor_exits_with_1_when_an_index_is_missing(windlass: Run, postgres_url: str) -> None:
    windlass("migrate", "--url", postgres_url)
    with psycopg.connect(postgres_url) as connection:
        connection.execute("DROP INDEX windlass_timer_due")
    answer = windlass("doctor", "--url", postgres_url)
    assert answer.code == 1
    assert "windlass_timer_due" in answer.out
