"""A job that appears below the low-water mark is found by the next full pass, however full the queue is above it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from windlass import lifecycle
from windlass.drivers.base import Turn
from windlass.drivers.postgres import PostgresDriver, marks
from windlass.drivers.postgres.marks import FULL, STALLED, SURVEY, Marks
from windlass.job import NewJob
from windlass.lifecycle import Settlement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from windlass.drivers.postgres.marks import Low
    from windlass.job import Record

pytestmark = pytest.mark.slow

TASKS = ("one", "two", "late")
WISH = "anything"
RESERVE = 60


class Time:
    """A clock in our hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    """The clock of the marks, which moves when told; nothing starts anew by itself."""
    clock = Time()
    monkeypatch.setattr(marks, "time", clock)
    monkeypatch.setattr(marks, "ANEW", 1e9)
    return clock


# ------------------------------------------------------------------ the marks alone


def turned(
    known: Marks,
    low: Low,
    *claims: tuple[int, int],
    xid: int = 10,
    rewind: int = 0,
    now: float = 100.0,
    due: float = 1e9,
) -> None:
    known.turned(low, claims, rewind=rewind, now=now, due=due, next_xid=xid)


def survey(known: Marks, clock: Time, left: dict[int, int | None], *, oldest: int, rewind: int = 0) -> bool:
    clock.now += SURVEY
    note = known.ripe(oldest)
    if note is not None:
        known.surveyed(note, left, due=None, rewind=rewind, oldest_xid=oldest)
    return note is not None


def test_a_claim_looks_above_the_highest_place_taken(clock: Time) -> None:
    known = Marks()
    turned(known, known.low(WISH), (1, 5), (1, 7), (2, 3))
    low = known.low(WISH)
    assert (low.streams, low.marks, low.safes, low.full) == ("{1,2}", "{7,3}", "{0,0}", False)


def test_a_full_pass_comes_in_time_for_each_wish(clock: Time) -> None:
    known = Marks()
    assert known.low(WISH).full
    turned(known, known.low(WISH), (1, 5))
    clock.now += FULL
    assert not known.low(None).full, "a turn that claims nothing has no use for one"
    assert known.low("another").full
    low = known.low(WISH)
    assert (low.full, low.marks) == (True, "{0}")
    assert not known.low(WISH).full


def test_a_full_pass_that_found_only_late_jobs_is_followed_by_another(clock: Time) -> None:
    known = Marks()
    turned(known, known.low(WISH), (1, 50))
    clock.now += FULL
    turned(known, known.low(WISH), (1, 8), (1, 9))
    low = known.low(WISH)
    assert low.full
    turned(known, low, (1, 10), (1, 51))
    assert not known.low(WISH).full
    assert known.low(WISH).marks == "{51}"


def test_a_mark_becomes_safe_when_all_transactions_of_its_time_have_ended(clock: Time) -> None:
    known = Marks()
    turned(known, known.low(WISH), (1, 50), (2, 60), xid=10)
    assert not survey(known, clock, {}, oldest=9)
    turned(known, known.low(WISH), (1, 70), xid=12)
    assert survey(known, clock, {1: None, 2: 58}, oldest=10)
    assert known.low(WISH).safes == "{50,57}"


def test_a_survey_whose_own_snapshot_is_older_teaches_nothing(clock: Time) -> None:
    known = Marks()
    turned(known, known.low(WISH), (1, 50), xid=10)
    clock.now += SURVEY
    note = known.ripe(10)
    assert note is not None
    known.surveyed(note, {}, due=None, rewind=0, oldest_xid=9)
    known.surveyed(note, {}, due=None, rewind=1, oldest_xid=10)
    assert known.low(WISH).safes == "{0}"


def test_a_note_holds_no_place_that_another_thread_took_later(clock: Time) -> None:
    known = Marks()
    slow, quick = known.low(WISH), known.low(WISH)
    turned(known, quick, (1, 50), xid=30)
    assert survey(known, clock, {}, oldest=30)
    turned(known, known.low(WISH), (1, 60), xid=40)
    assert survey(known, clock, {}, oldest=40)
    slow = known.low(WISH)
    note = known._note
    assert note is None
    quick = known.low(WISH)
    turned(known, slow, (1, 61), xid=50)  # makes the note
    turned(known, quick, (1, 90), xid=80)
    assert survey(known, clock, {}, oldest=50)
    assert known.low(WISH).safes == "{61}"
    slow = known.low(WISH)
    known._note = marks.Note({}, 0.0, 1 << 40)
    turned(known, known.low(WISH), (1, 95), xid=90)
    known._note = None
    turned(known, slow, xid=85)
    assert survey(known, clock, {}, oldest=85)
    assert known.low(WISH).safes == "{90}"


def test_a_job_given_back_and_a_clock_set_back_begin_anew(clock: Time) -> None:
    known = Marks()
    turned(known, known.low(WISH), (1, 50), xid=10)
    assert survey(known, clock, {}, oldest=10)
    turned(known, known.low(WISH), (1, 60), rewind=1)
    low = known.low(WISH)
    assert (low.full, low.streams, low.marks, low.safes, low.rewind) == (True, "{1}", "{0}", "{0}", 1)
    assert survey(known, clock, {}, oldest=10, rewind=1)
    assert known.low(WISH).due == pytest.approx(100.0, abs=0.01)
    turned(known, known.low(WISH), rewind=1, now=90.0)
    assert known.low(WISH).due == marks.NEVER


def test_while_a_transaction_lasts_only_full_passes_start_from_the_safe_marks(clock: Time) -> None:
    known = Marks()
    turned(known, known.low(WISH), (1, 50), xid=10, now=100.0)
    assert known.low(WISH).near
    clock.now += STALLED
    full, low = known.low(WISH), known.low(WISH)
    assert (full.full, full.marks, full.safes, full.due) == (True, "{0}", "{0}", marks.NEVER)
    assert (low.near, low.marks, low.safes) == (False, "{50}", "{50}")
    assert low.due == pytest.approx(100.0, abs=0.01)


# ------------------------------------------------------------------ with a server


def new(task: str, number: int = 1, **options: Any) -> list[NewJob]:
    return [NewJob(task=task, queue="default", payload=b"{}", **options) for _ in range(number)]


class Scene:
    """A store whose queue never runs dry, a worker, and transactions of others."""

    def __init__(self, url: str, clock: Time) -> None:
        self.url, self.clock = url, clock
        self.driver = PostgresDriver(url, quiet=True, durability="relaxed")
        self.driver.open()
        self.connections: list[psycopg.Connection[Any]] = []
        self.claimed: set[int] = set()
        self.fill()

    def fill(self) -> None:
        """Put a reserve in, which no turn uses up."""
        self.driver.insert([job for task in TASKS for job in new(task, RESERVE // 3)])

    def empty(self) -> None:
        with psycopg.connect(self.url) as connection:
            for table in ("ready", "timer", "running", "job", "done"):
                connection.execute(f"DELETE FROM windlass_{table}")

    def close(self) -> None:
        for connection in self.connections:
            connection.close()
        self.driver.close()

    def connect(self) -> psycopg.Connection[Any]:
        self.connections.append(psycopg.connect(self.url))
        return self.connections[-1]

    def insert_through(self, connection: psycopg.Connection[Any], jobs: list[NewJob]) -> list[int]:
        steps = self.driver.insertion(jobs)
        statement, values = next(steps)
        try:
            steps.send(connection.execute(statement, values).fetchall())
        except StopIteration as stop:
            return [record.id for record in stop.value]
        raise AssertionError

    def draw(self, connection: psycopg.Connection[Any], number: int) -> tuple[list[int], int]:
        """Begin a bulk insert as the driver does, and go no further."""
        spelt = '[{"q":"default","t":"late","p":0}]'
        _, first, ids, streams = connection.execute(self.driver.sql.draw, (number, spelt)).fetchone() or ()
        return ids or list(range(first, first + number)), streams[0]

    def put(self, connection: psycopg.Connection[Any], ids: list[int], stream: int) -> None:
        """Write what was drawn."""
        for job_id in ids:
            connection.execute(
                "INSERT INTO windlass_job (id, created_at, stream, payload) VALUES (%s, 0, %s, '{}')", (job_id, stream)
            )
            connection.execute(
                "INSERT INTO windlass_ready (seq, id, stream) VALUES (%s, %s, %s)", (job_id, job_id, stream)
            )

    def turn(self, limit: int = 5, *, seconds: float = 0.1, feed: bool = True) -> list[Record]:
        """Claim as many as are put in, and complete them."""
        if feed:
            self.driver.insert([job for number in range(limit) for job in new(TASKS[number % len(TASKS)])])
        self.clock.now += seconds
        claims = self.driver.exchange(Turn(worker="w", limit=limit, start=limit, tasks=TASKS)).claims
        assert not feed or len(claims) == limit, "the queue never runs dry"
        self.claimed |= {record.id for record in claims}
        settlements = [Settlement(r, lifecycle.succeed(r), self.driver.now()) for r in claims]
        self.driver.exchange(Turn(worker="w", settlements=settlements))
        return claims

    def turns(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.1)):
            self.turn()


@pytest.fixture
def scene(postgres_url: str, clock: Time) -> Iterator[Scene]:
    scene = Scene(postgres_url, clock)
    yield scene
    scene.close()


@pytest.mark.parametrize("wait", [0.3, 5.0], ids=["shortly", "for long"])
def test_late_and_out_of_order_commits_are_found(scene: Scene, wait: float) -> None:
    """Ids drawn early and committed late, in the other order, by each way of inserting."""
    first, second, third, rolled = (scene.connect() for _ in range(4))
    scene.turns(0.5)
    bulk, stream = scene.draw(first, 20)
    through = scene.insert_through(second, new("late", 3))
    one = scene.insert_through(third, new("two"))
    gone = scene.insert_through(rolled, new("late", 2))
    scene.turns(wait)
    scene.put(first, bulk, stream)
    for connection, ids in ((third, one), (second, through), (first, bulk)):
        connection.commit()
        scene.turns(FULL)
        assert set(ids) <= scene.claimed
    rolled.rollback()
    scene.turns(FULL)
    assert not set(gone) & scene.claimed


def test_many_late_jobs_do_not_wait_a_full_pass_for_each_handful(scene: Scene) -> None:
    connection = scene.connect()
    ids = scene.insert_through(connection, new("late", 60))
    scene.turns(1.0)
    connection.commit()
    for _ in range(10 + 60 // 5):
        scene.turn()
    assert set(ids) <= scene.claimed


def test_a_claim_that_is_rolled_back_is_found(scene: Scene) -> None:
    """Another worker's transaction took jobs, ours went past them, and the other's came to nothing."""
    other = scene.connect()
    held = other.execute(
        "SELECT c.id FROM windlass_lock_v1(5, (SELECT array_agg(id) FROM windlass_stream), ARRAY[0]::bigint[], ARRAY[0],"
        " false, NULL, NULL) AS l, unnest(windlass_lease_v1(l.places, 'x', 5, 9, NULL, NULL, 0)) AS c"
    ).fetchall()
    ids = [row[0] for row in held]
    assert len(ids) == 5
    scene.turns(2.0)
    assert not set(ids) & scene.claimed
    other.rollback()
    scene.turns(FULL)
    assert set(ids) <= scene.claimed


def test_a_job_given_back_keeps_its_place_and_is_next(scene: Scene) -> None:
    scene.turns(0.5)
    [record] = scene.driver.exchange(Turn(worker="w", limit=1, start=0, tasks=TASKS)).claims
    scene.turns(3.0)
    end = Settlement(record, lifecycle.release(record), scene.driver.now())
    scene.driver.exchange(Turn(worker="w", settlements=[end]))
    assert record.id in {r.id for r in scene.turn()} | {r.id for r in scene.turn()}


def test_a_timer_committed_after_its_time_is_found(scene: Scene) -> None:
    connection = scene.connect()
    [job] = scene.insert_through(connection, new("late", delay=50.0))
    for _ in range(5):
        scene.turns(1.0)
        scene.driver.shift(20)
    connection.commit()
    for _ in range(200):  # it lines up behind those that wait
        scene.turn(50, feed=False)
        if job in scene.claimed:
            break
    assert job in scene.claimed


STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["insert", "draw", "delayed"]), st.integers(0, 3), st.integers(1, 4)),
        st.tuples(st.sampled_from(["commit", "commit", "rollback"]), st.integers(0, 3), st.just(0)),
        st.tuples(st.just("turn"), st.integers(1, 4), st.sampled_from([0, 1, 5, 11])),
        st.tuples(st.just("turn"), st.integers(1, 4), st.sampled_from([0, 1, 5, 11])),
        st.tuples(st.just("give back"), st.just(0), st.just(0)),
    ),
    min_size=15,
    max_size=40,
)


class Program:
    """Transactions of four producers between the turns of a worker."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        if not scene.connections:
            for _ in range(4):
                scene.connect()
        self.open: dict[int, list[tuple[list[int], int | None]]] = {}
        self.committed: set[int] = set()
        scene.empty()
        scene.fill()
        scene.claimed.clear()
        scene.driver._marks = Marks()

    def run(self, steps: list[tuple[str, int, int]]) -> None:
        for name, first, second in steps:
            if name == "turn":
                self.scene.turn(first, seconds=second / 10, feed=bool(first % 2))
            elif name == "give back":
                self._give_back()
            elif name in ("commit", "rollback"):
                self._end(first, commit=name == "commit")
            else:
                self._insert(name, first, second)

    def _insert(self, how: str, number: int, count: int) -> None:
        connection = self.scene.connections[number]
        if how == "draw":
            made: tuple[list[int], int | None] = self.scene.draw(connection, count)
        else:
            delay = 0.0001 if how == "delayed" else 0.0
            made = self.scene.insert_through(connection, new("late", count, delay=delay)), None
        self.open.setdefault(number, []).append(made)

    def _end(self, number: int, *, commit: bool) -> None:
        connection = self.scene.connections[number]
        for ids, stream in self.open.pop(number, []):
            if commit:
                if stream is not None:
                    self.scene.put(connection, ids, stream)
                self.committed |= set(ids)
        (connection.commit if commit else connection.rollback)()

    def _give_back(self) -> None:
        driver = self.scene.driver
        claims = driver.exchange(Turn(worker="w", limit=2, start=0, tasks=TASKS)).claims
        ends = [Settlement(r, lifecycle.release(r), driver.now()) for r in claims]
        driver.exchange(Turn(worker="w", settlements=ends))

    def finish(self) -> None:
        """Commit the rest; then a bounded number of full passes finds all, though the queue is full above."""
        for number in list(self.open):
            self._end(number, commit=True)
        for _ in range((RESERVE + len(self.committed)) // 20 + 2):
            self.scene.turn(20, seconds=FULL)
        assert self.committed <= self.scene.claimed


@pytest.mark.timeout(600)
def test_no_order_of_commits_hides_a_job(postgres_url: str, clock: Time, request: pytest.FixtureRequest) -> None:
    """Transactions that begin, draw, commit and roll back in any order, between turns: what is committed is claimed."""
    soak = "soak" in (request.config.option.markexpr or "") and "not soak" not in request.config.option.markexpr
    scene = Scene(postgres_url, clock)

    @settings(
        max_examples=1000 if soak else 40,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(STEPS)
    def check(steps: list[tuple[str, int, int]]) -> None:
        program = Program(scene)
        try:
            program.run(steps)
            program.finish()
        finally:
            for connection in scene.connections:
                connection.rollback()

    run: Callable[[], None] = check
    try:
        run()
    finally:
        scene.close()
