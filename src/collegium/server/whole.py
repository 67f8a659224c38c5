"""Whole answers: head and body of an answer that is at hand go out in one piece, and its head is made once.

uvicorn checks and writes every header of every answer by itself, then the body by itself. Nearly all headers of an API
say the same each time: what was checked once is kept as the line that is sent. Answers that come in parts (streams,
files) and those that end the connection go uvicorn's own way.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from starlette.types import Message
from uvicorn.protocols.http.httptools_impl import HEADER_RE, HEADER_VALUE_RE, STATUS_LINE, RequestResponseCycle

from collegium.server.cork import CorkedTransport
from collegium.server.headers import STANDING

MOST_LINES: Final = 2_000
MOST_LINE_BYTES: Final = 1_000
"""Lines that are kept are so many, and so long, at most."""
_OWN_WAY: Final = frozenset({b"connection", b"transfer-encoding"})
_BARE: Final = frozenset({204, 304})


class Head(NamedTuple):
    """The head of an answer as it is sent, without its end; ``length`` is -1 for one that goes uvicorn's own way."""

    data: bytes
    length: int


class Lines:
    """Heads and header lines as they are sent; those that were sent lately are kept."""

    def __init__(self) -> None:
        self._kept: dict[tuple[bytes, bytes], bytes] = {}
        self._heads: dict[tuple[tuple[bytes, bytes], ...], Head] = {}
        self._always: tuple[object, bytes] = (None, b"")

    def always(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        """The lines of what uvicorn adds to every answer: a list that it makes anew when it changes."""
        if self._always[0] is not headers:
            self._always = (headers, b"".join(map(self.line, headers)))
        return self._always[1]

    def head(self, headers: Iterable[tuple[bytes, bytes]]) -> Head:
        """The head with ``headers``. Raises ``RuntimeError`` as ``line`` does."""
        place = tuple(headers)
        if place and place[-1][0] == STANDING:
            before = self._head(place[:-1])
            return Head(before.data + _line(place[-1]), before.length)
        return self._head(place)

    def _head(self, place: tuple[tuple[bytes, bytes], ...]) -> Head:
        found = self._heads.get(place)
        if found is None:
            found = self._make(place)
            if len(found.data) <= MOST_LINE_BYTES:
                if len(self._heads) >= MOST_LINES:
                    self._heads.clear()
                self._heads[place] = found
        return found

    def _make(self, headers: tuple[tuple[bytes, bytes], ...]) -> Head:
        lines, length = [], -1
        for header in headers:
            name = header[0].lower()
            if name in _OWN_WAY:
                return Head(b"", -1)
            if name == b"content-length":
                length = int(header[1])
            lines.append(self.line(header))
        return Head(b"".join(lines), length)

    def line(self, header: tuple[bytes, bytes]) -> bytes:
        """The line of ``header``. Raises ``RuntimeError`` for what is none, as uvicorn does."""
        found = self._kept.get(header)
        if found is not None:
            return found
        made = _line(header)
        if len(made) <= MOST_LINE_BYTES:
            if len(self._kept) >= MOST_LINES:
                self._kept.clear()
            self._kept[header] = made
        return made


def _line(header: tuple[bytes, bytes]) -> bytes:
    """The line of ``header``. Raises ``RuntimeError`` for what is none, as uvicorn does."""
    name, value = header
    if HEADER_RE.search(name) or HEADER_VALUE_RE.search(value):
        raise RuntimeError("Invalid HTTP header.")
    return b"%s: %s\r\n" % (name.lower(), value)


class WholeAnswer:
    """Sends the answer of ``cycle``: what is at hand in one piece, everything else as uvicorn does.

    Args:
        cycle: A request that uvicorn has read, and how far its answer is.
        transport: Where it came from.
        lines: Header lines that were sent before.
    """

    __slots__ = ("_cycle", "_head", "_length", "_lines", "_send", "_start", "_transport")

    def __init__(self, cycle: RequestResponseCycle, transport: CorkedTransport, lines: Lines) -> None:
        self._cycle = cycle
        self._transport = transport
        self._lines = lines
        self._send: Any = cycle.send
        self._start: Message | None = None
        self._head = (b"", b"", b"")
        self._length = -1

    async def send(self, message: Message) -> None:
        """Takes the next message of the answer; its head waits for the beginning of the body."""
        cycle, start = self._cycle, self._start
        if start is None:
            if message["type"] == "http.response.start" and not cycle.response_started and self._is_whole(message):
                self._start = message
                return
        else:
            self._start = None
            if message["type"] == "http.response.body" and not message.get("more_body") and self._fits(message):
                self._write(message.get("body", b""))
                return
            await self._send(start)
        await self._send(message)

    def _is_whole(self, message: Message) -> bool:
        """Whether this begins an answer whose length is told, and makes its head."""
        cycle = self._cycle
        if not cycle.keep_alive or cycle.scope["method"] == "HEAD" or message["status"] in _BARE:
            return False
        head = self._lines.head(message.get("headers", ()))
        if head.length < 0:
            return False
        self._head = (STATUS_LINE[message["status"]], self._lines.always(cycle.default_headers), head.data)
        self._length = head.length
        return True

    def _fits(self, message: Message) -> bool:
        cycle = self._cycle
        is_open = cycle.keep_alive and not cycle.flow.write_paused and not cycle.disconnected
        return is_open and len(message.get("body", b"")) == self._length

    def _write(self, body: bytes) -> None:
        cycle = self._cycle
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        self._transport.write_now(b"%b%b%b\r\n%b" % (*self._head, body))
        cycle.message_event.set()
        # What is left of a request goes at once, and not when garbage is collected: nothing may hold it in a circle.
        del cycle.send
        cycle.on_response()
