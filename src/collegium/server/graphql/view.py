"""``/graphql``: POST, and sockets that speak graphql-transport-ws."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import cache, partial
from json import JSONDecodeError
from typing import Any, Final

import msgspec
from cross_web import HTTPException
from starlette.exceptions import HTTPException as Refused
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket
from strawberry.asgi import GraphQL
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL

from collegium.domain.errors import CollegiumError, RateLimited, StoreError
from collegium.server.auth.origin import is_own
from collegium.server.caller import Authenticator, access
from collegium.server.graphql.context import Context
from collegium.server.graphql.schema import Schema, make_schema
from collegium.server.problem import problem

PATH: Final = "/graphql"
MAX_BODY_BYTES: Final = 1024 * 1024
MOST_SUBSCRIPTIONS: Final = 50
"""So many go on at once over one socket."""
HELLO: Final = timedelta(seconds=10)
CHECK_S: Final = 10.0


class Asked(msgspec.Struct, frozen=True):
    """A query, as it comes."""

    query: str | None = None
    variables: dict[str, Any] | None = None
    operationName: str | None = None  # noqa: N815 - its name in the protocol


class Message(msgspec.Struct, frozen=True):
    """A message of a socket, as far as it is looked into."""

    type: str
    id: str | None = None
    payload: Asked | None = None


_REQUESTS: Final = msgspec.json.Decoder(Asked | list[Any])
_MESSAGES: Final = msgspec.json.Decoder(Message)
_schema = cache(make_schema)


def graphql_routes() -> list[BaseRoute]:
    """Its routes."""
    view = View(_schema())
    return [Route(PATH, view, max_body_size=MAX_BODY_BYTES), WebSocketRoute(PATH, view)]


class View(GraphQL[Context, None]):
    """Answers queries of one caller at a time; there is no page to try them on.

    Args:
        schema: What can be asked for.
    """

    def __init__(self, schema: Schema) -> None:
        super().__init__(
            schema,
            graphql_ide=None,
            allow_queries_via_get=False,
            subscription_protocols=[GRAPHQL_TRANSPORT_WS_PROTOCOL],
            connection_init_wait_timeout=HELLO,
            max_subscriptions_per_connection=MOST_SUBSCRIPTIONS,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves a request, or a socket until it is closed from either side."""
        if scope["type"] == "http":
            if scope["method"] != "POST":
                raise Refused(405, "queries are posted", {"allow": "POST"})
            request = Request(scope, receive)
            try:
                response = await self.run(request)
            except HTTPException as error:
                response = problem(request, error.status_code, "invalid_request", error.reason)
            await response(scope, receive, send)
            return
        websocket = WebSocket(scope, receive, send)
        authenticator: Authenticator = websocket.app.state.authenticator
        policy = getattr(authenticator, "policy", None)
        if "origin" in websocket.headers and not is_own(websocket, getattr(policy, "public_url", None)):
            await websocket.close(1008, "cross_site")
            return
        try:
            caller = access(websocket)
            with caller.live.audience.seat(caller.principal):
                await self._serve(websocket, authenticator)
        except RateLimited as error:
            await websocket.close(4429, error.code)
        except CollegiumError as error:
            await websocket.close(1013, error.code)

    async def _serve(self, websocket: WebSocket, authenticator: Authenticator) -> None:
        parts = [asyncio.ensure_future(self.run(websocket)), asyncio.ensure_future(_expire(websocket, authenticator))]
        try:
            await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in parts:
                one.cancel()
            ended = await asyncio.gather(*parts, return_exceptions=True)
        for error in ended:
            if isinstance(error, Exception):
                raise error

    async def get_context(self, request: Request | WebSocket, response: Response | WebSocket) -> Context:
        """Who asks."""
        if not isinstance(request, WebSocket):
            return Context(access(request), request, keeps=True)
        authenticator: Authenticator = request.app.state.authenticator
        return Context(access(request), request, keeps=False, is_valid=partial(_is_valid, request, authenticator))

    def parse_json(self, data: str | bytes) -> Any:
        """The body of a request. Raises ``HTTPException`` for what is no query."""
        try:
            _REQUESTS.decode(data)
            return msgspec.json.decode(data)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise HTTPException(400, "a request is a JSON object with query, variables and operationName") from error

    def decode_json(self, data: str | bytes) -> object:
        """A message of a socket. Raises ``JSONDecodeError`` for what is none, on which the socket is closed."""
        try:
            if len(data) > MAX_BODY_BYTES:
                raise msgspec.ValidationError("it is too long")
            _MESSAGES.decode(data)
            return msgspec.json.decode(data)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise JSONDecodeError("this is no message of graphql-transport-ws", "", 0) from error


async def _expire(websocket: WebSocket, authenticator: Authenticator) -> None:
    """Closes the socket when the credential that it came with holds no more."""
    while True:
        await asyncio.sleep(CHECK_S)
        if not await _is_valid(websocket, authenticator):
            await websocket.close(4401, "expired")
            return


async def _is_valid(connection: HTTPConnection, authenticator: Authenticator) -> bool:
    try:
        return await authenticator.still_valid(connection.state.principal)
    except StoreError:
        return True  # nobody can say now: what is read needs the store too
