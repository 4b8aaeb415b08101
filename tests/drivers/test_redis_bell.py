"""Who is woken on Redis: one of those who can take the work, one after another as long as there is work."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.waiting import until
from windlass import lifecycle
from windlass.drivers.base import Turn, Worker
from windlass.drivers.redis import RedisDriver
from windlass.job import NewJob

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.servers.redis import Redis
    from windlass.drivers.base import Turned
    from windlass.drivers.redis.bell import PopBell


class Member:
    """A worker with a driver and a bell of its own, as another process would have."""

    def __init__(self, url: str, name: str, *tasks: str) -> None:
        self.name, self.tasks = name, tasks
        self.driver = RedisDriver(url)
        self.driver.open()
        self.bell: PopBell = self.driver.bell()
        self.driver.beat(Worker(id=name, host="h", pid=1, bell=self.bell.address))

    def turn(self, limit: int = 1) -> Turned:
        return self.driver.exchange(Turn(worker=self.name, limit=limit, start=limit, tasks=self.tasks))

    def listen(self) -> None:
        """Return when the bell waits for a marker."""
        until(self._listens)

    def _listens(self) -> bool:
        self.bell.wait(0.01)
        return self.bell._wire is not None and (self.bell._asked is not None or not self.bell._free)


@pytest.fixture
def join(redis_url: str) -> Iterator[Callable[..., Member]]:
    members: list[Member] = []

    def make(name: str, *tasks: str) -> Member:
        members.append(Member(redis_url, name, *tasks))
        return members[-1]

    yield make
    for member in members:
        member.bell.close()
        member.driver.close()


def jobs(task: str, number: int = 1) -> list[NewJob]:
    return [NewJob(task=task, queue="default", payload=b"1") for _ in range(number)]


def rung(*members: Member) -> list[str]:
    """Return which of them are rung within a moment; one at least."""
    first = until(lambda: [m.name for m in members if m.bell.wait(0.01)])
    return sorted({*first, *(m.name for m in members if m.bell.wait(0.2))})


def test_only_who_can_take_the_work_is_woken(join: Callable[..., Member]) -> None:
    a, b = join("a", "mail"), join("b", "report")
    a.driver.insert([*jobs("mail"), *jobs("report")])
    a.turn(5)
    b.turn(5)
    a.listen()
    b.listen()
    b.driver.insert(jobs("mail"))
    assert rung(a, b) == ["a"]


def test_one_of_a_class_is_woken_and_wakes_the_next_if_there_is_more(join: Callable[..., Member]) -> None:
    members = [join(name, "t") for name in "abc"]
    for member in members:
        member.turn()
        member.listen()
    members[0].driver.insert(jobs("t", 2))
    first = rung(*members)
    assert len(first) == 1
    [one] = [m for m in members if m.name in first]
    assert len(one.turn().claims) == 1
    others = [m for m in members if m is not one]
    second = rung(*others)
    assert len(second) == 1
    [two] = [m for m in others if m.name in second]
    assert len(two.turn(2).claims) == 1
    assert not any(m.bell.wait(0.2) for m in members)


def test_a_busy_worker_leaves_the_marker_to_an_idle_one(join: Callable[..., Member]) -> None:
    busy, idle = join("busy", "t"), join("idle", "t")
    busy.driver.insert(jobs("t"))
    busy.listen()
    assert len(busy.turn(1).claims) == 1, "no slot is free"
    idle.turn()
    idle.listen()
    busy.bell.wait(0)
    idle.bell.wait(0)
    for _ in range(5):
        idle.driver.insert(jobs("t"))
        assert rung(idle) == ["idle"]
        assert len(idle.turn(2).claims) == 1
    assert not busy.bell.wait(0)


def test_a_worker_that_became_busy_while_it_waited_puts_the_marker_back(join: Callable[..., Member]) -> None:
    busy, idle = join("busy", "t"), join("idle", "t")
    busy.turn()
    busy.listen()
    busy.driver.insert(jobs("t"))
    assert rung(busy) == ["busy"]
    busy.listen()  # it waits for the next one already
    assert len(busy.turn(1).claims) == 1
    idle.turn()
    idle.listen()
    idle.driver.insert(jobs("t"))
    assert rung(busy, idle) == ["idle"]


def test_a_turn_that_takes_all_takes_the_marker_too(join: Callable[..., Member]) -> None:
    a = join("a", "t")
    a.turn()
    a.driver.insert(jobs("t"))
    [marker] = a.driver.clients.ask("KEYS", "{windlass}:bell:c-*")
    assert len(a.turn(2).claims) == 1
    assert a.driver.clients.ask("EXISTS", marker) == 0


def test_a_worker_that_is_free_again_hears_what_was_left(join: Callable[..., Member]) -> None:
    busy = join("busy", "t")
    busy.driver.insert(jobs("t"))
    [record] = busy.turn(1).claims
    busy.listen()
    busy.driver.insert(jobs("t"))
    busy.bell.wait(0)
    end = lifecycle.Settlement(record, lifecycle.succeed(record), busy.driver.now())
    turned = busy.driver.exchange(Turn(worker="busy", settlements=[end], limit=2, start=2, tasks=("t",)))
    assert len(turned.claims) == 1
    busy.driver.insert(jobs("t"))
    assert rung(busy) == ["busy"]


def test_a_marker_never_holds_a_job(join: Callable[..., Member]) -> None:
    """A worker that dies with the marker in its hand takes no job along."""
    a = join("a", "t")
    a.turn()
    a.listen()
    a.driver.insert(jobs("t"))
    assert rung(a) == ["a"]
    a.bell.close()
    b = join("b", "t")
    assert len(b.turn().claims) == 1


def test_a_signal_wakes_its_worker_alone(join: Callable[..., Member]) -> None:
    a, b = join("a", "t"), join("b", "t")
    a.driver.insert(jobs("t"))
    [record] = a.turn(2).claims
    b.turn()
    a.listen()
    b.listen()
    b.driver.change([record.id], lambda found, _: lifecycle.cancel(found))
    assert rung(a, b) == ["a"]


def test_a_new_task_wakes_those_who_know_it(join: Callable[..., Member]) -> None:
    """Its stream is made by the enqueue, so nobody has said yet that it takes from it."""
    a = join("a", "new")
    a.turn()
    a.listen()
    a.driver.insert(jobs("new"))
    assert rung(a) == ["a"]
    assert len(a.turn().claims) == 1


def test_work_for_later_wakes_only_if_it_is_the_next(join: Callable[..., Member]) -> None:
    a = join("a", "t")
    a.turn()
    a.listen()
    a.driver.insert([NewJob(task="t", queue="default", payload=b"1", delay=50)])
    assert rung(a) == ["a"]
    due = a.turn().due
    assert due is not None
    a.driver.insert([NewJob(task="t", queue="default", payload=b"1", delay=500)])
    assert not a.bell.wait(0.2)


@pytest.mark.slow
def test_a_bell_that_cannot_hear_lets_its_worker_poll(new_redis: Callable[..., Redis]) -> None:
    server = new_redis(appendonly="yes")
    member = Member(server.url(), "a", "t")
    member.turn()
    member.bell.wait(0)
    until(lambda: not member.bell.wait(0.1) and member.bell.patience is not None)
    server.kill()
    until(lambda: not member.bell.wait(0.1) and member.bell.patience is None)
    server.start()
    assert member.bell.wait(20), "whoever waits to try again is told"
    assert member.bell.patience is not None
    member.bell.close()
    member.driver.close()


def test_closed_bells_leave_nothing(join: Callable[..., Member]) -> None:
    a = join("a", "t")
    a.bell.close()
    assert a.driver.clients.ask("HLEN", "{windlass}:class") == 0
    assert a.driver.clients.ask("KEYS", "{windlass}:bell:*") == []
