"""The limits on PostgreSQL: what psycopg does on one bare connection, and pgbench on several.

The table is that of a plain queue, as in `raw`; statements are prepared; no bookkeeping but what a queue cannot do without.
"""

import re
import subprocess
from functools import partial
from pathlib import Path

import psycopg

from benchmarks import postgres
from benchmarks.contender import Contender
from benchmarks.raw import PAYLOAD, rate

INSERT = "INSERT INTO job (payload) VALUES (%s)"
SCHEMA = """
CREATE TABLE job (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue text NOT NULL DEFAULT 'default',
    task text NOT NULL DEFAULT 'send_email',
    state smallint NOT NULL DEFAULT 0,
    priority smallint NOT NULL DEFAULT 0,
    run_at timestamptz NOT NULL DEFAULT now(),
    attempt smallint NOT NULL DEFAULT 0,
    worker text,
    lease_until timestamptz,
    payload jsonb NOT NULL
);
CREATE INDEX job_ready ON job (queue, priority, run_at, id) WHERE state = 0;
CREATE INDEX job_lease ON job (lease_until) WHERE state = 1;
"""
# Relies on job_ready.
CLAIM = """
UPDATE job
SET state = 1, attempt = attempt + 1, worker = 'w1', lease_until = now() + interval '30 s'
WHERE id IN (
    SELECT id FROM job
    WHERE queue = 'default' AND state = 0 AND run_at <= now()
    ORDER BY priority, run_at, id
    LIMIT %s
    FOR UPDATE SKIP LOCKED
)
RETURNING id, attempt, payload
"""
COMPLETE = """
UPDATE job
SET state = 2, worker = NULL, lease_until = NULL
FROM unnest(%s::bigint[], %s::smallint[]) AS done (id, attempt)
WHERE job.id = done.id AND job.state = 1 AND job.attempt = done.attempt
"""


def connect(url: str) -> psycopg.Connection[tuple[object, ...]]:
    """Connect so that each statement commits, is prepared at once, and the table is there."""
    connection = psycopg.connect(url, autocommit=True, prepare_threshold=0)
    connection.execute(SCHEMA, prepare=False)
    return connection


def copy(connection: psycopg.Connection[tuple[object, ...]], count: int) -> None:
    """Put `count` jobs in by one COPY."""
    with connection.cursor().copy("COPY job (payload) FROM STDIN") as rows:
        for _ in range(count):
            rows.write_row((PAYLOAD,))


def enqueue_one(_folder: Path, count: int = 3_000) -> float:
    """Insert and commit one job at a time."""
    with postgres.database() as url, connect(url) as connection:

        def one_by_one(count: int = count) -> None:
            for _ in range(count):
                connection.execute(INSERT, (PAYLOAD,))

        one_by_one(100)
        return rate(count, one_by_one)


def enqueue_many(_folder: Path, count: int = 50_000) -> float:
    """Put all jobs in by one COPY."""
    with postgres.database() as url, connect(url) as connection:
        return rate(count, lambda: copy(connection, count))


def claim_complete(_folder: Path, count: int = 50_000, batch: int = 100) -> float:
    """Claim a hundred jobs, then complete them, until none is left: two commits a batch."""
    with postgres.database() as url, connect(url) as connection:
        copy(connection, count)
        postgres.settle(url)

        def drain() -> None:
            done = 0
            while claimed := connection.execute(CLAIM, (batch,)).fetchall():
                done += len(claimed)
                connection.execute(COMPLETE, ([job for job, *_ in claimed], [attempt for _, attempt, _ in claimed]))
            if done != count:
                raise RuntimeError(f"{done} jobs of {count} were claimed")

        return rate(count, drain)


def pgbench(clients: int, folder: Path, seconds: float = 5) -> float:
    """Insert and commit one job at a time on several connections, with PostgreSQL's own load generator."""
    script = folder / "insert.sql"
    script.write_text(INSERT.replace("%s", f"'{PAYLOAD}'") + ";\n", encoding="utf-8")
    with postgres.database() as url, connect(url):
        command: list[str | Path] = [
            postgres.binaries() / "pgbench",
            "--no-vacuum",
            "--protocol",
            "prepared",
            "--file",
            script,
        ]
        load = ["--client", str(clients), "--jobs", "1", "--time", f"{seconds:g}", url]
        said = subprocess.run([*command, *load], check=True, capture_output=True, text=True).stdout
    found = re.search(r"^tps = ([\d.]+)", said, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"pgbench said: {said}")
    return float(found[1])


CONTENDER = Contender(
    name="raw_postgres",
    store="postgres",
    works={
        "enqueue_one": enqueue_one,
        "enqueue_many": enqueue_many,
        "claim_complete": claim_complete,
        "pgbench_4": partial(pgbench, 4),
        "pgbench_8": partial(pgbench, 8),
    },
    drains=frozenset({"claim_complete"}),
)
