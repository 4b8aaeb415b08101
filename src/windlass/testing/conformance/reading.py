"""Promises about finding and counting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from windlass.drivers.base import Filter, NewBatch
from windlass.job import Failure, Status
from windlass.testing.conformance.bench import (
    EVERYTHING,
    assert_counted,
    cancel,
    fail,
    in_every_status,
    job,
    put,
    run_one,
    stored,
    succeed,
    take,
)

if TYPE_CHECKING:
    from windlass.drivers.base import Driver


def ids(driver: Driver, limit: int = 1000, **fields: Any) -> list[int]:
    """Find by fields of the filter."""
    return [record.id for record in driver.find(Filter(**fields), limit=limit)]


class Reading:
    """What the reading methods promise."""

    def test_jobs_are_listed_newest_first(self, driver: Driver) -> None:
        """The highest id comes first, whatever the status."""
        made = in_every_status(driver)
        assert ids(driver) == sorted((r.id for r in made.values()), reverse=True)

    def test_find_returns_what_get_returns(self, driver: Driver) -> None:
        """One truth about a job."""
        in_every_status(driver)
        for record in driver.find(EVERYTHING, limit=100):
            assert driver.get(record.id) == record

    def test_filters_by_status(self, driver: Driver) -> None:
        """One status or several."""
        made = in_every_status(driver)
        for status, record in made.items():
            assert ids(driver, statuses=(status,)) == [record.id]
        both = (Status.DEAD, Status.PENDING)
        assert ids(driver, statuses=both) == sorted((made[s].id for s in both), reverse=True)

    def test_filters_by_queue_and_task(self, driver: Driver) -> None:
        """Each alone, and both together."""
        made = {(t, q): put(driver, t, q).id for t in ("t1", "t2") for q in ("q1", "q2")}
        assert ids(driver, queue="q1") == [made["t2", "q1"], made["t1", "q1"]]
        assert ids(driver, task="t2") == [made["t2", "q2"], made["t2", "q1"]]
        assert ids(driver, task="t2", queue="q1") == [made["t2", "q1"]]
        assert ids(driver, task="q1") == []
        assert ids(driver, task="t2", queue="q1", statuses=(Status.PENDING,)) == [made["t2", "q1"]]
        assert ids(driver, task="t2", queue="q1", statuses=(Status.DEAD,)) == []

    def test_filters_by_tag_origin_and_batch(self, driver: Driver) -> None:
        """A tag is matched as a whole; every field given must match."""
        one, two = (driver.open_batch(NewBatch(name="b")).id for _ in range(2))
        a = put(driver, tags=("mail", "vip"), origin="shop", batch_id=one).id
        b = put(driver, tags=("mailing", "vip"), origin="shop", batch_id=two).id
        c = put(driver, origin="admin").id
        assert ids(driver, tag="mail") == [a]
        assert ids(driver, tag="vip") == [b, a]
        assert ids(driver, tag="none") == []
        assert ids(driver, origin="shop") == [b, a]
        assert ids(driver, origin="admin") == [c]
        assert ids(driver, batch=two) == [b]
        assert ids(driver, tag="vip", origin="shop", batch=one) == [a]

    def test_filters_by_worker(self, driver: Driver) -> None:
        """The worker that runs a job, or ran it last."""
        driver.insert([job() for _ in range(3)])
        [a] = take(driver, worker="w1")
        [b] = take(driver, worker="w2")
        fail(driver, b)
        assert ids(driver, worker="w1") == [a.id]
        assert ids(driver, worker="w2") == [b.id]
        succeed(driver, a)
        assert ids(driver, worker="w1") == [a.id]
        assert ids(driver, worker="w3") == []

    def test_filters_by_error(self, driver: Driver) -> None:
        """The type of the last error, in any status that has one."""
        failed = run_one(driver)
        fail(driver, failed)
        put(driver)
        assert ids(driver, error="ValueError") == [failed.id]
        assert ids(driver, error="Value") == []
        assert ids(driver, error=msgspec.json.decode(stored(driver, failed).error or b"", type=Failure).type) == [
            failed.id
        ]

    def test_filters_by_time(self, driver: Driver) -> None:
        """``created_after`` includes its instant, the others end before theirs."""
        old = put(driver)
        driver.shift(100)
        new = put(driver)
        assert ids(driver, created_after=new.created_at) == [new.id]
        assert ids(driver, created_before=new.created_at) == [old.id]
        [first] = take(driver)
        driver.shift(100)
        [second] = take(driver)
        assert first.started_at is not None
        assert second.started_at is not None
        assert ids(driver, started_before=first.started_at + 50) == [old.id]
        assert ids(driver, started_before=second.started_at + 50) == [new.id, old.id]

    def test_pages_by_cursor_and_offset(self, driver: Driver) -> None:
        """``before`` goes on below an id, ``offset`` skips; together they meet every job once."""
        made = sorted((r.id for r in driver.insert([job(f"t{n % 3}", f"q{n % 2}") for n in range(25)])), reverse=True)
        pages: list[int] = []
        before = None
        while page := driver.find(EVERYTHING, limit=10, before=before):
            pages += [r.id for r in page]
            before = pages[-1]
        assert pages == made
        assert [r.id for r in driver.find(EVERYTHING, limit=5, offset=20)] == made[20:]
        assert [r.id for r in driver.find(EVERYTHING, limit=5, offset=3, before=made[4])] == made[8:13]
        queue = Filter(queue="q1")
        some = [r.id for r in driver.find(queue, limit=100)]
        assert [r.id for r in driver.find(queue, limit=3, offset=2, before=some[1])] == some[4:7]

    def test_counts_by_status_queue_and_task_are_exact(self, driver: Driver) -> None:
        """They come from the counters, so *most* does not bound them."""
        driver.insert([job(f"t{n % 2}", f"q{n % 3}") for n in range(12)])
        assert driver.count(EVERYTHING, most=1) == 12
        assert driver.count(Filter(queue="q1"), most=1) == 4
        assert driver.count(Filter(queue="q1", task="t1"), most=1) == 2
        assert driver.count(Filter(statuses=(Status.PENDING, Status.DEAD), task="t0"), most=1) == 6
        assert driver.count(Filter(statuses=(Status.RUNNING,)), most=1) == 0

    def test_other_counts_are_exact_up_to_most(self, driver: Driver) -> None:
        """Beyond it the answer is one more, which says so."""
        driver.insert([job(tags=("x",), origin="here") for _ in range(6)])
        assert driver.count(Filter(tag="x"), most=10) == 6
        assert driver.count(Filter(tag="x", origin="here"), most=6) == 6
        assert driver.count(Filter(tag="x"), most=5) == 6
        assert driver.count(Filter(tag="x"), most=2) == 3
        assert driver.count(Filter(tag="y"), most=2) == 0

    def test_tallies_are_by_queue_and_task(self, driver: Driver) -> None:
        """Each stream has its own counters, with every status and total in them."""
        run_one(driver, queue="a")
        cancel(driver, put(driver, "other", "a"))
        tallies = {(t.queue, t.task): t for t in driver.tallies()}
        assert set(tallies) == {("a", "report"), ("a", "other")}
        assert tallies["a", "report"].counts[Status.RUNNING] == 1
        assert tallies["a", "other"].totals["cancelled"] == 1
        assert tallies["a", "other"].totals["enqueued"] == 1
        assert tallies["a", "report"].totals["cancelled"] == 0
        assert set(tallies["a", "other"].counts) == set(Status)
        assert_counted(driver)

    def test_rates_count_what_ended_in_each_second(self, driver: Driver) -> None:
        """Completed and failed attempts, for all queues or one."""
        start = driver.now()
        succeed(driver, run_one(driver, queue="a"))
        fail(driver, run_one(driver, queue="b"))
        driver.shift(30)
        middle = driver.now() - 10
        succeed(driver, run_one(driver, queue="b"))

        def ended(since: float, queue: str | None = None) -> tuple[int, int]:
            rows = driver.rates(since, queue)
            seconds = [second for second, _, _ in rows]
            assert seconds == sorted(set(seconds))
            assert all(int(since) <= second <= driver.now() for second in seconds)
            return sum(row[1] for row in rows), sum(row[2] for row in rows)

        assert ended(start) == (2, 1)
        assert ended(middle) == (1, 0)
        assert ended(start, "b") == (1, 1)
        assert ended(start, "none") == (0, 0)

    def test_the_oldest_waiting_job_tells_since_when(self, driver: Driver) -> None:
        """It is the pending job of the queue that became available first; other queues do not count."""
        assert driver.oldest("a") is None
        first = put(driver, queue="a")
        driver.shift(10)
        put(driver, queue="a", priority=9)
        put(driver, "other", "a")
        put(driver, queue="a", delay=50)
        assert driver.oldest("a") == pytest.approx(first.run_at, abs=1e-6)
        assert driver.oldest("b") is None
        taken = take(driver, 2)
        assert first.id in [r.id for r in taken]
        assert driver.oldest("a") == pytest.approx(driver.now(), abs=5)
        take(driver, 5, tasks=("other",))
        assert driver.oldest("a") is None

    def test_the_clock_moves_by_days(self, driver: Driver) -> None:
        """``shift`` moves ``now`` for everything that follows."""
        before = driver.now()
        driver.shift(3 * 86_400)
        assert driver.now() == pytest.approx(before + 3 * 86_400, abs=5)
        assert put(driver).created_at == pytest.approx(driver.now(), abs=5)

    def test_the_store_can_say_how_it_is(self, driver: Driver) -> None:
        """``diagnose`` finds nothing wrong, ``migrate`` and ``script`` nothing to do, ``tidy`` harms nothing."""
        made = in_every_status(driver)
        assert driver.migrate() == []
        assert driver.script() == ""
        driver.tidy()
        assert [f for f in driver.diagnose() if f.level == "error"] == []
        assert {s: stored(driver, r) for s, r in made.items()} == made
        assert_counted(driver)
