"""What a claim, an enqueue and the statistics cost does not depend on how full the store is.

Cost is counted in the steps of SQLite's virtual machine, which are the same on every machine.
"""

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from windlass import Failure, failures, lifecycle
from windlass.drivers.base import FAULTS, Filter, NewBatch, Turn
from windlass.drivers.sqlite import SqliteDriver
from windlass.job import ALWAYS, Gate, Hold, NewJob, Record, Status
from windlass.lifecycle import Settlement

TASKS = tuple(f"task-{number:02}" for number in range(50))
HERE = TASKS[:1]
FULL, FULLER = 30_000, 1_000_000
LIMITED = ("a-limited-task",)


def new(task: str, number: int) -> list[NewJob]:
    return [NewJob(task=task, queue="default", payload=b'{"user_id":12345}') for _ in range(number)]


def fill(driver: SqliteDriver, size: int) -> None:
    """*size* jobs of an unknown task at the head, *size* completed and *size* waiting over fifty tasks."""
    driver.insert(new("a-task-that-nobody-knows", size))
    driver.insert([job for task in TASKS for job in new(task, size // len(TASKS))])
    ended: list[Record] = []
    while True:
        settlements = [Settlement(r, lifecycle.succeed(r), driver.now()) for r in ended]
        turn = Turn(worker="w", settlements=settlements, limit=1000, start=1000, tasks=TASKS)
        ended = driver.exchange(turn).claims
        if not ended:
            break
    driver.insert([job for task in TASKS for job in new(task, size // len(TASKS))])
    put_aside(driver, size)


def put_aside(driver: SqliteDriver, size: int) -> None:
    """*size* members of a batch, each with a key, that wait before one gate, one of which runs."""
    batch_id = driver.open_batch(NewBatch(name="limited")).id
    for start in range(0, size, 1000):
        driver.insert([limited(f"key-{number}", batch_id) for number in range(start, start + 1000)])
    while (turned := driver.exchange(Turn(worker="w", limit=10, start=10, tasks=LIMITED))).due is not None:
        assert turned.due == turned.now
    assert driver.passages()[0].blocked == size - 1


def limited(key: str, batch_id: int | None = None) -> NewJob:
    return NewJob(
        task=LIMITED[0],
        queue="default",
        payload=b"{}",
        batch_id=batch_id,
        holds=(Hold(key, ALWAYS),),
        gates=(Gate("limit:one", 1),),
    )


class Steps:
    """Counts the steps of every connection the driver opens."""

    def __init__(self) -> None:
        self.count = 0

    def connect(self, real: Callable[..., sqlite3.Connection]) -> Callable[..., sqlite3.Connection]:
        def connect(*args: object, **kwargs: object) -> sqlite3.Connection:
            connection = real(*args, **kwargs)
            connection.set_progress_handler(self._step, 1)
            return connection

        return connect

    def _step(self) -> int:
        self.count += 1
        return 0

    @contextmanager
    def of(self, costs: dict[str, int], name: str) -> Iterator[None]:
        before = self.count
        yield
        costs[name] = self.count - before


def measure(path: Path, size: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    driver = SqliteDriver(path, durability="relaxed")
    driver.open()
    fill(driver, size)
    driver.close()
    steps = Steps()
    monkeypatch.setattr(sqlite3, "connect", steps.connect(sqlite3.connect))
    driver.open()
    costs: dict[str, int] = {}
    with steps.of(costs, "enqueue one"):
        driver.insert(new(TASKS[0], 1))
    with steps.of(costs, "claim ten, all tasks known"):
        claims = driver.exchange(Turn(worker="w", limit=10, start=10, tasks=TASKS)).claims
    assert len(claims) == 10
    settlements = [Settlement(r, lifecycle.succeed(r), driver.now()) for r in claims]
    with steps.of(costs, "settle ten and claim ten of one task"):
        turn = Turn(worker="w", settlements=settlements, limit=10, start=10, tasks=HERE)
        claims = driver.exchange(turn).claims
    assert len(claims) == 10
    [running] = [record for job_id in driver.holders("limit:one", 5) if (record := driver.get(job_id)) is not None]
    settlements = [Settlement(running, lifecycle.succeed(running), driver.now())]
    with steps.of(costs, "give a slot back and start the next of those put aside"):
        assert driver.exchange(Turn(worker="w", settlements=settlements, limit=10, start=10, tasks=LIMITED)).claims
    with steps.of(costs, "an enqueue whose key is held"):
        assert driver.insert([limited("key-7")])[0].found
    with steps.of(costs, "an enqueue with a key"):
        assert not driver.insert([limited("another")])[0].found
    with steps.of(costs, "an idle look of a worker that knows none of them"):
        assert not driver.exchange(Turn(worker="w", limit=10, start=10, tasks=("another",))).claims
    with steps.of(costs, "stats"):
        driver.tallies()
    with steps.of(costs, "orphans"):
        driver.orphans(100)
    with steps.of(costs, "a page of completed jobs"):
        driver.find(Filter(statuses=(Status.COMPLETED,)), limit=50)
    with steps.of(costs, "a page of one task's completed jobs"):
        driver.find(Filter(task=TASKS[7], statuses=(Status.COMPLETED,)), limit=50)
    with steps.of(costs, "a page of all jobs"):
        driver.find(Filter(), limit=50)
    with steps.of(costs, "a count by status and queue"):
        driver.count(Filter(statuses=(Status.PENDING,), queue="default"), most=100)
    with steps.of(costs, "nothing to purge"):
        driver.purge({Status.COMPLETED: 3600, Status.CANCELLED: 3600, Status.DEAD: 3600}, 500)
    with steps.of(costs, "the oldest of a queue"):
        driver.oldest("default")
    driver.close()
    monkeypatch.undo()
    return costs


SIZES = [
    pytest.param(FULL, marks=pytest.mark.slow, id="30,000"),
    pytest.param(FULLER, marks=[pytest.mark.soak, pytest.mark.timeout(1800)], id="1,000,000"),
]


@pytest.mark.parametrize("size", SIZES)
def test_a_full_store_costs_no_more_than_a_small_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """With 10⁵ (10⁶) completed, waiting and foreign jobs every hot step takes the steps it takes with a few."""
    small = measure(tmp_path / "small.db", 60 * len(TASKS), monkeypatch)
    full = measure(tmp_path / "full.db", size, monkeypatch)
    if os.environ.get("WINDLASS_SHOW_STEPS"):
        for name in small:
            print(f"{name}: {small[name]} → {full[name]}")  # noqa: T201
    # The skip from stream to stream meets a row more or less where a stream begins; that is all that may differ.
    assert {name: cost for name, cost in full.items() if cost > small[name] * 1.02 + 10} == {}


def die(driver: SqliteDriver, number: int) -> None:
    """So many dead jobs of two causes."""
    errors = [failures.encode(Failure(type="ValueError", message=name)) for name in ("no street", "no house")]
    driver.insert(new(TASKS[0], number))
    ended: list[Settlement] = []
    while claims := driver.exchange(Turn(worker="w", settlements=ended, limit=500, start=500, tasks=HERE)).claims:
        now = driver.now()
        ended = [
            Settlement(r, lifecycle.fail(r, errors[r.id % 2], max_attempts=1, delay=0, now=now), now) for r in claims
        ]


def failing(path: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    driver = SqliteDriver(path, durability="relaxed")
    driver.open()
    die(driver, number)
    driver.close()
    steps = Steps()
    monkeypatch.setattr(sqlite3, "connect", steps.connect(sqlite3.connect))
    driver.open()
    costs: dict[str, int] = {}
    with steps.of(costs, "the groups of failures"):
        found = driver.faults(10)
    assert [fault.dead for fault in found] == [FAULTS + 1] * 2
    which = Filter(statuses=(Status.DEAD,), fingerprint=found[0].fingerprint)
    with steps.of(costs, "a page of a group"):
        assert len(driver.find(which, limit=50)) == 50
    with steps.of(costs, "a page of no group"):
        assert driver.find(Filter(statuses=(Status.DEAD,), fingerprint="0" * 16), limit=50) == []
    driver.close()
    monkeypatch.undo()
    return costs


def test_failures_cost_by_their_causes_not_by_their_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each cause a bounded number is counted, and a page of them is read by their index."""
    few = failing(tmp_path / "few.db", 2 * FAULTS + 100, monkeypatch)
    many = failing(tmp_path / "many.db", 10 * FAULTS, monkeypatch)
    assert {name: cost for name, cost in many.items() if cost > few[name] * 1.02 + 10} == {}


def test_the_hot_statements_use_their_indexes(tmp_path: Path) -> None:
    """No statement of the turn scans a table that grows with the number of jobs."""
    driver = SqliteDriver(tmp_path / "plans.db")
    driver.open()
    connection = sqlite3.connect(tmp_path / "plans.db")
    sql = driver._sql
    for name in (
        "live",
        "start",
        "lease",
        "delete_ready",
        "delete_running",
        "next_due",
        "due",
        "record_by_id",
        "expired",
        "glance",
        "holds",
        "gate",
        "looks",
        "next_look",
        "let_back",
        "delete_blocked",
        "take_blocked",
        "unfinished",
        "count_members",
        "ripe",
        "lines",
        "record_by_hold",
    ):
        statement: str = getattr(sql, name)
        values = [None] * statement.count("?")
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
        scans = [line for line in plan if line.startswith("SCAN") and "json_each" not in line and " e" not in line]
        small = ("USING", "VIRTUAL", "windlass_ear")  # there are as many ears as listeners
        assert not [scan for scan in scans if not any(word in scan for word in small)], (name, plan)
    head = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql.head}", ("q", "t", 10, 0))]
    assert any("SEARCH r USING PRIMARY KEY" in line for line in head), head
    assert not any("TEMP B-TREE" in line for line in head), head
    connection.close()
    driver.close()
