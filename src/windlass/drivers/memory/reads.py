"""Finding jobs in memory: where to look, how many there are to find, and what matches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from windlass.drivers import patience
from windlass.errors import QueryTimeoutError
from windlass.fingerprint import cut
from windlass.job import Status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from windlass.drivers.base import Filter
    from windlass.drivers.memory.entry import Entry
    from windlass.drivers.memory.store import Store


def expected(store: Store, which: Filter) -> int:
    """Count the jobs of these statuses, queue and task from the counters."""
    statuses = which.statuses or tuple(Status)
    return sum(
        stream.counts[status]
        for stream in store.streams.values()
        if (which.queue is None or stream.queue == which.queue) and (which.task is None or stream.task == which.task)
        for status in dict.fromkeys(statuses)
    )


def source(store: Store, which: Filter) -> Iterator[Entry]:
    """Yield the jobs of these statuses, queue and task, newest first; stop after the last instead of at the end.

    Jobs are kept in the order of their ids. Running ones have a place of their own, so that looking for them does not
    pass by all the others.
    """
    if patience.left() == 0.0:
        raise QueryTimeoutError
    left = expected(store, which)
    statuses = frozenset(which.statuses)
    if statuses == {Status.RUNNING}:
        entries = iter(sorted(store.running.values(), key=lambda entry: -entry.id))
    else:
        entries = reversed(store.jobs.values())
    for entry in entries:
        if not left:
            return
        if statuses and entry.status not in statuses:
            continue
        stream = entry.stream
        if (which.queue is None or stream.queue == which.queue) and (which.task is None or stream.task == which.task):
            left -= 1
            yield entry


def matches(entry: Entry, which: Filter) -> bool:
    """Tell whether a job fits the rest of the filter."""
    new = entry.new
    if which.tag is not None and which.tag not in new.tags:
        return False
    if which.origin is not None and which.origin != new.origin:
        return False
    if which.batch is not None and which.batch != new.batch_id:
        return False
    if which.created_after is not None and entry.created_at < which.created_after:
        return False
    if which.created_before is not None and entry.created_at >= which.created_before:
        return False
    record = entry.record()
    if which.worker is not None and which.worker != record.worker:
        return False
    if which.started_before is not None and (record.started_at is None or record.started_at >= which.started_before):
        return False
    if which.fingerprint is not None and cut(record.error) != which.fingerprint:
        return False
    if which.error is not None:
        return record.error is not None and _error_type(record.error) == which.error
    return True


class _Named(msgspec.Struct):
    type: str


_decode_named = msgspec.json.Decoder(_Named).decode


def _error_type(error: bytes) -> str | None:
    try:
        return _decode_named(error).type
    except msgspec.DecodeError:
        return None
