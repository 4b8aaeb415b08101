"""Everything that writes meets everything else, in random order and with delays: there is no deadlock."""

from __future__ import annotations

import random
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.chaos.ledger import assert_consistent
from tests.waiting import until
from windlass import JobError, LeaseLostError, Status, lifecycle, rescuer
from windlass.drivers.base import Turn, Worker
from windlass.drivers.postgres import PostgresDriver
from windlass.job import NewJob
from windlass.lifecycle import Settlement

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.servers.postgres import Postgres
    from windlass.job import Record

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

TASKS = ("a", "b", "c")
HOSTS = 4

SLOW = """
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF random() < 0.2 THEN PERFORM pg_sleep(random() * 0.003); END IF;
    RETURN coalesce(NEW, OLD);
END $$;
CREATE TABLE effect (job bigint NOT NULL);
"""


class Melee:
    """Threads that do all there is to do, on the same few jobs."""

    def __init__(self, drivers: list[PostgresDriver], dice: random.Random, rounds: int) -> None:
        self.drivers = drivers
        self.rounds = rounds
        self.seed = dice.randrange(1 << 30)
        self.errors: list[BaseException] = []
        self.ids: list[int] = []
        self.workers = [f"w{number}-0" for number in range(HOSTS)]
        self.done: dict[str, int] = {}
        self.over = threading.Event()
        self.ended = threading.Semaphore(0)

    def run(self) -> None:
        roles: list[Callable[[PostgresDriver, random.Random, int], None]] = [self.host] * HOSTS
        roles += [self.manager] * 3 + [self.rescuer] * 2 + [self.keeper] * 2 + [self.client]
        threads = [
            threading.Thread(target=self._guard, args=(role, number), daemon=True) for number, role in enumerate(roles)
        ]
        for thread in threads:
            thread.start()
        for _ in range(HOSTS):
            assert self.ended.acquire(timeout=200)
        self.over.set()
        for thread in threads:
            thread.join(30)
        assert not any(thread.is_alive() for thread in threads)

    def _guard(self, role: Callable[[PostgresDriver, random.Random, int], None], number: int) -> None:
        driver = self.drivers[number % len(self.drivers)]
        dice = random.Random(self.seed + number)
        try:
            if role == self.host:
                for _ in range(self.rounds):
                    role(driver, dice, number)
                self.ended.release()
            else:
                while not self.over.is_set():
                    role(driver, dice, number)
        except BaseException as error:
            traceback.print_exception(error)
            self.errors.append(error)
            self.over.set()
            self.ended.release()

    def count(self, what: str, number: int = 1) -> None:
        self.done[what] = self.done.get(what, 0) + number

    def some(self, dice: random.Random) -> list[int]:
        recent = self.ids[-60:]
        return dice.sample(recent, min(len(recent), dice.randrange(1, 12)))

    # ------------------------------------------------------------------ the roles

    def client(self, driver: PostgresDriver, dice: random.Random, number: int) -> None:
        if sum(tally.counts[Status.PENDING] for tally in driver.tallies()) > 40:
            return
        new = [
            NewJob(
                task=dice.choice(TASKS),
                queue="default",
                payload=b"{}",
                priority=dice.choice((0, 0, 5)),
                delay=dice.choice((0.0, 0.0, 0.02)),
                tags=dice.choice(((), ("x", "y"))),
            )
            for _ in range(dice.randrange(1, 30))
        ]
        self.ids += [record.id for record in driver.insert(new)]

    def host(self, driver: PostgresDriver, dice: random.Random, number: int) -> None:
        worker = self.workers[number]
        driver.beat(Worker(id=worker, host="h", pid=1, lost_after=60))
        turned = driver.exchange(Turn(worker=worker, limit=12, start=8, tasks=TASKS))
        if not turned.known:
            self.workers[number] = f"{worker.partition('-')[0]}-{dice.randrange(1 << 30)}"
        self.count("claims", len(turned.claims))
        held = turned.claims
        dice.shuffle(held)
        settlements = [Settlement(record, self.end(record, driver.now(), dice), driver.now()) for record in held]
        for settlement in settlements[:2]:
            if settlement.record.started_at is not None:
                self.transact(driver, settlement.record)
        unstarted = [s.record for s in settlements if s.record.started_at is None]
        turned = driver.exchange(
            Turn(
                worker=worker, settlements=[s for s in settlements[2:] if s.record not in unstarted], starting=unstarted
            )
        )
        self.count("refused", len(turned.refused))
        driver.exchange(
            Turn(worker=worker, settlements=[Settlement(r, lifecycle.succeed(r), driver.now()) for r in unstarted])
        )

    def end(self, record: Record, now: float, dice: random.Random) -> Any:
        match dice.randrange(6):
            case 0:
                return lifecycle.fail(record, b'{"type":"E"}', max_attempts=3, delay=dice.choice((0, 0.01)), now=now)
            case 1:
                return lifecycle.snooze(record, 0.01, now=now)
            case 2:
                return lifecycle.release(record)
            case _:
                return lifecycle.succeed(record)

    def transact(self, driver: PostgresDriver, record: Record) -> None:
        try:
            with driver.transaction() as transaction:
                transaction.execute("INSERT INTO effect VALUES (%s)", (record.id,))
                transaction.insert([NewJob(task="a", queue="default", payload=b"{}")])
                transaction.settle(Settlement(record, lifecycle.succeed(record), driver.now()))
        except LeaseLostError:
            self.count("refused transactions")
        else:
            self.count("transactions")

    def manager(self, driver: PostgresDriver, dice: random.Random, number: int) -> None:
        def decide(record: Record, now: float) -> Any:
            match kind:
                case 0:
                    return lifecycle.cancel(record)
                case 1:
                    return lifecycle.retry(record, mode="reset", delay=0, force=True, max_attempts=3, now=now)
                case 2:
                    return lifecycle.delete(record)
                case 3:
                    return lifecycle.reschedule(record, now + 0.02, now=now)
                case _:
                    return lifecycle.run_now(record)

        kind = dice.randrange(5)
        for changed in driver.change(self.some(dice), decide):
            assert changed.error is None or isinstance(changed.error, JobError)
            self.count("changes", changed.transition is not None)

    def rescuer(self, driver: PostgresDriver, dice: random.Random, number: int) -> None:
        lost = driver.bury([dice.choice(self.workers)] if dice.random() < 0.2 else [])
        self.count("buried", len(lost))
        orphans = driver.orphans(50)
        dice.shuffle(orphans)
        if orphans:
            self.count("rescued", len(rescuer.give_back(driver, orphans, worker="r", max_crashes=50)))

    def keeper(self, driver: PostgresDriver, dice: random.Random, number: int) -> None:
        match dice.randrange(4):
            case 0:
                purged = driver.purge({Status.COMPLETED: 0, Status.CANCELLED: 0, Status.DEAD: 0}, dice.randrange(1, 20))
                self.count("purged", purged)
            case 1:
                driver.tidy()
            case 2:
                driver.pause("task", "c", dice.random() < 0.3)
            case _:
                driver.tallies()


def test_nothing_that_writes_deadlocks_with_anything_else(
    new_postgres: Callable[..., Postgres], dice: random.Random, size: float
) -> None:
    server = new_postgres(deadlock_timeout="10ms", fsync="off")
    drivers = [PostgresDriver(server.url()) for _ in range(3)]
    try:
        for driver in drivers:
            driver.open()
        with_delays = "".join(
            f"CREATE TRIGGER slow BEFORE INSERT OR UPDATE OR DELETE ON windlass_{table}"
            " FOR EACH ROW EXECUTE FUNCTION slow();"
            for table in ("ready", "running", "timer", "done", "signal", "job", "worker", "attempt", "pulse")
        )
        server.execute(SLOW + with_delays)
        melee = Melee(drivers, dice, int(60 * size))
        melee.run()
        assert melee.errors == []
        print(melee.done)  # noqa: T201
        # Each costs deadlock_timeout, a second in production, before it is resolved unseen. See "Locks" in the functions. From
        # the log, as the server's statistics are late.
        assert "deadlock detected" not in server.said, server.said
        for what in ("claims", "refused", "transactions", "changes", "buried", "rescued", "purged"):
            assert melee.done.get(what), f"no {what}"
        assert_consistent(server.url())
        [(effects,)] = server.execute("SELECT count(*) FROM effect")
        assert effects == melee.done["transactions"]
    finally:
        for driver in drivers:
            driver.close()


def test_a_turn_that_loses_against_a_stranger_is_made_again(new_postgres: Callable[..., Postgres]) -> None:
    """Somebody else's hands may lock in any order."""
    server = new_postgres(deadlock_timeout="10ms")
    lock = "SELECT FROM windlass_running WHERE id = %s FOR UPDATE"
    with (
        closing(PostgresDriver(server.url())) as driver,
        psycopg.connect(server.url()) as first,
        psycopg.connect(server.url(), options="-cdeadlock_timeout=1h") as stranger,
        ThreadPoolExecutor(2) as threads,
    ):
        driver.open()
        low, high = (r.id for r in driver.insert([NewJob(task="a", queue="default", payload=b"{}")] * 2))
        claims = driver.exchange(Turn(worker="w", limit=2, start=2, tasks=("a",))).claims
        ends = [Settlement(record, lifecycle.succeed(record), driver.now()) for record in claims]
        first.execute(lock, (low,))
        stranger.execute(lock, (high,))
        turned = threads.submit(driver.exchange, Turn(worker="w", settlements=ends))
        until(lambda: waiting(server) == 1)
        theirs = threads.submit(stranger.execute, lock, (low,))
        until(lambda: waiting(server) == 2)
        first.rollback()  # the turn gets the low one and wants the high one
        theirs.result(20)
        stranger.rollback()
        assert turned.result(20).refused == []
        assert "deadlock detected" in server.said


def waiting(server: Postgres) -> int:
    [(number,)] = server.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    return int(number)
