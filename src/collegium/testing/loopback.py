"""A small HTTP/1.1 server on loopback for tests and benchmarks: cheap, and able to misbehave at the level of bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Self, cast

import msgspec

_REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 429: "Too Many Requests"}


class HttpRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What came in; header names are lower case, ``path`` holds the query too."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class HttpAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What goes out.

    Attributes:
        body: Whole, or in pieces as they come (sent chunked).
        delay_s: Waited before the first byte.
        is_cut: Whether the connection is broken off after the body, without the end that the header promised.
    """

    status: int = 200
    body: bytes | Callable[[], AsyncIterator[bytes]] = b""
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    delay_s: float = 0.0
    is_cut: bool = False


Handler = Callable[[HttpRequest], HttpAnswer]


class LoopbackServer:
    """An HTTP server on ``127.0.0.1`` for the time of an ``async with``.

    Args:
        handler: Called for every request, in the event loop; its exception is answered as 500 and raised again by
            ``__aexit__``, so that a failing check in a handler fails the test.
        port: 0 for any free one.
    """

    def __init__(self, handler: Handler, *, port: int = 0) -> None:
        self._handler = handler
        self._port = port
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self._failures: list[Exception] = []
        self.requests: list[HttpRequest] = []

    @property
    def url(self) -> str:
        """``http://127.0.0.1:PORT``, without a slash."""
        return f"http://127.0.0.1:{self._started.sockets[0].getsockname()[1]}"

    @property
    def _started(self) -> asyncio.Server:
        if self._server is None:
            raise RuntimeError("the server is not started")
        return self._server

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    async def start(self) -> None:
        """Listens."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", self._port, backlog=1_024)

    async def aclose(self) -> None:
        """Closes the port and breaks off every connection."""
        if self._server is not None:
            self._server.close()
            for connection in list(self._connections):
                connection.abort()
            await self._server.wait_closed()

    async def serve_forever(self) -> None:
        """Returns when cancelled."""
        await self._started.serve_forever()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
        if self._failures:
            raise self._failures[0]

    def answer(self, request: HttpRequest) -> HttpAnswer:
        """The handler's answer, or 500."""
        self.requests.append(request)
        try:
            return self._handler(request)
        except Exception as error:  # noqa: BLE001 - raised again by __aexit__, which is where a test sees it
            self._failures.append(error)
            return HttpAnswer(status=500, body=msgspec.json.encode({"error": {"message": repr(error)}}))

    def opened(self, connection: _Connection) -> None:
        """Counts a connection in."""
        self._connections.add(connection)

    def closed(self, connection: _Connection) -> None:
        """Counts a connection out."""
        self._connections.discard(connection)


class _Connection(asyncio.Protocol):
    """One kept-alive connection; requests on it are answered one after another."""

    def __init__(self, server: LoopbackServer) -> None:
        self._server = server
        self._transport: asyncio.Transport
        self._buffer = b""
        self._sending: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._server.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.closed(self)
        if self._sending is not None:
            self._sending.cancel()

    def abort(self) -> None:
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while self._sending is None and (request := self._next_request()) is not None:
            self._send(self._server.answer(request))

    def _next_request(self) -> HttpRequest | None:
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return None
        lines = head.decode("latin-1").split("\r\n")
        method, path, _ = lines[0].split(" ", 2)
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        size = int(headers.get("content-length", "0"))
        if len(rest) < size:
            return None
        self._buffer = rest[size:]
        return HttpRequest(method=method, path=path, headers=headers, body=rest[:size])

    def _send(self, answer: HttpAnswer) -> None:
        if isinstance(answer.body, bytes) and not answer.delay_s:
            self._transport.write(_head(answer, len(answer.body)) + answer.body)
            if answer.is_cut:
                self._transport.close()
        else:
            self._sending = asyncio.get_running_loop().create_task(self._send_slowly(answer))

    async def _send_slowly(self, answer: HttpAnswer) -> None:
        if answer.delay_s:
            await asyncio.sleep(answer.delay_s)
        if isinstance(answer.body, bytes):
            self._transport.write(_head(answer, len(answer.body)) + answer.body)
        else:
            self._transport.write(_head(answer, None))
            async for piece in answer.body():
                self._transport.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                # Lets the other side read between pieces, and a closed connection cancel this task.
                await asyncio.sleep(0)
                await self._writable.wait()
            if not answer.is_cut:
                self._transport.write(b"0\r\n\r\n")
        if answer.is_cut:
            self._transport.close()
        self._sending = None
        self.data_received(b"")


def _head(answer: HttpAnswer, size: int | None) -> bytes:
    status = f"HTTP/1.1 {answer.status} {_REASONS.get(answer.status, 'Status')}"
    lines = [status, f"Content-Type: {answer.content_type}"]
    if size is None:
        lines.append("Transfer-Encoding: chunked")
    else:
        # A cut answer promises more than it sends.
        lines.append(f"Content-Length: {size + 100 if answer.is_cut else size}")
    lines += [f"{name}: {value}" for name, value in answer.headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
