"""The caller of a request: who it is, and what it may do of the Collegium behind this server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final, Protocol

from fastapi import Depends
from starlette.requests import HTTPConnection

from collegium.app import Collegium
from collegium.domain.errors import CollegiumError, NotAuthenticated, StoreUnavailable
from collegium.domain.principal import Principal, local
from collegium.server.access.access import Access
from collegium.server.live.hub import Hub

OPEN: Final = frozenset({
    "/healthz", "/readyz", "/metrics", "/openapi.json", "/docs", "/.well-known/agent-card.json",
    "/auth/login", "/auth/callback", "/auth/session", "/auth/logout",
})  # fmt: skip
"""What anybody may ask for; those of ``/auth`` look for themselves who asks."""
SOCKET: Final = "/v1/ws"
Opened = Callable[[], Collegium | None]
"""The Collegium, once its stores have answered."""


class ThisHub:
    """The hub of this process, once the stores have answered; another Collegium has another one.

    Args:
        opened: Gives the Collegium.
    """

    def __init__(self, opened: Opened) -> None:
        self._opened = opened
        self._hub: Hub | None = None

    def __call__(self) -> Hub:
        """The hub. Raises ``StoreUnavailable`` as long as the stores have not answered."""
        app = self._opened()
        if app is None:
            raise StoreUnavailable("the stores do not answer yet: try again")
        if self._hub is None or self._hub.app is not app:
            self._hub = Hub(app)
        return self._hub

    async def aclose(self) -> None:
        """Ends the hub, if there is one."""
        if self._hub is not None:
            await self._hub.aclose()


class Authenticator(Protocol):
    """Tells who asks."""

    async def identify(self, connection: HTTPConnection) -> Principal:
        """The principal by what the request shows. Raises ``NotAuthenticated``."""
        ...

    async def still_valid(self, principal: Principal) -> bool:
        """Whether what it showed once still holds; for whoever stays connected, to be asked every few seconds."""
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

    async def still_valid(self, principal: Principal) -> bool:
        """Always."""
        return True


def may_say_later(connection: HTTPConnection, error: CollegiumError) -> bool:
    """Whether this is a socket that may say in its first message who it is, since it has shown nothing so far."""
    is_socket = connection.scope["type"] == "websocket" and connection.scope["path"] == SOCKET
    is_silent = "authorization" not in connection.headers and "ticket" not in connection.query_params
    return is_socket and is_silent and isinstance(error, NotAuthenticated)


def access(connection: HTTPConnection) -> Access:
    """What the caller may see and do. Raises ``StoreUnavailable`` as long as the stores have not answered."""
    hub, faces = hub_of(connection), connection.app.state.faces
    return Access(
        hub.app,
        connection.scope["state"]["principal"],
        keys=getattr(faces.authenticator, "keys", None),
        hub=hub,
        privacy_of=faces.privacy_of,
        settings_of=faces.settings_of,
        models_of=faces.models_of,
        export_of=faces.export_of,
    )


def hub_of(connection: HTTPConnection) -> Hub:
    """Where everything is read that is looked at live in this process. Raises ``StoreUnavailable`` as ``access``."""
    hub: Hub = connection.app.state.hub()
    return hub


async def _caller(connection: HTTPConnection) -> Access:
    """``access``; FastAPI hands what is no coroutine to a thread, which costs more than it does."""
    return access(connection)


Caller = Annotated[Access, Depends(_caller)]
"""The parameter of an endpoint that gives it the caller's ``Access``."""
