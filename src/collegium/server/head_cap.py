"""A cap on what stands before a request's body: its line and its headers, how large they are and how slowly they come.

The parser keeps whatever comes until a header ends, and waits for it as long as the connection lasts. Both are bounded
here, where bytes come in: no application ever sees such a request.

Source: RFC 6585, section 5 (431); RFC 9110, section 15.5.9 (408).
"""

from __future__ import annotations

import asyncio
import secrets
from http import HTTPStatus
from typing import Final

import msgspec
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from collegium.server.cork import CorkedTransport
from collegium.server.countdown import Countdown
from collegium.server.problem import members
from collegium.server.whole import Lines, WholeAnswer

MAX_HEAD_BYTES: Final = 64 * 1024
"""Of the request's line and its headers together."""
HEAD_S: Final = 20.0
"""A head has to have come within so many seconds, however many pieces it comes in."""
_OVERHEAD: Final = 4
"""What stands around a header's name and value."""


class CappedHttp(HttpToolsProtocol):
    """Answers 431 to heads that are too large, 408 to those that do not end, and 400 to what is no HTTP."""

    _is_head = True
    _head_bytes = 0
    _refusal = (400, "invalid_request", "this is no HTTP request")
    _piece_bytes = 0
    _lines = Lines()
    """Of all connections: they are sent the same."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begins to wait for a head."""
        self._corked = CorkedTransport(transport, self.loop)
        self._coming = Countdown(self.loop, self._late)
        self._kept = Countdown(self.loop, self.timeout_keep_alive_handler)
        super().connection_made(self._corked)  # type: ignore[arg-type]  # it acts as one
        self._coming.start(HEAD_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """Waits no more."""
        self._coming.drop()
        self._kept.drop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Takes bytes in; those of a head that has not ended are counted."""
        self._piece_bytes = len(data)
        super().data_received(data)
        if self not in self.connections or self.transport.is_closing():
            self._coming.drop()
            self._kept.drop()
            return  # it is a WebSocket now, or was refused
        if self._is_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(431, "too_large", _TOO_LARGE)
                return
        if not self._coming.is_running and (self._is_head or self._is_answered() is True):
            self._coming.start(HEAD_S)

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._is_head, self._head_bytes = True, 0

    def on_headers_complete(self) -> None:
        """The head has ended."""
        self._is_head = False
        self._coming.stop()
        # Nearly every head is so small that it need not be measured.
        if 2 * (self._head_bytes + self._piece_bytes) > MAX_HEAD_BYTES and self._size() > MAX_HEAD_BYTES:
            self._refusal = (431, "too_large", _TOO_LARGE)
            raise ValueError(_TOO_LARGE)  # the parser ends with it, and the request is refused
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuses what the parser could not take."""
        self._refuse(*self._refusal)

    def on_response_complete(self) -> None:
        """An answer has ended: the next request is begun, or waited for; as uvicorn does it, with another timer."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self._kept.start(self.timeout_keep_alive)

    def _unset_keepalive_if_required(self) -> None:
        self._kept.stop()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        # What the application sends comes by here first; uvicorn has no other place for that.
        cycle.send = WholeAnswer(cycle, self._corked, self._lines).send  # type: ignore[method-assign,assignment]
        super()._start_asgi_task(cycle, app)

    def _size(self) -> int:
        """Of the head that has ended."""
        return len(self.url) + sum(len(name) + len(value) + _OVERHEAD for name, value in self.headers)

    def _is_answered(self) -> bool | None:
        """Whether the last request was answered; None before the first."""
        found: bool | None = getattr(self.cycle, "response_complete", None)
        return found

    def _late(self) -> None:
        if self._is_answered() is False:
            self._coming.start(HEAD_S)  # the request before is still being answered
        elif self._head_bytes:
            self._refuse(408, "too_slow", f"the request's headers did not end within {HEAD_S:g} seconds")
        else:
            self.transport.close()

    def _refuse(self, status: int, code: str, detail: str) -> None:
        self._coming.stop()
        body = msgspec.json.encode(members(status, code, detail, secrets.token_hex(16)))
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: application/problem+json\r\n"
            f"cache-control: no-store\r\nx-content-type-options: nosniff\r\ncontent-length: {len(body)}\r\n"
            "connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


_TOO_LARGE: Final = f"the request's line and headers have more than {MAX_HEAD_BYTES:,} bytes, which is the most"
