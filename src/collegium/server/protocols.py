"""The protocols of the ecosystem beside our own API: GraphQL, MCP, A2A, AG-UI. Each needs a package of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from collegium.server.problem import problem

_EXTRA = "pip install 'collegium[protocols]'"


def protocol_routes(version: str) -> list[BaseRoute]:
    """Their routes; where a package is missing, the answer is 501 and says how to install it."""
    return [
        *_or_missing(lambda: _mcp(version), "/mcp"),
        *_or_missing(lambda: _a2a(version), "/a2a", "/.well-known/agent-card.json"),
        *_or_missing(_agui, "/agui"),
        *_or_missing(_graphql, "/graphql"),
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
