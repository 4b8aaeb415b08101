"""An application whose handler writes in ``ctx.transaction()`` and whose process kills itself at ``CHAOS_POINT`` of that.

A point is ``before:n`` or ``after:n`` the n-th conversation with the store, ``unread`` (the store has committed, and the
process does not know) or ``end``. On SQLite, which runs in the process, what is before a statement is after the last one.
"""

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import psycopg

from tests.chaos.application import make, note
from tests.waiting import until
from windlass import Context
from windlass.drivers.postgres.connect import Connection

POINT = os.environ.get("CHAOS_POINT", "")
POSTGRES = "CHAOS_URL" in os.environ
app = make()
inside = threading.local()


def reach(point: str) -> None:
    if point == POINT:
        note(what="point", point=point)
        os.kill(os.getpid(), signal.SIGKILL)


def step() -> int:
    inside.steps += 1
    reach(f"before:{inside.steps}")
    return int(inside.steps)


def watched(wait: Callable[..., Any]) -> Callable[..., Any]:
    def watch(self: Connection, *args: Any, **options: Any) -> Any:
        if not getattr(inside, "on", False):
            return wait(self, *args, **options)
        number = step()
        answer = wait(self, *args, **options)
        reach(f"after:{number}")
        return answer

    return watch


def commit_unread(connection: Connection) -> None:
    connection.pgconn.send_query(b"COMMIT")
    with psycopg.connect(os.environ["CHAOS_URL"], autocommit=True) as other:
        until(
            lambda: other.execute(
                "SELECT FROM pg_stat_activity WHERE pid = %s AND state = 'idle' AND query = 'COMMIT'",
                (connection.info.backend_pid,),
            ).fetchall()
        )
    reach("unread")


if POSTGRES:
    Connection.wait = watched(Connection.wait)  # type: ignore[method-assign]


@app.task
def work(ctx: Context, number: int) -> None:
    inside.steps, inside.on = 0, True
    try:
        with ctx.transaction() as transaction:
            if not POSTGRES:
                transaction.connection.set_trace_callback(lambda _: step() if getattr(inside, "on", False) else None)
            sign = "%s" if POSTGRES else "?"
            transaction.execute(f"INSERT INTO effect VALUES ({sign})", (number,))
            transaction.enqueue(child.job(number=number))
            transaction.execute("UPDATE total SET n = n + 1")
            if POINT == "unread":
                own = transaction.connection
                execute = own.execute
                own.execute = lambda query, *rest: commit_unread(own) if query == "COMMIT" else execute(query, *rest)
        reach("end")
        note(what="steps", steps=inside.steps)
    finally:
        inside.on = False


@app.task
def child(number: int) -> None:
    pass
