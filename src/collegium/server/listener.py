"""The listener: one address, served by uvicorn inside this process's event loop."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import uvicorn
from starlette.types import ASGIApp

from collegium.domain.errors import UsageError
from collegium.server.head_cap import CappedHttp

_log = logging.getLogger("collegium.listener")

END_S = 3.0
"""Answers under way may take so long at the end."""
_LOOK_S = 0.005
_DATE_S = 1.0
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
    """Serves ``app`` on a listening socket, which it closes at its end. Signals are for others to handle.

    Args:
        app: What answers.
        listening: Where requests come in.
        tls: Certificates; without them it speaks HTTP.
        proxies: Addresses and networks that are believed when they say for whom they ask; nobody else is.
    """

    def __init__(
        self,
        app: ASGIApp,
        listening: socket.socket,
        *,
        tls: ssl.SSLContext | None = None,
        proxies: Sequence[str] = (),
    ) -> None:
        config = uvicorn.Config(
            app,
            log_config=None,
            log_level="warning",  # it tells of every socket, with its ticket
            access_log=False,
            lifespan="off",
            http=CappedHttp,
            server_header=False,
            date_header=True,
            # uvicorn believes everybody on this machine as it comes: whoever guesses keys could say another address.
            proxy_headers=bool(proxies),
            forwarded_allow_ips=list(proxies),
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
            self._server.end()
            await asyncio.gather(self._serving, return_exceptions=True)
            self._serving = None
        self._socket.close()


class _Server(uvicorn.Server):
    """uvicorn's, which hears of its end at once and ends with its last answer: uvicorn looks ten times a second."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._told = asyncio.Event()

    def end(self) -> None:
        """Makes ``serve`` return once the answers under way are out; twice is harmless."""
        self.should_exit = True
        self._told.set()

    async def main_loop(self) -> None:
        """Keeps the date of answers true until the end."""
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                async with asyncio.timeout(_DATE_S):
                    await self._told.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Closes what is idle, waits for answers under way, and cuts off what takes longer than ``END_S``."""
        for server in self.servers:
            server.close()
        for listening in sockets or ():
            listening.close()
        told: set[object] = set()
        try:
            async with asyncio.timeout(END_S):
                while (connections := tuple(self.server_state.connections)) or self.server_state.tasks:
                    for connection in connections:
                        if connection not in told:  # one that was just let in is told on the second look
                            connection.shutdown()
                    told.update(connections)
                    await asyncio.sleep(_LOOK_S)
                for server in self.servers:
                    await server.wait_closed()
        except TimeoutError:
            under_way = tuple(self.server_state.tasks)
            _log.warning("%d answers took longer than %g s at the end and are cut off", len(under_way), END_S)
            for task in under_way:
                task.cancel()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves signals to the command: they mean a drain, not the end of this server alone."""
        yield
