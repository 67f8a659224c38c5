"""Events of a run as a stream that browsers and ``curl`` read: ``text/event-stream``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, suppress
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from collegium.domain.errors import CollegiumError
from collegium.server.access.access import Access
from collegium.server.caller import Authenticator, access
from collegium.server.live.watch import Follower, Frame
from collegium.server.rest.query import number

HEARTBEAT_S: Final = 15.0
RETRY_MS: Final = 1_000
_LONGEST: Final = 15
_HEADERS: Final = {"cache-control": "no-store", "x-accel-buffering": "no"}


def is_stream_wanted(request: Request) -> bool:
    """Whether the caller wants a stream rather than a page."""
    return "text/event-stream" in request.headers.get("accept", "")


async def stream(request: Request, run: str) -> Response:
    """The events of ``run`` behind ``Last-Event-ID`` or ``?after=``: those that are there, then those that come.

    ``id:`` is the number of an event, ``data:`` the event. When the run has ended and all is told, an event ``end``
    closes the stream: whoever asked need not come again. ``expired`` says that the caller's credential holds no more.

    Source: HTML Living Standard, section 9.2, "Server-sent events".
    """
    after = number(request.query_params, "after", 0, least=0)
    last = request.headers.get("last-event-id", "")
    if last.isascii() and last.isdigit() and len(last) <= _LONGEST:
        # A browser that comes again asks for the same address: what it has seen since counts.
        after = int(last)
    caller, news = access(request), asyncio.Event()
    place = await caller.live.place(run, after, news.set)
    return EventStream(caller, place, news, request.app.state.authenticator)


class EventStream(Response):
    """A stream that lasts until the run has ended, the caller has gone, or its credential holds no more."""

    media_type = "text/event-stream"

    def __init__(
        self,
        caller: Access,
        place: AbstractContextManager[Follower],
        news: asyncio.Event,
        authenticator: Authenticator,
    ) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers(_HEADERS)
        self._caller = caller
        self._place = place
        self._news = news
        self._authenticator = authenticator

    def init_headers(self, headers: object = None) -> None:
        """As every answer, without a length."""
        pairs = {**_HEADERS, "content-type": "text/event-stream; charset=utf-8"}
        self.raw_headers = [(name.encode(), value.encode()) for name, value in pairs.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Tells what there is, and what comes."""
        with self._caller.live.audience.seat(self._caller.principal), self._place as follower:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            telling = asyncio.ensure_future(self._tell(follower, send))
            leaving = asyncio.ensure_future(_left(receive))
            try:
                await asyncio.wait((telling, leaving), return_when=asyncio.FIRST_COMPLETED)
                if telling.done():
                    telling.result()
            finally:
                telling.cancel()
                leaving.cancel()
                await asyncio.gather(telling, leaving, return_exceptions=True)

    async def _tell(self, follower: Follower, send: Send) -> None:
        with suppress(OSError):  # the caller has gone
            async for text in self._texts(follower):
                await send({"type": "http.response.body", "body": text, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _texts(self, follower: Follower) -> AsyncIterator[bytes]:
        yield b"retry: %d\n\n" % RETRY_MS
        loop = asyncio.get_running_loop()
        check_at_s = loop.time() + HEARTBEAT_S
        while True:
            self._news.clear()
            try:
                frames = await follower.take()
            except CollegiumError as error:
                yield b"event: problem\ndata: %b\n\n" % _said(code=error.code, detail=error.message)
                return
            if frames:
                yield b"".join(_text(frame) for frame in frames)
            if follower.is_done:
                yield b"event: end\ndata: %b\n\n" % _said(after=follower.after)
                return
            if loop.time() >= check_at_s:
                check_at_s = loop.time() + HEARTBEAT_S
                if not await self._authenticator.still_valid(self._caller.principal):
                    yield b"event: expired\ndata: %b\n\n" % _said(after=follower.after)
                    return
            if follower.is_up and not await self._is_soon_news():
                yield b": nothing new\n\n"

    async def _is_soon_news(self) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(HEARTBEAT_S):
                await self._news.wait()
                return True
        return False


def _text(frame: Frame) -> bytes:
    return b"id: %d\ndata: %b\n\n" % (frame.event.seq, frame.data)


def _said(**fields: object) -> bytes:
    return msgspec.json.encode(fields)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
