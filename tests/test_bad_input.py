"""What cannot be right is refused at the door, by an error that names it."""

from __future__ import annotations

import asyncio
import math
import re
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.waiting import until
from windlass import Context, Delays, Discard, Exponential, Fixed, Linear, Retry, Snooze, Unique, Windlass
from windlass.errors import (
    ConfigurationError,
    ConnectionLostError,
    DuplicateTaskError,
    JobNotFoundError,
    JobStateError,
    NotSupportedError,
    NotYetError,
    PayloadError,
    SignatureError,
    UnknownTaskError,
    WindlassError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NAN, INFINITE = float("nan"), math.inf
NAIVE = datetime(2026, 1, 1)
AWARE = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(params=["memory://", "sqlite://"])
def app(request: pytest.FixtureRequest) -> Iterator[Windlass]:
    """An application whose jobs live for one test."""
    with Windlass(request.param) as app:
        app.register("work", _work)
        yield app


def _work(number: int, text: str = "") -> None: ...


def _refused(call: Callable[[], Any], error: type[Exception], *names: str) -> None:
    with pytest.raises(error) as caught:
        call()
    for name in names:
        assert name in str(caught.value), f"{name!r} is not in {str(caught.value)!r}"


# ---------------------------------------------------------------------- the constructor


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"max_attempts": 0}, ["max_attempts", "from 1 to"]),
        ({"max_attempts": 1 << 31}, ["max_attempts", "from 1 to"]),
        ({"max_attempts": 1.5}, ["max_attempts"]),
        ({"max_attempts": True}, ["max_attempts"]),
        ({"max_crashes": -1}, ["max_crashes"]),
        ({"backoff": -1}, ["backoff"]),
        ({"timeout": -1}, ["timeout"]),
        ({"timeout": NAN}, ["timeout"]),
        ({"timeout": INFINITE}, ["timeout"]),
        ({"timeout": 10**400}, ["timeout"]),
        ({"timeout": "soon"}, ["timeout", "soon"]),
        ({"queue": ""}, ["queue"]),
        ({"queue": "a\nb"}, ["queue"]),
        ({"queue": "x" * 201}, ["queue", "200"]),
        ({"queue": 7}, ["queue"]),
        ({"retention": {"completed": -1}}, ["retention[completed]"]),
        ({"retention": {"running": 1}}, ["retention", "running"]),
        ({"retention": 60}, ["retention"]),
        ({"prefix": "Big-Name"}, ["prefix"]),
        ({"prefix": "x; drop table"}, ["prefix"]),
        ({"durability": "some"}, ["durability", "full"]),
        ({"migrate": "never"}, ["migrate"]),
        ({"poll": 0}, ["poll"]),
        ({"beat": timedelta(seconds=-1)}, ["beat"]),
        ({"beat": 5, "lost_after": 14.9}, ["lost_after", "beat", "three times"]),
        ({"beat": 10}, ["lost_after"]),
        ({"grace": -0.1}, ["grace"]),
        ({"payload_limit": 0}, ["payload_limit"]),
    ],
)
def test_a_setting_that_cannot_be_right_is_named(given: dict[str, Any], names: list[str]) -> None:
    """At construction, before anything is opened."""
    _refused(lambda: Windlass("memory://", **given), ConfigurationError, *names)


def test_an_unknown_option_is_a_type_error() -> None:
    """Python says it, and names it."""
    _refused(lambda: Windlass("memory://", retries=3), TypeError, "retries")  # type: ignore[call-arg]


@pytest.mark.parametrize("given", [{"timeout": []}, {"grace": True}, {"beat": object()}, {"backoff": [1]}])
def test_a_duration_of_the_wrong_kind_is_a_type_error(given: dict[str, Any]) -> None:
    """It names the option and what it takes."""
    _refused(lambda: Windlass("memory://", **given), TypeError, next(iter(given)), "timedelta")


@pytest.mark.parametrize(
    ("url", "error", "says"),
    [
        ("jobs.db", ConfigurationError, "sqlite:///jobs.db"),
        ("mongodb://x", ConfigurationError, "mongodb"),
        ("sqlite://jobs.db", ConfigurationError, "three slashes"),
        ("sqlite:///jobs.db?mode=ro", ConfigurationError, "options"),
        ("", ConfigurationError, "url"),
        (5, ConfigurationError, "url"),
        ("postgresql://localhost/x?nonsense=1", ConfigurationError, "nonsense"),
        ("postgres://[::1/x", ConfigurationError, "postgres"),
        ("redis://localhost/name", ConfigurationError, "number"),
        ("valkeys://localhost:port", ConfigurationError, "valkeys"),
        ("mysql://localhost/x", NotYetError, "mysql"),
        ("mariadb://localhost/x", NotYetError, "mariadb"),
    ],
)
def test_a_store_that_is_not_known_or_not_built_is_said(url: Any, error: type[Exception], says: str) -> None:
    """With the spelling that would work."""
    _refused(lambda: Windlass(url), error, says)


@pytest.mark.parametrize(
    "url",
    [
        "mysql://me:secret@host/db",
        "postgresql://me:secret@host/db?nonsense=1",
        "postgresql://me:secret@[::1/db",
        "postgresql://me:secret%zz@host/db",
        "postgresql://me:secret%00@host/db",
        "redis://me:secret@host:port/0",
        "rediss://me:secret@host/name",
    ],
)
def test_a_password_is_not_shown(url: str) -> None:
    """Not even where libpq quotes all of the URL that it does not understand."""
    with pytest.raises((NotYetError, ConfigurationError)) as caught:
        Windlass(url)
    assert "secret" not in str(caught.value)


def test_a_password_is_not_shown_when_the_server_is_away(free_port: int) -> None:
    with Windlass(f"postgresql://me:secret@localhost:{free_port}/db") as app:
        assert "secret" not in repr(app)
        with pytest.raises(ConnectionLostError) as caught:
            app.enqueue("work")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("MAX_ATTEMPTS", "many", "max_attempts"),
        ("MAX_ATTEMPTS", "0", "max_attempts"),
        ("TIMEOUT", "soon", "timeout"),
        ("TIMEOUT", "-3", "timeout"),
        ("BEAT", "nan", "beat"),
        ("RETENTION", "1d", "retention"),
        ("DURABILITY", "FULL", "durability"),
        ("URL", "nowhere", "nowhere"),
        ("LOST_AFTER", "1", "lost_after"),
    ],
)
def test_the_environment_is_checked_like_the_constructor(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str
) -> None:
    """The message names the setting."""
    monkeypatch.setenv(f"WINDLASS_{name}", value)
    _refused(lambda: Windlass(None if name == "URL" else "memory://"), ConfigurationError, says)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[tool.windlass]\nmax_attempts = 0", "max_attempts"),
        ("[tool.windlass]\nmax_attemps = 3", "max_attemps"),
        ("[tool.windlass]\nretention = {completed = 'x'}", "retention[completed]"),
        ("[tool.windlass]\nbeat = 30", "lost_after"),
        ("[tool.windlass", "pyproject.toml"),
    ],
)
def test_the_project_file_is_checked_like_the_constructor(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, says: str
) -> None:
    """Unknown settings too: a typing error must not be silence."""
    (tmp_path / "pyproject.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    _refused(lambda: Windlass("memory://"), ConfigurationError, says)


def test_the_constructor_wins_over_environment_and_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Constructor, then environment, then file."""
    (tmp_path / "pyproject.toml").write_text("[tool.windlass]\nmax_attempts = 7\nmax_crashes = 7\nqueue = 'file'")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WINDLASS_MAX_CRASHES", "8")
    monkeypatch.setenv("WINDLASS_QUEUE", "environment")
    settings = Windlass("memory://", queue="call").settings
    assert (settings.max_attempts, settings.max_crashes, settings.queue) == (7, 8, "call")


# ---------------------------------------------------------------------- tasks


def _positional(a: int, /) -> None: ...
def _starred(*args: int) -> None: ...
def _two(one: Context, two: Context) -> None: ...
def _several(a: int, b: int) -> None: ...
async def _coroutine() -> None: ...


@pytest.mark.parametrize(
    ("function", "given", "error", "says"),
    [
        (_positional, {}, SignatureError, "a, /"),
        (_starred, {}, SignatureError, "*args"),
        (_two, {}, SignatureError, "more than one Context"),
        (_several, {"raw": True}, SignatureError, "exactly one parameter"),
        ("work", {}, SignatureError, "'work'"),
        (None, {}, SignatureError, "None"),
        (_work, {"lane": "async"}, ConfigurationError, "async lane"),
        (_coroutine, {"lane": "thread"}, ConfigurationError, "thread lane"),
        (_coroutine, {"lane": "process"}, ConfigurationError, "process lane"),
        (_work, {"lane": "greenlet"}, ConfigurationError, "greenlet"),
        (_work, {"priority": 40_000}, ConfigurationError, "priority"),
        (_work, {"priority": "high"}, ConfigurationError, "priority"),
        (_work, {"max_attempts": 0}, ConfigurationError, "max_attempts"),
        (_work, {"timeout": -1}, ConfigurationError, "timeout"),
        (_work, {"queue": ""}, ConfigurationError, "queue"),
        (_work, {"tags": "welcome"}, ConfigurationError, "tags"),
        (_work, {"tags": 5}, ConfigurationError, "tags"),
        (_work, {"tags": [""]}, ConfigurationError, "tag"),
        (_work, {"aliases": "old"}, ConfigurationError, "aliases"),
        (_work, {"aliases": [5]}, ConfigurationError, "alias"),
        (_work, {"retry_on": "OSError"}, ConfigurationError, "retry_on"),
        (_work, {"discard_on": (OSError, 5)}, ConfigurationError, "discard_on"),
        (_work, {"backoff": -5}, ConfigurationError, "delay"),
        (_work, {"unique": "yes"}, ConfigurationError, "unique"),
        (_work, {"limit": 0}, ConfigurationError, "limit"),
        (_work, {"retries": 3}, TypeError, "retries"),
    ],
)
def test_a_function_that_cannot_be_a_task_is_refused(
    app: Windlass, function: Any, given: dict[str, Any], error: type[Exception], says: str
) -> None:
    """At registration, and nothing is left in the registry."""
    _refused(lambda: app.register("new", function, **given), error, says)
    assert app.find_task("new") is None


def test_a_lambda_needs_a_name(app: Windlass) -> None:
    """Its own says nothing."""
    _refused(lambda: app.task(lambda: None), SignatureError, "name=")


def test_a_name_is_taken_once(app: Windlass) -> None:
    """By name or alias; ``replace=True`` takes it over."""
    for name, given in (("work", {}), ("new", {"aliases": ["work"]})):
        _refused(lambda name=name, given=given: app.register(name, _work, **given), DuplicateTaskError, "work")  # type: ignore[misc]
    app.register("work", _work, replace=True)
    _refused(lambda: app.unregister("nobody"), UnknownTaskError, "nobody")


def test_the_process_lane_needs_a_function_that_can_be_found(app: Windlass) -> None:
    """One inside another function cannot be imported by the child."""

    def inner() -> None: ...

    _refused(lambda: app.register("inner", inner, lane="process"), SignatureError, "top of a module")


def test_a_payload_type_must_be_one(app: Windlass) -> None:
    """For ``handler`` and for ``dispatch``."""
    _refused(lambda: app.handler(int), SignatureError, "dataclass")
    _refused(lambda: app.dispatch(5), SignatureError, "dataclass")


# ---------------------------------------------------------------------- enqueue


def test_wrong_arguments_are_a_type_error_here(app: Windlass) -> None:
    """As the plain call would say it, with the task's name."""
    work = app.tasks["work"]
    _refused(work.enqueue, TypeError, "work", "number")
    _refused(lambda: work.enqueue(1, "x", 2), TypeError, "work")
    _refused(lambda: work.enqueue(1, colour="red"), TypeError, "colour")

    async def twin() -> None:
        await work.aenqueue()

    _refused(lambda: asyncio.run(twin()), TypeError, "number")


@dataclass
class Opaque:
    inner: Any


@pytest.mark.parametrize(
    "value",
    [object(), {1j}, lambda: None, Opaque(object()), "\ud800", {("a", 1): 2}, b"x" * 2_000_000],
    ids=["object", "complex", "function", "dataclass", "surrogate", "key", "long"],
)
def test_a_value_that_cannot_be_stored_is_refused(app: Windlass, value: Any) -> None:
    """The error names the task, and nothing is stored."""
    app.register("anything", lambda value: value)
    _refused(lambda: app.tasks["anything"].enqueue(value), PayloadError, "anything")
    _refused(lambda: app.enqueue("unknown here", {"value": value}), PayloadError, "unknown here")
    assert app.count() == 0


def test_a_value_that_holds_itself_is_refused(app: Windlass) -> None:
    """Recursion ends in an error, not in a crash."""
    loop: list[Any] = []
    loop.append(loop)
    _refused(lambda: app.enqueue("work", {"number": loop}), PayloadError, "work")


def test_a_payload_beyond_the_limit_names_both_sizes(app: Windlass) -> None:
    """And says what to do instead."""
    _refused(lambda: app.tasks["work"].enqueue(1, "x" * (1 << 20)), PayloadError, "1,048,576", "reference")


@pytest.mark.parametrize(
    "payload", [{"number": "one"}, {}, {"number": 1, "colour": "red"}, [1], 5, "x", {"number": None}, {"number": 1.5}]
)
def test_a_payload_that_does_not_fit_a_known_task_is_refused(app: Windlass, payload: Any) -> None:
    """``app.enqueue`` checks it when the task is known here."""
    _refused(lambda: app.enqueue("work", payload), PayloadError, "work")
    assert app.count() == 0


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"delay": -1}, ConfigurationError, "delay"),
        ({"delay": NAN}, ConfigurationError, "delay"),
        ({"delay": INFINITE}, ConfigurationError, "delay"),
        ({"delay": 10**400}, ConfigurationError, "delay"),
        ({"delay": timedelta(days=40_000)}, ConfigurationError, "delay"),
        ({"delay": "5m"}, TypeError, "delay"),
        ({"delay": True}, TypeError, "delay"),
        ({"run_at": NAIVE}, ConfigurationError, "naive"),
        ({"run_at": 1_900_000_000}, TypeError, "run_at"),
        ({"run_at": AWARE, "delay": 5}, ConfigurationError, "not both"),
        ({"queue": "\x00"}, ConfigurationError, "queue"),
        ({"priority": -32769}, ConfigurationError, "priority"),
        ({"priority": 1.0}, ConfigurationError, "priority"),
        ({"max_attempts": 0}, ConfigurationError, "max_attempts"),
        ({"timeout": -1}, ConfigurationError, "timeout"),
        ({"tags": "one"}, ConfigurationError, "tags"),
        ({"tags": [1]}, ConfigurationError, "tag"),
        ({"origin": ""}, ConfigurationError, "origin"),
        ({"meta": "text"}, ConfigurationError, "meta"),
        ({"meta": 5}, ConfigurationError, "meta"),
        ({"meta": {"x": object()}}, PayloadError, "meta"),
        ({"unique": "yes"}, ConfigurationError, "unique"),
        ({"unique": Unique(by="nothing")}, ConfigurationError, "no argument 'nothing'"),
        ({"idempotency_key": ""}, ConfigurationError, "idempotency_key"),
        ({"idempotency_key": 5}, ConfigurationError, "idempotency_key"),
        ({"colour": "red"}, TypeError, "colour"),
    ],
)
def test_an_option_that_cannot_be_right_is_named(
    app: Windlass, given: dict[str, Any], error: type[Exception], says: str
) -> None:
    """Spelt in each of the ways, and nothing is stored."""
    work = app.tasks["work"]
    _refused(lambda: work.using(**given).enqueue(1), error, says)
    _refused(lambda: app.enqueue("work", {"number": 1}, **given), error, says)
    _refused(lambda: asyncio.run(app.aenqueue("work", {"number": 1}, **given)), error, says)
    assert app.count() == 0


def test_a_task_s_name_must_be_one(app: Windlass) -> None:
    """Text, printable, not empty."""
    for name in ("", 5, None, "x" * 300, "a\tb"):
        _refused(lambda name=name: app.enqueue(name), ConfigurationError, "task's name")  # type: ignore[misc]


def test_enqueue_many_takes_drafts(app: Windlass) -> None:
    """One that is not spoils the call before anything is stored; none at all is no error."""
    work = app.tasks["work"]
    _refused(lambda: app.enqueue_many([work.job(1), "work"]), TypeError, "task.job")  # type: ignore[list-item]
    assert app.count() == 0
    assert app.enqueue_many([]) == []


@pytest.mark.parametrize("connection", [object(), "jobs.db", 5])
def test_a_connection_of_no_kind_is_a_type_error(tmp_path: Path, connection: Any) -> None:
    """Before anything is written."""
    with Windlass(f"sqlite:///{tmp_path}/jobs.db") as app:
        _refused(lambda: app.enqueue("work", connection=connection), TypeError, "connection=")
        assert app.count() == 0


def test_a_connection_of_another_database_is_refused(tmp_path: Path) -> None:
    """One transaction cannot span two files; the message names both."""
    with Windlass(f"sqlite:///{tmp_path}/jobs.db") as app:
        for path in (tmp_path / "other.db", ":memory:"):
            connection = sqlite3.connect(path)
            _refused(lambda c=connection: app.enqueue("work", connection=c), ConfigurationError, "jobs.db")  # type: ignore[misc]
            connection.close()


def test_the_wrong_colour_of_connection_is_a_type_error(tmp_path: Path) -> None:
    """A sync connection for the twin names the blocking form."""
    with Windlass(f"sqlite:///{tmp_path}/jobs.db") as app:
        app.stats()
        connection = sqlite3.connect(tmp_path / "jobs.db")
        _refused(lambda: asyncio.run(app.aenqueue("work", connection=connection)), TypeError, "enqueue")
        connection.close()


# ---------------------------------------------------------------------- managing


@pytest.mark.parametrize("job_id", ["1", 1.0, True, [1], b"1"])
def test_an_id_is_a_whole_number(app: Windlass, job_id: Any) -> None:
    """Of every operation."""
    for call in (app.get, app.cancel, app.retry, app.delete, app.run_now, app.why, app.history):
        _refused(lambda call=call: call(job_id), TypeError, "id", repr(job_id))  # type: ignore[misc]
    _refused(lambda: app.cancel_many(ids=[job_id]), TypeError, "id")


@pytest.mark.parametrize("job_id", [0, -1, 7, 1 << 80, -(1 << 80)])
def test_an_unknown_id_is_not_found(app: Windlass, job_id: int) -> None:
    """However large."""
    for call in (app.get, app.cancel, app.retry, app.delete, app.run_now, app.why):
        _refused(lambda call=call: call(job_id), JobNotFoundError, str(job_id))  # type: ignore[misc]
    assert app.cancel(job_id, missing_ok=True) is None


def test_get_takes_an_id_or_a_key(app: Windlass) -> None:
    """One of them."""
    _refused(app.get, TypeError, "one of them")
    _refused(lambda: app.get(1, key="x"), TypeError, "one of them")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"status": "done"}, "done"),
        ({"status": ["pending", "oops"]}, "oops"),
        ({"status": 5}, "status"),
        ({"limit": 0}, "limit"),
        ({"limit": 1001}, "limit"),
        ({"limit": "10"}, "limit"),
        ({"offset": -1}, "offset"),
        ({"offset": "1"}, "offset"),
        ({"offset": 1 << 80}, "offset"),
        ({"after": "cursor"}, "after"),
        ({"after": 1 << 80}, "after"),
        ({"queue": 5}, "queue"),
        ({"tag": ["a"]}, "tag"),
        ({"task": 5}, "task"),
        ({"worker": 5}, "worker"),
        ({"origin": b"x"}, "origin"),
        ({"error": 5}, "error"),
        ({"batch": "x"}, "batch"),
        ({"created_after": NAIVE}, "created_after"),
        ({"started_before": NAIVE}, "started_before"),
    ],
)
def test_a_filter_that_cannot_match_is_named(app: Windlass, given: dict[str, Any], says: str) -> None:
    """Instead of an empty page."""
    app.tasks["work"].enqueue(1)
    _refused(lambda: app.jobs(**given), ConfigurationError, says)
    if not {"limit", "offset", "after"} & set(given):
        _refused(lambda: app.count(**given), ConfigurationError, says)
        _refused(lambda: app.cancel_many(**given), ConfigurationError, says)
    assert app.count() == 1


def test_bulk_operations_want_ids_or_filters(app: Windlass) -> None:
    """Neither would mean everything; ``failed`` is ambiguous where jobs are destroyed."""
    for call in (app.cancel_many, app.delete_many, app.retry_many):
        _refused(call, TypeError, "ids=")
        _refused(lambda call=call: call(ids=[1], queue="x"), TypeError, "one of them")  # type: ignore[misc]
    for call in (app.cancel_many, app.delete_many):
        _refused(lambda call=call: call(status="failed"), ConfigurationError, "failed")  # type: ignore[misc]
    _refused(lambda: app.purge(1, ["failed"]), ConfigurationError, "failed")
    _refused(lambda: app.purge(1, ["running"]), ConfigurationError, "running")
    _refused(lambda: app.purge(-1), ConfigurationError, "older_than")
    _refused(lambda: app.purge("1d"), TypeError, "older_than")  # type: ignore[arg-type]


def test_a_move_that_is_not_legal_is_a_state_error(app: Windlass) -> None:
    """It says what the job is; ``state_ok`` makes it nothing."""
    job = app.tasks["work"].enqueue(1)
    _refused(lambda: app.retry(job.id), JobStateError, "pending", "retry")
    assert app.retry(job.id, state_ok=True).status == "pending"  # type: ignore[union-attr]
    claim = app.claim()
    assert claim is not None
    _refused(lambda: app.delete(job.id), JobStateError, "running", "cancel it first")
    _refused(lambda: app.reschedule(job.id, AWARE), JobStateError, "running")
    _refused(lambda: app.retry(job.id), JobStateError, "force=True")
    claim.ack()
    _refused(lambda: app.cancel(job.id), JobStateError, "completed")
    _refused(lambda: app.retry(job.id, mode="again"), ConfigurationError, "mode", "again")  # type: ignore[arg-type]
    _refused(lambda: app.retry(job.id, delay=-1), ConfigurationError, "delay")
    _refused(lambda: app.reschedule(job.id, NAIVE), ConfigurationError, "at", "naive")


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda app: app.pause(), TypeError, "one of them"),
        (lambda app: app.pause(queue="a", task="b"), TypeError, "one of them"),
        (lambda app: app.pause(queue=""), ConfigurationError, "queue"),
        (lambda app: app.resume(task=""), ConfigurationError, "task"),
        (lambda app: app.throughput(window=0), ConfigurationError, "window"),
        (lambda app: app.throughput(window=4000), ConfigurationError, "window"),
        (lambda app: app.claim(lease=0), ConfigurationError, "lease"),
        (lambda app: app.claim(wait=-1), ConfigurationError, "wait"),
        (lambda app: app.claim(queue=5), ConfigurationError, "queue"),
        (lambda app: app.claim(tasks="work"), ConfigurationError, "tasks"),
        (lambda app: app.worker(concurrency=0), ConfigurationError, "concurrency"),
        (lambda app: app.worker(concurrency=2.5), ConfigurationError, "concurrency"),
        (lambda app: app.worker(queues=[]), ConfigurationError, "queues"),
        (lambda app: app.worker(queues=[5]), ConfigurationError, "queue"),
        (lambda app: app.worker(max_jobs=0), ConfigurationError, "max_jobs"),
        (lambda app: app.worker(max_memory=-1), ConfigurationError, "max_memory"),
        (lambda app: app.worker(threads=4), TypeError, "threads"),
        (lambda app: app.batch(""), ConfigurationError, "name"),
        (lambda app: app.batch("x", on_success=5), ConfigurationError, "on_success"),
        (lambda app: app.batch("x", parent="1"), TypeError, "id"),
        (lambda app: app.get_batch("1"), TypeError, "id"),
        (lambda app: app.limit(3), ConfigurationError, "say of what"),
        (lambda app: app.limit("3", queue="mail"), ConfigurationError, "limit"),
        (lambda app: app.unlimit(), ConfigurationError, "say of what"),
        (lambda app: app.join("1"), TypeError, "id"),
        (lambda app: app.join(1, timeout=-1), ConfigurationError, "timeout"),
        (lambda app: app.join(1, timeout=0), JobNotFoundError, "no job 1"),
        (lambda app: app.listen(5), ConfigurationError, "kinds of events"),
        (lambda app: app.alisten("JobDead"), ConfigurationError, "kinds of events"),
        (lambda app: app.correlation(""), ConfigurationError, "correlation_id"),
        (lambda app: app.enqueue("work", correlation_id=5), ConfigurationError, "correlation_id"),
        (lambda app: app.carry(5), ConfigurationError, "context variable"),
    ],
)
def test_other_operations_name_what_is_wrong(
    app: Windlass, call: Callable[[Windlass], Any], error: type[Exception], says: str
) -> None:
    """What is not built yet says so plainly."""
    _refused(lambda: call(app), error, says)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: Fixed(-1), ConfigurationError, "delay"),
        (lambda: Linear("x"), TypeError, "delay"),  # type: ignore[arg-type]
        (lambda: Exponential(factor=0.5), ConfigurationError, "factor"),
        (lambda: Exponential(jitter=2), ConfigurationError, "jitter"),
        (lambda: Exponential(base=NAN), ConfigurationError, "base"),
        (lambda: Delays([]), ConfigurationError, "at least one"),
        (lambda: Delays([1, -1]), ConfigurationError, "delay"),
        (lambda: Retry(after=-1), ConfigurationError, "after"),
        (lambda: Retry(after=NAIVE), TypeError, "after"),  # type: ignore[arg-type]
        (lambda: Snooze(-1), ConfigurationError, "delay"),
        (lambda: Snooze("x"), TypeError, "delay"),  # type: ignore[arg-type]
    ],
)
def test_policies_and_outcomes_check_their_delays(call: Callable[[], Any], error: type[Exception], says: str) -> None:
    """Where they are made, so that the mistake is found where it is."""
    _refused(call, error, says)


def test_every_refusal_is_of_one_family() -> None:
    """One ``except`` catches them; those that stand for a built-in error are that, too."""
    assert issubclass(ConfigurationError, WindlassError | ValueError)
    for error, also in (
        (ConfigurationError, ValueError), (SignatureError, TypeError), (PayloadError, ValueError),
        (JobNotFoundError, LookupError), (NotYetError, NotSupportedError),
    ):  # fmt: skip
        assert issubclass(error, WindlassError)
        assert issubclass(error, also)
    assert re.search("gone", str(Discard("gone")))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_json_does_not_have_is_refused(number: float) -> None:
    """It would silently become null, in an argument or deep inside one."""
    app = Windlass("memory://")

    @app.task
    def take(value: object, other: object = None) -> None: ...

    for argument in (number, [1, number], {"deep": [{"er": number}]}):
        with pytest.raises(PayloadError, match="not a JSON number"):
            take.enqueue(argument)
    assert take.enqueue([None, 1.5, {"null": None}]).payload == {"value": [None, 1.5, {"null": None}]}


# ---------------------------------------------------------------------- text, on every store


NUL, SURROGATE = "a\0b", "a\ud800b"
odd_text = pytest.mark.parametrize("text", [NUL, SURROGATE], ids=["NUL", "surrogate"])


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def each(request: pytest.FixtureRequest) -> Iterator[Windlass]:
    """An application on each store; PostgreSQL's text cannot hold U+0000, and neither can be told from outside."""
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else f"{request.param}://"
    with Windlass(url, backoff=0) as app:
        app.register("keep", lambda value: value, raw=True)
        yield app


@odd_text
def test_a_name_that_no_store_could_hold_is_refused_alike_on_every_store(each: Windlass, text: str) -> None:
    """When it is given, so that nothing is stored, and when it is asked for."""
    for call, name in (
        (lambda: each.enqueue("keep", 1, tags=[text]), "tag"),
        (lambda: each.enqueue("keep", 1, origin=text), "origin"),
        (lambda: each.enqueue("keep", 1, queue=text), "queue"),
        (lambda: each.enqueue(text, 1), "task"),
        (lambda: each.pause(queue=text), "queue"),
        (lambda: each.resume(task=text), "task"),
        (lambda: each.claim(text), "queue"),
        (lambda: each.claim(tasks=[text]), "task"),
        (lambda: each.throughput(queue=text), "queue"),
        (lambda: each.worker(queues=[text]), "queue"),
        *((lambda f=f: each.jobs(**{f: text}), f) for f in ("queue", "task", "tag", "origin", "worker", "error")),
        *((lambda f=f: each.count(**{f: text}), f) for f in ("queue", "task", "tag", "origin", "worker", "error")),
        (lambda: each.cancel_many(tag=text), "tag"),
    ):
        _refused(call, ConfigurationError, name)
    _refused(lambda: each.get(key=text), JobNotFoundError, "no job")
    assert each.count() == 0


def test_a_nul_inside_json_comes_back_from_every_store(each: Windlass) -> None:
    """One by one, in bulk, as a result, in meta, and in the message of an error that is then searched for."""
    one = each.enqueue("keep", {NUL: [NUL]}, meta={NUL: NUL}, tags=["x"])
    many = each.enqueue_many([each.tasks["keep"].job(NUL) for _ in range(500)])
    each.register("fail", _fail_with_nul)
    dead = each.enqueue("fail", max_attempts=2)
    assert each.get(one.id).payload == {NUL: [NUL]}
    assert each.get(one.id).meta == {NUL: NUL}
    assert each.get(many[-1].id).payload == NUL
    with each.worker(concurrency=2):
        until(lambda: each.get(dead.id).finished_at and each.count(status="completed") == 501)
    assert each.get(many[0].id).result == NUL
    found = each.get(dead.id)
    assert found.error is not None
    assert found.error.message == f"{NUL} and \\u0000"
    assert [job.id for job in each.jobs(error="ValueError")] == [dead.id]
    assert len(found.history()) == 2


def _fail_with_nul() -> None:
    raise ValueError(f"{NUL} and \\u0000")


def test_half_a_surrogate_pair_inside_json_is_refused_by_every_store(each: Windlass) -> None:
    for call in (
        lambda: each.enqueue("keep", SURROGATE),
        lambda: each.enqueue("keep", {SURROGATE: 1}),
        lambda: each.enqueue("keep", 1, meta={"key": SURROGATE}),
        lambda: each.enqueue_many([each.tasks["keep"].job(1), each.tasks["keep"].job(SURROGATE)]),
    ):
        _refused(call, PayloadError, "JSON")
    assert each.count() == 0


@pytest.mark.parametrize("number", [1 << 63, -(1 << 63) - 1, 10**30, -1, 0])
def test_a_number_that_no_job_has_is_not_found_on_every_store(each: Windlass, number: int) -> None:
    for call in (each.get, each.cancel, each.retry, each.delete, each.run_now, each.why):
        _refused(lambda call=call: call(number), JobNotFoundError)  # type: ignore[misc]
    assert each.cancel_many(ids=[number]).ids == []
    assert list(each.jobs(batch=number)) == []
    assert each.history(number) == []


def test_what_is_big_fits_or_is_refused_alike_on_every_store(each: Windlass) -> None:
    """Names of 200 characters that need three bytes each, ten thousand tags, payloads up to the limit."""
    wide = "€" * 200
    assert each.get(each.enqueue("keep", 1, tags=[wide], origin=wide, queue=wide).id).tags == (wide,)
    assert each.count(tag=wide) == 1
    tags = tuple(f"tag {number}" for number in range(10_000))
    assert each.get(each.enqueue("keep", 1, tags=tags).id).tags == tags
    largest = "x" * ((1 << 20) - 2)
    assert each.get(each.enqueue("keep", largest).id).payload == largest
    assert each.get(each.enqueue("keep", "\0" * 170_000).id).payload == "\0" * 170_000
    _refused(lambda: each.enqueue("keep", largest + "x"), PayloadError, "1,048,577")
    _refused(lambda: each.enqueue("keep", 1, tags=["x" * 201]), ConfigurationError, "tag", "200")
    assert each.count() == 4
