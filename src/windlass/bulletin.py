"""Events on their way to other processes: JSON, short enough to be sent.

A message is a list of events. One whose kind the reader does not know is skipped, so that releases can be mixed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from windlass import events
from windlass.events import Event, JobEvent
from windlass.job import Failure, Record, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from windlass.job import Job

LONG = 2_000
"""Bytes of a job's field, or of an error, that are carried at most."""
FULL = 6_000
"""Bytes of a message beyond which another is begun: stores cut long ones into pieces."""
NOTHING = msgspec.Raw()
"""A field that is not told; msgspec does not decode ``Raw | None``."""
QUOTED = 500
"""Characters kept of the message of an error that is too long."""


class _Job(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is told of a job."""

    id: int
    task: str
    queue: str
    status: Status
    created_at: float
    run_at: float
    priority: int = 0
    attempt: int = 0
    failures: int = 0
    crashes: int = 0
    max_attempts: int | None = None
    timeout: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    origin: str | None = None
    batch_id: int | None = None
    tick: float | None = None
    idempotency_key: str | None = None
    worker: str | None = None
    lease: int = 0
    payload: msgspec.Raw = NOTHING
    result: msgspec.Raw = NOTHING
    error: msgspec.Raw = NOTHING
    meta: msgspec.Raw = NOTHING
    tags: msgspec.Raw = NOTHING


class _Bulletin(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One event; which fields it has depends on its kind."""

    event: str
    job: _Job | None = None
    cut: tuple[str, ...] = ()
    error: Failure | None = None
    duration: float = 0.0
    will_retry: bool = False
    worker: str = ""
    kind: str = ""
    name: str = ""
    batch_id: int = 0
    completed: int = 0
    dead: int = 0
    cancelled: int = 0
    outcome: str = ""
    tick: float = 0.0
    queue: str = ""
    job_id: int | None = None
    late: float = 0.0


KINDS: dict[str, type[Event]] = {
    name: kind for name, kind in vars(events).items() if isinstance(kind, type) and issubclass(kind, Event)
}
_PLAIN = tuple(f for f in _Job.__struct_fields__ if f not in ("payload", "result", "error", "meta", "tags"))
_OWN = frozenset(_Bulletin.__struct_fields__) - {"event", "job", "cut", "error"}
_FIELDS = {kind: tuple(f for f in kind.__struct_fields__ if f in _OWN) for kind in KINDS.values()}
_NULL = b"null"
_decoder = msgspec.json.Decoder(list[_Bulletin])
_failure = msgspec.json.Decoder(Failure)


def encode(told: Iterable[Event]) -> list[bytes]:
    """Encode events as messages; kinds of the application's own stay in their process."""
    messages: list[bytes] = []
    batch: list[bytes] = []
    size = 0
    for event in told:
        kind = type(event)
        if kind not in _FIELDS:
            continue
        encoded = msgspec.json.encode(_bulletin(event, kind))
        if batch and size + len(encoded) > FULL:
            messages.append(b"[" + b",".join(batch) + b"]")
            batch, size = [], 0
        batch.append(encoded)
        size += len(encoded)
    if batch:
        messages.append(b"[" + b",".join(batch) + b"]")
    return messages


def _bulletin(event: Event, kind: type[Event]) -> _Bulletin:
    fields: dict[str, Any] = {name: getattr(event, name) for name in _FIELDS[kind]}
    if isinstance(error := getattr(event, "error", None), Failure):
        fields["error"] = _short(error) if len(msgspec.json.encode(error)) > LONG else error
    if isinstance(event, JobEvent):
        fields["job"], cut = _told(event.job.record)
        fields["cut"] = (*event.cut, *cut)
    return _Bulletin(event=kind.__name__, **fields)


def _told(record: Record) -> tuple[_Job, tuple[str, ...]]:
    """Return what is told of a job, and what is not."""
    long: dict[str, Any] = {}
    cut = []
    tags = None if record.tags is None else record.tags.encode()
    for name, value in (
        ("payload", record.payload),
        ("result", record.result),
        ("error", record.error),
        ("meta", record.meta),
        ("tags", tags),
    ):
        if value is not None and len(value) > LONG:
            cut.append(name)
            value = msgspec.json.encode(_short(_failure.decode(value))) if name == "error" else None  # noqa: PLW2901
        long[name] = NOTHING if value is None else msgspec.Raw(value)
    plain: dict[str, Any] = {name: getattr(record, name) for name in _PLAIN}
    return _Job(**plain, **long), tuple(cut)


def _short(failure: Failure) -> Failure:
    """Leave out what makes an error long."""
    message = failure.message if len(failure.message) <= QUOTED else failure.message[:QUOTED] + "…"
    return msgspec.structs.replace(failure, message=message, traceback="", data=None)


def decode(message: bytes, wrap: Callable[[Record], Job]) -> Iterator[Event]:
    """Yield the events of a message; what is no message of ours yields none."""
    try:
        bulletins = _decoder.decode(message)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    for bulletin in bulletins:
        kind = KINDS.get(bulletin.event)
        if kind is None:
            continue
        fields: dict[str, Any] = {name: getattr(bulletin, name) for name in _FIELDS[kind]}
        if issubclass(kind, JobEvent):
            if bulletin.job is None:
                continue
            fields.update(job=wrap(_record(bulletin.job)), cut=bulletin.cut)
        if "error" in kind.__struct_fields__:
            if bulletin.error is None:
                continue
            fields["error"] = bulletin.error
        yield kind(**fields)


def _record(job: _Job) -> Record:
    fields = {name: getattr(job, name) for name in _PLAIN}
    return Record(
        **fields,
        payload=bytes(job.payload) or _NULL,
        result=bytes(job.result) or None,
        error=bytes(job.error) or None,
        meta=bytes(job.meta) or None,
        tags=bytes(job.tags).decode() or None,
    )
