"""Promises about progress, log lines and what is published."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from windlass.drivers.base import LINES, Note
from windlass.testing.conformance.bench import (
    EVERYTHING,
    delete,
    fail,
    put,
    retry,
    run_one,
    stored,
    succeed,
    take,
    turn,
)

if TYPE_CHECKING:
    from windlass.drivers.base import Driver, Subscription


def hear(ear: Subscription, number: int) -> list[bytes]:
    """Wait for so many messages."""
    heard: list[bytes] = []
    while len(heard) < number:
        got = ear.get(20)
        assert got, f"only {heard} came"
        heard += got
    return heard


class Telling:
    """Kept while the lease is live; heard by all who listen."""

    def test_progress_is_kept_and_read_with_the_job(self, driver: Driver) -> None:
        """The newest counts; it stays when the job has ended."""
        record = run_one(driver)
        assert stored(driver, record).progress is None
        assert driver.note([Note(record.id, record.lease, b'{"done":1}')]) == []
        assert driver.note([Note(record.id, record.lease, b'{"done":2}'), Note(record.id, record.lease, None)]) == []
        assert stored(driver, record).progress == b'{"done":2}'
        assert driver.find(EVERYTHING, limit=5)[0].progress == b'{"done":2}'
        succeed(driver, record)
        assert stored(driver, record).progress == b'{"done":2}'

    def test_lines_are_kept_in_order(self, driver: Driver) -> None:
        """Numbered from one, over attempts; read from any number on."""
        record = run_one(driver)
        driver.note([Note(record.id, record.lease, None, ((10.0, "a"), (11.0, "b")))])
        fail(driver, record, delay=0)
        [again] = take(driver)
        driver.note([Note(again.id, again.lease, None, ((12.0, "ü\nc"),))])
        assert driver.lines(record.id) == [(1, 10.0, "a"), (2, 11.0, "b"), (3, 12.0, "ü\nc")]
        assert driver.lines(record.id, after=2) == [(3, 12.0, "ü\nc")]
        assert driver.lines(record.id + 1) == []

    def test_the_last_lines_are_kept(self, driver: Driver) -> None:
        """A handler that talks much fills no store; the numbers go on."""
        record = run_one(driver)
        for start in range(0, LINES + 100, 100):
            driver.note([Note(record.id, record.lease, None, tuple((1.0, str(start + n)) for n in range(100)))])
        lines = driver.lines(record.id)
        assert len(lines) == LINES
        assert lines[0] == (101, 1.0, "100")
        assert lines[-1] == (LINES + 100, 1.0, str(LINES + 99))

    def test_a_lease_that_is_not_live_is_refused(self, driver: Driver) -> None:
        """Nothing is kept of it, and the others of the call are."""
        old = run_one(driver)
        fail(driver, old, delay=0)
        [new] = take(driver)
        notes = [
            Note(old.id, old.lease, b'{"done":9}', ((1.0, "late"),)),
            Note(new.id, new.lease, b'{"done":1}', ((2.0, "good"),)),
            Note(new.id + 50, 1, b'{"done":1}'),
        ]
        assert driver.note(notes) == [(old.id, old.lease), (new.id + 50, 1)]
        assert stored(driver, new).progress == b'{"done":1}'
        assert driver.lines(new.id) == [(1, 2.0, "good")]
        succeed(driver, new)
        assert driver.note([notes[1]]) == [(new.id, new.lease)]

    def test_deleted_jobs_leave_nothing(self, driver: Driver) -> None:
        """Neither progress nor lines; ids are not used again."""
        record = run_one(driver)
        driver.note([Note(record.id, record.lease, b'{"done":1}', ((1.0, "x"),))])
        fail(driver, record, max_attempts=1)
        retry(driver, record, delay=100)
        assert driver.lines(record.id) != []
        delete(driver, record)
        assert driver.lines(record.id) == []

    def test_what_is_published_is_heard_by_all_who_listen(self, driver: Driver) -> None:
        """In order, by everybody, and by nobody who came later or has gone."""
        first, second, gone = driver.subscribe(), driver.subscribe(), driver.subscribe()
        try:
            gone.close()
            big = b"x" * 20_000  # more than one notification of PostgreSQL holds
            driver.publish([b"one", "zwei ü".encode()])
            driver.publish([big])
            driver.publish([])
            for ear in (first, second):
                assert hear(ear, 3) == [b"one", "zwei ü".encode(), big]
            late = driver.subscribe()
            driver.publish([b"last"])
            assert hear(late, 1) == [b"last"]
            late.close()
            assert hear(first, 1) == [b"last"]
        finally:
            first.close()
            second.close()

    def test_nothing_published_is_nothing_heard(self, driver: Driver) -> None:
        """A listener's patience ends."""
        ear = driver.subscribe()
        try:
            assert ear.get(0.01) == []
        finally:
            ear.close()

    def test_a_turn_says_whether_anybody_listens(self, driver: Driver) -> None:
        """So that nothing is published for nobody."""
        put(driver)
        assert not turn(driver).heard
        ear = driver.subscribe()
        assert turn(driver).heard
        ear.close()
        assert not turn(driver).heard

    def test_a_listener_in_another_thread_is_woken(self, driver: Driver) -> None:
        """It does not look, it is told."""
        ear = driver.subscribe()
        heard: list[bytes] = []
        thread = threading.Thread(target=lambda: heard.extend(hear(ear, 1)))
        thread.start()
        driver.publish([b"wake"])
        thread.join(20)
        ear.close()
        assert heard == [b"wake"]
