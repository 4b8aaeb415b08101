"""What keys, gates, batches and listeners do on SQLite beyond the promises of every store."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from tests.waiting import until
from windlass import lifecycle
from windlass.drivers.base import BatchMove, Filter, NewBatch, Note, Turn, Turned, Worker
from windlass.drivers.sql import insert_on
from windlass.drivers.sqlite import SqliteDriver
from windlass.drivers.sqlite.ears import MOST, PIECE
from windlass.errors import BatchStateError, UniqueConflictError
from windlass.job import Gate, Hold, NewJob, Record, Status
from windlass.lifecycle import Settlement

LIVE = 15
LIMIT = Gate("limit:tenant:5", 1)
WIDE = Gate("limit:task:t", 1)


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[SqliteDriver]:
    driver = SqliteDriver(tmp_path / "jobs.db", durability="relaxed")
    driver.open()
    yield driver
    driver.close()


@pytest.fixture
def other(driver: SqliteDriver) -> Iterator[SqliteDriver]:
    """The same file, as another process has it."""
    other = SqliteDriver(driver.path, durability="relaxed")
    other.open()
    yield other
    other.close()


@pytest.fixture
def connection(driver: SqliteDriver) -> Iterator[sqlite3.Connection]:
    """A caller's own."""
    connection = sqlite3.connect(str(driver.path), timeout=0)
    yield connection
    connection.close()


def job(**options: object) -> NewJob:
    return NewJob(**{"task": "t", "queue": "q", "payload": b"{}", **options})  # type: ignore[arg-type]


def unique(key: str = "k", *, strict: bool = False, **options: object) -> NewJob:
    return job(holds=(Hold(key, LIVE, 0.0, strict),), **options)


def take(driver: SqliteDriver, ended: Sequence[Record] = (), limit: int = 10, worker: str = "w") -> Turned:
    settlements = [Settlement(r, lifecycle.succeed(r), driver.now()) for r in ended]
    return driver.exchange(Turn(worker=worker, settlements=settlements, limit=limit, start=limit, tasks=("t",)))


def rows(driver: SqliteDriver, table: str) -> int:
    with driver._reading() as connection:
        number: int = connection.execute(f"SELECT count(*) FROM windlass_{table}").fetchone()[0]
    return number


# ---------------------------------------------------------------------------------------- on a caller's connection


def test_a_key_is_held_through_a_caller_s_connection(driver: SqliteDriver, connection: sqlite3.Connection) -> None:
    first, second, third = insert_on(driver, connection, [unique(), job(), unique()])
    assert (first.found, second.found, third.found) == (False, False, True)
    assert third.id == first.id
    connection.commit()
    assert driver.insert([unique()])[0].id == first.id
    assert insert_on(driver, connection, [unique()])[0].found
    connection.commit()
    assert driver.count(Filter(), most=0) == 2


def test_a_key_taken_in_a_transaction_that_is_rolled_back_is_free(
    driver: SqliteDriver, connection: sqlite3.Connection
) -> None:
    insert_on(driver, connection, [unique()])
    connection.rollback()
    assert not driver.insert([unique()])[0].found


def test_a_strict_conflict_stores_nothing_of_the_callers_insert(
    driver: SqliteDriver, connection: sqlite3.Connection
) -> None:
    [there] = driver.insert([unique()])
    connection.execute("CREATE TABLE mine (x)")
    connection.execute("BEGIN")
    connection.execute("INSERT INTO mine VALUES (1)")
    with pytest.raises(UniqueConflictError) as raised:
        insert_on(driver, connection, [job(), unique("new"), unique(strict=True)])
    connection.commit()
    assert raised.value.existing.id == there.id
    assert driver.count(Filter(), most=0) == 1
    assert driver.holder("new") is None
    assert connection.execute("SELECT x FROM mine").fetchall() == [(1,)]


def test_a_batch_counts_members_that_a_caller_adds(driver: SqliteDriver, connection: sqlite3.Connection) -> None:
    batch = driver.open_batch(NewBatch(name="b"))
    driver.insert([unique()])
    insert_on(driver, connection, [job(batch_id=batch.id), job(batch_id=batch.id), unique(batch_id=batch.id)])
    connection.commit()
    assert driver.batches([batch.id])[0].total == 2
    driver.change_batch(batch.id, lambda _, now: BatchMove(open=False, finished_at=now))
    for missing in (batch.id, batch.id + 1):
        with pytest.raises(BatchStateError):
            insert_on(driver, connection, [job(batch_id=missing)])
    connection.rollback()
    assert driver.batches([batch.id])[0].total == 2


# ---------------------------------------------------------------------------------------- several processes


def test_of_enqueues_that_meet_one_is_stored(driver: SqliteDriver, other: SqliteDriver) -> None:
    start = Barrier(8)

    def enqueue(number: int) -> list[Record]:
        start.wait(30)
        mine = driver if number % 2 else other
        return [mine.insert([unique(str(key))])[0] for key in range(20)]

    with ThreadPoolExecutor(8) as pool:
        made = [record for records in pool.map(enqueue, range(8)) for record in records]
    assert len({record.id for record in made}) == 20
    assert sum(not record.found for record in made) == 20


def test_a_strict_conflict_spoils_no_enqueue_that_shares_its_transaction(driver: SqliteDriver) -> None:
    driver.insert([unique()])
    before = driver.commits

    with ThreadPoolExecutor(8) as pool, driver._pen.exclusive():
        futures = [pool.submit(driver.insert, [unique(strict=True) if n % 2 else job()]) for n in range(8)]
        until(lambda: len(driver._pen._waiting) == 8)
    errors = [future.exception() for future in futures]
    assert [type(error) for error in errors] == [type(None), UniqueConflictError] * 4
    assert driver.commits - before == 1


@pytest.mark.parametrize("gate", [LIMIT, WIDE], ids=["put aside", "passed over"])
def test_a_freed_slot_rings_who_waits_elsewhere(driver: SqliteDriver, other: SqliteDriver, gate: Gate) -> None:
    if gate is WIDE:
        driver.set_gate(gate, pinned=False)
    driver.insert([job(gates=() if gate is WIDE else (gate,)) for _ in range(3)])
    [running] = take(driver).claims
    bell = other.bell()
    other.beat(Worker(id="w2", host="h", pid=1, bell=bell.address))
    assert take(other, worker="w2").claims == []
    bell.wait(0)
    take(driver, [running], limit=0)
    assert bell.wait(10)
    assert len(take(other, worker="w2").claims) == 1
    bell.close()


def test_a_slot_that_is_filled_in_the_same_turn_rings_nobody(driver: SqliteDriver, other: SqliteDriver) -> None:
    driver.insert([job(gates=(LIMIT,)) for _ in range(3)])
    [running] = take(driver).claims
    bell = other.bell()
    other.beat(Worker(id="w2", host="h", pid=1, bell=bell.address))
    assert len(take(driver, [running]).claims) == 1
    assert not bell.wait(0)
    bell.close()


@pytest.mark.parametrize("gate", [LIMIT, WIDE, Gate("rate:task:t", 0.001, 1.0, 1)], ids=["limit", "wide", "wide rate"])
def test_waiting_before_a_shut_gate_writes_nothing(driver: SqliteDriver, gate: Gate) -> None:
    driver.set_gate(gate, pinned=True)
    driver.insert([job(gates=(gate,) if gate is LIMIT else ()) for _ in range(3)])
    assert len(take(driver).claims) == 1
    take(driver)
    before = driver.commits
    turned = take(driver)
    assert turned.claims == []
    assert (turned.due is not None) == bool(gate.per)
    assert driver.commits == before


def test_setting_a_gate_as_it_is_writes_nothing(driver: SqliteDriver) -> None:
    driver.set_gate(WIDE, pinned=False)
    before = driver.commits
    driver.set_gate(WIDE, pinned=False)
    assert driver.commits == before
    driver.set_gate(WIDE, pinned=True)
    assert driver.passages()[0].pinned


def test_more_than_a_turn_may_put_aside_come_in_the_next_turns(driver: SqliteDriver) -> None:
    driver.insert([job(gates=(LIMIT,)) for _ in range(1500)] + [job()])
    first = take(driver)
    assert (len(first.claims), first.due) == (1, first.now)
    second = take(driver)
    assert len(second.claims) == 1
    assert second.due is None
    assert driver.passages()[0].blocked == 1499
    pages = [driver.find(Filter(statuses=(Status.PENDING,)), limit=1000, offset=offset) for offset in (0, 1000)]
    assert len({record.id for page in pages for record in page}) == 1499


# ---------------------------------------------------------------------------------------- nothing is left


def test_nothing_is_left_of_jobs_that_are_gone(driver: SqliteDriver) -> None:
    """Whether they were purged, deleted by hand or not kept."""
    options = {"tags": ("a", "b"), "gates": (LIMIT,), "idempotency_key": "i"}
    for keep in (True, False):
        driver.insert([unique(**options)])
        [record] = take(driver).claims
        driver.note([Note(record.id, record.lease, b'{"done":1}', ((1.0, "x"),))])
        end = Settlement(record, lifecycle.succeed(record, keep=keep), driver.now())
        driver.exchange(Turn(worker="w", settlements=[end]))
        assert driver.purge({Status.COMPLETED: 0}, 10) == int(keep)
    [record] = driver.insert([unique(**options)])
    driver.change([record.id], lambda r, _: lifecycle.delete(r))
    driver.insert([job(gates=(Gate("rate:x", 1000, 1.0, 10),))])
    take(driver, take(driver).claims)
    driver.shift(1)
    driver.tidy()
    driver.purge({Status.COMPLETED: 0}, 10)
    for table in ("job", "ready", "blocked", "running", "done", "attempt", "note", "tag", "hold", "slot", "gate"):
        assert rows(driver, table) == 0, table


def test_other_jobs_keep_their_tags_when_one_is_purged(driver: SqliteDriver) -> None:
    driver.insert([job(tags=("a",))])
    [done] = take(driver).claims
    driver.insert([job(tags=("a",))])
    take(driver, [done], limit=0)
    assert driver.purge({Status.COMPLETED: 0}, 10) == 1
    assert [record.tags for record in driver.find(Filter(tag="a"), limit=5)] == ['["a"]']


# ---------------------------------------------------------------------------------------- who listens

_LISTENER = """
import sys
from windlass.drivers.sqlite import SqliteDriver
driver = SqliteDriver(sys.argv[1])
driver.open()
ear = driver.subscribe()
print("ready", flush=True)
print(ear.get(60)[0].decode(), flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
def test_a_listener_whose_process_has_died_is_forgotten_within_a_minute(driver: SqliteDriver) -> None:
    program = [sys.executable, "-c", _LISTENER, str(driver.path)]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        driver.publish([b"hello"])
        assert child.stdout.readline() == "hello\n"
        child.kill()
    assert take(driver).heard
    driver.publish([b"nobody hears this"])
    driver.shift(61)
    assert not take(driver).heard
    driver.tidy()
    assert rows(driver, "ear") == 0


def test_a_message_of_many_pieces_comes_whole(driver: SqliteDriver, other: SqliteDriver) -> None:
    ear = other.subscribe()
    big = bytes(range(256)) * (PIECE * 40 // 256) + b"end"
    heard: list[bytes] = []
    while big not in heard:  # a piece may be lost
        driver.publish([big, b"after"])
        heard += ear.get(10)
    assert set(heard) <= {big, b"after"}
    ear.close()


def test_an_ear_that_nobody_empties_keeps_the_newest(driver: SqliteDriver) -> None:
    ear = driver.subscribe()
    last = b"%d" % (MOST + 50)
    for start in range(0, MOST + 51, 50):
        driver.publish([b"%d" % number for number in range(start, min(start + 50, MOST + 51))])
    while ear._inbox[-1] != last:  # it may be lost
        driver.publish([last])
    heard = ear.get(1)
    assert len(heard) <= MOST
    assert heard[-1] == last
    ear.close()


def test_closing_the_store_ends_its_listeners(driver: SqliteDriver) -> None:
    ear = driver.subscribe()
    driver.close()
    assert ear.get(20) == []
    driver.open()
    assert not take(driver).heard
    ear.close()
