"""Routes of A2A 1.0: JSON-RPC and HTTP+JSON under ``/a2a``, and the card that leads there."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from typing import Final

from a2a.server.context import ServerCallContext
from a2a.server.routes import create_jsonrpc_routes, create_rest_routes
from a2a.server.routes.common import ServerCallContextBuilder
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route

from collegium.server.a2a.card import public_card
from collegium.server.a2a.handler import A2aHandler
from collegium.server.a2a.wire import document
from collegium.server.caller import access

MAX_BODY_BYTES: Final = 16 * 1024 * 1024
"""Files come inside of messages."""
_MAX_AGE_S: Final = 300


class _Contexts(ServerCallContextBuilder):
    def build(self, request: Request) -> ServerCallContext:
        """The context of a request: what its caller may do, which version it speaks."""
        state = {
            "access": access(request),
            "authenticator": request.app.state.authenticator,
            "base": _base(request),
            "headers": dict(request.headers),
        }
        return ServerCallContext(state=state)


def a2a_routes(version: str) -> Sequence[BaseRoute]:
    """The routes."""
    # What callers get wrong is told to them; the package would write it into the log, with a traceback each.
    logging.getLogger("a2a").setLevel(logging.CRITICAL)
    handler, contexts = A2aHandler(version), _Contexts()
    (rpc,) = create_jsonrpc_routes(handler, "/a2a", context_builder=contexts)
    rest = [r for r in create_rest_routes(handler, context_builder=contexts) if isinstance(r, Route)]

    async def card(request: Request) -> Response:
        """The public card; ``ETag`` lets a client ask whether it has changed."""
        body = json.dumps(document(public_card(_base(request), version))).encode()
        etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        headers = {"etag": etag, "cache-control": f"public, max-age={_MAX_AGE_S}", "vary": "host"}
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers=headers)
        return Response(body, headers=headers, media_type="application/json")

    return [
        Route("/.well-known/agent-card.json", card, methods=["GET"]),
        Route("/a2a", rpc.endpoint, methods=["POST"], max_body_size=MAX_BODY_BYTES),
        Mount("/a2a", routes=rest, max_body_size=MAX_BODY_BYTES),
    ]


def _base(request: Request) -> str:
    """The address that this server was asked at, without a slash at its end."""
    return f"{request.url.scheme}://{request.url.netloc}"
