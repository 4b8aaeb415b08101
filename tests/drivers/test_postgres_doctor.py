"""Each finding of the doctor, made true on a server."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.servers.binaries import binaries
from tests.waiting import until
from windlass import Windlass
from windlass.drivers.postgres import doctor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.servers.postgres import Postgres
    from windlass.drivers.base import Finding

pytestmark = pytest.mark.slow


@pytest.fixture
def app(postgres_url: str) -> Iterator[Windlass]:
    with Windlass(postgres_url) as app:
        app.migrate()
        yield app


def finding(app: Windlass, name: str) -> Finding:
    (found,) = [f for f in app.diagnose() if f.name == name]
    return found


def server_with(new_postgres: Callable[..., Postgres], *names: str, **settings: Any) -> tuple[Postgres, list[Finding]]:
    server = new_postgres(**settings)
    with Windlass(server.url()) as app:
        found = {f.name: f for f in app.diagnose()}
    return server, [found[name] for name in names]


@pytest.mark.parametrize("flavour", ["pg18", "pg15"])
def test_a_new_database_has_nothing_wrong(new_postgres: Callable[..., Postgres], flavour: str) -> None:
    server = new_postgres(flavour)
    with Windlass(server.url()) as app:
        app.migrate()
        found = {f.name: f for f in app.diagnose()}
    assert {f.name for f in found.values() if f.level != "ok"} == {"workers"}
    assert found["PostgreSQL version"].value == server.binaries.version


def test_an_old_open_transaction_is_named_with_its_pid_and_query(
    app: Windlass, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "OLD", 0.0)
    with psycopg.connect(postgres_url) as forgotten:
        forgotten.execute("SELECT 'who forgot me?'")
        found = finding(app, "oldest transaction")
        assert found.level == "note"
        assert f"pid {forgotten.info.backend_pid} " in found.value
        assert "idle in transaction" in found.value
        assert "who forgot me?" in found.value
        assert f"pg_terminate_backend({forgotten.info.backend_pid})" in found.advice
        monkeypatch.setattr(doctor, "STALE", 0.0)
        assert finding(app, "oldest transaction").level == "warning"
    assert finding(app, "oldest transaction").level == "ok"


def test_a_prepared_transaction_is_named(
    new_postgres: Callable[..., Postgres], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "OLD", 0.0)
    server = new_postgres(max_prepared_transactions=5)
    with Windlass(server.url()) as app:
        app.migrate()
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute("BEGIN")
            connection.execute("SELECT pg_current_xact_id()")
            connection.execute("PREPARE TRANSACTION 'left behind'")
        found = finding(app, "oldest transaction")
    assert "left behind" in found.value
    assert "ROLLBACK PREPARED 'left behind'" in found.advice


def spend(server: Postgres, transactions: int) -> None:
    with psycopg.connect(server.url(), autocommit=True) as connection:
        for _ in range(transactions):
            connection.execute("SELECT pg_current_xact_id()")


def replication(server: Postgres) -> Finding:
    with Windlass(server.url()) as app:
        app.migrate()
        return finding(app, "replication")


def held(server: Postgres, name: str) -> Finding:
    """Spend transactions until *name* is found to hold some back."""
    with Windlass(server.url()) as app:
        app.migrate()

        def found() -> Finding | None:
            spend(server, 20)
            return next((f for f in app.diagnose() if f.name == "replication" and f" {name} " in f.value), None)

        return until(found)


def test_a_standby_that_reports_an_old_query_is_named(
    new_postgres: Callable[..., Postgres], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no slot; when its query ends, nothing is held back."""
    monkeypatch.setattr(doctor, "BEHIND", 50)
    feedback = {"hot_standby_feedback": "on", "wal_receiver_status_interval": "1s", "cluster_name": "east"}
    server = new_postgres()
    with server.standby(**feedback) as standby:
        assert replication(server).value == "holds nothing back"
        with psycopg.connect(standby.url()) as reader:
            reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            reader.execute("SELECT count(*) FROM pg_class")
            found = held(server, "east")
            assert found.level == "note"
            assert found.value.startswith("standby east at ")
            assert "hot_standby_feedback" in found.advice
            monkeypatch.setattr(doctor, "FAR_BEHIND", 50)
            assert replication(server).level == "warning"
        until(lambda: replication(server).level == "ok")


def test_a_slot_whose_standby_is_gone_is_named_and_its_cure_cures(
    new_postgres: Callable[..., Postgres], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "BEHIND", 50)
    server = new_postgres()
    server.execute("SELECT pg_create_physical_replication_slot('west')")
    feedback = {"hot_standby_feedback": "on", "wal_receiver_status_interval": "1s", "primary_slot_name": "west"}
    with server.standby(**feedback) as standby:
        reader = psycopg.connect(standby.url())
        reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        reader.execute("SELECT count(*) FROM pg_class")
        assert "end it there" in held(server, "west").advice
        standby.kill()
        reader.close()
        found = until(lambda: (f := replication(server)) and "nobody is connected" in f.advice and f)
    assert "slot west holds back the dead rows" in found.value
    server.execute(found.advice.rpartition("or ")[2])
    assert replication(server).level == "ok"


def test_a_logical_slot_that_nobody_reads_is_named(
    new_postgres: Callable[..., Postgres], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds the catalogs back, not the jobs."""
    monkeypatch.setattr(doctor, "BEHIND", 50)
    server = new_postgres(wal_level="logical")
    server.execute("SELECT pg_create_logical_replication_slot('feed', 'pgoutput')")
    found = held(server, "feed")
    assert "rows of the catalogs" in found.value
    server.execute(found.advice.rpartition("or ")[2])
    assert replication(server).level == "ok"


def test_dead_rows_that_stay_are_counted(
    new_postgres: Callable[..., Postgres], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "DEAD", 900)
    with Windlass(new_postgres(autovacuum="off").url()) as app:
        app.register("work", lambda: None).enqueue()
        assert finding(app, "table ready").level == "ok"
        app.enqueue_many([app.tasks["work"].job() for _ in range(1000)])
        app.cancel_many(status="pending")
        found = until(lambda: (f := finding(app, "table ready")).level == "warning" and f)
    assert int(found.value.split()[2]) > 900
    assert "vacuumed never" in found.value
    assert "autovacuum" in found.advice


def test_a_full_notification_queue_is_seen(new_postgres: Callable[..., Postgres]) -> None:
    """A session that listens and sits in a transaction keeps all notifications."""
    if int(binaries("pg18").version.partition(".")[0]) < 17:
        pytest.skip("the length of the queue can be set since PostgreSQL 17")
    server = new_postgres(max_notify_queue_pages=64)
    with Windlass(server.url()) as app, psycopg.connect(server.url()) as listener:
        app.migrate()
        assert finding(app, "notification queue").level == "ok"
        listener.execute("LISTEN anything")
        listener.commit()
        listener.execute("SELECT 1")
        with psycopg.connect(server.url()) as noisy:
            for _ in range(40):
                noisy.execute("SELECT pg_notify('anything', repeat('x', 7000) || clock_timestamp())")
        found = finding(app, "notification queue")
    assert found.level == "warning"
    assert "open transaction" in found.advice


@pytest.mark.parametrize(
    ("name", "cure"),
    [
        ("windlass_timer_due", 'CREATE INDEX windlass_timer_due ON "public".windlass_timer (run_at, id)'),
        (
            "windlass_ready_again",
            'CREATE INDEX windlass_ready_again ON "public".windlass_ready (stream, id) WHERE seq <> id',
        ),
        ("windlass_done_pkey", 'ALTER TABLE "public".windlass_done ADD PRIMARY KEY (stream, status, id)'),
        ("windlass_job_pkey", 'ALTER TABLE "public".windlass_job ADD PRIMARY KEY (id)'),
    ],
)
def test_a_missing_index_is_an_error_and_its_cure_cures(app: Windlass, postgres_url: str, name: str, cure: str) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        if name.endswith("_pkey"):
            connection.execute(f"ALTER TABLE {name.removesuffix('_pkey')} DROP CONSTRAINT {name}")
        else:
            connection.execute(f"DROP INDEX {name}")
        found = finding(app, "indexes")
        assert (found.level, found.value) == ("error", f"missing or invalid: {name}")
        assert cure in found.advice
        connection.execute(found.advice.partition(": ")[2].encode())
    assert finding(app, "indexes").level == "ok"


def test_an_index_left_invalid_is_an_error(app: Windlass, postgres_url: str) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'windlass_job_origin'::regclass")
        found = finding(app, "indexes")
        assert found.level == "error"
        connection.execute(found.advice.partition(": ")[2].encode())
    assert finding(app, "indexes").level == "ok"


def test_a_clock_that_differs_is_noted(app: Windlass, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "SKEW", -1.0)
    found = finding(app, "clock")
    assert found.level == "note"
    assert "server's clock" in found.advice


def test_commits_that_do_not_wait_for_the_disk_are_a_warning(new_postgres: Callable[..., Postgres]) -> None:
    url = f"{new_postgres().url()}?options=-csynchronous_commit%3Doff"
    with Windlass(url) as app:
        app.migrate()
        assert finding(app, "durability").level == "warning"
    with Windlass(url, durability="relaxed") as app:
        assert finding(app, "durability").level == "ok", "it was asked for"


def test_a_server_that_does_not_flush_is_a_warning(new_postgres: Callable[..., Postgres]) -> None:
    _, [found] = server_with(new_postgres, "durability", fsync="off")
    assert found.level == "warning"
    assert "fsync=off" in found.value


def test_another_default_isolation_is_a_warning(postgres_url: str) -> None:
    with Windlass(f"{postgres_url}?options=-cdefault_transaction_isolation%3Dserializable") as app:
        app.migrate()
        found = finding(app, "default isolation")
    assert (found.level, found.value) == ("warning", "serializable")
    assert "read committed" in found.advice


def test_few_connections_left_is_a_warning(new_postgres: Callable[..., Postgres]) -> None:
    server = new_postgres(max_connections=15)
    with Windlass(server.url()) as app, ExitStack() as open_ones:
        app.migrate()
        for _ in range(8):
            open_ones.enter_context(psycopg.connect(server.url()))
        found = finding(app, "connections")
    assert found.level == "warning"
    assert found.value.endswith(" of 15")


def test_notifications_that_do_not_arrive_are_a_warning(
    postgres_url: str, postgres_database: Callable[[], str]
) -> None:
    """``listen_url`` leads to another database."""
    with Windlass(postgres_url, listen_url=postgres_database()) as app:
        app.migrate()
        found = finding(app, "notifications")
        assert found.level == "warning"
        assert "did not arrive" in found.value


def test_notifications_are_proved_with_and_without_a_worker(app: Windlass) -> None:
    assert finding(app, "notifications").value == "heard"
    with app.worker(concurrency=1):
        until(lambda: app.driver._listener.hears)  # type: ignore[attr-defined]
        assert finding(app, "notifications").value == "heard"
