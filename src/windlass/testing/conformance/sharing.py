"""Promises about threads, other processes, restarts and the caller's transactions."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from windlass import lifecycle
from windlass.drivers.base import Filter, Signal, Turn
from windlass.errors import ConfigurationError, LeaseLostError, NotSupportedError
from windlass.job import NewJob, Status
from windlass.testing.conformance.bench import (
    EVERYTHING,
    TASK,
    Bench,
    assert_counted,
    beat,
    cancel,
    in_every_status,
    job,
    put,
    run_one,
    stored,
    succeed,
    take,
    totals,
    turn,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from windlass.drivers.base import Driver
    from windlass.job import Record

THREADS = 8


def together(work: Callable[[int], list[Record]]) -> list[list[Record]]:
    """Run *work* in eight threads that begin at the same moment."""
    barrier = threading.Barrier(THREADS)

    def begin(number: int) -> list[Record]:
        barrier.wait(30)
        return work(number)

    with ThreadPoolExecutor(THREADS, thread_name_prefix="conformance") as pool:
        return list(pool.map(begin, range(THREADS)))


def insert_through(bench: Bench, driver: Driver, connection: Any, jobs: Sequence[NewJob]) -> list[Record]:
    """Insert on a caller's connection."""
    runner = driver.adopt(connection)
    steps = driver.insertion(jobs)
    try:
        statement = next(steps)
        while True:
            statement = steps.send(bench.run_statement(runner, statement))
    except StopIteration as stop:
        return list(stop.value)


class Sharing(Bench):
    """What holds when others are at work too."""

    # ------------------------------------------------------------------ threads

    def test_threads_never_claim_a_job_twice(self, driver: Driver) -> None:
        """Eight threads empty a queue; each job is leased once, under a lease of its own."""
        made = driver.insert([job(f"t{n % 3}", priority=n % 2) for n in range(400)])

        def claim(number: int) -> list[Record]:
            got: list[Record] = []
            while claims := take(driver, 7, tasks=("t0", "t1", "t2"), worker=f"worker-{number}"):
                got += claims
            return got

        claims = [record for got in together(claim) for record in got]
        assert sorted(r.id for r in claims) == [r.id for r in made]
        assert len({r.lease for r in claims}) == len(made)
        assert_counted(driver)

    def test_threads_settling_and_claiming_lose_nothing(self, driver: Driver) -> None:
        """Every job is completed exactly once, and the counters know it."""
        driver.insert([job() for _ in range(200)])

        def work(number: int) -> list[Record]:
            done: list[Record] = []
            settlements: list[lifecycle.Settlement] = []
            while True:
                turned = driver.exchange(
                    Turn(worker=f"w{number}", settlements=settlements, limit=5, start=5, tasks=(TASK,))
                )
                assert turned.refused == []
                if not turned.claims:
                    return done
                done += turned.claims
                settlements = [lifecycle.Settlement(r, lifecycle.succeed(r), turned.now) for r in turned.claims]

        done = [record.id for got in together(work) for record in got]
        assert len(done) == len(set(done)) == 200
        assert totals(driver)["processed"] == 200
        assert_counted(driver)

    def test_threads_insert_side_by_side(self, driver: Driver) -> None:
        """No id is given twice, and within a call ids grow."""

        def insert(number: int) -> list[Record]:
            records: list[Record] = []
            for _ in range(20):
                made = driver.insert([job(f"t{number}") for _ in range(5)])
                assert [r.id for r in made] == sorted(r.id for r in made)
                records += made
            return records

        made = [record for records in together(insert) for record in records]
        assert len({r.id for r in made}) == len(made) == driver.count(EVERYTHING, most=0)
        assert_counted(driver)

    def test_a_turn_returns_what_it_claims_while_others_insert(self, driver: Driver) -> None:
        """Seven threads insert while one claims: what runs in the end is what the turns have returned."""
        inserting = threading.Semaphore(THREADS - 1)
        for _ in range(THREADS - 1):
            inserting.acquire()

        def work(number: int) -> list[Record]:
            if number:
                try:
                    for _ in range(100):
                        driver.insert([job()])
                finally:
                    inserting.release()
                return []
            got: list[Record] = []
            ended = 0
            while True:
                ended += inserting.acquire(blocking=False)
                claims = take(driver, 10)
                got += claims
                if not claims and ended == THREADS - 1:
                    return got

        claims = [record for got in together(work) for record in got]
        running = driver.find(Filter(statuses=(Status.RUNNING,)), limit=10_000)
        assert sorted(r.id for r in claims) == sorted(r.id for r in running)
        assert len(claims) == 100 * (THREADS - 1)
        assert_counted(driver)

    def test_threads_settling_one_lease_agree_on_one(self, driver: Driver) -> None:
        """Of eight ends of one lease one applies and seven are refused."""
        record = run_one(driver)
        ended = together(lambda _: [] if succeed(driver, record).refused else [record])
        assert sum(map(len, ended)) == 1
        assert totals(driver)["processed"] == 1

    # ------------------------------------------------------------------ durable

    def test_everything_survives_a_restart(self, driver: Driver) -> None:
        """Jobs, history, counters, pauses, workers and the clock are as they were."""
        if not driver.capabilities.durable:
            pytest.skip(f"{driver.name} does not keep jobs over a restart")
        made = in_every_status(driver)
        rows = {r.id: driver.history(r.id) for r in made.values()}
        beat(driver)
        driver.pause("queue", "held", True)
        counted = totals(driver)
        driver = self.reopen(driver)
        assert {s: stored(driver, r) for s, r in made.items()} == made
        assert {r.id: driver.history(r.id) for r in made.values()} == rows
        assert totals(driver) == counted
        assert driver.pauses() == {("queue", "held")}
        assert [w.id for w in driver.workers()] == ["worker-1"]
        assert_counted(driver)

    def test_numbers_go_on_after_a_restart(self, driver: Driver) -> None:
        """Neither ids nor leases are used again, even when nothing is left that had them."""
        if not driver.capabilities.durable:
            pytest.skip(f"{driver.name} does not keep jobs over a restart")
        record = run_one(driver)
        succeed(driver, record)
        assert driver.purge({Status.COMPLETED: 0.0}, 10) == 1
        driver = self.reopen(driver)
        again = run_one(driver)
        assert again.id > record.id
        assert again.lease > record.lease

    def test_close_can_be_repeated(self, driver: Driver) -> None:
        """Closing what is closed is no error."""
        driver.close()
        driver.close()

    # ------------------------------------------------------------------ shared

    def test_another_process_sees_and_claims_the_same_jobs(self, driver: Driver) -> None:
        """What one driver stores the other claims; the first sees it run."""
        other = self._second(driver)
        record = put(driver)
        [claimed] = take(other)
        assert claimed.id == record.id
        assert stored(driver, record) == claimed
        assert take(driver) == []
        other.close()

    def test_another_process_rings_the_bell(self, driver: Driver) -> None:
        """Work stored elsewhere wakes the worker here."""
        other = self._second(driver)
        bell = driver.bell()
        beat(driver, bell=bell.address)
        bell.wait(0)
        put(other)
        assert bell.wait(10.0)
        bell.close()
        other.close()

    def test_another_process_signals_and_shifts(self, driver: Driver) -> None:
        """Signals, pauses and the clock are the store's, not the driver's."""
        other = self._second(driver)
        record = run_one(driver)
        cancel(other, record)
        assert turn(driver).signals == [Signal(record.id, record.lease, True)]
        other.pause("task", TASK, True)
        put(driver)
        assert take(driver) == []
        before = turn(driver).now
        other.shift(1000)
        assert turn(driver).now == pytest.approx(before + 1000, abs=5)
        other.close()

    def _second(self, driver: Driver) -> Driver:
        if not driver.capabilities.shared:
            pytest.skip(f"{driver.name} is not shared with other processes")
        return self.second(driver)

    # ------------------------------------------------------------------ transactions

    def test_a_store_without_transactions_says_so(self, driver: Driver) -> None:
        """``NotSupportedError`` comes at the call, and names the stores that can."""
        if driver.capabilities.transactions:
            pytest.skip(f"{driver.name} has transactions")
        for attempt in (driver.transaction, lambda: driver.insertion([job()]), lambda: driver.adopt(object())):
            with pytest.raises(NotSupportedError, match="SQL"):
                attempt()

    def test_a_transaction_commits_children_and_end_together(self, driver: Driver) -> None:
        """At the end of the block the job is completed and its children are there."""
        self._need_transactions(driver)
        record = run_one(driver)
        with driver.transaction() as tx:
            tx.insert([job("child")])
            tx.settle(lifecycle.Settlement(record, lifecycle.succeed(record, b"1"), driver.now()))
        assert stored(driver, record).status is Status.COMPLETED
        assert len(take(driver, 5, tasks=("child",))) == 1
        assert_counted(driver)

    def test_a_transaction_that_fails_leaves_nothing(self, driver: Driver) -> None:
        """The exception passes, and neither child nor end is written."""
        self._need_transactions(driver)
        record = run_one(driver)
        with pytest.raises(ZeroDivisionError), driver.transaction() as tx:
            tx.insert([job("child")])
            tx.settle(lifecycle.Settlement(record, lifecycle.succeed(record), driver.now()))
            raise ZeroDivisionError
        assert stored(driver, record) == record
        assert driver.count(EVERYTHING, most=10) == 1
        assert succeed(driver, record).refused == []
        assert_counted(driver)

    def test_a_transaction_without_the_lease_fails(self, driver: Driver) -> None:
        """A stale lease raises, and takes what was written with it."""
        self._need_transactions(driver)
        record = run_one(driver)
        succeed(driver, record)
        with pytest.raises(LeaseLostError), driver.transaction() as tx:
            tx.insert([job("child")])
            tx.settle(lifecycle.Settlement(record, lifecycle.succeed(record), driver.now()))
        assert driver.count(EVERYTHING, most=10) == 1
        assert_counted(driver)

    def test_a_job_appears_when_the_caller_commits(self, driver: Driver) -> None:
        """Inserted through a caller's connection, it is there after the commit and not before."""
        self._need_transactions(driver)
        connection = self.foreign_connection(driver)
        records = insert_through(self, driver, connection, [job(tags=("x",)), job(delay=60)])
        assert driver.count(EVERYTHING, most=10) == 0
        connection.commit()
        assert [stored(driver, r) for r in records] == records
        assert [r.status for r in records] == [Status.PENDING, Status.SCHEDULED]
        assert [r.id for r in take(driver, 5)] == [records[0].id]
        assert put(driver).id > records[1].id
        assert_counted(driver)
        connection.close()

    def test_a_job_does_not_appear_when_the_caller_rolls_back(self, driver: Driver) -> None:
        """Nothing is left of it, and the store goes on."""
        self._need_transactions(driver)
        connection = self.foreign_connection(driver)
        insert_through(self, driver, connection, [job()])
        connection.rollback()
        connection.close()
        assert driver.count(EVERYTHING, most=10) == 0
        assert take(driver) == []
        put(driver)
        assert_counted(driver)

    def test_a_foreign_object_is_no_connection(self, driver: Driver) -> None:
        """The wrong kind of connection is refused before anything is written."""
        self._need_transactions(driver)
        with pytest.raises((TypeError, ConfigurationError)):
            driver.adopt(object())

    def _need_transactions(self, driver: Driver) -> None:
        if not driver.capabilities.transactions:
            pytest.skip(f"{driver.name} has no transactions")
