"""What programs ask for that is not JSON about jobs: metrics, health, and the API's document."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from starlette.responses import Response

from windlass.dashboard.api.document import served
from windlass.errors import WindlassError

if TYPE_CHECKING:
    from windlass.dashboard.call import Call


def metrics(call: Call) -> Response:
    """Return the metrics in Prometheus's format."""
    from windlass.metrics import CONTENT_TYPE, text

    return Response(text(call.app), headers={"content-type": CONTENT_TYPE})


def openapi(call: Call) -> Response:
    """Return the OpenAPI document."""
    return Response(msgspec.json.encode(served(call)), media_type="application/json")


def alive(_call: Call) -> Response:
    """Say that this process answers."""
    return _said(200, "ok")


def ready(call: Call) -> Response:
    """Say whether the store answers, too."""
    try:
        call.app.driver.tallies()
    except WindlassError:
        return _said(503, "the store does not answer")
    return _said(200, "ok")


def _said(status: int, text: str) -> Response:
    return Response(msgspec.json.encode({"status": text}), status_code=status, media_type="application/json")
