"""A whole server in this process: a team over memory behind real HTTP."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from collegium.app import DEFAULT_TENANT, Collegium
from collegium.server.access.privacy import PrivacyOf
from collegium.server.app import Faces, build
from collegium.server.caller import Authenticator, OpenDoor
from collegium.server.listener import Listener, listen, url_of
from collegium.server.metrics import Metrics
from collegium.server.rates.limiter import Limiter
from collegium.server.readiness import Readiness
from collegium.testing.clock import FakeClock

_NO_AUTHORITIES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Nothing here speaks TLS, and to read all authorities of this machine takes longer than most tests."""


class Served:
    """A Collegium that is served; ``http`` asks it."""

    def __init__(self, app: Collegium, url: str, http: httpx.AsyncClient) -> None:
        self.app = app
        self.url = url
        self.http = http


Serve = Callable[..., Awaitable[Served]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Serves a Collegium on a free port of loopback until the test ends."""
    async with AsyncExitStack() as stack:

        async def start(
            app: Collegium,
            *,
            authenticator: Authenticator | None = None,
            limiter: Limiter | None = None,
            privacy_of: PrivacyOf | None = None,
            proxies: Sequence[str] = (),
            **more: Any,
        ) -> Served:
            clock = FakeClock()
            listening = listen("127.0.0.1", 0)
            url = url_of(listening)

            async def nothing() -> tuple[()]:
                return ()

            faces = Faces(opened=lambda: app, authenticator=authenticator or OpenDoor(DEFAULT_TENANT), limiter=limiter)
            faces = faces._replace(privacy_of=privacy_of, **more)
            built = build("127.0.0.1", Readiness({}, clock=clock), Metrics(nothing, clock=clock), faces=faces)
            listener = Listener(built, listening, proxies=proxies)
            listener.start()
            stack.push_async_callback(listener.aclose)
            client = httpx.AsyncClient(base_url=url, timeout=30, trust_env=False, verify=_NO_AUTHORITIES)
            http = await stack.enter_async_context(client)
            return Served(app, url, http)

        yield start
