"""What PostgreSQL reads for a claim, an enqueue, a number or a page does not depend on how full the store is.

Cost is counted in pages of Windlass's tables and indexes, as the server's statistics give them: the same on every machine.
"""

from __future__ import annotations

import os
from contextlib import closing, contextmanager
from hashlib import md5
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg
import pytest

from windlass import lifecycle
from windlass.drivers.base import Filter, Turn, Worker
from windlass.drivers.postgres import PostgresDriver
from windlass.job import NewJob, Status
from windlass.lifecycle import Settlement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.servers.postgres import Postgres

TASKS = tuple(f"task-{number:02}" for number in range(50))
SMALL, FULL, FULLER = 5_000, 25_000, 1_000_000
CAUSE = md5(b"0", usedforsecurity=False).hexdigest()[:16]
FAULTS_READ = 10_000
"""Entries read for the groups of failures at most, however many are dead: so many of each are counted and no more."""
BIG = ("job", "ready", "timer", "done", "attempt", "tag")

# a store by SQL: {n} finished, {n} waiting, {n} of an unknown task, {n} of a paused queue, {n} timers. Ten of the oldest carry what
# is rare, one in three what is common.
_FILL = """
INSERT INTO windlass_stream (id, queue, task, priority)
SELECT i, 'default', 'task-' || lpad(i::text, 2, '0'), 0 FROM generate_series(0, 49) i
UNION ALL VALUES (50, 'default', 'unknown', 0), (51, 'paused', 'task-00', 0);
INSERT INTO windlass_pause VALUES ('queue', 'paused');
INSERT INTO windlass_worker VALUES ('w', extract(epoch FROM now()), 1e6, 'running', '{{}}');

CREATE TEMPORARY TABLE made AS
SELECT i AS id, (i - 1) / {n} AS part,
       CASE (i - 1) / {n} WHEN 2 THEN 50 WHEN 3 THEN 51 ELSE i % 50 END::integer AS stream,
       extract(epoch FROM now()) - 1e6 + i * 0.1 AS at
FROM generate_series(1, 5 * {n}) i;
SELECT setval('windlass_seq', 5 * {n});

INSERT INTO windlass_job (id, created_at, batch_id, stream, payload, tags, origin, idempotency_key)
SELECT id, at, CASE WHEN id BETWEEN 1001 AND 1010 THEN 1 WHEN id % 3 = 0 THEN 2 END, stream, '{{"user_id":12345}}',
       CASE WHEN id BETWEEN 1001 AND 1010 THEN '["rare"]' WHEN id % 3 = 0 THEN '["common"]' END,
       CASE WHEN id BETWEEN 1001 AND 1010 THEN 'rare' WHEN id % 3 = 0 THEN 'common' END,
       CASE WHEN id % 3 = 0 THEN 'key-' || id END
FROM made;
INSERT INTO windlass_batch (id, created_at, total, completed, dead, cancelled, children, open, name, fired)
SELECT i, 0, 0, 0, 0, 0, 0, true, 'b', '{{}}' FROM generate_series(1, 2) i;
INSERT INTO windlass_hold (key, job_id) SELECT 'key:key-' || id, id FROM made WHERE id % 3 = 0;
INSERT INTO windlass_tag SELECT id, CASE WHEN id BETWEEN 1001 AND 1010 THEN 'rare' ELSE 'common' END FROM made WHERE id BETWEEN 1001 AND 1010 OR id % 3 = 0;
INSERT INTO windlass_done (id, finished_at, run_at, started_at, stream, attempt, status, outcome, worker, error)
SELECT id, at + 2, at, at + 1, stream, 1, CASE id % 19 WHEN 0 THEN 'dead' WHEN 1 THEN 'cancelled' ELSE 'completed' END,
       CASE id % 19 WHEN 0 THEN 'dead' ELSE 'completed' END, 'w-' || id % 3,
       CASE WHEN id % 19 = 0 THEN ('{{"type": "ValueError", "message": "no", "traceback": "","fingerprint":"'
                                   || left(md5((id % 4)::text), 16) || '"}}')::json END
FROM made WHERE part = 0;
INSERT INTO windlass_ready (seq, id, stream) SELECT id, id, stream FROM made WHERE part BETWEEN 1 AND 3;
-- five among all the new ones that became available again
UPDATE windlass_ready SET seq = 5 * {n} + id, attempt = 1, failures = 1 WHERE id IN (
    SELECT id FROM made WHERE part = 1 ORDER BY id LIMIT 5);
SELECT setval('windlass_seq', 20 * {n});
-- five retries among all the schedules
INSERT INTO windlass_timer (id, run_at, stream, attempt, failures, retrying)
SELECT id, at + 1e8, stream, 1, 1, id <= 4 * {n} + 5 FROM made WHERE part = 4;
INSERT INTO windlass_attempt (job_id, number, started_at, finished_at, outcome, worker, error)
SELECT id, 1, at, at + 1, 'failed', 'w-1', '{{"type": "ValueError", "message": "no", "traceback": ""}}'
FROM made WHERE part = 4 OR id IN (SELECT id FROM windlass_ready WHERE seq <> id);
INSERT INTO windlass_counter
SELECT stream, sum((s = 'scheduled')::int), sum((s = 'pending')::int), 0, sum((s = 'retrying')::int),
       sum((s = 'completed')::int), sum((s = 'dead')::int), sum((s = 'cancelled')::int), count(*), 0, 0, 0, 0, 0, 0, 0, 0
FROM (SELECT stream, status AS s FROM windlass_done UNION ALL SELECT stream, 'pending' FROM windlass_ready
      UNION ALL SELECT stream, CASE WHEN retrying THEN 'retrying' ELSE 'scheduled' END FROM windlass_timer) AS all_
GROUP BY stream;
INSERT INTO windlass_pulse SELECT extract(epoch FROM now())::integer - i, 5, 0, 'default' FROM generate_series(1, 3600) i;
DROP TABLE made;
"""


def new(task: str, number: int = 1, **options: Any) -> list[NewJob]:
    return [NewJob(task=task, queue="default", payload=b'{"user_id":12345}', **options) for _ in range(number)]


class Cost(NamedTuple):
    pages: int
    """Of tables and indexes, from the cache or not."""
    entries: int
    """Of indexes, and rows of scans: those of rows that are gone too."""
    scans: list[str]
    """Big tables that were read from beginning to end."""


class Meter:
    """Counts what the connections of one driver read."""

    def __init__(self, driver: PostgresDriver, url: str) -> None:
        self._driver = driver
        self._connection = psycopg.connect(url, autocommit=True)
        self.costs: dict[str, Cost] = {}

    def close(self) -> None:
        self._connection.close()

    def _read(self) -> tuple[int, int, dict[str, int]]:
        for pool in (self._driver._pump, self._driver.clients):
            with pool.lend() as connection:
                connection.execute("SELECT pg_stat_force_next_flush()")
        rows = self._connection.execute(_READ).fetchall()
        return sum(row[2] for row in rows), sum(row[3] for row in rows), {row[0]: row[1] for row in rows}

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Add the cost of the block; of several by the same name the highest counts."""
        pages, entries, scans = self._read()
        yield
        pages_after, entries_after, scans_after = self._read()
        scanned = [table for table in BIG if scans_after[table] > scans[table]]
        before = self.costs.get(name, Cost(0, 0, []))
        self.costs[name] = Cost(
            max(before.pages, pages_after - pages),
            max(before.entries, entries_after - entries),
            sorted({*before.scans, *scanned}),
        )


_READ = """
SELECT right(relname, -9), seq_scan,
       heap_blks_hit + heap_blks_read + coalesce(idx_blks_hit + idx_blks_read, 0)
       + coalesce(toast_blks_hit + toast_blks_read + tidx_blks_hit + tidx_blks_read, 0),
       seq_tup_read + (SELECT coalesce(sum(idx_tup_read), 0) FROM pg_stat_user_indexes i WHERE i.relid = t.relid)::bigint
FROM pg_stat_user_tables t JOIN pg_statio_user_tables USING (relid, relname)
"""


class Store:
    """A store of a given size, and the operations to measure."""

    def __init__(self, url: str, size: int) -> None:
        self.driver = PostgresDriver(url, quiet=True, durability="relaxed")
        self.driver.open()
        self.url, self.size = url, size
        self.meter = Meter(self.driver, url)

    def fill(self, *, analyze: bool) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(_FILL.format(n=self.size))
            if analyze:
                connection.execute("ANALYZE")

    def close(self) -> None:
        self.meter.close()
        self.driver.close()

    def hot(self) -> None:
        driver, of = self.driver, self.meter.of
        with of("enqueue one"):
            driver.insert(new(TASKS[0]))
        with of("enqueue twenty, with all that a job can have"):
            driver.insert(new(TASKS[1], 20, tags=("x", "y"), origin="o", batch_id=1, delay=1e6))
        with of("enqueue five hundred"):
            driver.insert(new(TASKS[0], 500))
        with of("claim ten of fifty tasks"):
            claims = driver.exchange(Turn(worker="w", limit=10, start=10, tasks=TASKS)).claims
        assert len(claims) == 10
        settlements = [Settlement(r, lifecycle.succeed(r), driver.now()) for r in claims]
        with of("settle ten and claim ten of one task"):
            turn = Turn(worker="w", settlements=settlements, limit=10, start=10, tasks=TASKS[:1])
            claims = driver.exchange(turn).claims
        assert len(claims) == 10
        failed = [
            Settlement(
                r, lifecycle.fail(r, b'{"type":"E"}', max_attempts=3, delay=-1.0, now=driver.now()), driver.now()
            )
            for r in claims
        ]
        with of("fail ten, which are due at once, and claim them among others"):
            claims = driver.exchange(Turn(worker="w", settlements=failed, limit=10, start=10, tasks=TASKS[:1])).claims
        driver.exchange(
            Turn(worker="w", settlements=[Settlement(r, lifecycle.discard(r, b'{"type":"E"}'), 1.0) for r in claims])
        )
        with of("an idle turn of a worker that knows none of them"):
            assert not driver.exchange(Turn(worker="w", limit=10, start=10, tasks=("another",))).claims
        with of("a look at a paused queue"):
            assert not driver.exchange(Turn(worker="w", limit=10, start=10, tasks=TASKS, queues=("paused",))).claims
        with of("a turn without a wish"):
            driver.exchange(Turn(worker="w"))
        with of("a heartbeat"):
            driver.beat(Worker(id="w", host="here", pid=1))
        with of("orphans"):
            driver.orphans(100)
        with of("bury"):
            driver.bury()
        with of("nothing to purge"):
            driver.purge({Status.COMPLETED: 3e6, Status.CANCELLED: 3e6, Status.DEAD: 3e6}, 500)
        with of("purge fifty"):
            assert driver.purge({Status.COMPLETED: 0.0}, 50) == 50
        driver.tidy()

    def numbers(self) -> None:
        driver, of, size = self.driver, self.meter.of, self.size
        with of("stats"):
            driver.tallies()
        with of("the oldest of a queue"):
            driver.oldest("default")
        with of("rates"):
            driver.rates(driver.now() - 60)
        with of("groups of failures"):
            assert len(driver.faults(100)) == 4
        with of("rates of a queue"):
            driver.rates(driver.now() - 60, "default")
        with of("get what is finished"):
            assert driver.get(size - 1) is not None
        with of("get what waits"):
            assert driver.get(2 * size - 1) is not None
        with of("get what is scheduled"):
            assert driver.get(5 * size - 1) is not None
        with of("get what is not there"):
            assert driver.get(1 << 40) is None
        with of("a key"):
            assert driver.by_key(f"key-{size // 3 * 3}") is not None
        with of("a key that is not there"):
            assert driver.by_key("no") is None
        with of("history"):
            assert driver.history(5 * size - 1)

    def pages(self) -> None:
        for name, which in filters(self.driver.now(), self.size).items():
            with self.meter.of(f"page: {name}"):
                found = self.driver.find(which, limit=5)
            assert found or "none" in name, name
            with self.meter.of(f"page before: {name}"):
                self.driver.find(which, limit=5, before=self.size)
            with self.meter.of(f"second page: {name}"):
                self.driver.find(which, limit=5, offset=5)
            with self.meter.of(f"count: {name}"):
                self.driver.count(which, most=50)


def filters(now: float, size: int) -> dict[str, Filter]:
    """Every filter, alone and with others, for what is common, rare and not there."""
    middle = now - 1e6 + size * 0.05
    named = {
        "all": Filter(),
        **{status.value: Filter(statuses=(status,)) for status in Status if status is not Status.RUNNING},
        "none run": Filter(statuses=(Status.RUNNING,)),
        "active": Filter(statuses=(Status.RUNNING, Status.PENDING, Status.SCHEDULED, Status.RETRYING)),
        "a queue": Filter(queue="default"),
        "a paused queue": Filter(queue="paused"),
        "a task": Filter(task=TASKS[7]),
        "none of a task": Filter(task="none"),
        "a queue's dead": Filter(queue="default", statuses=(Status.DEAD,)),
        "a task's completed": Filter(task=TASKS[7], statuses=(Status.COMPLETED,)),
        "a task's retrying": Filter(task=TASKS[3], statuses=(Status.RETRYING,)),
        "a task's scheduled": Filter(task=TASKS[3], statuses=(Status.SCHEDULED,)),
        "a task's pending": Filter(task=TASKS[3], statuses=(Status.PENDING,)),
        "created after": Filter(created_after=middle),
        "created before": Filter(created_before=middle),
        "created before, completed": Filter(created_before=middle, statuses=(Status.COMPLETED,)),
        "created between": Filter(created_after=middle - 1, created_before=middle),
        "none created yet": Filter(created_after=now + 1e6),
        "none run since": Filter(statuses=(Status.RUNNING,), started_before=now),
        "none a worker runs": Filter(statuses=(Status.RUNNING,), worker="w-1"),
        "a worker's completed": Filter(statuses=(Status.COMPLETED,), worker="w-1"),
        "dead of an error": Filter(statuses=(Status.DEAD,), error="ValueError"),
        "dead of a cause": Filter(statuses=(Status.DEAD,), fingerprint=CAUSE),
        "a task's dead of a cause": Filter(statuses=(Status.DEAD,), fingerprint=CAUSE, queue="default"),
        "none of another cause": Filter(statuses=(Status.DEAD,), fingerprint="0" * 16),
        "retrying after an error": Filter(statuses=(Status.RETRYING,), error="ValueError"),
    }
    for value in ("rare", "common", "none"):
        batch = {"rare": 1, "common": 2, "none": 3}[value]
        for name, one in (("tag", {"tag": value}), ("origin", {"origin": value}), ("batch", {"batch": batch})):
            fields: dict[str, Any] = one
            named[f"{value} {name}"] = Filter(**fields)
            named[f"{value} {name}, completed"] = Filter(**fields, statuses=(Status.COMPLETED,))
            named[f"{value} {name} of a queue"] = Filter(**fields, queue="default")
            named[f"{value} {name}, none running"] = Filter(**fields, statuses=(Status.RUNNING,))
    named["rare tag and origin"] = Filter(tag="rare", origin="rare")
    named["rare tag, pending, none"] = Filter(tag="rare", statuses=(Status.PENDING,))
    named["rare tag, scheduled, none"] = Filter(tag="rare", statuses=(Status.SCHEDULED,))
    return named


@pytest.fixture
def server(flavour: str, new_postgres: Callable[..., Postgres]) -> Postgres:
    """One that is quick rather than safe, and does nothing behind our backs."""
    quick = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "max_wal_size": "4GB"}
    return new_postgres(flavour, autovacuum="off", shared_buffers="256MB", **quick)


SOAK = [pytest.mark.soak, pytest.mark.timeout(3600)]
SIZES = [
    pytest.param("pg18", FULL, True, marks=pytest.mark.slow),
    pytest.param("pg15", FULL, False, marks=pytest.mark.slow),
    pytest.param("pg18", FULLER, False, marks=SOAK),
    pytest.param("pg15", FULLER, True, marks=SOAK),
]


@pytest.fixture
def measure(server: Postgres) -> Callable[..., dict[str, Cost]]:
    """Measure all operations on a store of the size given, in a database of its own."""

    def run(size: int, *, analyze: bool) -> dict[str, Cost]:
        with closing(Store(server.create_database(), size)) as store:
            store.fill(analyze=analyze)
            for _ in range(7):  # from the sixth use on the server may plan for all values alike
                store.hot()
                store.numbers()
            for _ in range(2):
                store.pages()
        return store.meter.costs

    return run


@pytest.mark.parametrize(("flavour", "size", "analyze"), SIZES)
def test_a_full_store_costs_no_more_than_a_small_one(
    measure: Callable[..., dict[str, Cost]], size: int, *, analyze: bool
) -> None:
    """At 5·10⁴ (10⁶) of everything each step reads the pages it reads with a few, and no big table is scanned."""
    small = measure(SMALL, analyze=analyze)
    full = measure(size, analyze=analyze)
    if os.environ.get("WINDLASS_SHOW_STEPS"):
        for name in small:
            a, b = small[name], full[name]
            print(f"{name}: {a.pages} → {b.pages} pages, {a.entries} → {b.entries} entries")  # noqa: T201
    assert {name: cost.scans for name, cost in full.items() if cost.scans} == {}
    assert full.pop("groups of failures").entries <= FAULTS_READ
    # A bigger index is a level deeper, so that a look-up meets a page more.
    assert {
        name: (small[name].pages, cost.pages) for name, cost in full.items() if more(small[name].pages, cost.pages)
    } == {}
    assert {
        name: (small[name].entries, cost.entries)
        for name, cost in full.items()
        if more(small[name].entries, cost.entries)
    } == {}


def more(small: int, full: int) -> bool:
    return full > small * 1.6 + 200
