"""The socket at ``/v1/ws``: topics that are looked at, and commands, over one connection."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from starlette.requests import HTTPConnection
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from collegium.domain.errors import CollegiumError, NotAuthenticated, RateLimited, StoreError, UsageError
from collegium.domain.principal import Principal
from collegium.server.access.access import Access
from collegium.server.auth.origin import is_own
from collegium.server.caller import SOCKET, Authenticator, access, hub_of
from collegium.server.sockets import ops
from collegium.server.sockets.viewer import Viewer

PROTOCOL: Final = "collegium.v1"
EXPIRED, IDLE, CROWDED, LATE = 4401, 4408, 4429, 4400
"""Why a socket is closed: its credential holds no more, it looks at nothing, there are too many, it says nothing."""
HELLO_S: Final = 10.0
"""So long a socket may take to say who it is."""
IDLE_S: Final = 60.0
"""So long it may look at nothing and ask for nothing."""
CHECK_S: Final = 10.0
OPS_PER_S: Final = 50.0
OPS_AT_ONCE: Final = 200.0


def live_routes() -> list[WebSocketRoute]:
    """The route of the socket."""
    return [WebSocketRoute(SOCKET, _serve)]


async def _serve(websocket: WebSocket) -> None:
    authenticator: Authenticator = websocket.app.state.authenticator
    policy = getattr(authenticator, "policy", None)
    if "origin" in websocket.headers and not is_own(websocket, getattr(policy, "public_url", None)):
        await websocket.close(1008, "cross_site")
        return
    wanted = websocket.scope.get("subprotocols", ())
    await websocket.accept(PROTOCOL if PROTOCOL in wanted else None)
    try:
        await _converse(websocket, authenticator)
    except RateLimited as error:
        await _close(websocket, CROWDED, error.code)
    except CollegiumError as error:
        await _close(websocket, 1013, error.code)
    except (WebSocketDisconnect, OSError):
        return


async def _converse(websocket: WebSocket, authenticator: Authenticator) -> None:
    principal: Principal | None = getattr(websocket.state, "principal", None)
    if principal is None:
        # Who says nothing keeps a seat among the unknown ones for HELLO_S at most.
        with hub_of(websocket).audience.seat(None):
            principal = await _introduced(websocket, authenticator)
        if principal is None:
            return
        websocket.state.principal = principal
    caller = access(websocket)
    with caller.live.audience.seat(principal):
        await Socket(websocket, caller, authenticator).serve()


async def _introduced(websocket: WebSocket, authenticator: Authenticator) -> Principal | None:
    """Who the first message says that it is; None where the socket was closed for want of that."""
    try:
        async with asyncio.timeout(HELLO_S):
            text = await _text(websocket)
        op = ops.parse(text)
        if not isinstance(op, ops.Authenticate):
            raise NotAuthenticated('say who you are first: {"op":"authenticate","token":"..."}')
        headers = [(b"authorization", b"Bearer " + op.token.encode("ascii", "replace"))]
        scope = {**websocket.scope, "headers": [*websocket.scope["headers"], *headers]}
        principal = await authenticator.identify(HTTPConnection(scope))
    except TimeoutError:
        await _close(websocket, LATE, "nothing was said")
    except (NotAuthenticated, UsageError) as error:
        await websocket.send_text(ops.refused(error))
        await _close(websocket, EXPIRED, error.code)
    else:
        await websocket.send_text(ops.told("welcome", id=op.id, principal=principal.id))
        return principal
    return None


class Socket:
    """One open socket.

    Args:
        websocket: Accepted.
        caller: What it may do.
        authenticator: Says whether the caller's credential still holds.
    """

    def __init__(self, websocket: WebSocket, caller: Access, authenticator: Authenticator) -> None:
        self._websocket = websocket
        self._caller = caller
        self._authenticator = authenticator
        self._viewer = Viewer(caller.live)
        self._loop = asyncio.get_running_loop()
        self._heard_s = self._loop.time()
        self._room = OPS_AT_ONCE

    async def serve(self) -> None:
        """Serves it until it is closed from either side."""
        parts = [
            asyncio.ensure_future(one) for one in (self._hear(), self._viewer.tell(self._send), self._look_after())
        ]
        try:
            await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in parts:
                one.cancel()
            ended = await asyncio.gather(*parts, return_exceptions=True)
            self._viewer.close()
        for error in ended:
            if isinstance(error, Exception):
                raise error

    async def _send(self, text: str) -> None:
        await self._websocket.send_text(text)

    async def _hear(self) -> None:
        while True:
            id_: ops.Id = None
            try:
                text = await _text(self._websocket)
                await self._make_room()
                op = ops.parse(text)
                id_ = op.id
                answer = await self._obey(op)
            except CollegiumError as error:
                answer = ops.refused(error, id_)
            await self._send(answer)

    async def _make_room(self) -> None:
        """Whoever says too much is listened to more slowly."""
        now_s = self._loop.time()
        self._room = min(OPS_AT_ONCE, self._room + (now_s - self._heard_s) * OPS_PER_S) - 1
        self._heard_s = now_s
        if self._room < 0:
            await asyncio.sleep(-self._room / OPS_PER_S)

    async def _obey(self, op: ops.AnyOp) -> str:
        match op:
            case ops.Ping():
                return ops.told("pong", id=op.id)
            case ops.Subscribe():
                if len(op.topics) > ops.MAX_TOPICS:
                    raise UsageError(f"{len(op.topics):,} topics at once are too many: {ops.MAX_TOPICS} at most")
                for topic in op.topics:
                    await self._viewer.subscribe(topic, op.after)
                return ops.told("ok", id=op.id, topics=op.topics)
            case ops.Unsubscribe():
                for topic in op.topics:
                    self._viewer.unsubscribe(topic)
                return ops.told("ok", id=op.id, topics=op.topics)
            case ops.Authenticate():
                raise UsageError("this socket is known already: open another one to be somebody else")
            case _:
                if not await self._authenticator.still_valid(self._caller.principal):
                    raise NotAuthenticated("the credential of this socket holds no more")
                return ops.told("ok", id=op.id, run=await ops.carry_out(op, self._caller))

    async def _look_after(self) -> None:
        """Closes the socket when its credential holds no more, or when it has looked at nothing for too long."""
        while True:
            await asyncio.sleep(CHECK_S)
            if not await self._is_valid():
                await _close(self._websocket, EXPIRED, "expired")
                return
            if not len(self._viewer) and self._loop.time() - self._heard_s >= IDLE_S:
                await _close(self._websocket, IDLE, "nothing is looked at")
                return

    async def _is_valid(self) -> bool:
        try:
            return await self._authenticator.still_valid(self._caller.principal)
        except StoreError:
            return True  # nobody can say now: what it reads and does needs the store too


async def _text(websocket: WebSocket) -> str:
    """The next message. Raises ``WebSocketDisconnect``, and ``UsageError`` for one that is no text."""
    message: dict[str, Any] = dict(await websocket.receive())
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1005))
    text = message.get("text")
    if text is None:
        raise UsageError("messages are text, not bytes")
    return str(text)


async def _close(websocket: WebSocket, code: int, reason: str) -> None:
    await websocket.close(code, reason)
