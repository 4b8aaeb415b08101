"""Exceptions as they are stored."""

from __future__ import annotations

import traceback
from typing import Any

import msgspec

from windlass.fingerprint import fingerprint
from windlass.job import Failure, Kind

TRACEBACK_LIMIT = 16_000
"""Characters kept of a traceback; the end says more than the beginning."""
MESSAGE_LIMIT = 4_000

CARRIED = "_windlass_failure"
"""The attribute under which an exception from a child process carries its description."""


def describe(error: BaseException, kind: Kind = Kind.ERROR, *, message: str | None = None) -> Failure:
    """Turn an exception into what is stored of it."""
    told: Failure | None = getattr(error, CARRIED, None)
    if told is not None:  # described in the child process where it was raised; its traceback does not travel
        return msgspec.structs.replace(told, kind=kind if told.kind is Kind.ERROR else told.kind)
    cls = type(error)
    name = cls.__qualname__ if cls.__module__ in ("builtins", "__main__") else f"{cls.__module__}.{cls.__qualname__}"
    text = (message if message is not None else _text(error))[:MESSAGE_LIMIT]
    return Failure(
        type=name,
        message=text,
        traceback=_traceback(error),
        kind=kind,
        data=_data(error),
        fingerprint=fingerprint(name, text, _place(error)),
    )


def encode(failure: Failure) -> bytes:
    """Encode for the store, the fingerprint last."""
    if not failure.fingerprint:
        failure = msgspec.structs.replace(failure, fingerprint=fingerprint(failure.type, failure.message))
    return msgspec.json.encode(failure)


def lost(worker: str | None) -> bytes:
    """Return the stored error of an attempt whose worker vanished."""
    message = f"worker {worker} was lost while it ran this attempt" if worker else "the claim expired"
    return encode(Failure(type="windlass.WorkerLost", message=message, kind=Kind.CRASH))


def _text(error: BaseException) -> str:
    try:
        return str(error).encode("utf-8", "replace").decode()  # a lone surrogate cannot be stored
    except Exception as broken:  # noqa: BLE001 - a __str__ of the user's
        return f"(its message could not be read: {type(broken).__name__})"


def _place(error: BaseException) -> str:
    """Return the function in which an exception was raised."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return (
        "" if frame is None else f"{frame.tb_frame.f_globals.get('__name__', '')}.{frame.tb_frame.f_code.co_qualname}"
    )


def _traceback(error: BaseException) -> str:
    try:
        text = "".join(traceback.format_exception(error, chain=True)).encode("utf-8", "replace").decode()
    except Exception:  # noqa: BLE001
        return ""
    return text if len(text) <= TRACEBACK_LIMIT else "…\n" + text[-TRACEBACK_LIMIT:]


def _data(error: BaseException) -> Any:
    try:
        data = getattr(error, "data", None)
        return None if data is None else msgspec.json.decode(msgspec.json.encode(data))
    except Exception:  # noqa: BLE001 - not JSON: it is a courtesy, not a duty
        return None
