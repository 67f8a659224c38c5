"""The protocols of the ecosystem beside our own API: GraphQL, MCP, A2A, AG-UI. Each needs a package of its own.

Those packages take longer to load than all the rest of a server, and few servers are asked in every protocol: each is
loaded when it is first asked for, beside the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from starlette.datastructures import URLPath
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, NoMatchFound, Route, Router
from starlette.types import Receive, Scope, Send

from collegium.server.problem import problem

_EXTRA = "pip install 'collegium[protocols]'"


class Later(BaseRoute):
    """Routes that are made when one of ``paths``, or what is below it, is first asked for.

    Args:
        make: Makes them, in a thread.
        paths: What they answer.
    """

    def __init__(self, make: Callable[[], Sequence[BaseRoute]], *paths: str) -> None:
        self._make = make
        self._paths = paths
        self._below = tuple(f"{path}/" for path in paths)
        self._router: Router | None = None
        self._making = asyncio.Lock()

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether the request is for one of the paths."""
        path: str = scope.get("path", "")
        return (Match.FULL if path in self._paths or path.startswith(self._below) else Match.NONE), {}

    def url_path_for(self, name: str, /, **path_params: object) -> URLPath:
        """Never: they have no names. Raises ``NoMatchFound``."""
        raise NoMatchFound(name, path_params)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers, once the routes are there."""
        router = self._router or await self._made()
        await router(scope, receive, send)

    async def _made(self) -> Router:
        async with self._making:
            if self._router is None:
                routes = await asyncio.to_thread(_or_missing, self._make, *self._paths)
                self._router = Router(routes, redirect_slashes=False)
            return self._router


def protocol_routes(version: str) -> list[BaseRoute]:
    """Their routes; where a package is missing, the answer is 501 and says how to install it."""
    return [
        Later(lambda: _mcp(version), "/mcp"),
        Later(lambda: _a2a(version), "/a2a", "/.well-known/agent-card.json"),
        Later(_agui, "/agui"),
        Later(_graphql, "/graphql"),
    ]


def _mcp(version: str) -> Sequence[BaseRoute]:
    from collegium.server.mcp.endpoint import McpEndpoint

    return [Route("/mcp", McpEndpoint(version))]


def _a2a(version: str) -> Sequence[BaseRoute]:
    from collegium.server.a2a.routes import a2a_routes

    return a2a_routes(version)


def _agui() -> Sequence[BaseRoute]:
    from collegium.server.agui.endpoint import MAX_BODY_BYTES, run_agent

    return [Route("/agui", run_agent, methods=["POST"], max_body_size=MAX_BODY_BYTES)]


def _graphql() -> Sequence[BaseRoute]:
    from collegium.server.graphql.view import graphql_routes

    return graphql_routes()


def _or_missing(make: Callable[[], Sequence[BaseRoute]], *paths: str) -> Sequence[BaseRoute]:
    try:
        return make()
    except ImportError as error:
        missing = error.name or "a package"

    async def tell(request: Request) -> Response:
        detail = f"this server lacks {missing}: {_EXTRA}"
        return problem(request, 501, "missing_extra", detail, extra="protocols")

    return [Route(path, tell, methods=["GET", "POST"]) for path in paths]
