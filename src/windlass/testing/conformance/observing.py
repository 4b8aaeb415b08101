"""Promises about what is observed: journals, sums, groups of failures, and orders to workers."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import msgspec
import pytest

from windlass import failures, lifecycle
from windlass.drivers.base import FAULTS, SELF, Entry, Fault, Filter, Signal
from windlass.drivers.patience import at_most
from windlass.errors import QueryTimeoutError
from windlass.fingerprint import cut
from windlass.job import Failure, Status
from windlass.testing.conformance.bench import WORKER, beat, delete, job, retry, run_one, settle, stored, turn

if TYPE_CHECKING:
    from windlass.drivers.base import Driver
    from windlass.job import Record


def error(message: str) -> bytes:
    """Return a stored error."""
    return failures.encode(Failure(type="ValueError", message=message, data={"fingerprint": "0" * 16}))


def die(driver: Driver, message: str, **options: object) -> Record:
    """Bring a job to its death."""
    record = run_one(driver, **options)
    settle(driver, record, lifecycle.fail(record, error(message), max_attempts=1, delay=0, now=driver.now()))
    return stored(driver, record)


def try_again(driver: Driver, message: str) -> Record:
    """Fail a job that will be tried again."""
    record = run_one(driver)
    settle(driver, record, lifecycle.fail(record, error(message), max_attempts=3, delay=1000, now=driver.now()))
    return stored(driver, record)


class Observing:
    """Bounded, and of those who write for the same moment one does."""

    def test_a_journal_is_read_from_its_newest_entry(self, driver: Driver) -> None:
        """Numbered from one; each journal by itself."""
        before = driver.now()
        assert driver.entries("audit", 10) == []
        assert [driver.write("audit", body, keep=10) for body in (b'"a"', b'"\xc3\xbc\\u0000"', b'"c"')] == [1, 2, 3]
        assert driver.write("other", b"{}", keep=10) == 1
        found = driver.entries("audit", 10)
        assert [(entry.number, entry.body) for entry in found] == [(3, b'"c"'), (2, b'"\xc3\xbc\\u0000"'), (1, b'"a"')]
        assert all(before - 1 <= entry.at <= driver.now() + 1 for entry in found)
        assert [entry.number for entry in driver.entries("audit", 1)] == [3]
        assert [entry.number for entry in driver.entries("audit", 5, before=3)] == [2, 1]
        assert isinstance(found[0], Entry)

    def test_a_journal_keeps_its_newest(self, driver: Driver) -> None:
        """Older ones go as new ones come."""
        for number in range(7):
            driver.write("audit", b"%d" % number, keep=3)
            driver.write("other", b"%d" % number, keep=100)
        assert [entry.body for entry in driver.entries("audit", 10)] == [b"6", b"5", b"4"]
        assert len(driver.entries("other", 10)) == 7
        assert driver.write("audit", b"7", keep=3) == 8

    def test_a_given_number_is_written_once(self, driver: Driver) -> None:
        """Nor is one below it; gaps are allowed."""
        assert driver.write("minute", b"1", keep=10, number=500) == 500
        assert driver.write("minute", b"2", keep=10, number=500) is None
        assert driver.write("minute", b"3", keep=10, number=499) is None
        assert driver.write("minute", b"4", keep=10, number=510) == 510
        assert [(entry.number, entry.body) for entry in driver.entries("minute", 10)] == [(510, b"4"), (500, b"1")]

    def test_of_those_who_write_for_the_same_moment_one_does(self, driver: Driver) -> None:
        """Threads race for each number."""
        together = threading.Barrier(4)
        won: list[int] = []

        def race() -> None:
            for number in range(1, 21):
                together.wait(20)
                if driver.write("minute", b"0", keep=100, number=number) is not None:
                    won.append(number)

        threads = [threading.Thread(target=race) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(won) == list(range(1, 21))
        assert len(driver.entries("minute", 100)) == 20

    def test_of_those_who_append_at_once_nobody_is_lost(self, driver: Driver) -> None:
        """Each gets a number of its own."""
        together = threading.Barrier(4)

        def append() -> None:
            for _ in range(10):
                together.wait(20)
                driver.write("audit", b"0", keep=100)

        threads = [threading.Thread(target=append) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [entry.number for entry in driver.entries("audit", 100)] == list(range(40, 0, -1))

    def test_sums_only_grow(self, driver: Driver) -> None:
        """Each by its name."""
        assert driver.measures() == {}
        driver.measure({"a": 1, "ü'\"\\": 1 << 40})
        driver.measure({"a": 2, "b": 5})
        driver.measure({})
        assert driver.measures() == {"a": 3, "ü'\"\\": 1 << 40, "b": 5}

    def test_sums_add_up_under_contention(self, driver: Driver) -> None:
        """Whoever adds the same names in another order waits, and nobody is lost."""
        together = threading.Barrier(4)
        names = [str(number) for number in range(20)]

        def add(order: int) -> None:
            for _ in range(10):
                together.wait(20)
                driver.measure(dict.fromkeys(names[::order], 1))

        threads = [threading.Thread(target=add, args=(order,)) for order in (1, -1, 1, -1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert driver.measures() == dict.fromkeys(names, 40)

    def test_failures_of_one_cause_are_one_group(self, driver: Driver) -> None:
        """Dead and retrying ones together, that with the newest job first."""
        assert driver.faults(10) == []
        first, second = die(driver, "no user 1"), die(driver, "no user 2")
        other = die(driver, "no street")
        waiting = try_again(driver, "no user 3")
        alone = try_again(driver, "no such house")
        users, street, house = (cut(record.error) or "" for record in (first, other, alone))
        assert driver.faults(10) == [
            Fault(fingerprint=house, dead=0, retrying=1, newest=alone.id),
            Fault(fingerprint=users, dead=2, retrying=1, newest=waiting.id),
            Fault(fingerprint=street, dead=1, retrying=0, newest=other.id),
        ]
        assert [fault.fingerprint for fault in driver.faults(2)] == [house, users]
        assert cut(second.error) == cut(waiting.error) == users

    def test_a_group_loses_what_is_retried_or_deleted(self, driver: Driver) -> None:
        """And is gone with its last job."""
        one, two = die(driver, "no user 1"), die(driver, "no user 2")
        delete(driver, two)
        [fault] = driver.faults(10)
        assert (fault.dead, fault.newest) == (1, one.id)
        retry(driver, one)
        assert driver.faults(10) == []

    def test_a_group_loses_what_is_purged(self, driver: Driver) -> None:
        """As retention does it."""
        die(driver, "no user 1")
        driver.purge({Status.DEAD: 0.0}, 10)
        assert driver.faults(10) == []

    def test_an_error_without_a_fingerprint_is_in_no_group(self, driver: Driver) -> None:
        """Such are of a release that did not know them."""
        record = run_one(driver)
        old = msgspec.json.encode(Failure(type="ValueError", message="no"))
        settle(driver, record, lifecycle.fail(record, old, max_attempts=1, delay=0, now=driver.now()))
        assert driver.faults(10) == []

    def test_jobs_are_found_by_the_fingerprint_of_their_last_error(self, driver: Driver) -> None:
        """Together with every other filter."""
        dead = [die(driver, f"no user {number}", queue=f"q{number % 2}") for number in range(4)]
        waiting = try_again(driver, "no user 5")
        die(driver, "no street")
        name = cut(dead[0].error)
        failed = (Status.DEAD, Status.RETRYING)
        both = Filter(statuses=failed, fingerprint=name)
        assert [r.id for r in driver.find(both, limit=10)] == [waiting.id, *(r.id for r in reversed(dead))]
        assert [r.id for r in driver.find(both, limit=2, offset=1)] == [dead[3].id, dead[2].id]
        assert [r.id for r in driver.find(both, limit=10, before=dead[1].id)] == [dead[0].id]
        in_one = Filter(statuses=failed, fingerprint=name, queue="q1")
        assert [r.id for r in driver.find(in_one, limit=10)] == [dead[3].id, dead[1].id]
        assert driver.count(both, most=100) == 5
        assert driver.count(both, most=2) == 3
        assert driver.find(Filter(fingerprint="f" * 16), limit=10) == []
        assert len(driver.find(Filter(fingerprint=name), limit=10)) == 5

    def test_a_group_is_counted_up_to_a_bound(self, driver: Driver) -> None:
        """Beyond it is told to be more."""
        assert FAULTS >= 100
        one = die(driver, "no user")
        [fault] = driver.faults(10)
        assert fault.dead <= FAULTS + 1
        assert fault.newest == one.id

    def test_an_order_reaches_the_worker_once(self, driver: Driver) -> None:
        """With its next turn; others do not see it."""
        beat(driver)
        beat(driver, "other")
        assert driver.order(WORKER, 2)
        assert turn(driver, "other").signals == []
        assert turn(driver).signals == [Signal(SELF, 2, cancel=True)]
        assert turn(driver).signals == []

    def test_who_is_not_there_gets_no_order(self, driver: Driver) -> None:
        """Unknown, stopped or lost."""
        assert not driver.order("nobody", 1)
        beat(driver)
        driver.retire(WORKER)
        assert not driver.order(WORKER, 1)
        beat(driver, "lost")
        driver.bury(["lost"])
        assert not driver.order("lost", 1)

    def test_a_listing_is_given_up_when_nobody_waits_for_it(self, driver: Driver) -> None:
        """And the next one is not."""
        driver.insert([job() for _ in range(5000)])
        which = Filter(error="NoSuchError")
        with pytest.raises(QueryTimeoutError), at_most(0.0):
            driver.count(which, most=10_000)
        assert driver.count(which, most=10_000) == 0
        with at_most(60.0):
            assert len(driver.find(Filter(), limit=5)) == 5
