"""The OpenAPI document, made from the routes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from windlass.dashboard.api.operation import Nothing
from windlass.dashboard.api.routes import ROUTES, Api

if TYPE_CHECKING:
    from windlass.dashboard.call import Call


class ProblemView(msgspec.Struct, frozen=True):
    """Why a request was refused, as in RFC 9457."""

    title: str
    status: int
    detail: str
    type: str = "about:blank"


REFUSED = {
    400: "The body is not JSON.",
    401: "No token, or a wrong one.",
    403: "The role does not allow it, or it was not meant.",
    404: "There is no such thing.",
    405: "It cannot be asked for in this way.",
    409: "Its state does not allow it.",
    413: "The request is too large.",
    422: "Something in the request cannot be right.",
    503: "The store cannot be reached.",
}


def document(version: str, server: str) -> dict[str, Any]:
    """Return the document as JSON types."""
    kinds: list[Any] = [ProblemView]
    for route in ROUTES:
        operation = route.operation
        kinds += [operation.returns, operation.query, *([operation.body] if operation.body is not Nothing else [])]
    template = "#/components/schemas/{name}"
    schemas, components = msgspec.json.schema_components(kinds, ref_template=template)
    known = dict(zip(map(id, kinds), schemas, strict=True))
    paths: dict[str, Any] = {}
    for route in ROUTES:
        path = re.sub(r":\w+}", "}", route.path)
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, known, components)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Windlass", "version": version, "description": "Durable background jobs: look and act."},
        "servers": [{"url": server or "/"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Api, known: dict[int, Any], components: dict[str, Any]) -> dict[str, Any]:
    operation = route.operation
    found: dict[str, Any] = {
        "operationId": route.name.removeprefix("api_"),
        "summary": operation.summary,
        "description": f"Takes the role {route.role.name.lower()}.",
        "parameters": [*_path(route), *_query(operation.query, components)],
        "responses": _responses(route, known),
    }
    if operation.body is not Nothing:
        content = {"application/json": {"schema": known[id(operation.body)]}}
        found["requestBody"] = {"required": True, "content": content}
    return found


def _path(route: Api) -> list[dict[str, Any]]:
    return [
        {
            "name": name, "in": "path", "required": True,
            "schema": {"type": "integer", "minimum": 0} if kind == "int" else {"type": "string", "minLength": 1},
        }
        for name, kind in re.findall(r"{(\w+):?(\w*)}", route.path)
    ]  # fmt: skip


def _query(kind: type[msgspec.Struct], components: dict[str, Any]) -> list[dict[str, Any]]:
    properties = components.get(kind.__name__, {}).get("properties", {}) if kind is not Nothing else {}
    return [{"name": name, "in": "query", "schema": schema} for name, schema in properties.items()]


def _responses(route: Api, known: dict[int, Any]) -> dict[str, Any]:
    operation = route.operation
    problem = {"application/problem+json": {"schema": known_problem()}}
    told = {str(status): {"description": text, "content": problem} for status, text in REFUSED.items()}
    good = {"description": "Done.", "content": {"application/json": {"schema": known[id(operation.returns)]}}}
    return {"201" if operation.created else "200": good, **told}


def known_problem() -> dict[str, str]:
    """Return the reference to the schema of a refusal."""
    return {"$ref": "#/components/schemas/ProblemView"}


def served(call: Call) -> dict[str, Any]:
    """Return it for this very dashboard."""
    from windlass import __version__

    return document(__version__, call.request.scope.get("root_path", ""))
