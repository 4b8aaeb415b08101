"""What travels with a job beside its arguments: the caller's context variables and the correlation id.

Both are kept in ``meta``, under ``"context"`` and ``"correlation_id"``; what the caller puts there by hand counts more. A
job that carries nothing stores nothing: its correlation id is its own id, which its children then store.
"""

from __future__ import annotations

import contextvars
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from windlass.job import Record

CONTEXT = "context"
CORRELATION = "correlation_id"
TRACE = "trace"
"""Where a trace context is, if tracing is on: :mod:`windlass.contrib.opentelemetry` puts it there."""
_KEY = b'"correlation_id"'

_attempt: contextvars.ContextVar[Record | None] = contextvars.ContextVar("windlass_attempt", default=None)
"""The job whose attempt runs here."""
_chosen: contextvars.ContextVar[tuple[str, Record | None] | None] = contextvars.ContextVar(
    "windlass_correlation", default=None
)
"""What a block said, and the attempt that the block is part of: a job that runs inside it has an id of its own."""


class _Carrying(msgspec.Struct):
    """What is read of a job's ``meta``."""

    context: Any = None
    correlation_id: Any = None
    trace: Any = None


_decoder = msgspec.json.Decoder(_Carrying)


def correlation_of(record: Record) -> str:
    """Return a job's correlation id: the one it carries, else its own id."""
    if record.meta is not None and _KEY in record.meta:
        found = _read(record.meta).correlation_id
        if isinstance(found, str):
            return found
    return str(record.id)


def correlation() -> str | None:
    """Return the correlation id of what runs here; ``None``: there is none."""
    record, chosen = _attempt.get(), _chosen.get()
    if chosen is not None and chosen[1] is record:
        return chosen[0]
    return None if record is None else correlation_of(record)


@contextmanager
def correlated(correlation_id: str) -> Iterator[str]:
    """Give the jobs that are enqueued in a block this correlation id."""
    token = _chosen.set((correlation_id, _attempt.get()))
    try:
        yield correlation_id
    finally:
        _chosen.reset(token)


def loaded(
    given: Mapping[str, Any] | None, variables: Mapping[str, contextvars.ContextVar[Any]], correlation_id: str | None
) -> Mapping[str, Any] | None:
    """Return a new job's ``meta`` with what it carries."""
    if correlation_id is None and (_chosen.get() is not None or _attempt.get() is not None):
        correlation_id = correlation()
    context: dict[str, Any] = {}
    if variables:
        context = {name: value for name, var in variables.items() if (value := var.get(_UNSET)) is not _UNSET}
    if not context and correlation_id is None:
        return given
    loaded: dict[str, Any] = {}
    if context:
        loaded[CONTEXT] = context
    if correlation_id is not None:
        loaded[CORRELATION] = correlation_id
    return {**loaded, **(given or {})}


def inherited(meta: bytes | None, record: Record) -> bytes | None:
    """Return the ``meta`` of a job that follows *record*: with its correlation id and its trace, unless it has its own."""
    before: dict[str, Any] = {CORRELATION: correlation_of(record)}
    if record.meta is not None and (trace := _read(record.meta).trace) is not None:
        before[TRACE] = trace
    return below(meta, before)


def below(meta: bytes | None, more: Mapping[str, Any]) -> bytes | None:
    """Return a ``meta`` with *more* in it; what it says itself counts more, and one that is no object stays as it is."""
    if meta is not None and not meta.startswith(b"{"):
        return meta
    given: dict[str, msgspec.Raw] = {} if meta is None else msgspec.json.decode(meta, type=dict[str, msgspec.Raw])
    return msgspec.json.encode({**more, **given})


def enter(record: Record, variables: Mapping[str, contextvars.ContextVar[Any]]) -> list[contextvars.Token[Any]]:
    """Set what a job carries, for its attempt; return the tokens that undo it."""
    tokens: list[contextvars.Token[Any]] = [_attempt.set(record)]
    if record.meta is not None and variables:
        context = _read(record.meta).context
        if isinstance(context, dict):
            tokens += [var.set(context[name]) for name, var in variables.items() if name in context]
    return tokens


def leave(tokens: list[contextvars.Token[Any]]) -> None:
    """Undo :func:`enter`."""
    for token in reversed(tokens):
        token.var.reset(token)


class _Unset:
    """The value of a variable that has none."""


_UNSET: Any = _Unset()


def _read(meta: bytes) -> _Carrying:
    try:
        return _decoder.decode(meta)
    except msgspec.DecodeError:  # not an object: somebody else's spelling
        return _Carrying()
