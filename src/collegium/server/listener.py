"""The listener: one address, served by uvicorn inside this process's event loop."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from collegium.domain.errors import UsageError
from collegium.server.head_cap import CappedHttp

END_S = 3.0
"""Answers under way may take so long at the end."""
BACKLOG = 512
MAX_MESSAGE_BYTES = 1024 * 1024


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises ``UsageError`` where that cannot be."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        made = socket.socket(family, kind, proto)
    except OSError as error:
        raise UsageError(f"nothing can listen on {host}: {error.strerror or error}", host=host, port=port) from error
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(BACKLOG)
        made.setblocking(False)
    except OSError as error:
        made.close()
        raise UsageError(
            f"nothing can listen on {host} port {port}: {error.strerror or error}; choose another with --port",
            host=host,
            port=port,
        ) from error
    return made


def url_of(listening: socket.socket, *, is_tls: bool = False) -> str:
    """Where the socket is reached."""
    scheme = "https" if is_tls else "http"
    host, port = listening.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


class Listener:
    """Serves ``app`` on a listening socket, which it closes at its end. Signals are for others to handle."""

    def __init__(self, app: ASGIApp, listening: socket.socket, *, tls: ssl.SSLContext | None = None) -> None:
        config = uvicorn.Config(
            app,
            log_config=None,
            log_level="warning",  # it tells of every socket, with its ticket
            access_log=False,
            lifespan="off",
            http=CappedHttp,
            server_header=False,
            date_header=True,
            timeout_graceful_shutdown=int(END_S),
            # The quickest of them; to pack small frames for each viewer would cost more than it saves.
            ws="websockets-sansio",
            ws_max_size=MAX_MESSAGE_BYTES,
            ws_per_message_deflate=False,
        )
        if tls is not None:
            config.load()
            config.ssl = tls
        self._server = _Server(config)
        self._socket = listening
        self._serving: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to answer."""
        self._serving = asyncio.create_task(self._server.serve(sockets=[self._socket]))

    async def aclose(self) -> None:
        """Ends the answers under way and closes the socket; twice is harmless."""
        if self._serving is not None:
            self._server.should_exit = True
            await asyncio.gather(self._serving, return_exceptions=True)
            self._serving = None
        self._socket.close()


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves signals to the command: they mean a drain, not the end of this server alone."""
        yield
