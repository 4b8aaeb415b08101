"""What the conformance tests share: the fixture, the hooks and a handful of verbs."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from windlass import lifecycle
from windlass.drivers.base import Filter, Turn, Worker
from windlass.job import Failure, Kind, NewJob, Status

if TYPE_CHECKING:
    from collections.abc import Iterable

    from windlass.drivers.base import Changed, Driver, Statement, Turned
    from windlass.job import Record
    from windlass.lifecycle import Transition

TASK, QUEUE, WORKER = "report", "default", "worker-1"
EVERYTHING = Filter()


class Bench:
    """The fixture to override, and the hooks."""

    @pytest.fixture
    def driver(self) -> Any:
        """Yield an open driver on an empty store."""
        raise NotImplementedError("override the driver fixture")

    def reopen(self, driver: Driver) -> Driver:
        """Close the driver and return one on the same store."""
        driver.close()
        driver.open()
        return driver

    def second(self, driver: Driver) -> Driver:
        """Return another open driver on the same store, as another process would have."""
        pytest.skip(f"{driver.name}: the test class gives no second driver on the same store")

    def foreign_connection(self, driver: Driver) -> Any:
        """Return a caller's own connection to the store's database."""
        pytest.skip(f"{driver.name}: the test class gives no connection of a caller's")

    def run_statement(self, runner: Any, statement: Statement) -> list[Any]:
        """Run one statement on what ``adopt`` returned and return its rows."""
        return list(runner.execute(*statement).fetchall())


# ------------------------------------------------------------------ verbs


def job(task: str = TASK, queue: str = QUEUE, **options: Any) -> NewJob:
    """Make a job that is not stored yet."""
    options.setdefault("payload", b"{}")
    return NewJob(task=task, queue=queue, **options)


def put(driver: Driver, task: str = TASK, queue: str = QUEUE, **options: Any) -> Record:
    """Store one job."""
    [record] = driver.insert([job(task, queue, **options)])
    return record


def take(
    driver: Driver,
    limit: int = 1,
    *,
    start: int | None = None,
    tasks: Iterable[str] = (TASK,),
    queues: tuple[str, ...] | None = None,
    worker: str = WORKER,
    deadline: float | None = None,
) -> list[Record]:
    """Claim, and start unless *start* says how many."""
    turn = Turn(
        worker=worker,
        limit=limit,
        start=limit if start is None else start,
        tasks=tuple(tasks),
        queues=queues,
        deadline=deadline,
    )
    return driver.exchange(turn).claims


def run_one(driver: Driver, **options: Any) -> Record:
    """Store one job and start it."""
    put(driver, **options)
    [record] = take(driver)
    return record


def begin(driver: Driver, record: Record) -> Record:
    """Start a prefetched job and return it as its worker then knows it."""
    turned = driver.exchange(Turn(worker=record.worker or WORKER, starting=[record]))
    assert turned.refused == []
    return msgspec.structs.replace(record, started_at=turned.now, attempt=record.attempt + 1)


def settle(driver: Driver, record: Record, transition: Transition, *, worker: str | None = None) -> Turned:
    """End a lease."""
    settlement = lifecycle.Settlement(record, transition, driver.now())
    return driver.exchange(Turn(worker=worker or record.worker or WORKER, settlements=[settlement]))


def succeed(driver: Driver, record: Record, result: bytes | None = None) -> Turned:
    """End a lease well."""
    return settle(driver, record, lifecycle.succeed(record, result))


def fail(driver: Driver, record: Record, *, max_attempts: int = 3, delay: float = 10.0) -> Turned:
    """End a lease with an error."""
    transition = lifecycle.fail(record, ERROR, max_attempts=max_attempts, delay=delay, now=driver.now())
    return settle(driver, record, transition)


def turn(driver: Driver, worker: str = WORKER) -> Turned:
    """Exchange nothing: promote what is due, fetch signals."""
    return driver.exchange(Turn(worker=worker))


def cancel(driver: Driver, record: Record) -> Changed:
    """Cancel by hand."""
    [changed] = driver.change([record.id], lambda stored, _: lifecycle.cancel(stored))
    return changed


def retry(
    driver: Driver,
    record: Record,
    mode: lifecycle.RetryMode = "reset",
    *,
    delay: float = 0.0,
    force: bool = False,
    max_attempts: int = 3,
) -> Changed:
    """Retry by hand."""
    [changed] = driver.change(
        [record.id],
        lambda stored, now: lifecycle.retry(
            stored, mode=mode, delay=delay, force=force, max_attempts=stored.max_attempts or max_attempts, now=now
        ),
    )
    return changed


def delete(driver: Driver, record: Record) -> Changed:
    """Delete by hand."""
    [changed] = driver.change([record.id], lambda stored, _: lifecycle.delete(stored))
    return changed


def stored(driver: Driver, record: Record) -> Record:
    """Read a job that must be there."""
    found = driver.get(record.id)
    assert found is not None, f"job {record.id} is gone"
    return found


def beat(driver: Driver, worker: str = WORKER, **options: Any) -> bool:
    """Write a heartbeat."""
    return driver.beat(Worker(id=worker, host="here", pid=1, **options))


def in_every_status(driver: Driver) -> dict[Status, Record]:
    """Bring one job into each status."""
    scheduled = put(driver, delay=1000)
    completed = run_one(driver)
    succeed(driver, completed, b'"done"')
    dead = run_one(driver)
    fail(driver, dead, max_attempts=1)
    retrying = run_one(driver)
    fail(driver, retrying, delay=1000)
    running = run_one(driver)
    cancelled = put(driver)
    cancel(driver, cancelled)
    pending = put(driver)
    made = [scheduled, pending, running, retrying, completed, dead, cancelled]
    found = {record.status: record for record in (stored(driver, record) for record in made)}
    assert set(found) == set(Status)
    return found


def assert_counted(driver: Driver) -> None:
    """Compare the maintained counters with a recount of the jobs."""
    recount: Counter[tuple[str, str, Status]] = Counter(
        (r.queue, r.task, r.status) for r in driver.find(EVERYTHING, limit=10_000)
    )
    kept = Counter({(t.queue, t.task, s): n for t in driver.tallies() for s, n in t.counts.items() if n})
    assert kept == recount
    for status in Status:
        expected = sum(n for (_, _, s), n in recount.items() if s is status)
        assert driver.count(Filter(statuses=(status,)), most=0) == expected


def totals(driver: Driver) -> Counter[str]:
    """Add up the counters that never fall."""
    total: Counter[str] = Counter()
    for tally in driver.tallies():
        total.update(tally.totals)
    return total


ERROR = msgspec.json.encode(Failure(type="ValueError", message="no such street"))
CRASH = msgspec.json.encode(Failure(type="WorkerLost", message="the worker vanished", kind=Kind.CRASH))
