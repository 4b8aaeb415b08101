"""What is refused: a status, a sentence, and RFC 9457's spelling of both."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from windlass.errors import (
    BatchNotFoundError,
    BatchStateError,
    ConfigurationError,
    ConnectionLostError,
    JobNotFoundError,
    JobStateError,
    NotSupportedError,
    PayloadError,
    ScheduleNotFoundError,
    ScheduleStateError,
    SignatureError,
    StoreError,
    UniqueConflictError,
    UnknownTaskError,
    WindlassError,
    WorkerNotFoundError,
)

_STATUSES: tuple[tuple[type[WindlassError], int], ...] = (
    (JobNotFoundError, 404),
    (BatchNotFoundError, 404),
    (ScheduleNotFoundError, 404),
    (WorkerNotFoundError, 404),
    (JobStateError, 409),
    (UniqueConflictError, 409),
    (BatchStateError, 409),
    (ScheduleStateError, 409),
    (PayloadError, 422),
    (SignatureError, 422),
    (UnknownTaskError, 422),
    (ConfigurationError, 422),
    (NotSupportedError, 422),
    (ConnectionLostError, 503),
    (StoreError, 503),
)


class Problem(Exception):  # noqa: N818 - the RFC's own word
    """Why a request is refused."""

    def __init__(self, status: int, detail: str, *, wait: float = 0.0) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.wait = wait

    @property
    def title(self) -> str:
        """The status in words."""
        return HTTPStatus(self.status).phrase

    def as_json(self) -> dict[str, Any]:
        """Return it as RFC 9457 has it."""
        return {"type": "about:blank", "title": self.title, "status": self.status, "detail": self.detail}


def of_error(error: WindlassError) -> Problem:
    """Return what an error of Windlass's means to whoever has asked."""
    status = next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)
    return Problem(status, str(error))
