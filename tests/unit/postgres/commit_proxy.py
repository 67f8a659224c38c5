"""A proxy before a PostgreSQL server that loses a commit, or its answer, once it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Literal
from urllib.parse import urlsplit

_COMMIT = b"\0commit\0"
"""In the message that binds the writer's prepared statement."""
_DELAY_S = 0.2
Loss = Literal["the commit", "the answer", "the client", "time"]


class CommitProxy:
    """Passes everything on, except what ``lose`` says.

    * ``the commit``: it never reaches the server, whose connection ends.
    * ``the answer``: the server commits, and nobody hears of it.
    * ``the client``: it is gone, and the server does not know: it waits for more with the rows still locked.
    * ``time``: the client is gone, and its commit arrives only after the next connection has begun to ask.
    """

    def __init__(self, url: str) -> None:
        self._server = urlsplit(url)
        self.url = url
        self.lose: Loss | None = None
        self.losses = 0
        self.lost = asyncio.Event()
        self._kept: list[asyncio.StreamWriter] = []
        self._late: tuple[asyncio.StreamWriter, bytes] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[CommitProxy]:
        """Listens until exit."""
        listener = await asyncio.start_server(self._take, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        user = self._server.netloc.rpartition("@")[0]
        self.url = self._server._replace(netloc=f"{user}@127.0.0.1:{port}").geturl()
        try:
            yield self
        finally:
            listener.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            for writer in self._kept:
                writer.close()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        up_reader, up_writer = await asyncio.open_connection(self._server.hostname, self._server.port)
        back = asyncio.create_task(self._pass_back(up_reader, writer))
        try:
            while data := await reader.read(1 << 20):
                if self.lose is not None and _COMMIT in data:
                    await self._lose(data, back, up_reader, up_writer)
                    break
                up_writer.write(data)
                await up_writer.drain()
                if self._late is not None and b"_heads\0" in data:
                    self._tasks.add(asyncio.create_task(self._send_late()))
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            back.cancel()
            writer.close()
            if up_writer not in self._kept:
                up_writer.close()
            self._tasks.discard(task)

    async def _lose(
        self,
        data: bytes,
        back: asyncio.Task[None],
        up_reader: asyncio.StreamReader,
        up_writer: asyncio.StreamWriter,
    ) -> None:
        lost, self.lose = self.lose, None
        self.losses += 1
        self.lost.set()
        back.cancel()
        await asyncio.gather(back, return_exceptions=True)
        if lost == "the answer":
            up_writer.write(data)
            await up_writer.drain()
            await up_reader.read(1)  # the whole batch has been executed: its answers come together
        elif lost in {"the client", "time"}:
            self._kept.append(up_writer)
        if lost == "time":
            self._late = up_writer, data

    async def _send_late(self) -> None:
        assert self._late is not None
        (up_writer, data), self._late = self._late, None
        await asyncio.sleep(_DELAY_S)
        up_writer.write(data)
        await up_writer.drain()

    async def _pass_back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(1 << 20):
                writer.write(data)
                await writer.drain()
        writer.close()
