"""Workers fire schedules: at the tick, once, whatever goes wrong beside them."""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from tests.waiting import until
from windlass import ConnectionLostError, Context, JobEnqueued, ScheduleTicked, Windlass
from windlass.drivers.ticking import ScheduleMove
from windlass.job import Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from windlass import Job, Schedule

HOUR = 3600.0
DAY = 86400.0


class Log:
    """What has run, and a gate that jobs wait behind."""

    def __init__(self) -> None:
        self.ran: list[float] = []
        self.open = threading.Event()
        self.open.set()

    def run(self, ctx: Context, name: str = "") -> None:
        assert ctx.job.tick is not None
        self.ran.append(ctx.job.tick.timestamp())
        assert self.open.wait(30)


@pytest.fixture
def log() -> Any:
    log = Log()
    yield log
    log.open.set()


def prepare(app: Windlass, log: Log) -> Windlass:
    app.register("run", log.run)
    return app


@pytest.fixture(autouse=True)
def _task(app: Windlass, log: Log) -> None:
    prepare(app, log)


def hourly(app: Windlass, name: str = "one", **given: Any) -> Schedule:
    """Add a schedule that ticks every hour from now on, and not when the real hour is full."""
    anchor = datetime.fromtimestamp(app.driver.now(), UTC)
    return app.schedules.add(name, task="run", **{"every": HOUR, "anchor": anchor, **given})


def outcomes(app: Windlass, name: str = "one") -> list[str]:
    """Return what became of the ticks, oldest first."""
    return [str(row.outcome) for row in reversed(app.schedules.history(name, 1000))]


def jobs_of(app: Windlass, name: str = "one") -> list[Job]:
    return list(app.jobs(origin=f"schedule:{name}", limit=1000))


def done(app: Windlass, number: int, name: str = "one") -> list[Job]:
    """Wait until so many jobs of a schedule have ended."""
    return until(lambda: jobs if len(jobs := [j for j in jobs_of(app, name) if j.finished]) >= number else None)


def test_a_tick_that_comes_is_fired(app: Windlass, log: Log) -> None:
    hourly(app, "one")
    with app.worker(concurrency=1):
        app.driver.shift(HOUR)
        [job] = done(app, 1)
        assert job.tick is not None
        assert log.ran == [job.tick.timestamp()]
        assert 0 <= app.driver.now() - job.tick.timestamp() < HOUR
        app.driver.shift(HOUR)
        assert len(done(app, 2)) == 2
    assert outcomes(app) == ["fired", "fired"]


def test_it_sleeps_until_the_tick_and_fires_without_being_told(app: Windlass, log: Log) -> None:
    app.schedules.add("one", every=0.3, task="run", overlap="allow")
    with app.worker(concurrency=1):
        done(app, 4)
    rows = app.schedules.history("one", 1000)
    fired = [row for row in rows if row.fired]
    assert len({row.at for row in rows}) == len(rows)
    assert len(fired) >= 4
    assert all(row.considered_at >= row.at for row in rows)


def test_what_code_declares_fires_where_it_is_declared(app: Windlass, log: Log) -> None:
    @app.schedule(every=HOUR, anchor=datetime.fromtimestamp(app.driver.now(), UTC), name="one", payload={"name": "x"})
    @app.task
    def task(ctx: Context, name: str) -> None:
        log.run(ctx, name)

    with app.worker(concurrency=1):
        until(lambda: "one" in app.schedules)
        app.driver.shift(HOUR)
        [job] = done(app, 1)
    assert job.payload == {"name": "x"}


def test_what_has_gone_from_the_code_stops(make: Callable[..., Windlass], app: Windlass, log: Log) -> None:
    if app.settings.url == "memory://":
        pytest.skip("memory: there is no later code on the same store")
    app.schedule(every=HOUR, name="one")(app.tasks["run"])
    app.schedules.sync()
    later = prepare(make(), log)
    hourly(later, "two")
    with later.worker(concurrency=1):
        later.driver.shift(HOUR)
        done(later, 1, "two")
    assert jobs_of(later, "one") == []
    with app.worker(concurrency=1):
        done(app, 1, "one")


def test_a_schedule_that_is_added_while_workers_run_is_heard_of(app: Windlass, log: Log) -> None:
    app.schedules.add("other", every=DAY, task="run")
    with app.worker(concurrency=1):
        hourly(app, "one")
        app.driver.shift(HOUR)
        assert done(app, 1)
        app.schedules.pause("one")
        hourly(app, "two")
        app.driver.shift(HOUR)
        assert done(app, 1, "two")
        assert len(jobs_of(app)) == 1
        app.schedules.resume("one")
        app.schedules.remove("two")
        app.driver.shift(HOUR)
        assert done(app, 2)
    assert outcomes(app) == ["fired", "paused", "fired"]
    assert len(jobs_of(app, "two")) == 1


def test_every_queue_gets_its_job(app: Windlass, log: Log) -> None:
    hourly(app, "one", queue=["a", "b", "c"])
    with app.worker(concurrency=2, queues=["a", "b", "c"]):
        app.driver.shift(HOUR)
        assert sorted(job.queue for job in done(app, 3)) == ["a", "b", "c"]


def test_a_job_says_which_tick_it_is_for_and_can_be_found_by_it(app: Windlass, log: Log) -> None:
    hourly(app, "one")
    with app.worker(concurrency=1):
        app.driver.shift(HOUR)
        [job] = done(app, 1)
    assert job.tick is not None
    assert app.get(key=f"schedule:one:{job.tick.isoformat()}:default").id == job.id


class TestAfterAnOutageOfADay:
    """Nobody was there for a day; what then happens is what the schedule says."""

    def work(self, app: Windlass, number: int) -> None:
        app.driver.shift(DAY)
        with app.worker(concurrency=1):
            done(app, number)

    def test_the_latest_tick_fires(self, app: Windlass, log: Log) -> None:
        hourly(app, "one")
        self.work(app, 1)
        assert outcomes(app) == ["missed"] * 23 + ["fired"]

    def test_all_ticks_fire_one_after_the_other(self, app: Windlass, log: Log) -> None:
        hourly(app, "one", missed="all")
        self.work(app, 24)
        assert outcomes(app) == ["fired"] * 24
        assert len(log.ran) == len(set(log.ran)) == 24

    def test_no_tick_fires(self, app: Windlass, log: Log) -> None:
        hourly(app, "one", every=DAY, missed="skip")
        hourly(app, "two")
        app.driver.shift(1000)
        app.driver.shift(DAY)
        with app.worker(concurrency=1):
            done(app, 1, "two")
            until(lambda: outcomes(app) == ["missed"])
        assert jobs_of(app, "one") == []
        [row] = app.schedules.history("one")
        assert row.late > 900
        assert row.reason == "it came when no worker was there"

    def test_no_more_fire_than_the_bound_says(self, app: Windlass, log: Log) -> None:
        hourly(app, "one", missed="all", catch_up=3)
        self.work(app, 3)
        assert outcomes(app) == ["missed", "fired", "fired", "fired"]
        oldest = app.schedules.history("one")[-1]
        assert oldest.count == 21
        assert "21 ticks up to" in str(oldest)


def test_a_tick_is_skipped_while_the_last_job_runs(app: Windlass, log: Log) -> None:
    hourly(app, "one")
    log.open.clear()
    with app.worker(concurrency=2):
        app.driver.shift(HOUR)
        until(lambda: log.ran)
        app.driver.shift(HOUR)
        until(lambda: outcomes(app) == ["fired", "overlap"])
        log.open.set()
        [job] = done(app, 1)
        app.driver.shift(HOUR)
        done(app, 2)
    assert outcomes(app) == ["fired", "overlap", "fired"]
    row = app.schedules.history("one")[1]
    assert row.other_job_id == job.id
    assert row.reason == f"the job of an earlier tick had not ended (job {job.id})"


def test_with_queue_a_tick_waits_for_the_last_job(app: Windlass, log: Log) -> None:
    hourly(app, "one", overlap="queue")
    log.open.clear()
    with app.worker(concurrency=2):
        app.driver.shift(HOUR)
        until(lambda: log.ran)
        app.driver.shift(HOUR)
        until(lambda: outcomes(app) == ["fired", "fired"])
        hourly(app, "two", payload={"name": "two"})
        assert len(log.ran) == 1
        log.open.set()
        done(app, 2)
    assert len(log.ran) == 2


def test_a_limit_of_runs_and_an_end_are_kept(app: Windlass, log: Log) -> None:
    hourly(app, "one", runs=2)
    hourly(app, "two")
    with app.worker(concurrency=1):
        for number in range(1, 4):
            app.driver.shift(HOUR)
            done(app, number, "two")
    assert outcomes(app) == ["fired", "fired"]
    assert app.schedules.get("one").next_at is None


def test_a_jittered_job_is_for_later_than_its_tick(app: Windlass, log: Log) -> None:
    hourly(app, "one", jitter=HOUR / 2)
    with app.worker(concurrency=1):
        at = app.schedules.get("one").next_at
        assert at is not None
        app.driver.shift(at.timestamp() - app.driver.now() + 0.01)
        [job] = until(lambda: jobs_of(app))
        assert job.status is Status.SCHEDULED
        app.driver.shift(HOUR / 2)
        [job] = done(app, 1)
    assert job.tick == at
    assert timedelta(0) <= job.run_at - job.tick < timedelta(seconds=HOUR / 2)


def test_a_tick_whose_job_is_held_back_by_a_unique_key_says_so(app: Windlass, log: Log) -> None:
    held = app.tasks["run"].using(unique=True, delay=DAY * 9).enqueue(name="x")
    hourly(app, "one", payload={"name": "x"}, unique=True)
    with app.worker(concurrency=1):
        app.driver.shift(HOUR)
        until(lambda: outcomes(app) == ["held"])
    [row] = app.schedules.history("one")
    assert row.other_job_id == held.id
    assert "unique key" in (row.reason or "")


def test_its_events_are_told(app: Windlass, log: Log) -> None:
    told: list[Any] = []
    app.on(ScheduleTicked)(told.append)
    app.on(JobEnqueued)(told.append)
    hourly(app, "one")
    with app.worker(concurrency=1):
        app.driver.shift(HOUR)
        [job] = done(app, 1)
    assert [type(event).__name__ for event in told] == ["JobEnqueued", "ScheduleTicked"]
    assert told[0].job.id == told[1].job_id == job.id
    assert told[1].outcome == "fired"
    assert told[1].late >= 0


# ---------------------------------------------------------------------- what goes wrong


def broken(app: Windlass, name: str, definition: bytes) -> None:
    """Store a schedule that this release cannot make sense of."""
    hourly(app, name)
    app.driver.change_schedule(
        name, lambda record, *_: ScheduleMove(record=msgspec.structs.replace(record, definition=definition, revision=2))
    )


def test_bad_schedules_stop_no_other_and_are_told_of_once(
    app: Windlass, log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    good = hourly(app, "one")
    kept = app.driver.schedules(["one"])[0].definition
    broken(app, "bad", b'{"cron":"61 * * * *","queues":["default"],"job":{"task":"run","queue":"q","payload":{}}}')
    broken(app, "worse", b'{"newer":1}')
    with caplog.at_level(logging.ERROR), app.worker(concurrency=1):
        for number in range(1, 4):
            app.driver.shift(HOUR)
            done(app, number)
        assert [record.args[0] for record in caplog.records if "cannot fire" in record.msg] == ["bad", "worse"]  # type: ignore[index]
        for name in ("bad", "worse"):
            app.driver.change_schedule(
                name,
                lambda record, *_: ScheduleMove(record=msgspec.structs.replace(record, definition=kept, revision=3)),
            )
        app.driver.shift(HOUR)
        done(app, 1, "bad")
        done(app, 1, "worse")
    assert good.name == "one"


class Away:
    """A driver that is away for a while."""

    def __init__(self, inner: Any, times: int) -> None:
        self._inner = inner
        self.times = times
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def _gone(self, name: str) -> None:
        self.asked.append(name)
        if self.times > 0:
            self.times -= 1
            raise ConnectionLostError("away")

    def change_schedule(self, *args: Any) -> Any:
        self._gone("change")
        return self._inner.change_schedule(*args)

    def schedules(self, *args: Any) -> Any:
        self._gone("schedules")
        return self._inner.schedules(*args)


@pytest.fixture
def away(app: Windlass) -> Away:
    driver = Away(app.driver, 0)
    app._driver = driver  # type: ignore[assignment]
    return driver


def test_the_store_may_be_away_for_a_while(app: Windlass, log: Log, away: Away) -> None:
    hourly(app, "one")
    away.times = 3
    with app.worker(concurrency=1):
        app.driver.shift(HOUR)
        done(app, 1)
        assert away.times == 0
        away.times = 2
        app.driver.shift(HOUR)
        done(app, 2)
    assert outcomes(app) == ["fired", "fired"]


def test_a_thousand_schedules_of_which_none_is_due_cost_nothing(app: Windlass, log: Log, away: Away) -> None:
    for number in range(1000):
        hourly(app, f"s{number}")
    app.register("plain", lambda: None)
    away.asked.clear()
    with app.worker(concurrency=1) as worker:
        pump = worker._parts.pump  # type: ignore[union-attr]
        until(lambda: pump.turns >= 3 and away.asked)
        turns = pump.turns
        for _ in range(10):
            app.enqueue("plain").join(30)
    assert pump.turns >= turns + 10
    assert set(away.asked) == {"schedules"}
    assert len(away.asked) <= 3, "once at the start, and again as the first turn tells the number of changes"


def test_a_clock_that_jumps_back_and_forth_doubles_nothing(app: Windlass, log: Log) -> None:
    hourly(app, "one", missed="all", overlap="allow")
    with app.worker(concurrency=1):
        app.driver.shift(HOUR)
        done(app, 1)
        app.driver.shift(-HOUR)
        app.driver.shift(HOUR)
        app.driver.shift(HOUR)
        done(app, 2)
    assert len(log.ran) == len(set(log.ran)) == 2


def test_a_schedule_that_is_declared_with_other_times_counts_from_then_on(app: Windlass, log: Log) -> None:
    hourly(app, "one", overlap="allow")
    app.driver.shift(HOUR)
    changed = app.schedules.add("one", every=60, task="run", overlap="allow")
    assert outcomes(app) == ["fired"]
    assert changed.next_at is not None
    assert 0 < changed.next_at.timestamp() - app.driver.now() <= 60


def test_what_is_added_while_a_worker_looks_for_the_first_time_is_not_missed(
    app: Windlass, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first turn tells of the change while the look that has not seen it is still on its way."""
    read, exchange = app.driver.schedules, app.driver.exchange
    added, told = threading.Event(), threading.Event()
    turns = 0

    def slow(*names: Any) -> Any:
        found = read(*names)
        if not added.is_set():
            added.set()
            hourly(app)
            assert told.wait(30)
        return found

    def counted(turn: Any) -> Any:
        nonlocal turns
        turns += added.is_set()
        if turns > 2:
            told.set()
        return exchange(turn)

    monkeypatch.setattr(app.driver, "schedules", slow)
    monkeypatch.setattr(app.driver, "exchange", counted)
    with app.worker(concurrency=1):
        assert told.wait(30)
        app.driver.shift(HOUR)
        assert len(done(app, 1)) == 1
