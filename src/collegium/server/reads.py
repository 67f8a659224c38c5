"""Reads: lean routes, answered straight behind the gate.

A router asks one route after the other in layers that hand on exceptions and messages. What is read most is looked for
here first and answered without them, by the same functions; whatever is not found goes the router's way.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from starlette.convertors import StringConvertor
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from collegium.domain.errors import CollegiumError
from collegium.server.problem import from_error

_Endpoint = Callable[[Request], Awaitable[Response]]


class Reads:
    """Answers ``GET`` of lean routes whose answers are at hand; everything else goes to ``app``.

    Args:
        app: The router with all routes, these among them.
        routes: The lean ones, in their order.
    """

    def __init__(self, app: ASGIApp, routes: Sequence[Route]) -> None:
        self._app = app
        self._routes: list[tuple[Any, _Endpoint]] = [
            (route.path_regex, route.endpoint)
            for route in routes
            if "GET" in (route.methods or ()) and _is_plain(route)
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a read that is no stream."""
        if scope["method"] == "GET" and not scope.get("root_path"):
            path = scope["path"]
            for regex, endpoint in self._routes:
                if found := regex.match(path):
                    scope["path_params"] = found.groupdict()
                    request = Request(scope, receive, send)
                    try:
                        response = await endpoint(request)
                    except CollegiumError as error:
                        response = from_error(request, error)
                    await response(scope, receive, send)
                    return
        await self._app(scope, receive, send)


def _is_plain(route: Route) -> bool:
    """Whether the parts of its path are taken as they are."""
    return all(isinstance(one, StringConvertor) for one in route.param_convertors.values())
