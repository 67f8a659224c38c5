"""Reads: lean routes, answered straight behind the gate.

A router asks one route after the other in layers that hand on exceptions and messages. What is read most is looked for
here first and answered without them, by the same functions; whatever is not found goes the router's way. Answers that
are made of the store alone are sent again until anything is stored.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import NamedTuple

from starlette.convertors import StringConvertor
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from collegium.domain.errors import CollegiumError
from collegium.domain.principal import Principal
from collegium.server.caller import hub_of
from collegium.server.problem import from_error
from collegium.server.rest.openapi import Lean


class Reads:
    """Answers ``GET`` of lean routes whose answers are at hand; everything else goes to ``app``.

    Args:
        app: The router with all routes, these among them.
        routes: The lean ones, in their order.
    """

    def __init__(self, app: ASGIApp, routes: Sequence[Lean]) -> None:
        self._app = app
        self._routes = [
            (one.route.path_regex, one.route.endpoint, one.is_of_store)
            for one in routes
            if "GET" in (one.route.methods or ()) and _is_plain(one.route)
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a read that is no stream."""
        if scope["method"] == "GET" and not scope.get("root_path"):
            path = scope["path"]
            for regex, endpoint, is_of_store in self._routes:
                if found := regex.match(path):
                    scope["path_params"] = found.groupdict()
                    request = Request(scope, receive, send)
                    reading = _Reading(request, endpoint)
                    place = _place(scope) if is_of_store else None
                    try:
                        if place is None:
                            response = await reading.answer()
                        else:
                            ready = hub_of(request).snapshots.ready
                            response = await ready.get(place, reading.answer, size=_size)
                    except CollegiumError as error:
                        response = from_error(request, error)
                    await response(scope, receive, send)
                    return
        await self._app(scope, receive, send)


class _Reading(NamedTuple):
    request: Request
    endpoint: Callable[[Request], Awaitable[Response]]

    async def answer(self) -> Response:
        return await self.endpoint(self.request)


def _place(scope: Scope) -> Hashable:
    """What is asked, and all by which it is decided what the caller may see; None for what is asked on a condition."""
    principal: Principal = scope["state"]["principal"]
    for name, _ in scope["headers"]:
        if name == b"if-none-match":
            return None
    seen = (principal.tenant, principal.projects, principal.scopes)
    return ("answer", *seen, scope["path"], scope["query_string"])


def _size(response: Response) -> int | None:
    return len(response.body) if response.status_code == 200 else None


def _is_plain(route: Route) -> bool:
    """Whether the parts of its path are taken as they are."""
    return all(isinstance(one, StringConvertor) for one in route.param_convertors.values())
