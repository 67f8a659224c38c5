"""Whoever asks, for tests of the faces."""

from __future__ import annotations

from starlette.requests import HTTPConnection

from collegium.domain.errors import NotAuthenticated
from collegium.domain.principal import Principal


class Somebody:
    """Takes everybody for ``principal``; for None nobody is known."""

    def __init__(self, principal: Principal | None) -> None:
        self.principal = principal

    async def identify(self, connection: HTTPConnection) -> Principal:
        """The principal."""
        if self.principal is None:
            raise NotAuthenticated("nobody knows who asks")
        return self.principal

    async def still_valid(self, principal: Principal) -> bool:
        """As long as somebody is there."""
        return self.principal is not None
