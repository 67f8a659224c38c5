"""The OpenAPI document: what FastAPI knows of its own routes, the routes that are served without it, and the types."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.routing import Route

from collegium.server.rest.links import put_links
from collegium.server.rest.security import SCHEMES, put_security

_MEMBERS: Final = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "code", "trace_id"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What is wrong, which, and what to do; for a person."},
        "code": {"type": "string", "description": "What is wrong; for a program, and stable."},
        "trace_id": {"type": "string", "description": "Under which the request is found in logs and traces."},
    },
}
_PROBLEM: Final = {
    "description": "What was wrong (RFC 9457).",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}


class Lean(NamedTuple):
    """A route that is served without FastAPI, for speed, and the operation that describes it.

    Attributes:
        is_of_store: Whether its answers are made of the store alone, and of nothing of the request but its path, its
            query and what the caller may see; ``If-None-Match`` aside.
    """

    route: Route
    operation: dict[str, Any]
    is_of_store: bool = False


def document(app: FastAPI, lean: Sequence[Lean], types: Sequence[type]) -> dict[str, Any]:
    """The whole document."""
    made = get_openapi(
        title=app.title, version=app.version, openapi_version="3.1.0", summary=app.summary,
        description=app.description, routes=app.routes,
    )  # fmt: skip
    paths: dict[str, Any] = made.setdefault("paths", {})
    for operations in paths.values():
        for operation in operations.values():
            _name(operation)
    for route, operation, _ in lean:
        for method in route.methods or ():
            if method != "HEAD":
                paths.setdefault(re.sub(r":\w+}", "}", route.path), {})[method.lower()] = operation
    _put_problems(paths)
    put_links(paths)
    put_security(paths)
    components = made.setdefault("components", {})
    schemas: dict[str, Any] = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    _, found = msgspec.json.schema_components(types, schema_hook=_any, ref_template="#/components/schemas/{name}")
    clash = schemas.keys() & found.keys()
    if clash:
        raise ValueError(f"two types are called {', '.join(sorted(clash))}: a request and an answer")
    schemas |= {name: _as_sent(one) for name, one in found.items()} | {"Problem": _MEMBERS}
    if "Body" in schemas:  # the base of all bodies has no field, each of them has its own
        schemas["Body"]["additionalProperties"] = True
    components["securitySchemes"] = dict(SCHEMES)
    return made


def _put_problems(paths: dict[str, Any]) -> None:
    for operations in paths.values():
        for operation in operations.values():
            responses = operation["responses"]
            responses.pop("422", None)  # FastAPI's own form of it, which is not what is sent
            responses |= {"4XX": _PROBLEM, "503": _PROBLEM, "504": _PROBLEM}


def _any(kind: type) -> dict[str, Any]:
    """The schema of a type that can hold anything."""
    return {"description": "Any JSON value."}


def _as_sent(schema: Any) -> Any:
    """``schema`` with exact decimals as the numbers that answers have."""
    if isinstance(schema, list):
        return [_as_sent(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("format") == "decimal":
        others = {key: value for key, value in schema.items() if key not in ("type", "format", "default")}
        return {**others, "type": "number", **({"default": float(schema["default"])} if "default" in schema else {})}
    return {key: _as_sent(value) for key, value in schema.items()}


def _name(operation: dict[str, Any]) -> None:
    """Calls an operation by the first line of its function's docstring, not by the function's name."""
    first, _, rest = operation.pop("description", "").partition("\n")
    if first:
        operation["summary"] = first.rstrip(".")
    if rest.strip():
        operation["description"] = rest.strip()
