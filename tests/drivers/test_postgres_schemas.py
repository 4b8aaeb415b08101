"""Applications side by side in one database, apart by schema or prefix."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from tests.waiting import until
from windlass import Windlass
from windlass.drivers.postgres import schema
from windlass.drivers.postgres.sql import Sql
from windlass.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LONG = {"schema": "s" * 63, "prefix": "p" * 40}
PAIRS: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "schemas": ({"schema": "one"}, {"schema": "two"}),
    "upper and lower case": ({"schema": "Jobs"}, {"schema": "jobs"}),
    "prefixes": ({"prefix": "one"}, {"prefix": "two"}),
    "a prefix that begins like the other": ({"prefix": "win"}, {"prefix": "win_job"}),
    "both": ({"schema": "One", "prefix": "x"}, {"schema": "Two", "prefix": "y"}),
    "as long as can be": (LONG, {**LONG, "schema": "s" * 62 + "t"}),
    "a word of SQL": ({"schema": "select"}, {"schema": "user", "prefix": "order"}),
}


@pytest.fixture
def make(postgres_url: str) -> Iterator[Callable[..., Windlass]]:
    made: list[Windlass] = []

    def make(**given: Any) -> Windlass:
        made.append(Windlass(postgres_url, **{"backoff": 0, **given}))
        return made[-1]

    yield make
    for app in made:
        app.close()


@pytest.mark.parametrize("isolation", ["read committed", "serializable"])
def test_who_waits_while_another_makes_the_schema_finds_it_made(postgres_url: str, isolation: str) -> None:
    options = f"options=-cdefault_transaction_isolation%3D{isolation.replace(' ', '%5C%20')}"
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    with (
        psycopg.connect(postgres_url, autocommit=True) as other,
        psycopg.connect(postgres_url, autocommit=True) as watch,
        Windlass(f"{postgres_url}?{options}") as app,
        ThreadPoolExecutor(1) as threads,
    ):
        other.execute("BEGIN")
        other.execute("SELECT pg_advisory_xact_lock(hashtextextended('public.windlass migrate', 0))")
        found = threads.submit(app.count)
        until(lambda: watch.execute(waiting).fetchone() == (1,))
        for _, text in schema.script(Sql("public", "windlass")):
            other.execute(text.encode())
        other.execute("COMMIT")
        assert found.result(20) == 0


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_two_applications_share_nothing(
    make: Callable[..., Windlass], postgres_url: str, pair: tuple[dict[str, str], dict[str, str]]
) -> None:
    """Not a job, not a counter, not a pause, not a notification."""
    ran: list[str] = []
    one, two = (make(idle="quiet", **given) for given in pair)
    one.register("work", lambda: ran.append("one"))
    two.register("work", lambda: ran.append("two"))
    with one.worker(concurrency=1):
        until(lambda: one.driver._listener.hears)  # type: ignore[attr-defined]
        with psycopg.connect(postgres_url, autocommit=True) as ear:
            two.migrate()
            channel = one.driver.sql.channel  # type: ignore[attr-defined]
            assert channel != two.driver.sql.channel  # type: ignore[attr-defined]
            ear.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
            theirs = [two.enqueue("work") for _ in range(3)]
            two.pause(queue="default")
            ear.execute("SELECT pg_notify(%s, 'mark')", (channel,))
            heard = [next(ear.notifies(timeout=20)).payload for _ in range(1)]
            assert heard == ["mark"], "what the other does is not announced here"
            mine = one.enqueue("work")
            until(lambda: one.get(mine.id).status == "completed")
            one.enqueue("work", connection=ear)
            until(lambda: one.stats().completed == 2)
    assert ran == ["one", "one"]
    assert (one.count(), two.count()) == (2, 3)
    assert two.stats().pending == 3
    assert [job.status for job in map(two.get, [job.id for job in theirs])] == ["pending"] * 3
    assert one.purge(0) == 2
    assert two.count() == 3
    assert [f.name for app in (one, two) for f in app.diagnose() if f.level == "error"] == []
    two.resume(queue="default")
    with two.worker(concurrency=1):
        until(lambda: two.stats().completed == 3)


def test_the_environment_names_schema_and_prefix(
    make: Callable[..., Windlass], postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WINDLASS_SCHEMA", "Jobs")
    monkeypatch.setenv("WINDLASS_PREFIX", "own")
    make().enqueue("work")
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute('SELECT count(*) FROM "Jobs".own_job').fetchone() == (1,)


def test_without_a_schema_it_is_the_first_of_the_search_path(make: Callable[..., Windlass], postgres_url: str) -> None:
    """And stays that one, whatever a connection's path is later."""
    with psycopg.connect(postgres_url) as connection:
        connection.execute('CREATE SCHEMA "Mine"')
    app = Windlass(f'{postgres_url}?options=-csearch_path%3D"Mine",public')
    with app, psycopg.connect(postgres_url) as connection:
        app.enqueue("work", connection=connection)
        assert connection.execute('SELECT count(*) FROM "Mine".windlass_job').fetchone() == (1,)


def test_a_schema_of_the_search_path_with_an_odd_name_is_refused(postgres_url: str) -> None:
    """What is not asked for by name is checked all the same."""
    with psycopg.connect(postgres_url) as connection:
        connection.execute('CREATE SCHEMA "a$$b"')
    url = f'{postgres_url}?options=-csearch_path%3D"a$$b"'
    with Windlass(url) as app, pytest.raises(ConfigurationError, match="schema"):
        app.enqueue("work")


@pytest.mark.parametrize(
    "schema", ["", "a b", 'a"b', "a'b", "a;b", "a$$b", "a.b", "pg_jobs", "1a", "s" * 64, "ä", "a\0b", "{p}", 5]
)
def test_a_schema_with_odd_characters_is_refused_at_the_door(schema: Any) -> None:
    with pytest.raises(ConfigurationError, match="schema"):
        Windlass("postgresql://localhost/x", schema=schema)


@pytest.mark.parametrize("prefix", ["", "A", "a b", 'a"b', "a;b", "a$b", "a.b", "1a", "p" * 41, "ä", "a\0b", "a\n", 5])
def test_a_prefix_with_odd_characters_is_refused_at_the_door(prefix: Any) -> None:
    with pytest.raises(ConfigurationError, match="prefix"):
        Windlass("postgresql://localhost/x", prefix=prefix)
