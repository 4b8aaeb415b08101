"""What the type checker sees of a task: checked by `mypy --strict`, never run.

`assert_type` fails the check when a type is not exactly this; a `type: ignore` that is not needed fails it too, so each
wrong call below is one that the checker refuses.
"""

from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any, assert_type

from windlass import Context, Job, Schedule, Windlass
from windlass.contrib.fastapi import Enqueuer
from windlass.drivers.base import Worker
from windlass.report import Count, Done, Page, Stats
from windlass.task import ChunkTask, Draft, Task

app = Windlass("memory://")


@app.task
def send(to: str, subject: str = "hello") -> int:
    """Take two texts."""
    return len(to + subject)


@app.task(queue="mail", max_attempts=5)
def with_options(to: str) -> None:
    """Keep the signature through options."""


@app.task
def with_context(ctx: Context, user_id: int) -> None:
    """Leave the leading Context out of the caller's signature."""


@app.task(timeout=5)
async def on_loop(user_id: int) -> str:
    """Be async."""
    return str(user_id)


assert_type(send("ada"), int)
assert_type(send.enqueue("ada", subject="hi"), Job)
assert_type(send.job("ada"), Draft[int])
assert_type(send.using(delay=5).enqueue("ada"), Job)
assert_type(with_options.enqueue("ada"), Job)
assert_type(with_context.enqueue(5), Job)
assert_type(with_context.using(priority=1).enqueue(user_id=5), Job)
assert_type(on_loop.enqueue(5), Job)

send.enqueue()  # type: ignore[call-arg]
send.enqueue(5)  # type: ignore[arg-type]
send.enqueue("ada", "hi", "more")  # type: ignore[call-arg]
send.enqueue("ada", unknown=1)  # type: ignore[call-arg]
send.aenqueue(5)  # type: ignore[arg-type, unused-coroutine]
send.using(delay="soon")  # type: ignore[arg-type]
send.using(unknown=1)  # type: ignore[call-arg]
with_context.enqueue("five")  # type: ignore[arg-type]
with_options.using(delay=1).enqueue(1)  # type: ignore[arg-type]
app.task(nonsense=True)  # type: ignore[call-overload]


async def twins() -> None:
    """Give every twin the type of its original."""
    coroutine: Coroutine[Any, Any, Job] = send.aenqueue("ada")
    assert_type(await coroutine, Job)
    assert_type(await send.using(delay=5).aenqueue("ada", "hi"), Job)
    assert_type(await on_loop(5), str)
    assert_type(await app.aget(1), Job)
    assert_type(await app.ajobs(status="dead", limit=5), Page)
    assert_type(await app.acount(task="send"), Count)
    assert_type(await app.astats(), Stats)
    assert_type(await app.acancel(1), Job | None)
    assert_type(await app.aretry_many(ids=[1]), Done)
    assert_type(await app.aworkers(), list[Worker])
    await app.aget("one")  # type: ignore[arg-type]
    await app.acount(nonsense=1)  # type: ignore[call-arg]


def plain(number: int) -> str:
    """Be registered without a decorator."""
    return str(number)


registered: Callable[..., Any] = app.register("plain", plain)
exact: Task[[int], str] = app.task(plain)


@app.task(chunk=100)
def store_all(rows: list[int]) -> list[str]:
    return [str(row) for row in rows]


@app.task(chunk=100, queue="bulk")
def store_all_in_context(ctx: Context, rows: list[int]) -> None: ...


assert_type(store_all, ChunkTask[int, list[str]])
assert_type(store_all_in_context, ChunkTask[int, None])
assert_type(store_all([1, 2]), list[str])
store_all.enqueue(1)
store_all.enqueue("x")  # type: ignore[arg-type]
store_all.enqueue([1])  # type: ignore[arg-type]


@app.schedule("0 2 * * *", timezone="Europe/Berlin", payload={"region": "eu"}, priority=3)
@app.schedule(every=300, name="often", payload={"region": "us"})
@app.task
def report(region: str) -> int:
    return len(region)


assert_type(report("eu"), int)
app.schedule("0 2 * * *", missed="some")  # type: ignore[arg-type]
app.schedule("0 2 * * *", delay=5)  # type: ignore[call-arg]
assert_type(app.schedules.add("x", 60, task=report, missed="all"), Schedule)
assert_type(app.schedules.next("x", 3), list[datetime])


def in_a_session(jobs: Enqueuer) -> None:
    """Keep the signature when a session goes with it."""
    assert_type(jobs(send, delay=60).enqueue("a"), Job)
    jobs(send).enqueue(3)  # type: ignore[arg-type]
    jobs(send, dleay=60)  # type: ignore[call-arg]


app.register("fair", plain, fair="key:{number}")
app.register("unfair", plain, fair=3)  # type: ignore[arg-type]
