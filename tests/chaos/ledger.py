"""What must be true of a PostgreSQL store and its history when the dust has settled."""

import itertools
import re
from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import Any

import psycopg

from windlass import Outcome, Status, Windlass


def assert_consistent(url: str) -> None:
    """Each job is in exactly one place, and the counters equal the rows."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        odd = connection.execute(_PLACES).fetchall()
        assert not odd, f"not in exactly one place: {odd[:10]}"
        rows = dict(connection.execute(_ROWS).fetchall())
        names = [status.value for status in Status]
        sums = ", ".join(f"coalesce(sum({name}), 0)::bigint" for name in names)
        columns = ", ".join(names)
        counted = connection.execute(
            f"SELECT {sums} FROM (SELECT {columns} FROM windlass_counter UNION ALL SELECT {columns} FROM windlass_delta) c"
        ).fetchone()
        assert counted is not None
        assert dict(zip(names, counted, strict=True)) == {name: rows.get(name, 0) for name in names}


_PLACES = """
SELECT id, count(place), string_agg(place, ',') FROM windlass_job FULL JOIN (
    SELECT id, 'ready' AS place FROM windlass_ready UNION ALL SELECT id, 'timer' FROM windlass_timer
    UNION ALL SELECT id, 'blocked' FROM windlass_blocked UNION ALL SELECT id, 'running' FROM windlass_running
    UNION ALL SELECT id, 'done' FROM windlass_done) p USING (id)
GROUP BY id HAVING count(place) <> 1 OR count(payload) <> 1
"""
_ROWS = """
SELECT 'pending', (SELECT count(*) FROM windlass_ready) + (SELECT count(*) FROM windlass_blocked)
UNION ALL SELECT 'running', count(*) FROM windlass_running
UNION ALL SELECT 'scheduled', count(*) FROM windlass_timer WHERE NOT retrying
UNION ALL SELECT 'retrying', count(*) FROM windlass_timer WHERE retrying
UNION ALL SELECT status, count(*) FROM windlass_done GROUP BY status
"""


def stored(url: str) -> set[int]:
    """Return the ids of all jobs in a store that is consistent."""
    assert_consistent(url)
    with psycopg.connect(url, autocommit=True) as connection:
        return {row[0] for row in connection.execute("SELECT id FROM windlass_job")}


def assert_finished(
    app: Windlass, url: str, acknowledged: Collection[int], notes: Iterable[dict[str, Any]]
) -> dict[Outcome, int]:
    """Look into the store, and judge what has become of its jobs."""
    return assert_histories(app, stored(url), acknowledged, notes)


def assert_histories(
    app: Windlass,
    stored: Collection[int],
    acknowledged: Collection[int],
    notes: Iterable[dict[str, Any]],
    *,
    once: bool = False,
) -> dict[Outcome, int]:
    """Every job has completed, those that were acknowledged among them, and no two leases of one have overlapped.

    With *once* no worker was ever in danger of losing a lease, so that every handler has run exactly once.
    Returns how often attempts ended in each way.
    """
    assert len(set(acknowledged)) == len(acknowledged)
    assert set(acknowledged) <= set(stored), "an acknowledged job is gone"
    stats = app.stats()
    assert stats.completed == len(stored), f"not all of {len(stored)} have completed: {stats}"
    starts: dict[int, list[int]] = defaultdict(list)
    refused: set[tuple[int, int]] = set()
    for line in notes:
        if line["what"] == "start":
            starts[line["job"]].append(line["lease"])
        elif line["what"] == "refused":
            refused.add((line["job"], line["lease"]))
    outcomes: dict[Outcome, int] = defaultdict(int)
    for job_id in stored:
        history = app.history(job_id)
        leases = starts[job_id]
        assert len(set(leases)) == len(leases), f"job {job_id}: a lease reached two handlers: {leases}"
        assert [a.number for a in history] == list(range(1, len(history) + 1))
        assert history[-1].outcome is Outcome.COMPLETED
        for attempt in history:
            outcomes[attempt.outcome] += 1
        assert outcomes[Outcome.FAILED] == 0
        for before, after in itertools.pairwise(history):
            assert before.outcome in (Outcome.LOST, Outcome.RELEASED), f"job {job_id} ran twice: {history}"
            assert before.finished_at is not None
            assert after.started_at is not None
            assert before.finished_at <= after.started_at, f"leases of job {job_id} overlapped: {history}"
        assert 1 <= len(leases) <= len(history), f"job {job_id}: handlers {leases}, attempts {history}"
        if once:
            assert len(history) == 1, f"job {job_id} ran twice: {history}"
    if once:
        assert not refused, f"refused, though no lease was lost: {sorted(refused)[:10]}"
    assert all(max(starts[job_id]) > lease for job_id, lease in refused), "a write under the last lease was refused"
    return dict(outcomes)


def assert_calm(said: str) -> None:
    """Workers have said what was wrong in a line, and nothing has surprised them."""
    found = re.search(r"^Traceback .*?^\S.*?$\n(?:.*\n){0,3}", said, re.MULTILINE | re.DOTALL)
    assert found is None, f"a worker was surprised:\n{said[-6000:]}"
