"""Reads: lean routes, answered straight behind the gate.

A router asks one route after the other in layers that hand on exceptions and messages. What is read most is looked for
here first and answered without them, by the same functions; whatever is not found goes the router's way. Answers that
are made of the store alone are sent again until anything is stored.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Sequence
from functools import partial

from starlette.convertors import StringConvertor
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from collegium.domain.errors import CollegiumError
from collegium.domain.principal import Principal
from collegium.server.live.hub import Hub
from collegium.server.problem import from_error
from collegium.server.rest.answer import unmodified
from collegium.server.rest.openapi import Lean

Endpoint = Callable[[Request], Awaitable[Response]]


class Reads:
    """Answers ``GET`` of lean routes whose answers are at hand; everything else goes to ``app``.

    Args:
        app: The router with all routes, these among them.
        routes: The lean ones, in their order.
        hub: Gives where documents are kept that were made a moment ago.
    """

    def __init__(self, app: ASGIApp, routes: Sequence[Lean], hub: Callable[[], Hub]) -> None:
        self._app = app
        self._hub = hub
        self._routes = [
            (one.route.path_regex, one.route.endpoint, one.is_of_store)
            for one in routes
            if "GET" in (one.route.methods or ()) and _is_plain(one.route)
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a read that is no stream; what is sent to ``HEAD`` is left to the server."""
        if scope["method"] not in ("GET", "HEAD") or scope.get("root_path"):
            await self._app(scope, receive, send)
            return
        for regex, endpoint, is_of_store in self._routes:
            if found := regex.match(scope["path"]):
                scope["path_params"] = found.groupdict()
                request = Request(scope, receive)
                try:
                    response = await (self._ready(request, endpoint) if is_of_store else endpoint(request))
                except CollegiumError as error:
                    response = from_error(request, error)
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _ready(self, request: Request, endpoint: Endpoint) -> Response:
        """What was answered before and would be answered now, or is answered now."""
        place, ready = _place(request.scope), self._hub().snapshots.ready
        found: Response | None = await ready.kept(place)
        if found is None:
            found = await ready.made(place, partial(endpoint, request), size=_size)
        return unmodified(request, found) or found


def _place(scope: Scope) -> Hashable:
    """What is asked, and all by which it is decided what the caller may see."""
    principal: Principal = scope["state"]["principal"]
    return (principal.tenant, principal.projects, principal.scopes, scope["path"], scope["query_string"])


def _size(response: Response) -> int | None:
    return len(response.body) if response.status_code == 200 else None


def _is_plain(route: Route) -> bool:
    """Whether the parts of its path are taken as they are."""
    return all(isinstance(one, StringConvertor) for one in route.param_convertors.values())
