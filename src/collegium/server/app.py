"""The HTTP application: health, metrics, and what others put beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route, compile_path
from starlette.types import Receive, Scope, Send

from collegium.domain.errors import CollegiumError
from collegium.server.access.exports import ExportOf
from collegium.server.access.installation import SettingsOf
from collegium.server.access.models import ModelsOf
from collegium.server.access.privacy import PrivacyOf
from collegium.server.audit import RefusalLog
from collegium.server.caller import Authenticator, Opened, ThisHub
from collegium.server.deadline import Deadline
from collegium.server.gate import Doors, Gate
from collegium.server.guard import LoopbackGuard, is_loopback
from collegium.server.metrics import CONTENT_TYPE, Metrics
from collegium.server.problem import from_error, problem
from collegium.server.protocols import protocol_routes
from collegium.server.rates.limiter import Limiter
from collegium.server.readiness import Readiness
from collegium.server.rest.api import BODY_CAPS, MAX_BODY_BYTES, lean_routes, make_api
from collegium.server.rest.openapi import Lean
from collegium.server.rest.uploads import MAX_BYTES, MORE_BYTES, UPLOADS
from collegium.server.sockets.websocket import live_routes

_NO_STORE = {"cache-control": "no-store"}


class Faces(NamedTuple):
    """What is served, and to whom.

    Attributes:
        opened: Gives the Collegium once its stores have answered.
        authenticator: Tells who asks.
        version: Of collegium, for the API's document.
        limiter: Counts requests; without one there is no limit.
        privacy_of: Gives what exports and erases; without it that is done on the host alone.
        settings_of: Gives the settings in force, secrets masked; without it the API shows none.
        models_of: Gives the models that are known of; without it the API shows none.
        export_of: Gives the lines of a run's export; without it runs are exported on the host alone.
        upload_bytes: Most bytes of a file that is handed over.
        request_timeout_s: A request is answered within so long, or told that it is not; None for no such cap.
    """

    opened: Opened
    authenticator: Authenticator
    version: str = "0"
    limiter: Limiter | None = None
    privacy_of: PrivacyOf | None = None
    settings_of: SettingsOf | None = None
    models_of: ModelsOf | None = None
    export_of: ExportOf | None = None
    upload_bytes: int = MAX_BYTES
    request_timeout_s: float | None = 60.0


class Application(Starlette):
    """Everything that is served, behind its gate: what can be answered there never meets a router.

    Args:
        routes: What is served.
        handlers: Make answers of exceptions.
        guard: Of a server on loopback.
        doors: What stands before the faces; None where only health is answered.
    """

    def __init__(
        self,
        routes: Sequence[BaseRoute],
        handlers: dict[Any, Any],
        *,
        guard: LoopbackGuard | None = None,
        doors: Doors | None = None,
    ) -> None:
        super().__init__(routes=routes, exception_handlers=handlers)
        self._gate = Gate(super().__call__, broken=_broken, guard=guard, doors=doors)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, as every application of ASGI."""
        scope["app"] = self
        await self._gate(scope, receive, send)


def build(
    host: str, readiness: Readiness, metrics: Metrics, *, routes: Sequence[BaseRoute] = (), faces: Faces | None = None
) -> Starlette:
    """The application.

    Args:
        host: The address that it will listen on. On loopback it is guarded against pages of other sites.
        readiness: What is away.
        metrics: The figures.
        routes: What is served beside ``/healthz``, ``/readyz`` and ``/metrics``. A ``CollegiumError`` in them becomes
            a problem document with the status of its class.
        faces: The Collegium, and who may use it; without them there is health and metrics alone.
    """
    guard = LoopbackGuard(host) if is_loopback(host) else None
    handlers = {HTTPException: _refused, CollegiumError: _failed, Exception: _broken}
    served: list[BaseRoute] = [
        _ALIVE.route,
        Route("/readyz", _ready),
        Route("/metrics", _metrics),
        *routes,
    ]
    if faces is None:
        app = Application(served, handlers, guard=guard)
        app.state.refusals = None
    else:
        api = make_api(faces.version, handlers)
        refusals = RefusalLog(faces.opened)
        # Lean routes first, and outside of FastAPI, whose layers cost more than they do; it has all the rest.
        served += [
            *(one.route for one in lean_routes()),
            *live_routes(),
            *protocol_routes(faces.version),
            Mount("", Deadline(api, seconds=faces.request_timeout_s, is_for_reads=True)),
        ]
        caps = {**BODY_CAPS, UPLOADS: faces.upload_bytes + MORE_BYTES}
        hub = ThisHub(faces.opened)
        doors = Doors(faces.opened, hub, faces.authenticator, refusals, faces.limiter, MAX_BODY_BYTES, caps)
        doors = doors._replace(request_timeout_s=faces.request_timeout_s, reads=(_ALIVE, *lean_routes()))
        app = Application(served, handlers, guard=guard, doors=doors)
        app.state.hub = hub
        app.state.faces = faces
        app.state.opened = faces.opened
        app.state.authenticator = faces.authenticator
        app.state.refusals = refusals
        app.state.api = api
        api.state = app.state
        app.router.redirect_slashes = False
    app.state.readiness = readiness
    app.state.metrics = metrics
    return app


async def _alive(request: Request) -> Response:
    """200 as long as the event loop turns; whoever gets no answer starts the process again."""
    return _IS_ALIVE


_IS_ALIVE: Final = Response(b'{"status":"alive"}', headers=_NO_STORE, media_type="application/json")
_ALIVE: Final = Lean(Route("/healthz", _alive), {})


async def _ready(request: Request) -> Response:
    """200, or 503 with what is away."""
    readiness: Readiness = request.app.state.readiness
    away = await readiness.away()
    if not away:
        return _json({"status": "ready"})
    detail = "not ready: " + "; ".join(f"{one.what}: {one.why}" for one in away)
    code = "draining" if readiness.is_draining else "not_ready"
    return problem(request, 503, code, detail, away=msgspec.to_builtins(away))


async def _metrics(request: Request) -> Response:
    metrics: Metrics = request.app.state.metrics
    return Response(await metrics.page(), headers={**_NO_STORE, "content-type": CONTENT_TYPE})


def _json(document: object) -> Response:
    return Response(msgspec.json.encode(document), headers=_NO_STORE, media_type="application/json")


async def _refused(request: Request, error: Exception) -> Response:
    """What Starlette itself refuses: no such path, no such method."""
    if not isinstance(error, HTTPException):
        raise error
    codes = {404: "not_found", 405: "method_not_allowed", 408: "too_slow", 413: "too_large"}
    detail = f"there is no {request.url.path[:200]}" if error.status_code == 404 else error.detail
    headers = dict(error.headers or {})
    if error.status_code == 405 and (allowed := _allowed(request)):
        headers = {"allow": allowed}
        detail = f"{request.url.path[:200]} is asked by {allowed}, not by {request.method[:20]}"
    return problem(request, error.status_code, codes.get(error.status_code, "http"), detail, headers=headers)


def _allowed(request: Request) -> str:
    """All methods of a path, though they are routes of their own. Source: RFC 9110, section 10.2.1."""
    api: FastAPI | None = getattr(request.app.state, "api", None)
    paths = {} if api is None else api.openapi()["paths"]
    asked = request.url.path
    named = [asked] if asked in paths else [path for path in paths if compile_path(path)[0].match(asked)]
    found = {method.upper() for path in named for method in paths[path]}
    return ", ".join(sorted(found))


async def _failed(request: Request, error: Exception) -> Response:
    if not isinstance(error, CollegiumError):
        raise error
    return from_error(request, error)


def _broken(request: Request, error: Exception) -> Response:
    """A fault of ours: the log has the traceback, the caller the id to ask for it."""
    return problem(request, 500, "internal", "something failed in a way nobody foresaw; the log says what")
