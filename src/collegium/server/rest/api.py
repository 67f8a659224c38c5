"""The REST API: every resource, their document, and what is answered where none of them does."""

from __future__ import annotations

from typing import Any, Final

from fastapi import Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.requests import Request
from starlette.responses import Response

from collegium.server.problem import problem
from collegium.server.rest import (
    approvals,
    audit,
    collections,
    exports,
    files,
    installation,
    keys,
    models,
    privacy,
    runs,
    schedules,
    sessions,
    steering,
    stops,
    topics,
    uploads,
    usage,
    webhooks,
)
from collegium.server.rest.manual import POLICY, page
from collegium.server.rest.openapi import Lean, document
from collegium.server.rest.query import only_known

MAX_BODY_BYTES: Final = 4 * 1024 * 1024
_INLINE_BYTES: Final = 16 * 1024 * 1024
BODY_CAPS: Final = {
    # Their messages have files in them.
    "/a2a": _INLINE_BYTES,
    "/agui": _INLINE_BYTES,
}
"""Most bytes of a body, by the beginning of the path, where it is not ``MAX_BODY_BYTES``."""
_MODULES: Final = (
    runs, steering, files, uploads, approvals, schedules, stops, topics, usage, collections, installation, audit,
    privacy, keys, sessions, webhooks, models, exports,
)  # fmt: skip


def lean_routes() -> list[Lean]:
    """The routes that are served without FastAPI."""
    return [one for module in _MODULES for one in module.LEAN]


def make_api(version: str, handlers: dict[Any, Any]) -> FastAPI:
    """The application with all resources; its document is at ``/openapi.json``, and as a page at ``/docs``.

    Lean routes are part of it too: so their paths are known where they are asked for with a method that they have not.
    """
    app = FastAPI(
        title="collegium",
        version=version,
        summary="Teams of agents that can be trusted with real work.",
        exception_handlers={RequestValidationError: _invalid, **handlers},
        # FastAPI's own pages load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        # A path with an empty id is not the path of the list.
        redirect_slashes=False,
    )
    lean = lean_routes()
    types = [kind for module in _MODULES for kind in module.TYPES]
    app.router.routes.extend(one.route for one in lean)
    for module in _MODULES:
        app.include_router(module.ROUTER, dependencies=[Depends(only_known)])

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = document(app, lean, types)
        return app.openapi_schema

    async def manual(request: Request) -> Response:
        return Response(page(openapi()), headers={"content-security-policy": POLICY}, media_type="text/html")

    app.add_route("/docs", manual, methods=["GET"], include_in_schema=False)
    app.openapi = openapi  # type: ignore[method-assign]  # the way that FastAPI's documentation gives
    return app


async def _invalid(request: Request, error: Exception) -> Response:
    """What does not fit the schema: each place, and why."""
    if not isinstance(error, RequestValidationError):
        raise error
    if (kind := _other_kind(request)) and any(one["loc"] == ("body",) and one["input"] for one in error.errors()):
        detail = f"the body came as {kind[:60]} and is taken as JSON: send it with content-type: application/json"
        return problem(request, 415, "unsupported_media_type", detail)
    wrong = [
        {"pointer": "/".join(["#", *(str(part) for part in one["loc"])]), "detail": str(one["msg"])[:300]}
        for one in error.errors()[:20]
    ]
    said = "; ".join(f"{one['pointer']}: {one['detail']}" for one in wrong[:3])
    status = 400 if any(one["type"] == "json_invalid" for one in error.errors()) else 422
    return problem(request, status, "invalid_request", f"the request does not fit its schema: {said}", errors=wrong)


def _other_kind(request: Request) -> str:
    """What the body is said to be where that is not JSON; empty where it is."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return "" if kind == "application/json" or kind.endswith("+json") else kind or "no known type"
