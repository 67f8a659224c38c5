"""A cork: what is written to a connection in one turn of the event loop goes out in one piece.

uvicorn writes the head of an answer and its body one after the other, and each write is a system call, which costs more
than all that this server does for a read.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

MOST_BYTES: Final = 64 * 1024
"""So much is held back at most: a body that is written without a pause must not gather here."""


class CorkedTransport:
    """A transport whose writes are gathered until the turn ends; everything else is the transport's own.

    Args:
        transport: What it writes to.
        loop: Whose turns count.
    """

    __slots__ = ("_held", "_loop", "_size", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held: list[bytes | bytearray | memoryview] = []
        self._size = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Writes ``data`` behind all before it, at the end of this turn at the latest."""
        if not self._held:
            self._loop.call_soon(self._flush)
        self._held.append(data)
        self._size += len(data)
        if self._size > MOST_BYTES:
            self._flush()

    def write_now(self, data: bytes) -> None:
        """Writes ``data``, which is a whole answer, behind what is held: at once where nothing is."""
        if self._held:
            self.write(data)
        elif not self._transport.is_closing():
            self._transport.write(data)

    def is_closing(self) -> bool:
        """Whether it is being closed, or is closed."""
        return self._transport.is_closing()

    def writelines(self, pieces: list[bytes | bytearray | memoryview]) -> None:
        """Writes all of them, in order."""
        for piece in pieces:
            self.write(piece)

    def write_eof(self) -> None:
        """Writes what is held, then says that nothing more comes."""
        self._flush()
        self._transport.write_eof()

    def close(self) -> None:
        """Writes what is held, then closes."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        held, self._held, self._size = self._held, [], 0
        if held and not self._transport.is_closing():
            self._transport.write(held[0] if len(held) == 1 else b"".join(held))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
