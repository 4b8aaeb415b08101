"""What one endpoint of the API takes and returns: read, checked and told from the same types."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.responses import Response

from windlass.dashboard.problems import Problem

if TYPE_CHECKING:
    from windlass.dashboard.call import Call


class Nothing(msgspec.Struct, frozen=True):
    """No query, or no body."""


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint: ``do(call, query, body)`` returns a value of the type *returns*."""

    do: Callable[[Any, Any, Any], Any]
    summary: str
    returns: Any
    query: type[msgspec.Struct] = Nothing
    body: Any = Nothing
    created: bool = False
    """What is returned is new: 201."""

    def __call__(self, call: Call) -> Response:
        """Answer."""
        value = self.do(call, self._query(call), self._body(call))
        encoded = msgspec.json.encode(value)
        return Response(encoded, status_code=201 if self.created else 200, media_type="application/json")

    def _query(self, call: Call) -> Any:
        known = {field.encode_name: field for field in msgspec.structs.fields(self.query)}
        unknown = set(call.query) - set(known)
        if unknown:
            raise Problem(422, f"there is no parameter {min(unknown)!r}")
        given = {
            name: call.query.getlist(name) if _is_list(field.type) else call.query[name]
            for name, field in known.items()
            if name in call.query
        }
        try:
            return msgspec.convert(given, self.query, strict=False)
        except msgspec.ValidationError as error:
            raise Problem(422, f"the query: {error}") from error

    def _body(self, call: Call) -> Any:
        if self.body is Nothing:
            return None
        try:
            return msgspec.json.decode(call.body, type=self.body)
        except msgspec.ValidationError as error:
            raise Problem(422, f"the body: {error}") from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Problem(400, f"the body is not JSON: {error}") from error


def _is_list(kind: Any) -> bool:
    return getattr(kind, "__origin__", None) in (list, tuple)
