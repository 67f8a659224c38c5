"""A TCP proxy on loopback that spoils what goes through it: for clients that must bear a bad network.

::

    async with FaultProxy(server.port, faults) as proxy:
        model = await models.open(f"openai-compatible:any@{proxy.url}/v1")
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Literal, Self

import msgspec

FaultKind = Literal["none", "refuse", "reset", "blackhole", "half_close", "cut", "slow", "late"]
_PIECE_BYTES = 4_096


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of one connection.

    Attributes:
        kind: ``refuse``: closed at once. ``reset``: RST as soon as the client has sent something. ``blackhole``: both
            sides are listened to and nothing is passed on. ``half_close``: the server's side ends cleanly in the middle
            of its answer. ``cut``: RST in the middle of it. ``slow``: ``bytes_per_s``. ``late``: ``delay_s`` on the
            first piece in each direction.
        after_bytes: How much of the server's answer passes before ``half_close`` and ``cut``.
    """

    kind: FaultKind = "none"
    delay_s: float = 0.0
    bytes_per_s: float = 2_000.0
    after_bytes: int = 100


class FaultProxy:
    """Forwards connections to ``127.0.0.1:target``, each with the fault that ``choose`` gives it.

    Args:
        target: Port of the server.
        choose: Called once for each connection.
        port: 0 for any free one.

    Attributes:
        counts: How many connections met each kind of fault.
    """

    def __init__(self, target: int, choose: Callable[[], Fault], *, port: int = 0) -> None:
        self.counts: Counter[str] = Counter()
        self._target = target
        self._choose = choose
        self._port = port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """``http://127.0.0.1:PORT``, without a slash."""
        if self._server is None:
            raise RuntimeError("the proxy is not started")
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self._port, backlog=1_024)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        fault = self._choose()
        self.counts[fault.kind] += 1
        with suppress(OSError, asyncio.CancelledError):
            await self._serve(fault, reader, writer)
        writer.close()

    async def _serve(self, fault: Fault, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if fault.kind == "refuse":
            return
        if fault.kind == "reset":
            await reader.read(1)
            _reset(writer)
            return
        if fault.kind == "blackhole":
            while await reader.read(_PIECE_BYTES):
                pass
            return
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        there = asyncio.create_task(_pass_on(reader, far_writer, fault))
        back = asyncio.create_task(_pass_back(far_reader, writer, fault))
        try:
            await asyncio.wait((there, back), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in (there, back):
                one.cancel()
            await asyncio.gather(there, back, return_exceptions=True)
            far_writer.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: Fault) -> None:
    """The client's bytes, to the server."""
    is_first = True
    while piece := await reader.read(_PIECE_BYTES):
        if is_first and fault.kind == "late":
            await asyncio.sleep(fault.delay_s)
        is_first = False
        writer.write(piece)
        await writer.drain()


async def _pass_back(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: Fault) -> None:
    """The server's bytes, to the client, as far as the fault lets them."""
    passed = 0
    while piece := await reader.read(_PIECE_BYTES):
        if not passed and fault.kind == "late":
            await asyncio.sleep(fault.delay_s)
        if fault.kind in ("half_close", "cut") and passed + len(piece) > fault.after_bytes:
            writer.write(piece[: fault.after_bytes - passed])
            await writer.drain()
            if fault.kind == "cut":
                _reset(writer)
            else:
                writer.write_eof()
            return
        if fault.kind == "slow":
            await asyncio.sleep(len(piece) / fault.bytes_per_s)
        writer.write(piece)
        await writer.drain()
        passed += len(piece)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Ends the connection with an RST: what was sent and not yet read by the other side is lost."""
    opened = writer.get_extra_info("socket")
    if opened is not None:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
