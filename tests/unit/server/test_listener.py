"""What becomes of answers under way, and of connections that say nothing, when a listener ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from collegium.server.listener import Listener, listen, url_of


class Slow:
    """A server whose answer waits at a gate."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.gate = asyncio.Event()
        self.cut_off = asyncio.Event()
        self.listening = listen("127.0.0.1", 0)
        self.url = url_of(self.listening)
        routes = [Route("/", self._answer), Route("/quick", self._quick)]
        self.listener = Listener(Starlette(routes=routes), self.listening)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", int(self.url.rpartition(":")[2]))

    async def _answer(self, request: Request) -> Response:
        self.asked.set()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cut_off.set()
            raise
        return Response(b"whole")

    async def _quick(self, request: Request) -> Response:
        return Response(b"quick")


@asynccontextmanager
async def slow() -> AsyncIterator[tuple[Slow, aiohttp.ClientSession]]:
    async with asyncio.timeout(20), AsyncExitStack() as stack:
        made = Slow()
        made.listener.start()
        stack.push_async_callback(made.listener.aclose)
        yield made, await stack.enter_async_context(aiohttp.ClientSession())


async def read(session: aiohttp.ClientSession, url: str) -> bytes:
    async with session.get(url) as reply:
        return await reply.read()


async def test_an_answer_under_way_goes_out_whole_and_nobody_else_is_let_in() -> None:
    async with slow() as (here, session):
        answer = asyncio.create_task(read(session, here.url))
        await here.asked.wait()
        ending = asyncio.create_task(here.listener.aclose())
        while here.listening.fileno() >= 0:  # noqa: ASYNC110 - a socket that is closed is no event
            await asyncio.sleep(0)
        with pytest.raises(ConnectionError):
            await here.connect()
        assert not ending.done()
        here.gate.set()
        assert await answer == b"whole"
        await ending


async def test_an_answer_that_takes_too_long_is_cut_off(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("collegium.server.listener.END_S", 0.02)
    async with slow() as (here, session):
        answer = asyncio.create_task(read(session, here.url))
        await here.asked.wait()
        await here.listener.aclose()
        await here.cut_off.wait()
        assert await answer == b"Internal Server Error"
    assert "1 answers took longer than 0.02 s" in caplog.text


async def test_a_connection_that_says_nothing_more_holds_nothing_up(caplog: pytest.LogCaptureFixture) -> None:
    async with slow() as (here, session):
        assert await read(session, here.url + "/quick") == b"quick"
        silent = await here.connect()
        await here.listener.aclose()
        assert await silent[0].read() == b""
        silent[1].close()
    assert not caplog.text
