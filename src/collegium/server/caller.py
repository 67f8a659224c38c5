"""The caller of a request: who it is, and what it may do of the Collegium behind this server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final, Protocol

from fastapi import Depends
from starlette.requests import HTTPConnection, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from collegium.app import Collegium
from collegium.domain.errors import CollegiumError, StoreUnavailable
from collegium.domain.principal import Principal, local
from collegium.server.access.access import Access
from collegium.server.problem import from_error

OPEN: Final = frozenset({"/healthz", "/readyz", "/metrics", "/openapi.json", "/docs"})
"""What anybody may read."""
Opened = Callable[[], Collegium | None]
"""The Collegium, once its stores have answered."""


class Authenticator(Protocol):
    """Tells who asks."""

    async def identify(self, connection: HTTPConnection) -> Principal:
        """The principal by what the request shows. Raises ``NotAuthenticated``."""
        ...


class OpenDoor:
    """Takes everybody for the user of this machine: for loopback without keys.

    Args:
        tenant: Whose data that user sees.
    """

    def __init__(self, tenant: str) -> None:
        self._principal = local(tenant)

    async def identify(self, connection: HTTPConnection) -> Principal:
        """The local user."""
        return self._principal


class Authentication:
    """Puts the principal into ``request.state.principal``, or answers 401; ``OPEN`` paths need none.

    Args:
        app: What comes behind.
        authenticator: Tells who asks.
    """

    def __init__(self, app: ASGIApp, *, authenticator: Authenticator) -> None:
        self._app = app
        self._authenticator = authenticator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on with its principal."""
        if scope["type"] not in ("http", "websocket") or scope["path"] in OPEN:
            await self._app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        try:
            connection.state.principal = await self._authenticator.identify(connection)
        except CollegiumError as error:
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008, "reason": error.code})
                return
            await from_error(Request(scope), error)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def access(connection: HTTPConnection) -> Access:
    """What the caller may see and do. Raises ``StoreUnavailable`` as long as the stores have not answered."""
    opened: Opened = connection.app.state.opened
    app = opened()
    if app is None:
        raise StoreUnavailable("the stores do not answer yet: try again")
    return Access(app, connection.state.principal)


Caller = Annotated[Access, Depends(access)]
"""The parameter of an endpoint that gives it the caller's ``Access``."""
